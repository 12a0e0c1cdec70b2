//! A deploy killed anywhere is completed by the next pass: between any two stages and in the
//! middle of each, and also during a rollback.
//!
//! strace kills trueup as it enters the N-th call that changes or starts something. Hooks around
//! every stage write down how far it had come, so that the table that this prints says where.

use std::collections::BTreeMap;
use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::panic::AssertUnwindSafe;
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::app::{App, GOOD};
use crate::crash::{have_strace, sampled};
use crate::sandbox::{binary, isolated};

/// How many hosts are worked on at a time.
const SIDE_BY_SIDE: usize = 3;

const STAGES: [&str; 10] = [
    "fetch",
    "materialise",
    "link",
    "build",
    "assets",
    "migrate",
    "preflight",
    "activate",
    "gate",
    "keep",
];

/// Calls by which a pass changes something, or waits for a child that does.
const CALLS: &str = "rename,renameat,renameat2,unlinkat,mkdirat,symlinkat,fsync,syncfs,fchown,write,clone,clone3,\
ppoll,poll,kill";

const ROLE: &str = r#"
resources:
  - directory: {path: /srv/shop, parents: true}
  - release:
      id: code
      app: shop
      repo: "@REPO@"
      deploy_to: /srv/shop
      linked_dirs: [log]
      files: [{path: env, content: "A=1\n"}]
      steps:
        - {name: first, run: "sleep 0.05; touch one"}
        - {name: second, run: "sleep 0.05; touch two"}
      assets: {run: "sleep 0.05; touch three", path: assets}
      migrate: {run: "sleep 0.05; cat REVISION >> ../../shared/migrated"}
      preflight: @PREFLIGHT@
      keep_releases: 3
      gate_timeout: 4s
      health: {url: "http://127.0.0.1:@PORT@/up", body: page, sha_header: X-Revision, times: 1}
      hooks:
@HOOKS@
  - directory: {path: /etc/systemd/system, parents: true}
  - file:
      path: /etc/systemd/system/shop.service
      content: |
        [Service]
        WorkingDirectory={{ root }}/srv/shop/current
        ExecStart=/bin/sh run.sh @PORT@
        TimeoutStopSec=2
  - service: {name: shop, running: true, serves: /srv/shop/current, restart_on: [code]}
"#;

/// A start that leaves no trace, unlike that of the service.
const PREFLIGHT: &str = "{command: 'exec python3 web.py $PORT'}";

fn app(preflight: &str) -> App {
    let hooks: Vec<String> = STAGES
        .iter()
        .flat_map(|stage| {
            [("before", "in"), ("after", "after")].map(|(side, word)| {
                format!(
                    "        {side}_{stage}: [{{run: 'echo {word} {stage} > $SHARED_PATH/stage'}}]"
                )
            })
        })
        .collect();
    let role = ROLE.replace("@PREFLIGHT@", preflight);
    App::new(&role.replace("@HOOKS@", &hooks.join("\n")))
}

fn strace(app: &App) -> Command {
    let mut command = Command::new("strace");
    isolated(&mut command);
    command.env("TRUEUP_SHARE", app.sandbox.sibling("share"));
    let calls = CALLS.replace(',', ",?");
    command.arg("-qq").arg("-e").arg(format!("trace=?{calls}"));
    command
}

fn converge(mut command: Command, app: &App) -> std::process::Output {
    command
        .arg(binary())
        .args(["converge", "--root"])
        .arg(&app.sandbox.root)
        .output()
        .unwrap()
}

/// How often an undisturbed pass makes each call.
fn count_calls(app: &App) -> BTreeMap<String, usize> {
    let log = app.sandbox.sibling("trace");
    let mut command = strace(app);
    command.arg("-o").arg(&log);
    converge(command, app);
    let mut counts = BTreeMap::new();
    for line in std::fs::read_to_string(&log).unwrap().lines() {
        if let Some((call, _)) = line.split_once('(')
            && CALLS.split(',').any(|known| known == call)
        {
            *counts.entry(call.to_owned()).or_insert(0) += 1;
        }
    }
    counts
}

fn kill_at(app: &App, call: &str, n: usize) -> bool {
    let mut command = strace(app);
    command.args(["-o", "/dev/null", "-e"]);
    command.arg(format!("inject={call}:signal=SIGKILL:when={n}"));
    let output = converge(command, app);
    output.status.signal() == Some(9) || output.status.code() == Some(128 + 9)
}

/// At most so many of all the points, evenly over each sort of call.
fn kill_points(counts: &BTreeMap<String, usize>, at_most: usize) -> Vec<(String, usize)> {
    let all: usize = counts.values().sum();
    let every = sampled(all.div_ceil(at_most).max(1));
    let each = counts.iter().flat_map(|(call, count)| {
        let first = (every / 2).clamp(1, *count);
        (first..=*count)
            .step_by(every)
            .map(move |n| (call.clone(), n))
    });
    each.collect()
}

/// `current` points to a release whose every step was done.
fn assert_whole(app: &App) {
    for made in ["one", "two", "three", "REVISION", "env", "web.py"] {
        let path = format!("/srv/shop/current/{made}");
        let made = if made == "three" { "two" } else { made };
        assert!(
            app.sandbox.at(&path).exists(),
            "current points to a half-built release: no {made}"
        );
    }
}

fn good_releases(app: &App) -> Vec<String> {
    let text = app.sandbox.read("/var/lib/trueup/releases/shop.json");
    let record: serde_json::Value = serde_json::from_str(&text).unwrap();
    let releases = record["releases"].as_array().unwrap();
    let good = releases.iter().filter(|entry| entry["state"] == "good");
    // A release without its folder is being removed, and trueup does not count it either.
    let there = |name: &String| app.sandbox.at("/srv/shop/releases").join(name).exists();
    let good: Vec<String> = good
        .map(|entry| entry["name"].as_str().unwrap().to_owned())
        .filter(there)
        .collect();
    for name in &good {
        let folder = app.sandbox.at("/srv/shop/releases").join(name);
        assert!(
            folder.join("two").exists(),
            "the good release {name} is not whole"
        );
    }
    good
}

fn count_starts(app: &App, sha: &str) -> usize {
    app.sandbox
        .read("/srv/shop/shared/starts")
        .matches(sha)
        .count()
}

/// The check at one kill point: gets the app, the number of the point, and the pass to kill.
type Check = dyn Fn(&App, usize, &dyn Fn(&App) -> bool) + Sync;

/// Kills one pass at each of the points, on several hosts in parallel, and checks the one after it.
/// Prints where the kills hit.
fn run_matrix(at_most: usize, least: usize, title: &str, preflight: &str, check: &Check) {
    if !have_strace() {
        return;
    }
    let measured = app(preflight);
    measured.publish_commit(GOOD, "200", "page 0");
    measured.converge(0);
    let counts = Mutex::new(BTreeMap::new());
    check(&measured, 0, &|app| {
        *counts.lock().unwrap() = count_calls(app);
        false
    });
    let points = kill_points(&counts.into_inner().unwrap(), at_most);
    let (next, table, failures) = (
        AtomicUsize::new(0),
        Mutex::new(BTreeMap::new()),
        Mutex::new(Vec::new()),
    );
    std::thread::scope(|scope| {
        for _ in 0..SIDE_BY_SIDE {
            scope.spawn(|| {
                let mut host = None;
                loop {
                    let at = next.fetch_add(1, Ordering::SeqCst);
                    let Some((call, n)) = points.get(at) else {
                        break;
                    };
                    let app = host.get_or_insert_with(|| {
                        let app = app(preflight);
                        app.publish_commit(GOOD, "200", "page 0");
                        app.converge(0);
                        app
                    });
                    let stage = Mutex::new("no stage".to_owned());
                    let result = std::panic::catch_unwind(AssertUnwindSafe(|| {
                        check(app, at + 1, &|app| {
                            let _ = std::fs::remove_file(app.sandbox.at("/srv/shop/shared/stage"));
                            let hit = kill_at(app, call, *n);
                            let file =
                                std::fs::read_to_string(app.sandbox.at("/srv/shop/shared/stage"));
                            *stage.lock().unwrap() =
                                file.map_or("before fetch".into(), |word| word.trim().to_owned());
                            hit
                        });
                    }));
                    let stage = stage.into_inner().unwrap();
                    match result {
                        Ok(()) => *table.lock().unwrap().entry(stage).or_insert(0) += 1,
                        Err(panic) => {
                            let panic = panic.downcast_ref::<String>().cloned().unwrap_or_default();
                            failures
                                .lock()
                                .unwrap()
                                .push(format!("killed at {call} {n} ({stage}): {panic}"));
                            // The next point needs a host without this failure.
                            host = None;
                        }
                    }
                }
            });
        }
    });
    let (table, failures): (BTreeMap<String, usize>, Vec<String>) =
        (table.into_inner().unwrap(), failures.into_inner().unwrap());
    let kills: usize = table.values().sum();
    let mut summary = format!(
        "\n{title}: killed, and right after the next pass\n{:<22} kills\n",
        "where"
    );
    let order = STAGES
        .iter()
        .flat_map(|stage| [format!("in {stage}"), format!("after {stage}")]);
    for stage in std::iter::once("before fetch".to_owned()).chain(order) {
        let hits = table.get(&stage).copied().unwrap_or(0);
        summary += &format!("{stage:<22} {hits:>5}\n");
    }
    summary += &format!("{:<22} {kills:>5}\n", "all");
    // Not with a macro, whose output is captured unless the test fails.
    std::io::stderr().write_all(summary.as_bytes()).unwrap();
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
    assert!(kills * sampled(1) >= least, "only {kills} kills");
}

#[test]
fn deploy_killed_anywhere_is_completed_by_the_next_pass() {
    run_matrix(110, 60, "a deploy", PREFLIGHT, &|app, at, kill| {
        let before = good_releases(app);
        let sha = app.publish_commit(GOOD, "200", &format!("page {at}a"));
        kill(app);
        assert_whole(app);
        for name in before.iter().rev().take(2) {
            assert!(good_releases(app).contains(name), "{name} was evicted");
        }
        app.converge(0);
        assert_whole(app);
        assert_eq!(app.running(), sha);
        assert_eq!(count_starts(app, &sha), 1, "a restart was lost or repeated");
        let migrated = app.sandbox.read("/srv/shop/shared/migrated");
        assert!(migrated.contains(&sha));
        // A pass that was killed while it removed a release leaves that to the next idle pass.
        app.converge(0);
        assert_eq!(good_releases(app).len(), 3.min(before.len() + 1));
        app.sandbox.assert_converged(&[]);
    });
}

#[test]
fn rollback_killed_anywhere_is_completed_by_the_next_pass() {
    run_matrix(50, 30, "a bad release", "null", &|app, at, kill| {
        let one = app.running();
        let bad = app.publish_commit(GOOD, "500", &format!("page {at}b"));
        kill(app);
        assert_whole(app);
        let ran = app.converge(4);
        assert_eq!(app.running(), one, "{ran}");
        assert!(
            good_releases(app)
                .iter()
                .any(|name| app.current().ends_with(name))
        );
        let again = app.converge(4);
        assert!(!again.out.contains("restarted"), "{again}");
        assert!(
            count_starts(app, &bad) <= 1,
            "the bad one was started again"
        );
        app.publish(&one);
        app.converge(0);
    });
}
