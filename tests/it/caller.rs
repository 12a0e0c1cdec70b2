//! Children inherit nothing from the caller of trueup. A build makes the same files, and can reach
//! as little, whether a timer or a user's shell started the pass.

use std::process::Command;

use crate::app::{App, GOOD};
use crate::sandbox::{Ran, Sandbox, binary, isolated};
use crate::terminal::Terminal;

/// Prints the process state that a child inherits.
const STATE: &str = r#"
import ctypes, os, resource, signal
limits = {name: resource.getrlimit(getattr(resource, name)) for name in dir(resource) if name.startswith("RLIMIT_")}
status = dict(line.rstrip().split(":\t", 1) for line in open("/proc/self/status") if ":\t" in line)
libc = ctypes.CDLL(None)
print("umask", oct(os.umask(0)))
print("limits", limits)
for key in ["SigBlk", "CapInh", "CapAmb", "Cpus_allowed_list", "Groups"]:
    print(key, status.get(key, "").strip())
# Python itself ignores SIGPIPE and SIGXFSZ.
print("ignored", hex(int(status["SigIgn"], 16) & ~(1 << signal.SIGPIPE - 1) & ~(1 << signal.SIGXFSZ - 1)))
print("nice", os.getpriority(os.PRIO_PROCESS, 0), "policy", os.sched_getscheduler(0), "io", libc.syscall(252, 1, 0))
print("oom", open("/proc/self/oom_score_adj").read().strip())
print("personality", libc.personality(0xffffffff), "slack", libc.prctl(30, 0, 0, 0, 0))
print("fds", sorted(int(fd) for fd in os.listdir("/proc/self/fd") if os.path.exists("/proc/self/fd/" + fd)))
print("own session", os.getsid(0) == os.getpgid(0))
print("key", libc.syscall(250, 10, -3, b"user", b"odd", 0) > 0)
print("env", sorted(key for key in os.environ if key.startswith("ODD")))
"#;

/// Runs the following command from a process with unusual state of every kind.
const ODD: &str = r#"
import ctypes, os, resource, signal, sys
libc = ctypes.CDLL(None)
capabilities = [int(line.split()[1], 16) for line in open("/proc/self/status") if line.startswith("CapEff")][0]
capable = lambda number: capabilities >> number & 1
os.umask(int(sys.argv[1], 8))
fd = os.open("/etc/hostname", os.O_RDONLY)
os.dup2(fd, 9, inheritable=True)
os.dup2(fd, 150, inheritable=True)
for limit, value in [(resource.RLIMIT_NOFILE, 200), (resource.RLIMIT_CORE, 4096), (resource.RLIMIT_STACK, 3 << 20), (resource.RLIMIT_CPU, 900)]:
    # Nobody without CAP_SYS_RESOURCE raises a hard limit again.
    resource.setrlimit(limit, (value, value if capable(24) else resource.getrlimit(limit)[1]))
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR2, signal.SIGTERM})
for ignored in [signal.SIGHUP, signal.SIGINT, signal.SIGUSR1, signal.SIGCHLD]:
    signal.signal(ignored, signal.SIG_IGN)
if capable(23):
    os.nice(3)
    os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
libc.syscall(251, 1, 0, 3 << 13)
libc.personality(0x0040000)
libc.prctl(29, 4000000, 0, 0, 0)
libc.syscall(250, 1, 0)
libc.syscall(248, b"user", b"odd", b"secret", 6, -3)
if capable(24):
    open("/proc/self/oom_score_adj", "w").write("333")
if capable(6):
    os.setgroups([0, 4, 27])
os.environ["ODD"] = "1"
os.execv(sys.argv[2], sys.argv[2:])
"#;

fn with_odd_caller(plain: &Command, umask: &str) -> Command {
    let mut command = Command::new("python3");
    command.args(["-c", ODD, umask]).arg(plain.get_program());
    command.args(plain.get_args());
    isolated(&mut command);
    for (key, value) in plain.get_envs() {
        command.env(key, value.unwrap_or_default());
    }
    command
}

const APP: &str = r#"
resources:
  - directory: {path: /srv/shop, parents: true}
  - command: {id: look, run: "python3 @ROOT@/state.py >@ROOT@/command.state; touch @ROOT@/command.file", creates: /command.file}
  - release:
      id: code
      app: shop
      repo: "@REPO@"
      deploy_to: /srv/shop
      steps: [{name: look, run: "python3 @ROOT@/state.py >../../shared/step.state; mkdir assets; touch assets/app.js"}]
  - directory: {path: /etc/systemd/system, parents: true}
  - file: {id: unit, path: /etc/systemd/system/web.service, content: "[Service]\nExecStart=/usr/bin/env python3 @ROOT@/state.py --stay\nWorkingDirectory=/\n"}
  - service: {name: web, running: true, restart_on: [unit]}
"#;

/// An app whose parts print their state, deployed by a caller; returns every state with its name.
fn states(umask: Option<&str>) -> Vec<(String, String)> {
    states_of(APP, umask)
}

fn states_of(role: &str, umask: Option<&str>) -> Vec<(String, String)> {
    let app = App::new(role);
    let stay = "import sys, time\nif '--stay' in sys.argv: sys.stdout = open('@ROOT@/service.state', 'w')\n";
    let end = "sys.stdout.flush()\nif '--stay' in sys.argv: time.sleep(600)\n";
    app.sandbox.write("/state.py", &[stay, STATE, end].concat());
    app.publish_commit(GOOD, "200", "page");
    let plain = app.sandbox.command(&["converge"]);
    let command = match umask {
        Some(umask) => with_odd_caller(&plain, umask),
        None => plain,
    };
    let ran = app.sandbox.run_command(command);
    assert_eq!(ran.code, 0, "{ran}");
    let mut exec = app.sandbox.command(&[]);
    let script = app.sandbox.at("/state.py");
    exec.args(["exec", "shop", "--", "python3"]).arg(script);
    let exec = match umask {
        Some(umask) => with_odd_caller(&exec, umask),
        None => exec,
    };
    let ran = app.sandbox.run_command(exec);
    assert_eq!(ran.code, 0, "{ran}");
    let mut all = vec![("exec".to_owned(), ran.out)];
    for (name, path) in [
        ("command", "/command.state"),
        ("step", "/srv/shop/shared/step.state"),
        ("service", "/service.state"),
    ] {
        let complete = || app.sandbox.read(path).contains("env ");
        assert!(crate::processes::wait_until(complete), "{name} did not say");
        all.push((name.to_owned(), app.sandbox.read(path)));
    }
    all.push(("files".to_owned(), modes(&app.sandbox)));
    all
}

/// Modes and owners of everything on the host.
fn modes(sandbox: &Sandbox) -> String {
    let mut find = Command::new("find");
    find.arg(&sandbox.root).args(["-printf", "%M %u:%g %P\n"]);
    let text = String::from_utf8(find.output().unwrap().stdout).unwrap();
    let is_hex = |part: &str| part.len() == 40 && part.bytes().all(|b| b.is_ascii_hexdigit());
    let mut lines: Vec<String> = text
        .lines()
        // Git objects, releases and run ids have other names in every run.
        .filter(|line| {
            !["/objects/", "runs/"]
                .iter()
                .any(|part| line.contains(part))
        })
        .map(|line| line.split("/20").next().unwrap_or(line))
        .map(|line| {
            let parts = line.split_inclusive(['/', '-', '.']);
            let parts = parts.filter(|part| !is_hex(part.trim_end_matches(['/', '-', '.'])));
            parts.collect()
        })
        .collect();
    lines.sort_unstable();
    lines.dedup();
    lines.join("\n")
}

#[test]
fn children_and_files_do_not_depend_on_the_caller_of_the_pass() {
    let usual = states(None);
    for umask in ["077", "000"] {
        for ((name, usual), (_, odd)) in usual.iter().zip(states(Some(umask))) {
            for (usual, odd) in usual.lines().zip(odd.lines()) {
                assert_eq!(usual, odd, "{name}, umask {umask}");
            }
            assert_eq!(*usual, odd, "{name}, umask {umask}");
        }
    }
    for (name, state) in &usual[..4] {
        assert!(state.contains("umask 0o22\n"), "{name}: {state}");
        // The service has its state file open.
        let fds = match name.as_str() {
            "service" => "fds [0, 1, 2, 3]\n",
            _ => "fds [0, 1, 2]\n",
        };
        assert!(state.contains(fds), "{name}: {state}");
        assert!(state.contains("own session True\n"), "{name}: {state}");
        assert!(state.contains("env []\n"), "{name}: {state}");
    }
}

/// Opens the controlling terminal: prints the error, or writes a word to it.
const TRIES: &str = r#"python3 -c "
import fcntl, os, termios
try:
    fd = os.open('/dev/tty', os.O_RDWR)
    os.write(fd, b'scribb' + b'led')
    fcntl.ioctl(fd, termios.TIOCSTI, b'x')
    print('has it')
except OSError as error:
    print(error.errno)
"#;

#[test]
fn no_child_has_the_terminal_of_trueup() {
    let tries = TRIES.replace('\n', "\n        ");
    let role = format!(
        "resources:\n  - directory: {{path: /srv/shop, parents: true}}\n  - command:\n      id: look\n      creates: /command.tty\n      run: |\n        {tries}\" >@ROOT@/command.tty\n  - release:\n      id: code\n      app: shop\n      repo: \"@REPO@\"\n      deploy_to: /srv/shop\n      steps:\n        - run: |\n            {}\" >@ROOT@/step.tty\n",
        tries.replace("\n        ", "\n            ")
    );
    let app = App::new(&role);
    app.publish_commit(GOOD, "200", "page");
    let terminal = Terminal::start(app.sandbox.command(&["converge"]), None, None);
    let (ended, screen) = terminal.end();
    assert!(ended.success(), "{screen}");
    for file in ["/command.tty", "/step.tty"] {
        // ENXIO
        assert_eq!(app.sandbox.read(file), "6\n", "{file}: {screen}");
    }
    assert!(!screen.contains("scribbled"), "{screen}");
}

#[test]
fn child_cannot_signal_the_caller_of_trueup() {
    let sandbox = Sandbox::of(
        "  - command: {id: kill, run: \"trap '' TERM HUP; kill -TERM 0; kill -HUP 0; touch @ROOT@/done\", creates: /done}\n",
    );
    let inner = sandbox.command(&["converge"]);
    let mut shell = Command::new("sh");
    isolated(&mut shell);
    shell.env("TRUEUP_SHARE", sandbox.sibling("share")).args([
        "-c",
        "\"$@\"; echo still here",
        "sh",
    ]);
    shell.arg(inner.get_program()).args(inner.get_args());
    let ran = Ran::of(&shell.output().unwrap(), &sandbox);
    assert!(ran.out.contains("still here"), "{ran}");
    assert!(binary().exists());
}

#[test]
fn app_umask_applies_to_builds_exec_and_service() {
    let role = APP
        .replace(
            "      app: shop\n",
            "      app: shop\n      umask: \"002\"\n",
        )
        .replace("WorkingDirectory", "UMask=0002\\nWorkingDirectory");
    for (name, state) in states_of(&role, None) {
        let umask = match name.as_str() {
            "command" => "umask 0o22\n",
            "files" => "-rw-rw-r--",
            _ => "umask 0o2\n",
        };
        assert!(state.contains(umask), "{name}: {state}");
    }
    let bad = APP.replace(
        "      app: shop\n",
        "      app: shop\n      umask: \"0222\"\n",
    );
    let ran = App::new(&bad).sandbox.run(&["validate"]);
    assert_eq!(ran.code, 78, "{ran}");
    assert!(
        ran.err.contains("`0222` is not a umask for a build"),
        "{ran}"
    );
}
