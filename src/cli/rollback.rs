//! `trueup rollback` and `trueup releases activate`: to another release now, and to stay there.

use serde::Serialize;

use super::args::{RollbackArgs, WaitArgs};
use super::converge::{print, tell};
use super::hands::{Asks, Hands};
use super::words::{failed, one_line, problem, user};
use super::{Output, edge};
use crate::exit::Exit;
use crate::pass::{App, Options, Places, Session};
use crate::release::{self, Chosen, How, Pin, Refused};
use crate::report::Report;

/// What an operator asks for.
pub(super) struct Wish<'a> {
    pub app: &'a str,
    /// `None`: the good release that was active before.
    pub to: Option<&'a str>,
    pub reason: Option<&'a str>,
    pub by: Option<&'a str>,
    /// Also while the manifest holds the app where it is.
    pub over_holds: bool,
    pub wait: &'a WaitArgs,
}

impl<'a> Wish<'a> {
    fn asks(&self, what: &'a str) -> Asks<'a> {
        Asks {
            what,
            or: "what is there is shown by `trueup releases`",
            wait: self.wait,
        }
    }
}

/// The document of `--json`.
#[derive(Serialize)]
struct Document<'a> {
    version: u32,
    outcome: Exit,
    app: &'a str,
    /// What is active now.
    release: Option<&'a str>,
    pin: Option<&'a Pin>,
    /// Migrations that differ; `null`: that cannot be told.
    migrations: Option<&'a [release::Difference]>,
    report: &'a Report,
}

pub(super) fn run(
    args: &RollbackArgs,
    places: &Places,
    output: &Output,
) -> Result<Exit, edge::Error> {
    let wish = Wish {
        app: &args.app,
        to: args.to.as_deref(),
        reason: args.reason.as_deref(),
        by: args.by.as_deref(),
        over_holds: args.force,
        wait: &args.wait,
    };
    match args.unpin {
        true => unpin(&wish, places, output),
        false => go("`trueup rollback`", &wish, places, output),
    }
}

/// Goes to the release that is wished for, and pins it.
pub(super) fn go(
    what: &str,
    wish: &Wish<'_>,
    places: &Places,
    output: &Output,
) -> Result<Exit, edge::Error> {
    let reason = one_line("--reason", wish.reason).map_err(edge::Error::Usage)?;
    let by = one_line("--by", wish.by).map_err(edge::Error::Usage)?;
    let by = by.or_else(user).unwrap_or_else(|| "somebody".into());
    let hands = Hands::on(places, &wish.asks(what), output)?;
    let session = &hands.session;
    let apps = session.apps_now(wish.over_holds)?;
    let app = apps.find(wish.app)?;
    let chosen = release::choose(app.spec, &session.host, wish.to).map_err(refused)?;
    warn(&chosen, output);
    release::pin(app.spec, &session.host, &chosen, by, reason).map_err(failed)?;
    let report = pass(&hands, app, wish, output)?;
    let pinned = end(session, app, &chosen).map_err(failed)?;
    let active = release::active_name(app.spec, &session.host).map_err(failed)?;
    let name = active.as_deref();
    let is_there = name == Some(&chosen.release);
    let outcome = match (report.outcome, is_there) {
        // It waits for somebody to end the pin, as was asked for.
        (Exit::Waiting, true) if pinned.is_some() => Exit::Converged,
        // What the manifest wants, and whether it can be had, does not matter to what was asked for.
        (Exit::Stale | Exit::BadInput, true) => Exit::Converged,
        // The manifest was changed between the look and the pass.
        (Exit::Converged, false) => Exit::Failed,
        (outcome, _) => outcome,
    };
    if output.json {
        output.document(&Document {
            version: crate::report::VERSION,
            outcome,
            app: wish.app,
            release: name,
            pin: pinned.as_ref(),
            migrations: chosen.migrations.as_deref().ok(),
            report: &report,
        });
        return Ok(outcome);
    }
    let (app, to) = (wish.app, &chosen.release);
    output.line(match (is_there, &pinned) {
        (true, Some(pin)) => format!(
            "{app} is {}\nit stays there until the manifest wants another sha, or `trueup rollback {app} --unpin`",
            pin.words()
        ),
        (true, None) => format!("{app} is at {to}, as the manifest wants it: no pin is needed"),
        (false, Some(_)) => format!(
            "{app} is not at {to}; passes go on trying: `trueup rollback {app} --unpin` ends that"
        ),
        (false, None) => format!("{app} is not at {to}, and nothing is pinned"),
    });
    Ok(outcome)
}

fn unpin(wish: &Wish<'_>, places: &Places, output: &Output) -> Result<Exit, edge::Error> {
    let hands = Hands::on(places, &wish.asks("`trueup rollback`"), output)?;
    let session = &hands.session;
    let apps = session.apps_now(false)?;
    let app = apps.find(wish.app)?;
    let pin = release::unpin(app.spec, &session.host).map_err(failed)?;
    output.text(match &pin {
        Some(pin) => format!("no longer {}", pin.words()),
        None => format!("{} was not pinned", wish.app),
    });
    let report = pass(&hands, app, wish, output)?;
    if output.json {
        let active = release::active_name(app.spec, &session.host).map_err(failed)?;
        output.document(&Document {
            version: crate::report::VERSION,
            outcome: report.outcome,
            app: wish.app,
            release: active.as_deref(),
            pin: None,
            migrations: Some(&[]),
            report: &report,
        });
    }
    Ok(report.outcome)
}

/// A pass for the app and what runs from it.
fn pass(
    hands: &Hands,
    app: App<'_>,
    wish: &Wish<'_>,
    output: &Output,
) -> Result<Report, edge::Error> {
    let session = &hands.session;
    let options = Options {
        // What failed before is tried at once: somebody asks for it.
        force: true,
        over_holds: wish.over_holds,
        only: Some(app.id.to_owned()),
        ..Options::default()
    };
    let report = session.converge(&options, &mut |event| {
        hands.tell(&event);
        tell(&event, output);
    })?;
    if !output.json {
        print(session, &report, output);
    }
    Ok(report)
}

/// The pin as it stands after the pass. One of a release that failed its proof is ended: it would
/// only keep the host from what the manifest wants.
fn end(
    session: &Session,
    app: App<'_>,
    chosen: &Chosen,
) -> Result<Option<Pin>, crate::resource::Failure> {
    let orders = release::Orders::load(&session.host, &app.spec.layout())?;
    if orders.barred(&chosen.sha).is_some() {
        release::unpin(app.spec, &session.host)?;
        return Ok(None);
    }
    Ok(orders.pin)
}

/// What the way leaves as it is.
fn warn(chosen: &Chosen, output: &Output) {
    if output.json {
        return;
    }
    let differences = match &chosen.migrations {
        Ok(differences) => differences,
        Err(why) => {
            output.error(&format!(
                "trueup: warning: it cannot be told whether migrations differ: {why}"
            ));
            return;
        }
    };
    if differences.is_empty() {
        return;
    }
    let from = chosen.from.as_deref().unwrap_or("what is active");
    output.error(&format!(
        "trueup: warning: migrations differ between {from} and {}; the database is not migrated down:",
        chosen.release
    ));
    for difference in differences {
        let how = match difference.how {
            How::Gone => "-",
            How::New => "+",
            How::Changed => "~",
        };
        output.error(&format!("  {how} {}", difference.path.display()));
    }
}

pub(super) fn refused(refused: Refused) -> edge::Error {
    match refused {
        Refused::Asked(failure) => edge::Error::Usage(problem(failure)),
        Refused::Quarantined(failure) => edge::Error::Quarantined(problem(failure)),
        Refused::Other(failure) => failed(failure),
    }
}
