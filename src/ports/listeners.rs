//! Finds the owners of listening TCP ports on this machine, and counts the connections to a port, from `/proc/net/tcp` and `/proc/net/tcp6`.
//!
//! A port above 1023 goes to the first process that binds it, so any user may answer there.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};

use nix::ifaddrs::getifaddrs;

use super::processes;

/// A listening socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Listener {
    /// Its owner: the user who opened it, or to whom root has since changed it.
    pub uid: u32,
    inode: u64,
}

impl Listener {
    pub(crate) fn user_name(&self) -> String {
        processes::user_name(self.uid)
    }

    /// The process that holds it, and the name that the process gives itself, if visible: only root can see
    /// the open files of other users' processes.
    pub(crate) fn process(&self) -> Option<(u32, String)> {
        let pid = processes::pids().find(|pid| self.is_held_by(*pid) == Some(true))?;
        Some((pid, processes::program_name(pid)?))
    }

    /// Whether the process has the socket open; `None`: only root and its own user can see that. Stops at the first match: a
    /// server opens its listening sockets before its connections, and the kernel lists them in the order of their numbers.
    pub(crate) fn is_held_by(&self, pid: u32) -> Option<bool> {
        let name = format!("socket:[{}]", self.inode);
        let files = match fs::read_dir(format!("/proc/{pid}/fd")) {
            Ok(files) => files,
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return None,
            Err(_) => return Some(false),
        };
        let mut links = files.flatten().map(|file| fs::read_link(file.path()));
        Some(links.any(|link| link.is_ok_and(|link| link.as_os_str() == name.as_str())))
    }
}

/// A port of the loopback address on which nobody listens now.
pub(crate) fn free_port() -> io::Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    Ok(listener.local_addr()?.port())
}

/// Whether every user can listen on this port; other ports need a permission from root.
pub(crate) fn is_unprivileged_port(port: u16) -> bool {
    const FIRST: u16 = 1024;
    let first = fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start");
    let first = first.ok().and_then(|text| text.trim().parse().ok());
    port >= first.unwrap_or(FIRST)
}

/// Whether a connection to this address stays on this machine.
pub(crate) fn is_local(address: SocketAddr) -> bool {
    let target = connect_ip(address);
    if target.is_loopback() {
        return true;
    }
    let interfaces = getifaddrs().into_iter().flatten();
    let mut own = interfaces.filter_map(|interface| interface.address);
    let is_target = |own: nix::sys::socket::SockaddrStorage| {
        let v4 = own.as_sockaddr_in().map(|own| IpAddr::V4(own.ip()));
        let v6 = own.as_sockaddr_in6().map(|own| IpAddr::V6(own.ip()));
        v4.or(v6) == Some(target)
    };
    own.any(is_target)
}

/// The address that the kernel connects to for this one.
fn connect_ip(address: SocketAddr) -> IpAddr {
    match address.ip().to_canonical() {
        IpAddr::V4(any) if any.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(any) if any.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        other => other,
    }
}

/// The sockets that may answer a connection to an address of this machine.
pub(crate) fn find(address: SocketAddr) -> io::Result<Vec<Listener>> {
    let rows = read_listeners(address.port())?;
    Ok(select_listeners(connect_ip(address), &rows))
}

/// The sockets that listen on a port, on any address.
pub(crate) fn on_port(port: u16) -> io::Result<Vec<Listener>> {
    let rows = read_listeners(port)?.into_iter();
    Ok(rows.map(|(_, listener)| listener).collect())
}

fn read_listeners(port: u16) -> io::Result<Vec<(IpAddr, Listener)>> {
    let [v4, v6] = TABLES;
    let mut rows = read_socket_table(v4, port)?;
    match read_socket_table(v6, port) {
        Ok(more) => rows.extend(more),
        // The kernel has no IPv6.
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    Ok(rows)
}

/// Selects as the kernel does: a socket of exactly this address, then a wildcard one, and of both one of the
/// same family first. Later ones get no connections, so a user cannot interfere by listening where no
/// connection leads.
fn select_listeners(target: IpAddr, rows: &[(IpAddr, Listener)]) -> Vec<Listener> {
    let any_v6 = IpAddr::V6(Ipv6Addr::UNSPECIFIED);
    let order = match target {
        IpAddr::V4(v4) => vec![
            target,
            IpAddr::V6(v4.to_ipv6_mapped()),
            IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            IpAddr::V6(Ipv4Addr::UNSPECIFIED.to_ipv6_mapped()),
            any_v6,
        ],
        IpAddr::V6(_) => vec![target, any_v6],
    };
    let on = |address| {
        let on = rows.iter().filter(move |(on, _)| *on == address);
        on.map(|(_, listener)| *listener).collect::<Vec<_>>()
    };
    let mut all = order.into_iter().map(on);
    all.find(|found| !found.is_empty()).unwrap_or_default()
}

fn read_socket_table(path: &str, port: u16) -> io::Result<Vec<(IpAddr, Listener)>> {
    parse_socket_table(BufReader::new(File::open(path)?), port)
}

/// Reads line by line, and only the listening sockets, which the kernel lists first (`tcp_seq_start`): a busy
/// server has a hundred thousand connections behind them, and any user may open very many.
fn parse_socket_table(table: impl BufRead, port: u16) -> io::Result<Vec<(IpAddr, Listener)>> {
    let mut rows = Vec::new();
    let header = 1;
    for line in table.lines().skip(header) {
        let line = line?;
        if line.split_ascii_whitespace().nth(3) != Some(LISTENS) {
            break;
        }
        rows.extend(
            parse_listener(&line)
                .filter(|(listening_port, ..)| *listening_port == port)
                .map(|(_, address, listener)| (address, listener)),
        );
    }
    Ok(rows)
}

/// How many connections to a port of this machine are established, by their ends at the port. Reads every connection of
/// the machine.
pub(crate) fn count_connections(port: u16) -> io::Result<usize> {
    let mut count = 0;
    for path in TABLES {
        match File::open(path) {
            Ok(table) => count += parse_connections(BufReader::new(table), port)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(count)
}

fn parse_connections(mut table: impl BufRead, port: u16) -> io::Result<usize> {
    let suffix = format!(":{port:04X}");
    let (mut count, mut line) = (0, String::new());
    while table.read_line(&mut line)? > 0 {
        let mut words = line.split_ascii_whitespace().skip(1);
        let is_local = words.next().is_some_and(|local| local.ends_with(&suffix));
        if is_local && words.nth(1) == Some(ESTABLISHED) {
            count += 1;
        }
        line.clear();
    }
    Ok(count)
}

/// The states of a listening socket and of an established connection, as the kernel writes them.
const LISTENS: &str = "0A";
const ESTABLISHED: &str = "01";

/// The sockets of IPv4, and of IPv6 if the kernel has it.
const TABLES: [&str; 2] = ["/proc/net/tcp", "/proc/net/tcp6"];

/// `sl local rem state queues timer retransmits uid timeout inode …`
fn parse_listener(line: &str) -> Option<(u16, IpAddr, Listener)> {
    let words: Vec<&str> = line.split_ascii_whitespace().take(10).collect();
    let [_, local, _, LISTENS, _, _, _, uid, _, inode] = words.as_slice() else {
        return None;
    };
    let (address, port) = local.split_once(':')?;
    let listener = Listener {
        uid: uid.parse().ok()?,
        inode: inode.parse().ok()?,
    };
    Some((
        u16::from_str_radix(port, 16).ok()?,
        parse_ip(address)?,
        listener,
    ))
}

/// 32-bit words in the machine's byte order, each in hexadecimal.
fn parse_ip(text: &str) -> Option<IpAddr> {
    let word = |at: usize| {
        let digits = text.get(at * 8..at * 8 + 8)?;
        Some(u32::from_str_radix(digits, 16).ok()?.to_ne_bytes())
    };
    match text.len() {
        8 => Some(IpAddr::from(word(0)?)),
        32 => {
            let mut all = [0; 16];
            for at in 0..4 {
                all[at * 4..at * 4 + 4].copy_from_slice(&word(at)?);
            }
            Some(IpAddr::from(all))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn listener_is_found_by_every_form_of_its_address() {
        let me = nix::unistd::geteuid().as_raw();
        for (bound, asked, other) in [
            ("127.0.0.1:0", "127.0.0.1", "[::1]"),
            ("127.0.0.1:0", "[::ffff:127.0.0.1]", "127.0.0.2"),
            ("127.0.0.1:0", "0.0.0.0", "[::1]"),
            ("0.0.0.0:0", "127.0.0.9", "[::1]"),
            ("[::1]:0", "[::1]", "127.0.0.1"),
            ("[::]:0", "127.0.0.1", "127.0.0.1:1"),
            ("[::]:0", "[::1]", "127.0.0.1:1"),
        ] {
            let Ok(socket) = TcpListener::bind(bound) else {
                assert!(bound.starts_with('['), "{bound}");
                crate::ports::testing::skip_test(bound, "no IPv6 here");
                continue;
            };
            let port = socket.local_addr().unwrap().port();
            let at = |host: &str| {
                let address = host.parse().ok();
                find(address.unwrap_or_else(|| format!("{host}:{port}").parse().unwrap())).unwrap()
            };
            let found = at(asked);
            assert_eq!(found.len(), 1, "{bound} {asked}");
            assert_eq!(found[0].uid, me, "{bound} {asked}");
            assert_eq!(found[0].process().unwrap().0, std::process::id());
            assert_eq!(at(other), [], "{bound} {other}");
            assert!(is_local(format!("{asked}:{port}").parse().unwrap()));
            drop(socket);
            assert_eq!(at(asked), [], "{bound} {asked}: nobody listens any more");
        }
    }

    #[test]
    fn connections_are_counted_once_and_only_while_they_are_open() {
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = server.local_addr().unwrap();
        let count = || count_connections(address.port()).unwrap();
        assert_eq!(count(), 0, "only a listening socket");
        let clients = [(); 2].map(|()| std::net::TcpStream::connect(address).unwrap());
        assert_eq!(count(), 2, "both wait to be accepted");
        let accepted = server.accept().unwrap();
        drop(clients);
        drop((accepted, server.accept().unwrap()));
        assert_eq!(count(), 0);
        // The other end of a connection to such a port elsewhere is none of this port.
        let table = "  sl  local_address rem_address   st\n   \
            0: 0100007F:0BB8 00000000:0000 0A\n   \
            1: 0100007F:9999 0100007F:0BB8 01\n   \
            2: 0100007F:0BB8 0100007F:9999 01\n   \
            3: 0100007F:0BB8 0100007F:9998 06\n";
        assert_eq!(parse_connections(table.as_bytes(), 3000).unwrap(), 1);
    }

    #[test]
    fn connections_behind_the_listening_sockets_are_not_read() {
        use std::io::Read;
        struct Unread;
        impl Read for Unread {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                panic!("read the connections too")
            }
        }
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n   \
            0: 0100007F:0BB8 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1001        0 77 1 0 100 0\n   \
            1: 0100007F:0BB8 0100007F:9999 06 00000000:00000000 03:00000000 00000000     0        0 0 3 0\n";
        let table = BufReader::new(table.as_bytes().chain(Unread));
        let rows = parse_socket_table(table, 3000).unwrap();
        let listener = Listener {
            uid: 1001,
            inode: 77,
        };
        assert_eq!(rows, [(IpAddr::from([127, 0, 0, 1]), listener)]);
    }

    #[test]
    fn privileged_ports_and_remote_addresses_are_recognized() {
        assert!(is_unprivileged_port(65535) && !is_unprivileged_port(0));
        let is_here = |text: &str| is_local(text.parse().unwrap());
        assert!(is_here("127.3.2.1:80") && is_here("[::]:80"));
        assert!(!is_here("192.0.2.1:80") && !is_here("[2001:db8::1]:80"));
    }

    #[test]
    fn only_the_listener_that_the_kernel_chooses_counts() {
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        let rows: Vec<(IpAddr, Listener)> = ["::", "0.0.0.0", "127.0.0.1", "::1"]
            .iter()
            .zip(1..)
            .map(|(on, uid)| (ip(on), Listener { uid, inode: 9 }))
            .collect();
        let uids = |target: &str, rows: &[(IpAddr, Listener)]| {
            let all = select_listeners(ip(target), rows);
            all.iter().map(|listener| listener.uid).collect::<Vec<_>>()
        };
        assert_eq!(uids("127.0.0.1", &rows), [3]);
        assert_eq!(uids("127.0.0.5", &rows), [2]);
        assert_eq!(uids("::1", &rows), [4]);
        assert_eq!(uids("127.0.0.1", &rows[..1]), [1]);
        assert_eq!(uids("127.0.0.1", &rows[3..]), [0; 0]);
    }
}
