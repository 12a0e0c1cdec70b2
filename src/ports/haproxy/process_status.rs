//! Whether a running haproxy serves: its frontends, and its connections.

use super::reply::{info_value, shown};

/// The columns of `show stat` that matter: the name, and the state of the frontend.
const COLUMNS: [&str; 2] = ["pxname", "status"];

/// States of a frontend that accepts connections, now or once there is room for another.
const SERVING: [&str; 2] = ["OPEN", "FULL"];

/// What the process says about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ProcessStatus {
    /// It ends after its last request: another process has its listeners, or none.
    pub is_stopping: bool,
    pub connections: u64,
    /// The limit of `connections`; 0: there is none.
    pub max_connections: u64,
    /// Each frontend, and its state as haproxy names it.
    pub frontends: Vec<(String, String)>,
}

impl ProcessStatus {
    pub(super) fn parse(info: &str, frontends: &str) -> Result<ProcessStatus, String> {
        let number = |key: &str| {
            let value = info_value(info, key).and_then(|value| value.trim().parse::<u64>().ok());
            value.ok_or_else(|| format!("it has no `{key}`"))
        };
        Ok(ProcessStatus {
            is_stopping: number("Stopping")? != 0,
            connections: number("CurrConns")?,
            max_connections: number("Maxconn")?,
            frontends: parse_frontends(frontends)?,
        })
    }

    /// Why it does not serve, in one line; `None`: its listeners are up.
    pub(crate) fn unhealthy_reason(&self) -> Option<String> {
        if self.is_stopping {
            return Some("haproxy is stopping".to_owned());
        }
        if self.frontends.is_empty() {
            return Some("haproxy has no frontend".to_owned());
        }
        let mut frontends = self.frontends.iter();
        let down = frontends.find(|(_, state)| !SERVING.contains(&state.as_str()));
        down.map(|(name, state)| format!("the frontend {name} of haproxy is {state}"))
    }

    /// It accepts no connection until another one ends.
    pub(crate) fn is_full(&self) -> bool {
        let has_no_room = self.max_connections > 0 && self.connections >= self.max_connections;
        has_no_room || self.frontends.iter().any(|(_, state)| state == "FULL")
    }
}

/// Comma-separated values; the first line, after `# `, names the columns.
fn parse_frontends(reply: &str) -> Result<Vec<(String, String)>, String> {
    let mut lines = reply.lines().filter(|line| !line.is_empty());
    let head = lines.next().and_then(|line| line.strip_prefix("# "));
    let names: Vec<&str> = head.ok_or("it names no columns")?.split(',').collect();
    let position = |name| names.iter().position(|column| *column == name);
    let [Some(name), Some(state)] = COLUMNS.map(position) else {
        return Err(format!("it has no column `{}`", COLUMNS.join("` or `")));
    };
    let mut frontends = Vec::new();
    for line in lines {
        let cells: Vec<&str> = line.split(',').collect();
        match (cells.get(name), cells.get(state)) {
            (Some(name), Some(state)) => frontends.push((shown(name), shown(state))),
            _ => return Err(format!("a short line: {}", shown(line))),
        }
    }
    Ok(frontends)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(stopping: u8, connections: u64, frontends: &str) -> ProcessStatus {
        let info = format!(
            "Name: HAProxy\nMaxconn: 9979\nHard_maxconn: 9979\nCurrConns: {connections}\nStopping: {stopping}\n\n"
        );
        let table = format!("# pxname,svname,scur,slim,status,\n{frontends}\n");
        ProcessStatus::parse(&info, &table).unwrap()
    }

    #[test]
    fn process_that_stops_or_has_a_closed_frontend_is_unhealthy() {
        let open = "web,FRONTEND,0,9979,OPEN,\n";
        let paused = "web,FRONTEND,0,9979,OPEN,\nstats,FRONTEND,0,9979,PAUSED,\n";
        let full = "web,FRONTEND,0,9979,FULL,\n";
        for (stopping, frontends, expected) in [
            (0, open, None),
            (0, full, None),
            (1, open, Some("haproxy is stopping")),
            (0, paused, Some("the frontend stats of haproxy is PAUSED")),
            (0, "", Some("haproxy has no frontend")),
        ] {
            let reason = status(stopping, 0, frontends).unhealthy_reason();
            assert_eq!(reason.as_deref(), expected, "{frontends}");
        }
    }

    #[test]
    fn process_without_room_for_another_connection_is_full() {
        let open = "web,FRONTEND,0,9979,OPEN,\n";
        assert!(!status(0, 9978, open).is_full());
        assert!(status(0, 9979, open).is_full());
        assert!(status(0, 1, "web,FRONTEND,0,10,FULL,\n").is_full());
    }

    #[test]
    fn other_replies_are_errors() {
        let info = "Maxconn: 1\nCurrConns: 0\nStopping: 0\n";
        for (info, table) in [
            ("", "# pxname,status\n"),
            (info, ""),
            (info, "Permission denied\n"),
            (info, "# pxname,svname\n"),
            (info, "# pxname,svname,status\nweb,FRONTEND\n"),
        ] {
            assert!(
                ProcessStatus::parse(info, table).is_err(),
                "{info:?} {table:?}"
            );
        }
    }
}
