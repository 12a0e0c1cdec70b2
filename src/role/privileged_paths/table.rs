//! Table of the paths that the shipped roles configure: which program opens each, and with whose rights.

use std::fmt::Write;

/// The rights with which a path is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rights {
    /// Root's: root alone must own every folder on the way.
    Root,
    /// A program to run: as for `Root`. Its arguments are opened with the rights of the user whom it runs as.
    Program,
    /// Root lists the names in the folder; the user whom the file names opens them.
    Listed,
    /// Those of the app's user, or of another user without rights over others.
    User(&'static str),
    /// Nothing is opened: an address, part of a URL, a pattern.
    NoFile,
}

pub(super) struct Directive {
    pub names: &'static [&'static str],
    pub rights: Rights,
    pub protection: &'static str,
}

/// A format of files that roles write.
pub(super) struct Format {
    /// The start and the end of its path.
    pub path_prefix: &'static str,
    pub path_suffix: &'static str,
    pub display_path: &'static str,
    pub read_by: &'static str,
    /// The owner of the file; for `root`, root also reads it.
    pub owner: &'static str,
    /// Every directive that may hold a path.
    pub directives: &'static [Directive],
}

impl Format {
    pub(super) fn directive(&self, name: &str) -> Option<&'static Directive> {
        let mut all = self.directives.iter();
        all.find(|directive| directive.names.contains(&name))
    }
}

const fn directive(
    names: &'static [&'static str],
    rights: Rights,
    protection: &'static str,
) -> Directive {
    Directive {
        names,
        rights,
        protection,
    }
}

use Rights::{Listed, NoFile, Program, Root, User};

/// Folders that Debian packages create for users other than root, each with the reason why that is safe.
pub(super) const PACKAGE_FOLDERS: &[(&str, &str)] = &[(
    "/run/haproxy",
    "the package's folder of the user haproxy, whose processes are shut into /var/lib/haproxy",
)];

/// Where Fedora, RHEL and Amazon Linux keep what Debian keeps elsewhere.
pub(super) const OTHER_PATHS: &[(&str, &str)] = &[
    ("/etc/nginx/conf.d/", "/etc/nginx/sites-enabled/"),
    ("/etc/supervisord.d/", "/etc/supervisor/conf.d/"),
];

pub(super) const FORMATS: &[Format] = &[
    Format {
        path_prefix: "/usr/local/lib/systemd/system/",
        path_suffix: "",
        display_path: "/usr/local/lib/systemd/system/*.service, *.socket, *.timer",
        read_by: "systemd (PID 1)",
        owner: "root",
        directives: &[
            directive(
                &["ExecStart", "ExecStop"],
                Program,
                "`/bin/sh`, which reads files of a release as the unit's `User=`",
            ),
            directive(
                &["OnCalendar"],
                NoFile,
                "a time; `/` is a step, or in the name of a time zone",
            ),
            directive(
                &["WorkingDirectory"],
                User("the app's user"),
                "systemd changes to it as the unit's `User=`: a link to a folder that this user may not enter fails the start",
            ),
            directive(
                &["EnvironmentFile"],
                Root,
                "no shipped unit has one: PID 1 opens it, follows links, and blocks on a pipe forever; a pass fails while a unit has one that others can replace",
            ),
            directive(
                &["StandardOutput", "StandardError", "StandardInput"],
                Root,
                "no shipped unit names a file: output of apps goes to the journal",
            ),
            directive(
                &[
                    "ReadWritePaths",
                    "ReadOnlyPaths",
                    "InaccessiblePaths",
                    "BindPaths",
                    "BindReadOnlyPaths",
                    "RootDirectory",
                    "LoadCredential",
                    "ExecStartPre",
                    "ExecReload",
                    "PIDFile",
                ],
                Root,
                "no shipped unit has one",
            ),
            directive(
                &["ListenStream"],
                Root,
                "shipped sockets listen on the loopback address, at no path",
            ),
        ],
    },
    Format {
        path_prefix: "/etc/supervisor/conf.d/",
        path_suffix: ".conf",
        display_path: "/etc/supervisor/conf.d/APP.conf, or /etc/supervisord.d/APP.ini",
        read_by: "supervisord",
        owner: "root",
        directives: &[
            directive(
                &["command"],
                Program,
                "`/bin/sh`, which reads files of a release as the section's `user=`",
            ),
            directive(
                &["stdout_logfile", "stderr_logfile"],
                Root,
                "in `/var/log/supervisor`, which root owns: supervisord opens and rotates logs as root",
            ),
            directive(&["socket"], NoFile, "a port of the loopback address"),
        ],
    },
    Format {
        path_prefix: "/etc/nginx/sites-enabled/",
        path_suffix: ".conf",
        display_path: "/etc/nginx/sites-enabled/APP.conf, or /etc/nginx/conf.d/APP.conf",
        read_by: "nginx's master, `nginx -t`",
        owner: "root",
        directives: &[
            directive(
                &["root", "try_files"],
                User("www-data or nginx"),
                "nginx's workers open the files that visitors request; the master opens nothing there. They follow the links of a release: see below",
            ),
            directive(
                &[
                    "ssl_certificate",
                    "ssl_certificate_key",
                    "access_log",
                    "error_log",
                    "include",
                ],
                Root,
                "no shipped site has one; nginx's own configuration selects the logs",
            ),
            directive(
                &["if"],
                User("www-data or nginx"),
                "nginx's workers only look whether the file is there, in a folder of root's",
            ),
            directive(
                &[
                    "location",
                    "error_page",
                    "default_type",
                    "proxy_pass",
                    "set_real_ip_from",
                    "(network)",
                ],
                NoFile,
                "parts of URLs, networks, a media type",
            ),
        ],
    },
    Format {
        path_prefix: "/etc/nginx/maintenance/",
        path_suffix: ".html",
        display_path: "/etc/nginx/maintenance/APP.html",
        read_by: "nginx's workers, as www-data or nginx",
        owner: "root",
        directives: &[directive(&["(markup)"], NoFile, "a page for visitors")],
    },
    Format {
        path_prefix: "/etc/logrotate.d/",
        path_suffix: "",
        display_path: "/etc/logrotate.d/trueup-APP",
        read_by: "logrotate",
        owner: "root",
        directives: &[directive(
            &["(pattern)"],
            Listed,
            "`su`: logs are opened, copied and compressed as the app's user; root only lists their names",
        )],
    },
    Format {
        path_prefix: "/etc/sudoers.d/",
        path_suffix: "",
        display_path: "/etc/sudoers.d/trueup-USER",
        read_by: "sudo, `visudo -c`",
        owner: "root",
        directives: &[directive(
            &["(command)"],
            Program,
            "the deploy user may run the commands of `deploy_sudo` as root: one in its home is refused; list none in a release either",
        )],
    },
    Format {
        path_prefix: "/etc/tmpfiles.d/trueup-",
        path_suffix: ".conf",
        display_path: "/etc/tmpfiles.d/trueup-haproxy.conf",
        read_by: "systemd-tmpfiles",
        owner: "root",
        directives: &[directive(&["d"], Root, "a folder of root's in /run")],
    },
    Format {
        path_prefix: "/etc/haproxy/",
        path_suffix: ".cfg",
        display_path: "/etc/haproxy/haproxy.cfg",
        read_by: "haproxy, `haproxy -c`",
        owner: "root",
        directives: &[
            directive(
                &["acl", "http-request"],
                NoFile,
                "the path of a request, and networks",
            ),
            directive(
                &["bind"],
                Root,
                "`certificates`: refused where users other than root could replace them",
            ),
            directive(
                &["stats"],
                Root,
                "haproxy creates the socket before it drops root privileges, in the folder that Debian's package creates for it",
            ),
            directive(&["chroot", "log"], Root, "folders of the system"),
            directive(
                &["server-state-file"],
                Root,
                "trueup writes it, in the folder of the configuration",
            ),
            directive(&["http-check"], NoFile, "part of a URL"),
        ],
    },
    Format {
        path_prefix: "/etc/systemd/system/keepalived.service.d/",
        path_suffix: ".conf",
        display_path: "/etc/systemd/system/keepalived.service.d/trueup.conf",
        read_by: "systemd (PID 1)",
        owner: "root",
        directives: &[],
    },
    Format {
        path_prefix: "/etc/keepalived/",
        path_suffix: ".conf",
        display_path: "/etc/keepalived/keepalived.conf",
        read_by: "keepalived, `keepalived -t`",
        owner: "root",
        directives: &[
            directive(
                &["script"],
                Program,
                "`/usr/bin/trueup`, run as `keepalived_script`, a user that can only ask haproxy",
            ),
            directive(
                &[
                    "notify_master",
                    "notify_backup",
                    "notify_fault",
                    "notify_stop",
                ],
                Program,
                "`/usr/bin/trueup`, run as root: with `enable_script_security` keepalived runs no program that another user could have replaced",
            ),
            directive(
                &["file"],
                Root,
                "in `/var/lib/trueup`, which root owns: `trueup balancer drain` writes it",
            ),
        ],
    },
    Format {
        path_prefix: "/etc/haproxy/certificate",
        path_suffix: ".pem",
        display_path: "/etc/haproxy/certificate.pem",
        read_by: "haproxy, `haproxy -c`",
        owner: "root",
        directives: &[],
    },
    Format {
        path_prefix: "/etc/datadog-agent/conf.d/",
        path_suffix: ".yaml",
        display_path: "/etc/datadog-agent/conf.d/*.d/conf.yaml",
        read_by: "the Datadog agent, as dd-agent",
        owner: "dd-agent",
        directives: &[directive(
            &["url", "search_string"],
            NoFile,
            "an address, a word of a command line",
        )],
    },
    Format {
        path_prefix: "/home/deploy/.ssh/",
        path_suffix: "",
        display_path: "~/.ssh/config, known_hosts, id_deploy of the deploy user",
        read_by: "ssh, as the deploy user",
        owner: "deploy",
        directives: &[
            directive(
                &["IdentityFile"],
                User("the deploy user"),
                "ssh opens it as the user who runs it",
            ),
            directive(&["(key)"], NoFile, "a public key"),
        ],
    },
];

/// Renders the table in `docs/security.md`.
pub(crate) fn render_table() -> String {
    let mut table = String::from(
        "| written in | directive | opened by | as whom | how it is protected |\n| --- | --- | --- | --- | --- |\n",
    );
    for format in FORMATS {
        let file_row = match format.owner {
            "root" => (
                "root",
                "owned by root, writable by nobody else, in folders of root",
            ),
            owner => (owner, "trueup writes there without following a link"),
        };
        let (shown, by) = (format.display_path, format.read_by);
        writeln!(
            table,
            "| `{shown}` | the file itself | {by} | {} | {} |",
            file_row.0, file_row.1
        )
        .unwrap();
        for directive in format.directives {
            let names: Vec<String> = directive
                .names
                .iter()
                .map(|name| format!("`{name}`"))
                .collect();
            let whom = match directive.rights {
                Root => "root",
                Program => "looked up as root",
                Listed => "listed as root, opened as the app's user",
                User(user) => user,
                NoFile => "nobody: no file",
            };
            writeln!(
                table,
                "| | {} | {by} | {whom} | {} |",
                names.join(", "),
                directive.protection
            )
            .unwrap();
        }
    }
    table
}
