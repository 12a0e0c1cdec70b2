//! Tests of the checker itself.

use super::shipped_roles::{RoleFile, RoleFiles, render_shipped_roles};

const UNIT: &str = "/usr/local/lib/systemd/system/a.service";
const SECTION: &str = "/etc/supervisor/conf.d/a.conf";

/// Path, text, and words of the problem.
const UNSAFE: &[(&str, &str, &str)] = &[
    (
        UNIT,
        "EnvironmentFile=/srv/www/shop/current/.trueup/env",
        "deploy could put a link",
    ),
    (
        UNIT,
        "EnvironmentFile=-/srv/www/shop/shared/env",
        "deploy could put a link",
    ),
    (
        UNIT,
        "StandardOutput=append:/srv/www/shop/shared/log/out",
        "deploy could put a link",
    ),
    (
        UNIT,
        "User=deploy\nExecStart=/srv/www/shop/current/bin/run",
        "deploy could put a link",
    ),
    (UNIT, "User=deploy\nExecStart=bin/run", "not the whole path"),
    (UNIT, "ExecStart=/bin/sh .trueup/run", "`User=` has to say"),
    (
        UNIT,
        "User=root\nExecStart=/bin/sh .trueup/run",
        "`User=` has to say",
    ),
    (
        UNIT,
        "ExecStopPost=/bin/true",
        "say in src/role/privileged_paths/table.rs who opens it",
    ),
    (
        SECTION,
        "stdout_logfile=/srv/www/shop/shared/log/out",
        "deploy could put a link",
    ),
    (
        SECTION,
        "stdout_logfile=/tmp/out",
        "everybody could put a link",
    ),
    (SECTION, "stdout_logfile=log/out", "not a whole path"),
    (SECTION, "command=/bin/sh /srv/run", "`user=` has to say"),
    (
        "/etc/logrotate.d/a",
        "/srv/www/shop/shared/log/*.log {\n weekly\n}",
        "no `su deploy",
    ),
    (
        "/etc/nginx/sites-enabled/a.conf",
        "ssl_certificate_key /home/deploy/a.pem;",
        "deploy could",
    ),
    (
        "/etc/haproxy/haproxy.cfg",
        "bind *:443 ssl crt /home/deploy/a.pem",
        "deploy could",
    ),
    (
        "/etc/sudoers.d/a",
        "deploy ALL=(root) NOPASSWD: /home/deploy/bin/x",
        "deploy could",
    ),
    (
        "/etc/cron.d/a",
        "",
        "say in src/role/privileged_paths/table.rs who reads",
    ),
];

/// Path and text.
const SAFE: &[(&str, &str)] = &[
    (
        UNIT,
        "User=deploy\nExecStart=/bin/sh /srv/www/shop/current/.trueup/run\n# EnvironmentFile=/srv/x",
    ),
    (
        UNIT,
        "EnvironmentFile=-/etc/default/a\nListenStream=127.0.0.1:80",
    ),
    (
        "/etc/haproxy/haproxy.cfg",
        "bind *:443 ssl crt /etc/ssl/a.pem",
    ),
];

fn problems_of(host: &RoleFiles, path: &str, text: &str) -> String {
    let file = RoleFile {
        path: path.into(),
        owner: "root".into(),
        mode: "0644".into(),
        text: text.into(),
    };
    host.file_problems(&file).join("\n")
}

#[test]
fn checker_detects_every_known_way_to_expose_root() {
    let host = render_shipped_roles();
    for (path, text, expected) in UNSAFE {
        let problems = problems_of(&host, path, text);
        assert!(problems.contains(expected), "{path}: {text}\n{problems}");
    }
}

#[test]
fn checker_accepts_paths_that_only_root_can_replace() {
    let host = render_shipped_roles();
    for (path, text) in SAFE {
        assert_eq!(problems_of(&host, path, text), "", "{text}");
    }
}
