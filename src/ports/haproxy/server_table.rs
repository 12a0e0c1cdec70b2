//! The servers of a running haproxy, as `show servers state` lists them.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

/// The only format of the list there is.
const FORMAT_VERSION: &str = "1";

/// Bits of the administrative state of a server. `FORCED_*`: set with a command.
const FORCED_MAINTENANCE: u32 = 0x01;
const CONFIGURED_MAINTENANCE: u32 = 0x04;
const FORCED_DRAIN: u32 = 0x08;

/// The bit of a health check that runs.
const CHECK_ENABLED: u32 = 0x04;

/// Columns that hold numbers, which a line of a state file repeats.
const NUMBERS: [&str; 6] = [
    "be_id",
    "srv_id",
    "srv_iweight",
    "bk_f_forced_id",
    "srv_f_forced_id",
    "srv_use_ssl",
];

/// A server of a backend.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct ServerId {
    pub backend: String,
    pub server: String,
}

impl fmt::Display for ServerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.backend, self.server)
    }
}

impl From<ServerId> for String {
    fn from(id: ServerId) -> String {
        id.to_string()
    }
}

impl TryFrom<String> for ServerId {
    type Error = String;

    fn try_from(text: String) -> Result<ServerId, String> {
        let names = text.split_once('/');
        let id = names.and_then(|(backend, server)| ServerId::new(backend, server));
        id.ok_or_else(|| format!("`{text}` is no server of a backend"))
    }
}

impl ServerId {
    /// `None`: haproxy takes no such names.
    pub(crate) fn new(backend: &str, server: &str) -> Option<ServerId> {
        let is_allowed = |c: char| c.is_ascii_alphanumeric() || "-_.:".contains(c);
        let is_name = |name: &str| !name.is_empty() && name.chars().all(is_allowed);
        (is_name(backend) && is_name(server)).then(|| ServerId {
            backend: backend.to_owned(),
            server: server.to_owned(),
        })
    }
}

/// One server of a running haproxy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ServerState {
    /// `None`: it is a name that has not been resolved, or a socket.
    pub address: Option<SocketAddr>,
    admin: u32,
    check: u32,
    port: u16,
    /// Of the [`NUMBERS`].
    numbers: BTreeMap<&'static str, u64>,
}

impl ServerState {
    /// Whether it is kept out of the balancing, by a command or by the configuration.
    pub(crate) fn is_in_maintenance(&self) -> bool {
        self.admin & (FORCED_MAINTENANCE | CONFIGURED_MAINTENANCE) != 0
    }

    pub(crate) fn has_running_check(&self) -> bool {
        self.check & CHECK_ENABLED != 0
    }

    /// The administrative state that somebody set with a command. A weight of 0 in the configuration looks like a drain.
    fn forced(&self) -> Option<u32> {
        let is_weighted = self.numbers.get("srv_iweight") != Some(&0);
        match self.admin {
            admin if admin & FORCED_MAINTENANCE != 0 => Some(FORCED_MAINTENANCE),
            admin if admin & FORCED_DRAIN != 0 && is_weighted => Some(FORCED_DRAIN),
            _ => None,
        }
    }
}

/// All servers of a running haproxy.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct ServerTable {
    columns: Vec<String>,
    pub servers: BTreeMap<ServerId, ServerState>,
}

impl ServerTable {
    /// The error is a text for people.
    pub(crate) fn parse(reply: &str) -> Result<ServerTable, String> {
        let mut lines = reply.lines().filter(|line| !line.trim().is_empty());
        if lines.next() != Some(FORMAT_VERSION) {
            return Err("it has another format".to_owned());
        }
        let heading = lines.next().and_then(|line| line.strip_prefix("# "));
        let columns = heading.ok_or("it has no heading")?;
        let columns: Vec<String> = columns.split(' ').map(str::to_owned).collect();
        let is_column = |c: char| c.is_ascii_lowercase() || c == '_';
        if !columns.iter().all(|column| column.chars().all(is_column)) {
            return Err("its heading is invalid".to_owned());
        }
        let mut table = ServerTable {
            columns,
            servers: BTreeMap::new(),
        };
        for line in lines {
            let (id, server) = table.parse_server(line)?;
            if table.servers.insert(id, server).is_some() {
                return Err("it lists a server twice".to_owned());
            }
        }
        Ok(table)
    }

    fn parse_server(&self, line: &str) -> Result<(ServerId, ServerState), String> {
        let fields: Vec<&str> = line.split(' ').collect();
        if fields.len() != self.columns.len() {
            return Err("a line of it has another number of columns".to_owned());
        }
        let text = |name: &str| {
            let at = self.columns.iter().position(|column| column == name);
            at.map(|at| fields[at])
                .ok_or_else(|| format!("it has no column {name}"))
        };
        let number = |name: &str| -> Result<u64, String> {
            let number = text(name)?.parse();
            number.map_err(|_| format!("{name} is no number"))
        };
        let bits = |name: &str| -> Result<u32, String> {
            let bits = u32::try_from(number(name)?);
            bits.map_err(|_| format!("{name} is too large"))
        };
        let id = ServerId::new(text("be_name")?, text("srv_name")?);
        let port = u16::try_from(number("srv_port")?).map_err(|_| "a port is too large")?;
        let address: Option<IpAddr> = text("srv_addr")?.parse().ok();
        let mut numbers = BTreeMap::new();
        // Older versions have fewer columns.
        let known = |name: &&&str| self.columns.iter().any(|column| column == **name);
        for name in NUMBERS.iter().filter(known) {
            numbers.insert(*name, number(name)?);
        }
        let server = ServerState {
            address: address.map(|address| SocketAddr::new(address, port)),
            admin: bits("srv_admin_state")?,
            check: bits("srv_check_state")?,
            port,
            numbers,
        };
        Ok((id.ok_or("it has an invalid name")?, server))
    }

    /// A state file of the servers that somebody drained or put into maintenance with a command, and nothing else of
    /// them: the running process has no privileges, and root's next process takes over what the file says. `port`: the one
    /// that the configuration gives to a server, because haproxy prefers that of the file; `None`: leave the server out.
    pub(crate) fn state_file(&self, port: impl Fn(&ServerId) -> Option<Option<u16>>) -> String {
        let mut text = format!("{FORMAT_VERSION}\n# {}\n", self.columns.join(" "));
        for (id, server) in &self.servers {
            if let (Some(admin), Some(port)) = (server.forced(), port(id)) {
                let port = port.unwrap_or(server.port);
                let field = |column: &String| match column.as_str() {
                    "be_name" => id.backend.clone(),
                    "srv_name" => id.server.clone(),
                    "srv_admin_state" => admin.to_string(),
                    "srv_port" => port.to_string(),
                    // As if set by nobody: it applies only where it is that of the configuration.
                    "srv_uweight" => field_number(server, "srv_iweight"),
                    // Running, not checked yet, all checks on.
                    "srv_op_state" | "srv_check_health" => "2".to_owned(),
                    "srv_check_status" => "1".to_owned(),
                    "srv_check_state" => "6".to_owned(),
                    "srv_addr" | "srv_fqdn" | "srvrecord" | "srv_check_addr" | "srv_agent_addr" => {
                        "-".to_owned()
                    }
                    column => field_number(server, column),
                };
                let fields: Vec<String> = self.columns.iter().map(field).collect();
                text.push_str(&fields.join(" "));
                text.push('\n');
            }
        }
        text
    }
}

fn field_number(server: &ServerState, column: &str) -> String {
    let number = server.numbers.get(column);
    number.copied().unwrap_or(0).to_string()
}
