//! `trueup init` turns its options into valid settings, and writes nothing when a check fails.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::sandbox::{Ran, Sandbox};

const KEY: &str = "-----BEGIN RSA PRIVATE KEY-----\nMII\n-----END RSA PRIVATE KEY-----\n";

/// A host as after installing the package: settings that set nothing, and the shipped roles.
struct FreshHost {
    host: Sandbox,
    repo: String,
}

impl FreshHost {
    fn new() -> FreshHost {
        let host = Sandbox::empty();
        host.write("/etc/trueup/node.yml", &shipped("packaging/node.yml"));
        let repo = host.sibling("shop.git");
        let status = Command::new("git")
            .args(["init", "-q", "--bare"])
            .arg(&repo)
            .status();
        assert!(status.unwrap().success());
        let repo = repo.display().to_string();
        FreshHost { host, repo }
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = self.host.command(args);
        command.env("TRUEUP_SHARE", env!("CARGO_MANIFEST_DIR"));
        command
    }

    /// `trueup init` for this app, with all options that it would prompt for.
    fn init_command(&self, app: &str, more: &[&str]) -> Command {
        let store = self.host.fill("dir:@STORE@");
        let args = [
            "init",
            "--env",
            "production",
            "--role",
            "app",
            "--store",
            &store,
            "--app",
            app,
            "--set",
            "apps.shop.port=3000",
        ];
        self.command(&[&args[..], more].concat())
    }

    fn init(&self, more: &[&str]) -> Ran {
        let app = format!("shop={}", self.repo);
        self.host.run_command(self.init_command(&app, more))
    }

    fn settings(&self) -> String {
        self.host.read("/etc/trueup/node.yml")
    }

    /// Every file of the host.
    fn files(&self) -> String {
        crate::tree::listing(&self.host.root, &[])
    }
}

fn shipped(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

fn mode(host: &Sandbox, path: &str) -> u32 {
    fs::metadata(host.at(path)).unwrap().permissions().mode() & 0o777
}

#[test]
fn init_writes_valid_settings_and_keeps_every_comment() {
    let fresh = FreshHost::new();
    let ran = fresh.init(&["--tag", "zone=b", "--set", "keep_releases=3"]);
    assert_eq!(ran.code, 0, "{ran}");
    for expected in [
        "good settings: the role `app` describes 21 resources for ",
        "good store dir:",
        "note manifest: there is no sha_number.yml",
        "trueup publish production shop=SHA --create",
        "note git shop: ",
        "next: `trueup plan --root ",
    ] {
        assert!(ran.out.contains(expected), "{expected}: {ran}");
    }
    let settings = fresh.settings();
    for line in [
        "\nenvironment: production\n",
        "\nroles:\n- app\n",
        "\ntags:\n  zone: b\n",
        "\n#node: web-1\n",
        "  apps:\n    shop:\n",
        "      port: 3000\n  keep_releases: 3\n",
    ] {
        assert!(settings.contains(line), "{line:?}:\n{settings}");
    }
    let prose = |text: &str| -> Vec<String> {
        let prose = |line: &&str| line.starts_with("# ") && !line.starts_with("#  ");
        let lines = text.lines().filter(prose);
        lines.map(str::to_owned).collect()
    };
    assert_eq!(prose(&settings), prose(&shipped("packaging/node.yml")));
    assert_eq!(mode(&fresh.host, "/etc/trueup/node.yml"), 0o644);
    let checked = fresh.host.run_command(fresh.command(&["validate"]));
    assert_eq!(checked.code, 0, "{checked}");
}

#[test]
fn failed_init_writes_nothing() {
    let fresh = FreshHost::new();
    let before = fresh.files();
    for (more, code, expected) in [
        (
            &["--set", "apps.shop.repo=/nowhere.git"][..],
            1,
            "bad git shop: cannot fetch /nowhere.git",
        ),
        (
            &["--set", "apps.shop.port=null"],
            78,
            "trueup: apps.shop.port is not set: the port on which the app listens\n  hint: such as `--set apps.shop.port=3000`",
        ),
        (
            &["--set", "apps.shop.prot=1"],
            78,
            "there is no setting `prot`",
        ),
        (&["--set", "apps.shop"], 64, "is not KEY=VALUE"),
        (&["--set", "apps..port=1"], 64, "is not a key"),
        (&["--set", "apps=1"], 78, "apps"),
        (
            &["--set", "apps.shop.secrets.A=@/nowhere"],
            64,
            "there is no file /nowhere",
        ),
        (&["--tag", "zone"], 64, "--tag: `zone` is not"),
        (
            &["--known-host", "github.com"],
            64,
            "is not a line of known_hosts",
        ),
        (
            &["--deploy-key", "/nowhere"],
            64,
            "--deploy-key: there is no file",
        ),
        (
            &["--deploy-key", "/etc/hostname"],
            64,
            "--deploy-key: there is no private key in /etc/hostname",
        ),
        (
            &["--known-host", "github.com rsa AAAA"],
            64,
            "is not a line of known_hosts",
        ),
        (
            &["--set", "apps.shop.port=x"],
            78,
            "apps.shop.port: expected a port from 1 to 65535, found the text `x`",
        ),
        (
            &["--node", "a b"],
            78,
            "trueup: --node: `a b` is not a name",
        ),
        (&["--role", "nonsense"], 78, "there is no role `nonsense`"),
        (&["--role", "web"], 64, "the roles app and web deploy apps"),
    ] {
        let ran = fresh.init(more);
        assert_eq!(ran.code, code, "{more:?}: {ran}");
        assert!(
            ran.out.contains(expected) || ran.err.contains(expected),
            "{more:?}: {expected}: {ran}"
        );
        assert_eq!(fresh.files(), before, "{more:?}");
    }
    fs::remove_dir_all(&fresh.host.store).unwrap();
    let ran = fresh.init(&[]);
    assert_eq!(ran.code, 1, "{ran}");
    assert!(ran.out.contains("bad store dir:"), "{ran}");
    assert_eq!(fresh.files(), before);
    let ran = fresh.init(&["--unchecked"]);
    assert_eq!(ran.code, 0, "{ran}");
}

#[test]
fn init_without_a_terminal_names_the_missing_options() {
    let fresh = FreshHost::new();
    let ran = fresh
        .host
        .run_command(fresh.command(&["init", "--role", "app"]));
    assert_eq!(ran.code, 64, "{ran}");
    assert!(
        ran.err
            .contains("init needs --env, --store, and there is no terminal for a prompt"),
        "{ran}"
    );
}

#[test]
fn configured_host_stays_unchanged_without_force() {
    let fresh = FreshHost::new();
    assert_eq!(fresh.init(&[]).code, 0);
    let before = fresh.files();
    let ran = fresh.init(&["--node", "web-2"]);
    assert_eq!(ran.code, 64, "{ran}");
    assert!(ran.err.contains("is already configured"), "{ran}");
    assert_eq!(fresh.files(), before);
    let old = fresh.settings();
    let ran = fresh.init(&["--node", "web-2", "--force"]);
    assert_eq!(ran.code, 0, "{ran}");
    assert!(fresh.settings().contains("\nnode: web-2\n"));
    assert_eq!(fresh.host.read("/etc/trueup/node.yml.old"), old);
    // A drop-in configures a host too, and is named.
    let fresh = FreshHost::new();
    fresh
        .host
        .write("/etc/trueup/node.d/host.yml", "environment: staging\n");
    let ran = fresh.init(&[]);
    assert_eq!(ran.code, 64, "{ran}");
    assert!(
        ran.err.contains("node.d/host.yml sets `environment`"),
        "{ran}"
    );
}

#[test]
fn host_with_nothing_but_a_drop_in_of_tags_can_be_configured() {
    let fresh = FreshHost::new();
    fresh
        .host
        .write("/etc/trueup/node.d/tags.yml", "tags: {zone: a}\n");
    let ran = fresh.init(&[]);
    assert_eq!(ran.code, 0, "{ran}");
}

#[test]
fn keys_and_secrets_are_readable_by_root_only_and_never_shown() {
    let fresh = FreshHost::new();
    let (key, secret) = (fresh.host.sibling("key"), fresh.host.sibling("secret"));
    fs::write(&key, KEY).unwrap();
    fs::write(&secret, "geheim: #1\n").unwrap();
    let from_file = format!("apps.shop.secrets.SECRET_KEY_BASE=@{}", secret.display());
    let ran = fresh.init(&["--set", &from_file, "--deploy-key", key.to_str().unwrap()]);
    assert_eq!(ran.code, 0, "{ran}");
    assert!(
        !ran.out.contains("geheim") && !ran.err.contains("geheim"),
        "{ran}"
    );
    assert_eq!(fresh.host.read("/etc/trueup/deploy_key"), KEY);
    for path in ["/etc/trueup/deploy_key", "/etc/trueup/node.yml"] {
        assert_eq!(mode(&fresh.host, path), 0o600, "{path}");
    }
    let settings = fresh.settings();
    assert!(
        settings.contains("  deploy_key: /etc/trueup/deploy_key\n"),
        "{settings}"
    );
    assert!(
        settings.contains("SECRET_KEY_BASE: 'geheim: #1'\n"),
        "{settings}"
    );
    assert!(!fresh.host.at("/etc/trueup/deploy_key.new").exists());
}

/// With a terminal of its own, by util-linux' `script`.
#[test]
fn init_prompts_for_missing_values_at_a_terminal() {
    let fresh = FreshHost::new();
    let init = fresh.command(&["init"]);
    let mut line = format!("{:?}", init.get_program());
    for arg in init.get_args() {
        line += &format!(" {arg:?}");
    }
    let answers = format!(
        "prod/uction\n\nap\n\n/srv/store\n{}\nsh op\nshop\nnowhere\n{}\nx\n3001\n\n",
        fresh.host.fill("dir:@STORE@"),
        fresh.repo
    );
    let typed = fresh.host.sibling("typed");
    fs::write(&typed, answers).unwrap();
    let mut script = Command::new("script");
    script
        .args(["-qec", &line, "/dev/null"])
        .env("TRUEUP_SHARE", env!("CARGO_MANIFEST_DIR"))
        .stdin(fs::File::open(typed).unwrap());
    let ran = fresh.host.run_command(script);
    assert_eq!(ran.code, 0, "{ran}");
    assert!(ran.out.contains("environment [production]: "), "{ran}");
    // An invalid answer is rejected at once, and the prompt repeated.
    for text in [
        "`prod/uction` is not a name",
        "there is no role `ap`",
        "`/srv/store` is not the address of a store",
        "`sh op` is not a name",
        "`nowhere` is not a repository address",
        "`x` is not a port",
    ] {
        assert!(ran.out.contains(text), "{text}: {ran}");
    }
    let settings = fresh.settings();
    assert!(
        settings.contains(&format!("      repo: {}\n      port: 3001\n", fresh.repo))
            || settings.contains(&format!(
                "      repo: \"{}\"\n      port: 3001\n",
                fresh.repo
            )),
        "{settings}"
    );
}

#[test]
fn static_role_needs_no_port_and_command_role_does() {
    let fresh = FreshHost::new();
    let store = fresh.host.fill("dir:@STORE@");
    let app = format!("docs={}", fresh.repo);
    let init = |more: &[&str]| {
        let args = [
            "init", "--env", "staging", "--role", "web", "--store", &store, "--app", &app,
        ];
        fresh
            .host
            .run_command(fresh.command(&[&args[..], more].concat()))
    };
    let ran = init(&["--set", "web_apps.docs.command=node server.js"]);
    assert_eq!(ran.code, 1, "{ran}");
    assert!(ran.out.contains("web_apps.docs.port is not set"), "{ran}");
    let ran = init(&[]);
    assert_eq!(ran.code, 0, "{ran}");
}

#[test]
fn settings_with_secrets_or_private_before_are_for_root_only() {
    let written = |more: &[&str], before: u32| {
        let fresh = FreshHost::new();
        let (node, url) = ("/etc/trueup/node.yml", fresh.host.sibling("url"));
        fs::write(&url, "plain words\n").unwrap();
        fs::set_permissions(fresh.host.at(node), fs::Permissions::from_mode(before)).unwrap();
        let file = format!("@{}", url.display());
        let more: Vec<String> = more
            .iter()
            .map(|word| word.replace("@FILE", &file))
            .collect();
        let more: Vec<&str> = more.iter().map(String::as_str).collect();
        let ran = fresh.init(&[&["--unchecked"], &more[..]].concat());
        assert_eq!(ran.code, 0, "{ran}");
        mode(&fresh.host, node)
    };
    assert_eq!(written(&[], 0o644), 0o644);
    for secret in [
        &["--set", "apps.shop.env.ADDRESS=@FILE"][..],
        &["--set", "apps.shop.env.RAILS_MASTER_KEY=0f"],
        &["--set", "apps.shop.env.DATABASE_URL=postgres://u:p@db/shop"],
        &["--app", "shop=https://user:TOKEN@host.example/shop.git"],
    ] {
        assert_eq!(written(secret, 0o644), 0o600, "{secret:?}");
    }
    assert_eq!(written(&[], 0o600), 0o600);
    assert_eq!(written(&[], 0o640), 0o640);
    assert_eq!(written(&["--force"], 0o600), 0o600);
}

/// `trueup init` with an S3 store that does not answer, for the other messages.
fn init_with_s3(fresh: &FreshHost, env: &[(&str, &str)], more: &[&str]) -> Ran {
    let args = [
        "init",
        "--env",
        "production",
        "--role",
        "base",
        "--store",
        "s3://acme",
        "--endpoint",
        "http://127.0.0.1:9",
    ];
    let mut command = fresh.command(&[&args[..], more].concat());
    for name in [
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_SESSION_TOKEN",
        "AWS_REGION",
        "AWS_DEFAULT_REGION",
        "AWS_PROFILE",
    ] {
        command.env_remove(name);
    }
    command.env("HOME", "/root").envs(env.iter().copied());
    fresh.host.run_command(command)
}

const KEYS: [(&str, &str); 2] = [("AWS_ACCESS_KEY_ID", "A"), ("AWS_SECRET_ACCESS_KEY", "a")];

#[test]
fn missing_keys_are_an_error_that_says_how_to_store_them() {
    let fresh = FreshHost::new();
    let before = fresh.files();
    let ran = init_with_s3(&fresh, &[], &["--region", "x", "--save-credentials"]);
    assert_eq!(ran.code, 64, "{ran}");
    let command_line = "sudo --preserve-env=AWS_ACCESS_KEY_ID,AWS_SECRET_ACCESS_KEY trueup init";
    assert!(ran.err.contains(command_line), "{ran}");
    let store = fresh.host.fill("dir:@STORE@");
    let args = ["init", "--env", "x", "--role", "base", "--store", &store];
    let mut command = fresh.command(&[&args[..], &["--save-credentials"]].concat());
    let ran = fresh.host.run_command({
        command.envs(KEYS);
        command
    });
    assert!(
        ran.code == 64 && ran.err.contains("only an S3 store"),
        "{ran}"
    );
    assert_eq!(fresh.files(), before);
}

#[test]
fn region_of_the_environment_is_written_to_the_settings() {
    let fresh = FreshHost::new();
    let ran = init_with_s3(&fresh, &[("AWS_REGION", "eu-north-1")], &["--unchecked"]);
    assert_eq!(ran.code, 0, "{ran}");
    let settings = fresh.settings();
    assert!(settings.contains("\n  region: eu-north-1\n"), "{settings}");
}

#[test]
fn init_warns_when_the_timer_would_use_other_keys() {
    let fresh = FreshHost::new();
    let ran = init_with_s3(&fresh, &KEYS, &["--region", "x"]);
    assert!(
        ran.out.contains(
            "credentials: the keys for the store are only in the environment of this shell"
        ),
        "{ran}"
    );
    fresh.host.write(
        "/root/.aws/credentials",
        "[default]\naws_access_key_id = A\naws_secret_access_key = b\n",
    );
    let ran = init_with_s3(&fresh, &KEYS, &["--region", "x"]);
    assert!(
        ran.out
            .contains("the keys in this environment are not those in /root/.aws/credentials"),
        "{ran}"
    );
    fresh.host.write(
        "/root/.aws/credentials",
        "[default]\naws_access_key_id = A\naws_secret_access_key = a\n",
    );
    let ran = init_with_s3(&fresh, &KEYS, &["--region", "x"]);
    assert!(!ran.out.contains("credentials: "), "{ran}");
    let ran = init_with_s3(&fresh, &KEYS, &["--region", "x", "--save-credentials"]);
    assert!(
        ran.out
            .contains("good credentials: /root/.aws/credentials already has them"),
        "{ran}"
    );
    let ran = init_with_s3(
        &fresh,
        &[("SUDO_COMMAND", "trueup init")],
        &["--region", "x"],
    );
    assert!(
        ran.out
            .contains("note credentials: sudo drops AWS_* variables"),
        "{ran}"
    );
}

/// Ctrl-C while a git server does not answer.
#[test]
fn interrupted_init_leaves_no_key_and_the_next_removes_leftovers() {
    let fresh = FreshHost::new();
    let key = fresh.host.sibling("key");
    fs::write(&key, KEY).unwrap();
    let before = fresh.files();
    let (new, node) = ("/etc/trueup/deploy_key.new", fresh.settings());
    for signal in [Signal::SIGINT, Signal::SIGKILL] {
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let app = format!("shop=http://{}/shop.git", server.local_addr().unwrap());
        let mut init = fresh.init_command(&app, &["--deploy-key", key.to_str().unwrap()]);
        let init = init
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let init = init.spawn().unwrap();
        let connection = server.accept().unwrap();
        assert!(fresh.host.at(new).exists());
        kill(Pid::from_raw(init.id() as i32), signal).unwrap();
        if signal == Signal::SIGKILL {
            init.wait_with_output().unwrap();
            assert!(fresh.host.at(new).exists());
            break;
        }
        let ran = Ran::of(&init.wait_with_output().unwrap(), &fresh.host);
        drop(connection);
        assert_eq!(ran.code, 143, "{ran}");
        assert!(
            ran.err.contains("ended by a signal: nothing was written"),
            "{ran}"
        );
        assert_eq!(fresh.files(), before);
    }
    let ran = fresh.init(&["--set", "apps.shop.repo=/nowhere.git"]);
    assert_eq!(ran.code, 1, "{ran}");
    assert_eq!((fresh.files(), fresh.settings()), (before, node));
}
