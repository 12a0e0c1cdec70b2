use std::fmt::Write;

use super::*;
use crate::ports::haproxy::ServerTable;

const WORKER: Worker = Worker {
    pid: 7,
    started: 70,
};

fn id(text: &str) -> ServerId {
    ServerId::try_from(text.to_owned()).unwrap()
}

/// A configuration with these servers of `shop`, which balances by `roundrobin`, and of `docs`, which does not.
fn file(servers: &[&str]) -> Configuration {
    let of = |backend: &str| {
        let of_it = servers
            .iter()
            .filter_map(|server| server.strip_prefix(backend));
        of_it
            .map(|server| format!(" server {server}\n"))
            .collect::<String>()
    };
    Configuration::parse(&format!(
        "backend shop\n default-server check\n{}backend docs\n balance source\n{}",
        of("shop/"),
        of("docs/")
    ))
}

/// A process that has these: `BACKEND/SERVER ADDRESS PORT ADMIN CHECK` each.
fn process(servers: &[&str]) -> ServerTable {
    let mut text =
        "1\n# be_name srv_name srv_addr srv_port srv_admin_state srv_check_state\n".to_owned();
    for server in servers {
        writeln!(text, "{}", server.replacen('/', " ", 1)).unwrap();
    }
    ServerTable::parse(&text).unwrap()
}

fn loaded(servers: &[&str], joining: &[&str], leaving: &[&str]) -> LoadedConfig {
    let mut loaded = LoadedConfig::new(WORKER, &file(servers));
    loaded.joining = joining.iter().map(|name| id(name)).collect();
    loaded.leaving = leaving.iter().map(|name| id(name)).collect();
    loaded
}

const WEB1: &str = "shop/web1 10.0.0.1:80";
const WEB2: &str = "shop/web2 10.0.0.2:80";
const UP1: &str = "shop/web1 10.0.0.1 80 0 6";
const UP2: &str = "shop/web2 10.0.0.2 80 0 6";

#[test]
fn running_process_gets_the_servers_of_the_file() {
    let drained = "shop/web1 10.0.0.1 80 8 6";
    let out = "shop/web2 10.0.0.2 80 1 14";
    for (name, wanted, known, running, changes) in [
        (
            "nothing",
            vec![WEB1],
            loaded(&[WEB1], &[], &[]),
            vec![UP1],
            "",
        ),
        (
            "a join",
            vec![WEB1, WEB2],
            loaded(&[WEB1], &[], &[]),
            vec![UP1],
            "+shop/web2",
        ),
        (
            "the first",
            vec![WEB1],
            loaded(&[], &[], &[]),
            vec![],
            "+shop/web1",
        ),
        (
            "a leave",
            vec![WEB1],
            loaded(&[WEB1, WEB2], &[], &[]),
            vec![UP1, UP2],
            "-shop/web2",
        ),
        (
            "the last",
            vec![],
            loaded(&[WEB1], &[], &[]),
            vec![UP1],
            "-shop/web1",
        ),
        (
            "both, while one is drained",
            vec![WEB1, WEB2],
            loaded(&[WEB1, "shop/web3 10.0.0.3:80"], &[], &[]),
            vec![drained, "shop/web3 10.0.0.3 80 0 6"],
            "+shop/web2, -shop/web3",
        ),
        (
            "an address",
            vec!["shop/web1 10.0.0.9:81"],
            loaded(&[WEB1], &[], &[]),
            vec![drained],
            "shop/web1 at 10.0.0.9:81",
        ),
        (
            "one that leaves",
            vec![WEB1],
            loaded(&[WEB1, WEB2], &[], &["shop/web2"]),
            vec![UP1, out],
            "",
        ),
        (
            "one that comes back elsewhere",
            vec![WEB1, "shop/web2 10.0.0.9:80"],
            loaded(&[WEB1, WEB2], &[], &["shop/web2"]),
            vec![UP1, out],
            "shop/web2 at 10.0.0.9:80, +shop/web2",
        ),
        (
            "a join that was interrupted",
            vec![WEB1, WEB2],
            loaded(&[WEB1, WEB2], &["shop/web2"], &[]),
            vec![UP1, out],
            "+shop/web2",
        ),
        (
            "the same before its first command",
            vec![WEB1, WEB2],
            loaded(&[WEB1, WEB2], &["shop/web2"], &[]),
            vec![UP1],
            "+shop/web2",
        ),
        (
            "a join that was interrupted and is not wanted any more",
            vec![WEB1],
            loaded(&[WEB1, WEB2], &["shop/web2"], &[]),
            vec![UP1, out],
            "-shop/web2",
        ),
        (
            "a leave that was interrupted before its first command",
            vec![WEB1],
            loaded(&[WEB1, WEB2], &[], &["shop/web2"]),
            vec![UP1, UP2],
            "-shop/web2",
        ),
        (
            "a leave whose deletion was interrupted",
            vec![WEB1],
            loaded(&[WEB1, WEB2], &[], &["shop/web2"]),
            vec![UP1],
            "",
        ),
        (
            "a name as an address",
            vec!["shop/web1 web1.example.com:80", WEB2],
            loaded(&["shop/web1 web1.example.com:80"], &[], &[]),
            vec![UP1],
            "+shop/web2",
        ),
    ] {
        let changes_made = diff(&file(&wanted), &known, &process(&running)).unwrap();
        let shown: Vec<String> = changes_made.iter().map(ServerChange::summary).collect();
        assert_eq!(shown.join(", "), changes, "{name}");
    }
}

#[test]
fn what_is_not_certain_takes_a_reload() {
    let docs = "docs/web1 10.0.0.1:80";
    for (why, wanted, known, running) in [
        (
            "options of shop/web1",
            vec!["shop/web1 10.0.0.1:80 weight 2"],
            loaded(&[WEB1], &[], &[]),
            vec![UP1],
        ),
        (
            "options of shop/web2",
            vec![WEB1, "shop/web2 10.0.0.2:80 backup"],
            loaded(&[WEB1, WEB2], &[], &["shop/web2"]),
            vec![UP1, UP2],
        ),
        (
            "static `balance`",
            vec![docs],
            loaded(&[], &[], &[]),
            vec![],
        ),
        (
            "static `balance`",
            vec!["docs/web1 10.0.0.9:80"],
            loaded(&[docs], &[], &[]),
            vec!["docs/web1 10.0.0.1 80 0 6"],
        ),
        (
            "a server shop/web2 that it was not given",
            vec![WEB1],
            loaded(&[WEB1], &[], &[]),
            vec![UP1, UP2],
        ),
        (
            "no longer has the server shop/web2",
            vec![WEB1, WEB2],
            loaded(&[WEB1, WEB2], &[], &[]),
            vec![UP1],
        ),
        (
            "only from its file",
            vec!["shop/web1 web1.example.com:80"],
            loaded(&[], &[], &[]),
            vec![],
        ),
        (
            "only from its file",
            vec!["shop/web1 10.0.0.1:80 disabled"],
            loaded(&[], &[], &[]),
            vec![],
        ),
        (
            "only from its file",
            vec!["shop/web1 10.0.0.1:80 agent-check agent-port 9"],
            loaded(&[], &[], &[]),
            vec![],
        ),
    ] {
        let refused = diff(&file(&wanted), &known, &process(&running)).unwrap_err();
        assert!(refused.contains(why), "{why}: {refused}");
    }
    let other = Configuration::parse("backend other\n server web1 10.0.0.1:80\n");
    assert!(diff(&other, &loaded(&[WEB1], &[], &[]), &process(&[UP1])).is_err());
    let blocked = Configuration::parse("backend shop\n server-template a 1-2 10.0.0.1:80\n");
    assert!(
        diff(
            &blocked,
            &LoadedConfig::new(WORKER, &blocked),
            &process(&[])
        )
        .is_err()
    );
}

#[test]
fn update_counts_only_if_the_process_has_the_servers_of_the_file() {
    let wanted = file(&[WEB1, WEB2]);
    let known = loaded(
        &[WEB1, WEB2, "shop/web3 10.0.0.3:80"],
        &["shop/web2"],
        &["shop/web3"],
    );
    let check = |running: &[&str]| verify(&wanted, &known, &process(running));
    let left = "shop/web3 10.0.0.3 80 1 14";
    assert_eq!(check(&[UP1, UP2, left]), Ok(()));
    assert_eq!(check(&[UP1, UP2]), Ok(()));
    assert_eq!(
        check(&["shop/web1 10.0.0.1 80 8 6", UP2]),
        Ok(()),
        "drained by hand"
    );
    assert_eq!(
        check(&["shop/web1 10.0.0.1 80 1 14", UP2]),
        Ok(()),
        "taken out by hand"
    );
    for (running, why) in [
        (vec![UP1], "does not have the server shop/web2"),
        (
            vec![UP1, "shop/web2 10.0.0.9 80 0 6"],
            "shop/web2 has another address",
        ),
        (
            vec![UP1, "shop/web2 10.0.0.2 80 1 6"],
            "shop/web2 is still in maintenance",
        ),
        (
            vec![UP1, "shop/web2 10.0.0.2 80 0 2"],
            "shop/web2 is not checked",
        ),
        (
            vec![UP1, UP2, "shop/web3 10.0.0.3 80 0 6"],
            "shop/web3 is not in maintenance",
        ),
        (
            vec![UP1, UP2, "shop/web4 10.0.0.4 80 1 6"],
            "a server shop/web4 that it was not given",
        ),
    ] {
        let error = check(&running).unwrap_err();
        assert!(error.contains(why), "{why}: {error}");
    }
}

#[test]
fn settled_note_has_the_servers_of_the_file_and_those_that_leave() {
    let mut known = loaded(&[WEB1, WEB2], &["shop/web1"], &["shop/web2"]);
    let wanted = file(&["shop/web3 10.0.0.3:80"]);
    known.extend(&wanted);
    known.settle(&wanted);
    let names: Vec<String> = known.servers.keys().map(ToString::to_string).collect();
    assert_eq!(names, ["shop/web2", "shop/web3"]);
    assert!(known.joining.is_empty());
}

#[test]
fn only_a_process_that_loads_the_one_file_is_changed() {
    for (line, is_only) in [
        ("-Ws -f /etc/haproxy/haproxy.cfg -p /run/haproxy.pid", true),
        (
            "-sf 115 -x sockpair@3 -Ws -f /etc/haproxy/haproxy.cfg",
            true,
        ),
        ("-Ws -f /root/other.cfg", false),
        (
            "-Ws -f /etc/haproxy/haproxy.cfg -f /etc/haproxy/conf.d",
            false,
        ),
        ("-Ws -f /etc/haproxy/haproxy.cfg -- /root/other.cfg", false),
        ("-Ws", false),
    ] {
        let arguments: Vec<String> = line.split(' ').map(str::to_owned).collect();
        assert_eq!(
            loads_only(&arguments, "/etc/haproxy/haproxy.cfg"),
            is_only,
            "{line}"
        );
    }
}

#[test]
fn long_summaries_are_cut() {
    let leave = |n: usize| ServerChange::Leave {
        id: id(&format!("shop/web{n}")),
    };
    let changes: Vec<ServerChange> = (0..20).map(leave).collect();
    assert!(summary(&changes).ends_with("-shop/web11, and 8 more"));
    assert_eq!(summary(&[]), "it has these servers already");
}

#[test]
fn relative_paths_are_refused_before_the_host_is_inspected() {
    let spec = |socket: &str| HaproxyRuntime {
        config: "/etc/haproxy/haproxy.cfg".into(),
        socket: socket.into(),
        state_file: "/etc/haproxy/servers.state".into(),
    };
    assert!(spec("/run/haproxy/admin.sock").validate().is_ok());
    let problem = spec("127.0.0.1:9999").validate().unwrap_err();
    assert!(
        problem.to_string().contains("runtime.haproxy.socket"),
        "{problem}"
    );
}
