//! A release goes on as it is described now, and the active one keeps the described links.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::app::{App, GOOD};
use crate::gate::ROLE;
use crate::processes::wait_until;
use crate::sandbox::Ran;

/// The role with more lines in its release.
fn role_with(lines: &str) -> String {
    ROLE.replace("      hooks:", &format!("{lines}      hooks:"))
}

/// A pass of the timer.
fn timed(app: &App) -> Ran {
    let mut command = app.sandbox.command(&["converge"]);
    command.env("TRIGGER_UNIT", "trueup.timer");
    command.env("INVOCATION_ID", "0123456789abcdef");
    app.sandbox.run_command(command)
}

#[test]
fn only_passes_of_the_timer_wait_before_they_retry_a_failing_release() {
    let app = App::new(&role_with(
        "      steps: [{name: gems, run: 'echo ran >> ../../shared/ran; false'}]\n",
    ));
    app.publish_commit(GOOD, "200", "page one");
    let ran = || app.sandbox.read("/srv/shop/shared/ran").lines().count();
    for n in 1..=2 {
        assert_eq!(timed(&app).code, 1);
        assert_eq!(ran(), n);
    }
    let delayed = timed(&app);
    assert_eq!((delayed.code, ran()), (1, 2), "{delayed}");
    assert!(delayed.out.contains("failed 2 times in a row"), "{delayed}");
    assert!(
        delayed.out.contains("or now with `trueup converge`"),
        "{delayed}"
    );
    let by_hand = app.converge(1);
    assert_eq!(ran(), 3, "{by_hand}");
    // A step that exists no more delays nothing, and is not named.
    app.role(&role_with("      steps: [{name: other, run: 'true'}]\n"));
    let fixed = timed(&app);
    assert_eq!(fixed.code, 0, "{fixed}");
    assert!(!fixed.out.contains("gems"), "{fixed}");
}

#[test]
fn link_added_while_a_release_is_active_is_made_and_restarts_its_service_once() {
    let app = App::new(ROLE);
    app.publish_commit(GOOD, "200", "page one");
    app.converge(0);
    let starts = || app.sandbox.read("/srv/shop/shared/starts").lines().count();
    assert_eq!(starts(), 1);
    app.sandbox.write("/srv/shop/shared/.env", "A=1");
    app.role(&role_with(
        "      linked_dirs: [uploads]\n      linked_files: [.env]\n",
    ));
    let plan = app.sandbox.run(&["plan"]);
    assert!(plan.out.contains("a link to shared/uploads"), "{plan}");
    let ran = app.converge(0);
    assert!(ran.out.contains("restart"), "{ran}");
    assert_eq!(app.sandbox.read("/srv/shop/current/.env"), "A=1");
    assert_eq!(starts(), 2);
    app.sandbox.assert_converged(&[]);
    // One that goes away is restored, which changes nothing for the service.
    std::fs::remove_file(app.sandbox.at("/srv/shop/current/uploads")).unwrap();
    app.converge(0);
    app.sandbox.assert_converged(&[]);
    assert_eq!(starts(), 2);
}

#[test]
fn uploads_in_the_place_of_a_link_stay_and_fail_the_pass() {
    let app = App::new(ROLE);
    app.publish_commit(GOOD, "200", "page one");
    app.converge(0);
    app.sandbox.write("/srv/shop/current/uploads/cat", "meow");
    app.role(&role_with("      linked_dirs: [uploads]\n      bake: 1s\n"));
    // A new release whose service is down would be on trial again first.
    std::thread::sleep(std::time::Duration::from_secs(1));
    for _ in 0..2 {
        let failed = app.converge(1);
        let named = format!("/srv/shop/{}/uploads is a folder", app.current());
        assert!(failed.out.contains(&named), "{failed}");
        assert!(failed.out.contains("/srv/shop/shared/uploads"), "{failed}");
        assert_eq!(app.sandbox.read("/srv/shop/current/uploads/cat"), "meow");
        // The service is not kept down for that.
        let server = app.process_ids("python3 web.py");
        assert_eq!(server.len(), 1, "{failed}");
        kill(Pid::from_raw(server[0]), Signal::SIGKILL).unwrap();
        assert!(wait_until(|| app.processes("python3 web.py") == 0));
    }
    std::fs::rename(
        app.sandbox.at("/srv/shop/current/uploads/cat"),
        app.sandbox.at("/srv/shop/shared/uploads/cat"),
    )
    .unwrap();
    app.converge(0);
    assert_eq!(app.sandbox.read("/srv/shop/current/uploads/cat"), "meow");
    assert_eq!(app.processes("python3 web.py"), 1);
    app.sandbox.assert_converged(&[]);
}
