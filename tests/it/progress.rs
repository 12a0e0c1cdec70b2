//! What a long step is at: at a terminal, in a pipe, and from another terminal.

use std::process::{Command, Stdio};

use crate::app::{App, GOOD};
use crate::gate::ROLE;
use crate::processes::wait_until;
use crate::sandbox::Ran;
use crate::terminal::Terminal;

/// An app whose step prints a line, a secret and an escape sequence, and then waits for `/srv/go`.
fn slow_app() -> App {
    let step = r#"printf "first line\nkey $KEY \033]52;c;aGk=\007\n10%%\r20%%"; until test -e $SHARED_PATH/go; do sleep 0.02; done; echo; echo the end"#;
    let lines = format!(
        "      secrets: {{KEY: canary-of-a-step}}\n      steps: [{{name: one, run: 'true'}}, {{name: gems, run: '{step}'}}]\n      hooks:\n"
    );
    let app = App::new(&ROLE.replace("      hooks:\n", &lines));
    app.publish_commit(GOOD, "200", "page one");
    app
}

fn go(app: &App) {
    app.sandbox.write("/srv/shop/shared/go", "");
}

/// Whether the log of the release has this text.
fn has_logged(app: &App, text: &str) -> bool {
    let logs = app.sandbox.at("/var/log/trueup/releases/shop");
    let logs = std::fs::read_dir(logs).into_iter().flatten().flatten();
    logs.into_iter()
        .any(|log| std::fs::read_to_string(log.path()).is_ok_and(|log| log.contains(text)))
}

fn at_terminal(mut command: Command) -> Terminal {
    command.env("TERM", "xterm");
    Terminal::start(command, None, None)
}

#[test]
fn running_step_is_one_line_that_is_gone_at_its_end() {
    let app = slow_app();
    let terminal = at_terminal(app.sandbox.command(&["converge"]));
    terminal.resize(24, 60);
    terminal.wait_for_text("\r\x1b[Kshop: step 2 of 2: gems (1 s): 20%");
    terminal.wait_for_text("\r\x1b[Kshop: step 2 of 2: gems (2 s): 20%");
    go(&app);
    let (status, screen) = terminal.end();
    assert_eq!(status.code(), Some(0), "{screen}");
    let last = screen.rfind("gems (2 s)").unwrap();
    assert!(
        screen[last..].contains("\r\x1b[Kshop: step 2 of 2: gems: done in "),
        "{screen:?}"
    );
    // What remains when each rewritten line is gone.
    let lines: Vec<&str> = screen
        .split("\r\n")
        .map(|line| line.rsplit("\x1b[K").next().unwrap())
        .collect();
    assert_eq!(
        lines.iter().filter(|line| line.contains("gems")).count(),
        1,
        "{lines:?}"
    );
    assert!(
        lines
            .iter()
            .any(|line| line.starts_with("shop: step 1 of 2: one: done in ")),
        "{lines:?}"
    );
    assert!(
        !screen.contains("canary") && !screen.contains("\x1b]52"),
        "{screen:?}"
    );
}

#[test]
fn dumb_terminal_and_pipe_get_no_rewritten_line() {
    for terminal in [true, false] {
        let app = slow_app();
        go(&app);
        let mut command = app.sandbox.command(&["converge"]);
        let (code, shown) = match terminal {
            true => {
                command.env("TERM", "dumb");
                let (status, screen) = Terminal::start(command, None, None).end();
                (status.code(), screen)
            }
            false => {
                let ran = app.sandbox.run_command(command);
                (Some(ran.code), ran.err)
            }
        };
        assert_eq!(code, Some(0), "{shown}");
        assert!(shown.contains("shop: step 2 of 2: gems"), "{shown}");
        assert!(
            !shown.contains('\x1b') && !shown.contains("first line"),
            "{shown:?}"
        );
    }
}

#[test]
fn verbose_pass_streams_the_output_of_steps_as_it_comes() {
    let app = slow_app();
    let terminal = at_terminal(app.sandbox.command(&["converge", "-v"]));
    terminal.wait_for_text("gems: first line\r\n");
    terminal.wait_for_text("gems: key (secret) 52;c;aGk=\r\n");
    assert!(!terminal.screen().contains("the end"));
    go(&app);
    let (status, screen) = terminal.end();
    assert_eq!(status.code(), Some(0), "{screen}");
    for line in ["gems: 20%\r\n", "gems: the end\r\n"] {
        assert!(screen.contains(line), "{screen:?}");
    }
    assert!(
        !screen.contains("canary") && !screen.contains("\x1b]52"),
        "{screen:?}"
    );
}

#[test]
fn status_shows_what_a_running_pass_is_at() {
    let app = slow_app();
    let mut pass = app.sandbox.command(&["converge"]);
    let pass = pass
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    assert!(wait_until(|| has_logged(&app, "20%")), "it did not begin");
    let status = app.sandbox.run(&["status"]).out;
    assert!(status.contains("running: build gems of 2"), "{status}");
    assert!(status.contains("s: 20%\n"), "{status}");
    let running = app.sandbox.run(&["status", "--json"]).json()["apps"][0]["running"].clone();
    assert_eq!(
        (&running["stage"], &running["step"]),
        (&"build".into(), &"gems".into())
    );
    assert_eq!(running["last_output"], "20%");
    go(&app);
    let pass = Ran::of(&pass.wait_with_output().unwrap(), &app.sandbox);
    assert_eq!(pass.code, 0, "{pass}");
    let after = app.sandbox.run(&["status"]).out;
    assert!(!after.contains("running: build"), "{after}");
}

#[test]
fn only_root_sees_what_a_running_step_prints() {
    if !crate::privilege::is_root("can act as another user") {
        return;
    }
    let app = slow_app();
    let mut pass = app.sandbox.command(&["converge"]);
    let pass = pass
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    assert!(wait_until(|| has_logged(&app, "20%")), "it did not begin");
    let mut other = Command::new("setpriv");
    other.args(["--reuid", "nobody", "--regid", "nogroup", "--clear-groups"]);
    let status = app.sandbox.command(&["status", "--json"]);
    other.arg(status.get_program()).args(status.get_args());
    for (name, value) in status.get_envs() {
        other.env(name, value.unwrap_or_default());
    }
    let ran = app.sandbox.run_command(other);
    let running = ran.json()["apps"][0]["running"].clone();
    assert_eq!(
        (&running["stage"], &running["step"]),
        (&"build".into(), &"gems".into()),
        "{ran}"
    );
    assert!(running["last_output"].is_null(), "{ran}");
    go(&app);
    let pass = Ran::of(&pass.wait_with_output().unwrap(), &app.sandbox);
    assert_eq!(pass.code, 0, "{pass}");
}
