use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixListener;
use std::thread::JoinHandle;

use super::*;
use crate::ports::testing::Sandbox;

const PATH: &str = "/run/haproxy/admin.sock";

/// Listens on the socket and gives each command the next reply.
fn serve(sandbox: &Sandbox, replies: Vec<Vec<u8>>) -> JoinHandle<Vec<String>> {
    sandbox.make_dir("/run/haproxy");
    let path = sandbox.host.root.machine_path(Path::new(PATH));
    let listener = UnixListener::bind(path).unwrap();
    std::thread::spawn(move || {
        let mut commands = Vec::new();
        for reply in replies {
            let (mut stream, _) = listener.accept().unwrap();
            let mut line = String::new();
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            reader.read_line(&mut line).unwrap();
            commands.push(line.trim_end().to_owned());
            // A client that has enough closes early.
            let _ = stream.write_all(&reply);
        }
        commands
    })
}

fn socket(sandbox: &Sandbox) -> RuntimeSocket {
    RuntimeSocket::new(&sandbox.host.root, Path::new(PATH))
}

fn id(text: &str) -> ServerId {
    ServerId::try_from(text.to_owned()).unwrap()
}

/// The list of haproxy 2.6.12, of servers that are up, drained, in maintenance, disabled and just added.
const SERVERS: &str = "1
# be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state srv_uweight srv_iweight srv_time_since_last_change srv_check_status srv_check_result srv_check_health srv_check_state srv_agent_state bk_f_forced_id srv_f_forced_id srv_fqdn srv_port srvrecord srv_use_ssl srv_check_port srv_check_addr srv_agent_addr srv_agent_port
3 shop 1 web1 127.0.0.1 2 0 1 1 41 15 3 3 6 0 0 0 - 8001 - 0 0 - - 0
3 shop 2 web2 127.0.0.1 2 8 7 5 41 15 3 3 6 0 0 0 web2.example.com 8002 - 1 99 10.6.6.6 - 0
3 shop 3 web3 fd00::3 0 1 1 1 0 1 0 0 14 0 0 0 - 8003 - 0 0 - - 0
3 shop 4 web4 - 0 5 1 1 0 1 0 0 2 0 0 0 - 80 - 0 0 - - 0
3 shop 5 web5 127.0.0.1 2 8 0 0 0 1 0 0 2 0 0 0 - 80 - 0 0 - - 0

";

#[test]
fn servers_are_read_with_their_address_and_administrative_state() {
    let sandbox = Sandbox::empty();
    let server = serve(&sandbox, vec![SERVERS.into()]);
    let table = socket(&sandbox).servers().unwrap();
    assert_eq!(server.join().unwrap(), ["show servers state"]);
    let shown: Vec<_> = table
        .servers
        .iter()
        .map(|(id, server)| {
            let address = server.address.map(|address| address.to_string());
            let state = (server.is_in_maintenance(), server.has_running_check());
            (id.server.clone(), address, state)
        })
        .collect();
    let expected = [
        ("web1", Some("127.0.0.1:8001"), (false, true)),
        ("web2", Some("127.0.0.1:8002"), (false, true)),
        ("web3", Some("[fd00::3]:8003"), (true, true)),
        ("web4", None, (true, false)),
        ("web5", Some("127.0.0.1:80"), (false, false)),
    ];
    let expected = expected.map(|(name, address, state)| {
        let address: Option<&str> = address;
        (name.to_owned(), address.map(str::to_owned), state)
    });
    assert_eq!(shown, expected);
}

#[test]
fn state_file_carries_only_what_was_set_by_hand() {
    let table = ServerTable::parse(SERVERS).unwrap();
    let text = table.state_file(|id| match id.server.as_str() {
        "web2" => Some(Some(8888)),
        "web4" => None,
        _ => Some(None),
    });
    let heading: Vec<&str> = SERVERS.lines().take(2).collect();
    let lines = [
        // A weight of 0 is no drain; addresses, names and weights are those of the configuration.
        "3 shop 2 web2 - 2 8 5 5 0 1 0 2 6 0 0 0 - 8888 - 1 0 - - 0",
        "3 shop 3 web3 - 2 1 1 1 0 1 0 2 6 0 0 0 - 8003 - 0 0 - - 0",
    ];
    assert_eq!(
        text,
        format!("{}\n{}\n", heading.join("\n"), lines.join("\n"))
    );
    assert!(ServerTable::parse(&text).is_ok());
}

#[test]
fn commands_name_the_server_and_say_what_haproxy_refused() {
    let sandbox = Sandbox::empty();
    let replies = [
        "New server registered.\n\n",
        "'cookie' option is not accepted for dynamic server\n\n",
        "\n",
        "Server still has connections attached to it, cannot remove it.\n",
        "Server deleted.\n",
        "No such server.\n",
        "no need to change the addr\n",
        "Name: HAProxy\nVersion: 2.6.12-1+deb12u3\nPid: 115\n",
    ];
    let server = serve(&sandbox, replies.map(|text| text.into()).to_vec());
    let (socket, web) = (socket(&sandbox), id("shop/web1"));
    let v6 = "[fd00::1]:80".parse().unwrap();
    socket.add_server(&web, v6, "check inter 2s").unwrap();
    let refused = socket.add_server(&web, "10.0.0.1:80".parse().unwrap(), "cookie x");
    let refused = refused.unwrap_err().to_string();
    assert!(
        refused.contains("'cookie' option is not accepted"),
        "{refused}"
    );
    socket.set_ready(&web).unwrap();
    assert!(!socket.delete_server(&web).unwrap());
    assert!(socket.delete_server(&web).unwrap());
    assert!(socket.delete_server(&web).unwrap());
    socket.set_address(&web, v6).unwrap();
    let info = socket.info().unwrap();
    assert_eq!((info.pid, info.version), (115, (2, 6)));
    let expected = [
        "add server shop/web1 ipv6@fd00::1:80 check inter 2s",
        "add server shop/web1 10.0.0.1:80 cookie x",
        "set server shop/web1 state ready",
        "del server shop/web1",
        "del server shop/web1",
        "del server shop/web1",
        "set server shop/web1 addr fd00::1 port 80",
        "show info",
    ];
    assert_eq!(server.join().unwrap(), expected);
}

#[test]
fn no_option_becomes_a_command() {
    let sandbox = Sandbox::empty();
    let socket = socket(&sandbox);
    for options in [
        "check;shutdown frontend web",
        "check\nshow env",
        "a\\ b",
        "<<",
        "$X",
        "\"a",
    ] {
        let added = socket.add_server(&id("shop/web1"), "10.0.0.1:80".parse().unwrap(), options);
        assert!(
            matches!(added, Err(RuntimeError::UnsafeWord(_))),
            "{options}: {added:?}"
        );
    }
    for name in [
        "shop",
        "shop/",
        "/web1",
        "shop/web 1",
        "shop/web;1",
        "shop/web/1",
        "shop/wéb",
    ] {
        assert!(ServerId::try_from(name.to_owned()).is_err(), "{name}");
    }
}

#[test]
fn hostile_replies_are_errors() {
    let heading = SERVERS.lines().take(2).collect::<Vec<_>>().join("\n");
    let line = "3 shop 1 web1 127.0.0.1 2 0 1 1 41 15 3 3 6 0 0 0 - 8001 - 0 0 - - 0";
    let with = |line: &str| format!("{heading}\n{line}\n").into_bytes();
    for reply in [
        Vec::new(),
        b"Unknown command\n".to_vec(),
        b"2\n# be_id\n".to_vec(),
        b"1\n".to_vec(),
        b"1\n# be_id; rm\n".to_vec(),
        b"1\n# be_id be_name\n1 shop\n".to_vec(),
        with("3 shop"),
        with(&format!("{line} 7")),
        with(&format!("{line}\n{line}")),
        with(&line.replace("shop", "sh/op")),
        with(&line.replace("web1", "web\u{1b}[31m")),
        with(&line.replace(" 8001 ", " 99999 ")),
        with(&line.replace("127.0.0.1 2 0", "127.0.0.1 2 -1")),
        with(&line.replace("127.0.0.1 2 0", "127.0.0.1 2 99999999999999999999")),
        vec![b'x'; 5 << 20],
        vec![0xff; 100],
    ] {
        let shown = String::from_utf8_lossy(&reply[..reply.len().min(200)]).into_owned();
        let sandbox = Sandbox::empty();
        let server = serve(&sandbox, vec![reply]);
        let error = socket(&sandbox).servers().unwrap_err();
        assert!(
            matches!(error, RuntimeError::Malformed { .. }),
            "{shown}: {error}"
        );
        server.join().unwrap();
    }
    let sandbox = Sandbox::empty();
    let server = serve(&sandbox, vec![b"Pid: x\nVersion: nine\n".to_vec()]);
    assert!(socket(&sandbox).info().is_err());
    server.join().unwrap();
}

#[test]
fn socket_where_nobody_listens_is_not_listening() {
    let sandbox = Sandbox::empty();
    let not_listening = || {
        matches!(
            socket(&sandbox).servers(),
            Err(RuntimeError::NotListening(_))
        )
    };
    assert!(not_listening(), "no folder");
    sandbox.make_dir("/run/haproxy");
    assert!(not_listening(), "no socket");
    drop(UnixListener::bind(sandbox.host.root.machine_path(Path::new(PATH))).unwrap());
    assert!(not_listening(), "a socket of a process that has ended");
}

#[test]
fn silent_process_does_not_hold_up_a_pass() {
    let sandbox = Sandbox::empty();
    sandbox.make_dir("/run/haproxy");
    let path = sandbox.host.root.machine_path(Path::new(PATH));
    let _listener = UnixListener::bind(path).unwrap();
    let mut socket = socket(&sandbox);
    assert!(socket.timeout <= Duration::from_secs(5));
    socket.timeout = Duration::from_millis(50);
    let error = socket.servers().unwrap_err().to_string();
    assert!(error.contains("no reply"), "{error}");
}

#[test]
fn fuzz_server_tables() {
    let law = |input: &[u8]| {
        let Ok(table) = ServerTable::parse(&String::from_utf8_lossy(input)) else {
            return false;
        };
        let text = table.state_file(|_| Some(Some(80)));
        if !table.servers.is_empty() {
            let again = ServerTable::parse(&text).unwrap_or_else(|why| panic!("{why}: {text}"));
            let is_known = |id: &ServerId| table.servers.contains_key(id);
            assert!(again.servers.keys().all(is_known), "{text}");
        }
        true
    };
    let words = [
        "shop",
        "web1",
        "127.0.0.1",
        "fd00::1",
        " ",
        "-",
        "0",
        "1",
        "8",
        "65536",
        "# ",
        "be_name",
        "srv_name",
        "srv_admin_state",
        "srv_port",
        "srv_iweight",
        "\n",
        "\r\n",
        "1\n# ",
        "99999999999999999999",
    ];
    crate::fuzz::Target {
        name: "haproxy-servers",
        words: &words,
        law: &law,
    }
    .run();
}
