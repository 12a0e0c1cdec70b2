use super::*;

const BASE: &str = "global\n  stats socket /s level admin\ndefaults\n  mode http\n  default-server inter 5s\nbackend shop\n  balance leastconn\n  default-server check fall 2\n  server web1 10.0.0.1:80\n  server web2 ipv6@fd00::2:80 weight 3\nbackend docs\n  balance source\n  server web1 10.0.0.1:80\nbackend blog from fast\n  server web1 web1.example.com:80\n";

fn id(text: &str) -> ServerId {
    ServerId::try_from(text.to_owned()).unwrap()
}

#[test]
fn servers_have_the_options_of_every_default_server_before_them() {
    let found = Configuration::parse(BASE);
    assert_eq!(found.blocker, None);
    let server = |name: &str| found.servers[&id(name)].clone();
    assert_eq!(server("shop/web1").options, "inter 5s check fall 2");
    assert_eq!(
        server("shop/web2"),
        Server {
            address: Some("[fd00::2]:80".parse().unwrap()),
            options: "inter 5s check fall 2 weight 3".into(),
            is_orderless: true,
        }
    );
    assert!(!server("docs/web1").is_orderless);
    // No such `defaults`; its address is one of its options.
    assert_eq!(server("blog/web1").options, "web1.example.com:80");
    assert_eq!(server("blog/web1").address, None);
}

#[test]
fn rest_is_the_same_exactly_when_only_servers_differ() {
    let rest = |text: &str| Configuration::parse(text).rest;
    let base = rest(BASE);
    for same in [
        BASE.replace("  server web1 10.0.0.1:80\n", ""),
        BASE.replace(
            "backend docs",
            "  server web9 10.0.0.9:80 # new\nbackend docs",
        ),
        BASE.replace("  server web2", "\n\t # comment\n\tserver   web2"),
        BASE.replace("10.0.0.1:80", "10.0.0.7:8080"),
    ] {
        assert_eq!(rest(&same), base, "{same}");
    }
    for other in [
        BASE.replace("fall 2", "fall 3"),
        BASE.replace("leastconn", "roundrobin"),
        BASE.replace("backend docs", "backend doc"),
        BASE.replace("mode http", "mode tcp"),
        BASE.replace("weight 3", "weight 3\n  retries 2"),
        BASE.replace("level admin", "level \"admin # x\""),
        format!("{BASE}peers p\n  server web1 10.0.0.1:80\n"),
    ] {
        assert_ne!(rest(&other), base, "{other}");
    }
    let quoted = |value: &str| rest(&format!("{BASE}  http-request deny if \"a # {value}\"\n"));
    assert_ne!(quoted("x"), quoted("y"), "a comment inside quotes is none");
    assert_ne!(quoted("x y"), quoted("x  y"), "spaces inside quotes");
}

#[test]
fn configuration_that_is_not_understood_is_blocked() {
    for line in [
        "backend x\n .if defined(HAPROXY_TESTS)",
        "backend x\n server-template web 1-5 10.0.0.1:80",
        "backend x\n server web1 \"10.0.0.1:80\"",
        "backend x\n server web1 10.0.0.1:$PORT",
        "backend x\n server web1 10.0.0.1:80 a;b",
        "backend x\n server web1",
        "backend x\n server web/1 10.0.0.1:80",
        "backend x\n server web1 10.0.0.1:80\n server web1 10.0.0.2:80",
        "defaults\n default-server check-sni 'a b'",
        "backend x\n dynamic-cookie-key secret",
    ] {
        assert!(Configuration::parse(line).blocker.is_some(), "{line}");
    }
    let elsewhere = "ring r\n server web1 \"10.0.0.1:80\"\n";
    assert_eq!(Configuration::parse(elsewhere).blocker, None);
}

#[test]
fn defaults_apply_to_the_backends_after_them_or_by_name() {
    let text = "defaults slow\n balance source\n default-server inter 9s\ndefaults\n balance random(3)\nbackend a\n server s 10.0.0.1:80\nbackend b from slow\n server s 10.0.0.1:80\nlisten c\n bind :81\n default-server check\n server s 10.0.0.1:80\n default-server weight 2\n server t 10.0.0.1:80\n";
    let found = Configuration::parse(text);
    let shown = |name: &str| {
        let server = &found.servers[&id(name)];
        (server.options.as_str(), server.is_orderless)
    };
    assert_eq!(shown("a/s"), ("", true));
    assert_eq!(shown("b/s"), ("inter 9s", false));
    assert_eq!(shown("c/s"), ("check", true));
    assert_eq!(shown("c/t"), ("check weight 2", true));
}

#[test]
fn addresses_are_those_of_ip_with_a_port() {
    for (word, address) in [
        ("10.0.0.1:80", Some("10.0.0.1:80")),
        ("ipv4@10.0.0.1:80", Some("10.0.0.1:80")),
        ("[fd00::1]:80", Some("[fd00::1]:80")),
        ("ipv6@fd00::1:80", Some("[fd00::1]:80")),
        ("10.0.0.1", None),
        ("10.0.0.1:+80", None),
        ("10.0.0.1:0", None),
        ("web1:80", None),
        ("/run/app.sock", None),
        ("*:80", None),
    ] {
        let address = address.map(|address| address.parse().unwrap());
        assert_eq!(parse_address(word), address, "{word}");
    }
}

#[test]
fn fuzz_haproxy_configurations() {
    let law = |input: &[u8]| {
        let text = String::from_utf8_lossy(input);
        let found = Configuration::parse(&text);
        let trimmed: Vec<&str> = text
            .lines()
            .map(|line| line.trim_end_matches('\r'))
            .collect();
        let again = Configuration::parse(&trimmed.join("\n# comment\n\n"));
        assert_eq!(
            (&found.rest, &found.servers, found.blocker),
            (&again.rest, &again.servers, again.blocker)
        );
        if found.blocker.is_some() {
            return false;
        }
        let mut words = found.servers.values().flat_map(|it| it.options.split(' '));
        assert!(words.all(|word| word.is_empty() || is_plain_word(word)));
        !found.servers.is_empty()
    };
    let words = [
        "backend ",
        "listen ",
        "defaults ",
        " from ",
        "server ",
        "default-server ",
        "balance ",
        "10.0.0.1:80",
        "[::1]:80",
        "check ",
        "#",
        "\"",
        "'",
        "\\",
        "\n",
        "\r\n",
        "\t",
        ".if ",
        "server-template ",
        "$X",
        ";",
    ];
    crate::fuzz::Target {
        name: "haproxy-config",
        words: &words,
        law: &law,
    }
    .run();
}
