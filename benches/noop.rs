//! What a pass over a host that is already right costs, as a whole process, beside the floor: a bare
//! program that makes the same looks and compares and nothing else. The two run in turn, so that
//! the ratio holds however the machine's speed drifts.
//!
//!     cargo bench --bench noop              30 and 300 resources
//!     cargo bench --bench noop -- 1200      another number (a multiple of 30)
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a benchmark measures processes, and lays out its own folders"
)]

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const TRUEUP: &str = env!("CARGO_BIN_EXE_trueup");
const ROUNDS: usize = 60;

/// Of each app: 12 folders, 14 files from templates, 3 links, 1 service.
const FOLDERS: usize = 12;
const FILES: usize = 14;
const LINKS: usize = 3;

fn main() {
    let args: Vec<String> = std::env::args()
        .skip(1)
        .filter(|arg| arg != "--bench")
        .collect();
    if let [flag, root] = args.as_slice()
        && flag == "--floor"
    {
        return floor(Path::new(root));
    }
    let sizes: Vec<usize> = args.iter().filter_map(|arg| arg.parse().ok()).collect();
    let sizes = if sizes.is_empty() {
        vec![30, 300]
    } else {
        sizes
    };
    println!(
        "{:>9}  {:<8} {:>8} {:>8} {:>8}   ratio to the floor",
        "resources", "", "min ms", "median", "max"
    );
    for size in sizes {
        measure(size);
    }
}

fn measure(size: usize) {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    lay_out(root, size / 30);
    let converge = || {
        let mut command = Command::new(TRUEUP);
        command.arg("--root").arg(root).arg("converge");
        command
    };
    let floor = || {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.arg("--floor").arg(root);
        command
    };
    let first = converge().output().unwrap();
    assert!(
        first.status.success(),
        "{}",
        String::from_utf8_lossy(&first.stdout)
    );
    let second = String::from_utf8(converge().output().unwrap().stdout).unwrap();
    assert!(
        second.contains("0 changes") && second.contains(&format!("{size} right")),
        "{second}"
    );

    let (mut passes, mut floors, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..ROUNDS + 3 {
        let (a, b) = (run(converge()), run(floor()));
        if round >= 3 {
            passes.push(a);
            floors.push(b);
            ratios.push(a.as_secs_f64() / b.as_secs_f64());
        }
    }
    ratios.sort_by(f64::total_cmp);
    row(size, "floor", &mut floors, String::new());
    let ratio = format!(
        "{:.2} (median of pairs; {:.2} to {:.2})",
        ratios[ROUNDS / 2],
        ratios[0],
        ratios[ROUNDS - 1]
    );
    row(size, "trueup", &mut passes, ratio);
    stop_services(root);
}

fn row(size: usize, name: &str, times: &mut [Duration], ratio: String) {
    times.sort();
    let ms = |time: Duration| time.as_secs_f64() * 1000.0;
    println!(
        "{size:>9}  {name:<8} {:>8.2} {:>8.2} {:>8.2}   {ratio}",
        ms(times[0]),
        ms(times[times.len() / 2]),
        ms(times[times.len() - 1])
    );
}

fn run(mut command: Command) -> Duration {
    let started = Instant::now();
    let status = command.stdout(Stdio::null()).status().unwrap();
    assert!(status.success());
    started.elapsed()
}

/// A host with so many apps.
fn lay_out(root: &Path, apps: usize) {
    let put = |path: &str, body: &str| {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, body).unwrap();
    };
    let mut role = String::from("parameters: {apps: {}}\nfor_each: apps\nresources:\n");
    for i in 0..FOLDERS {
        writeln!(role, "  - directory: {{path: \"/srv/{{{{ app.name }}}}/d{i}\", mode: \"0750\", parents: true}}").unwrap();
    }
    for i in 0..FILES {
        writeln!(role, "  - template: {{path: \"/srv/{{{{ app.name }}}}/d0/f{i}\", source: t{i}, mode: \"0640\"}}").unwrap();
        let lines: String = (0..24)
            .map(|line| {
                format!("setting_{line} = \"{{{{ app.name }}}}:{{{{ app.port }}}} of {i}\"\n")
            })
            .collect();
        put(&format!("etc/trueup/templates/t{i}"), &lines);
    }
    for i in 0..LINKS {
        writeln!(
            role,
            "  - symlink: {{path: \"/srv/{{{{ app.name }}}}/l{i}\", to: d{i}}}"
        )
        .unwrap();
    }
    role += "  - service: {name: \"{{ app.name }}\", running: true}\n";
    put("etc/trueup/roles/bench.yml", &role);
    let mut node = format!(
        "environment: bench\nroles: [bench]\nstore: {{url: \"dir:{}/store\"}}\nattributes:\n  apps:\n",
        root.display()
    );
    for app in 0..apps {
        writeln!(node, "    app{app}: {{port: {}}}", 9000 + app).unwrap();
        put(
            &format!("etc/systemd/system/app{app}.service"),
            "[Service]\nExecStart=/bin/sleep 1000000\n",
        );
    }
    put("etc/trueup/node.yml", &node);
    put("store/sha_number.yml", "bench: {}\n");
}

fn stop_services(root: &Path) {
    for entry in fs::read_dir(root.join("var/lib/trueup/process"))
        .unwrap()
        .flatten()
    {
        let text = fs::read_to_string(entry.path()).unwrap_or_default();
        if let Some(pid) = text.split("\"pid\":").nth(1) {
            let pid: String = pid
                .trim()
                .chars()
                .take_while(char::is_ascii_digit)
                .collect();
            if let Ok(pid) = pid.parse() {
                let _ = nix::sys::signal::kill(
                    nix::unistd::Pid::from_raw(pid),
                    nix::sys::signal::Signal::SIGTERM,
                );
            }
        }
    }
}

/// The same looks and compares, with nothing around them.
fn floor(root: &Path) {
    let node = fs::read_to_string(root.join("etc/trueup/node.yml")).unwrap();
    let apps: Vec<(&str, &str)> = node
        .lines()
        .filter_map(|line| line.trim().strip_suffix('}')?.split_once(": {port: "))
        .collect();
    let templates: Vec<String> = (0..FILES)
        .map(|i| fs::read_to_string(root.join(format!("etc/trueup/templates/t{i}"))).unwrap())
        .collect();
    let is = |path: &Path, mode: u32| {
        fs::symlink_metadata(path).is_ok_and(|meta| meta.mode() & 0o7777 == mode)
    };
    let mut wrong = 0;
    for (app, port) in apps {
        let home = root.join("srv").join(app);
        for i in 0..FOLDERS {
            wrong += usize::from(!is(&home.join(format!("d{i}")), 0o750));
        }
        for (i, template) in templates.iter().enumerate() {
            let path = home.join(format!("d0/f{i}"));
            let text = template
                .replace("{{ app.name }}", app)
                .replace("{{ app.port }}", port);
            wrong += usize::from(!is(&path, 0o640) || fs::read(&path).unwrap() != text.as_bytes());
        }
        for i in 0..LINKS {
            let to = fs::read_link(home.join(format!("l{i}")));
            wrong += usize::from(!to.is_ok_and(|to| to == Path::new(&format!("d{i}"))));
        }
        let state =
            fs::read_to_string(root.join(format!("var/lib/trueup/process/{app}.json"))).unwrap();
        let pid: String = state
            .split("\"pid\":")
            .nth(1)
            .unwrap()
            .trim()
            .chars()
            .take_while(char::is_ascii_digit)
            .collect();
        wrong += usize::from(fs::metadata(format!("/proc/{pid}")).is_err());
    }
    assert_eq!(wrong, 0, "the floor finds something that differs");
}
