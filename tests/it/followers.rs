//! Services that are started with a new release only after its gate, such as workers.

use crate::app::{App, GOOD};
use crate::gate::ROLE;
use crate::processes::wait_until;

/// The app of [`ROLE`] with a worker, which runs `worker.sh` of its release.
fn app() -> App {
    app_with_units_in("/etc/systemd/system")
}

fn app_with_units_in(folder: &str) -> App {
    let worker = r#"
  - file:
      path: /etc/systemd/system/worker.service
      content: |
        [Service]
        WorkingDirectory={{ root }}/srv/shop/current
        ExecStart=/bin/sh worker.sh
        TimeoutStopSec=2
  - service: {name: worker, running: true, serves: /srv/shop/current, after_gate: true, restart_on: [code]}
"#;
    App::new(&format!("{ROLE}{worker}").replace("/etc/systemd/system", folder))
}

/// Records its release and runs until it is killed.
const WORKER: &str = "cat REVISION >> ../../shared/workers; exec sleep 985";

fn publish(app: &App, worker: &str, status: &str, page: &str) -> String {
    std::fs::create_dir_all(&app.repo).unwrap();
    std::fs::write(app.repo.join("worker.sh"), worker).unwrap();
    app.publish_commit(GOOD, status, page)
}

/// The releases from which the worker was started so far.
fn workers(app: &App) -> String {
    app.sandbox.read("/srv/shop/shared/workers")
}

fn worker_id(app: &App) -> i32 {
    assert!(wait_until(|| app.processes("sleep 985") == 1));
    app.process_ids("sleep 985")[0]
}

#[test]
fn worker_is_restarted_only_for_a_release_that_passed_the_gate() {
    let app = app();
    let one = publish(&app, WORKER, "200", "page one");
    app.converge(0);
    let first = worker_id(&app);
    assert_eq!(workers(&app), one.clone() + "\n");

    publish(&app, WORKER, "500", "page two");
    let ran = app.converge(4);
    assert_eq!(app.running(), one, "{ran}");
    assert_eq!(worker_id(&app), first, "it was restarted: {ran}");

    let three = publish(&app, WORKER, "200", "page three");
    app.converge(0);
    assert_ne!(worker_id(&app), first);
    assert_eq!(workers(&app), format!("{one}\n{three}\n"));
    app.sandbox.assert_converged(&[]);
}

#[test]
fn worker_of_a_first_release_waits_for_its_gate() {
    let app = app();
    publish(&app, WORKER, "500", "page one");
    let ran = app.converge(1);
    assert!(ran.out.contains("waits for the gate"), "{ran}");
    assert_eq!(app.processes("sleep 985"), 0, "{ran}");
    let two = publish(&app, WORKER, "200", "page two");
    app.converge(0);
    assert_eq!(workers(&app), two + "\n");
}

#[test]
fn release_whose_worker_does_not_stay_up_is_taken_back() {
    let app = app();
    let one = publish(&app, WORKER, "200", "page one");
    app.converge(0);
    for (number, worker) in [
        "echo bad worker; exit 1",
        "echo bad worker; sleep 2; exit 1",
    ]
    .iter()
    .enumerate()
    {
        let bad = publish(&app, worker, "200", &format!("page of bad {number}"));
        let ran = app.converge(4);
        assert_eq!(app.running(), one, "{ran}");
        worker_id(&app);
        assert_eq!(
            workers(&app),
            format!("{one}\n").repeat(number + 2),
            "{ran}"
        );
        assert!(
            ran.out.contains("bad worker"),
            "its output is missing: {ran}"
        );
        let orders = app.sandbox.read("/var/lib/trueup/orders/shop.json");
        assert!(orders.contains(&bad), "{orders}");
        let again = app.converge(4);
        assert!(again.out.contains("is quarantined on this host"), "{again}");
        assert!(!again.out.contains("restarted"), "{again}");
    }
    assert_eq!(app.sandbox.run(&["ps", "shop"]).code, 0);
}

#[test]
fn worker_runs_the_release_of_an_operators_rollback() {
    let app = app();
    let one = publish(&app, WORKER, "200", "page one");
    app.converge(0);
    let two = publish(&app, WORKER, "200", "page two");
    app.converge(0);
    let ran = app
        .sandbox
        .run(&["rollback", "shop", "--reason", "orders fail"]);
    assert_eq!(app.running(), one, "{ran}");
    assert_eq!(workers(&app), format!("{one}\n{two}\n{one}\n"), "{ran}");
}

#[test]
fn masked_worker_is_left_alone_and_keeps_the_trial_open() {
    // Leaves `/etc/systemd/system` free for the link of `systemctl mask`.
    let app = app_with_units_in("/usr/local/lib/systemd/system");
    publish(&app, WORKER, "200", "page one");
    app.converge(0);
    let first = worker_id(&app);
    let mask = app.sandbox.at("/etc/systemd/system/worker.service");
    std::fs::create_dir_all(mask.parent().unwrap()).unwrap();
    std::os::unix::fs::symlink("/dev/null", &mask).unwrap();
    publish(&app, WORKER, "200", "page two");
    let ran = app.converge(3);
    assert!(ran.out.contains("an operator masked it"), "{ran}");
    assert_eq!(worker_id(&app), first, "{ran}");
    std::fs::remove_file(&mask).unwrap();
    app.converge(0);
    assert_ne!(worker_id(&app), first);
}
