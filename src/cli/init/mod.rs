//! `trueup init`: say what this host is, look whether that works, write it down, start the timer.

mod answers;
mod ask;
mod credentials;
mod key;
mod look;
mod options;
mod ports;
mod secrets;
mod text;
mod timer;
mod told;

use std::path::Path;
use std::rc::Rc;

use self::answers::Answers;
use self::credentials::Shell;
use self::key::{KEY, NEW_KEY};
use super::args::InitArgs;
use super::{Output, edge};
use crate::checks::Check;
use crate::exit::Exit;
use crate::pass::{Places, Session};
use crate::ports::exec::StopFlag;
use crate::ports::root::{Attrs, FileKind, Meta, Root};
use crate::problem::Problem;
use crate::role::{self, List};
use crate::settings::{self, Lookup};

pub(super) fn run(
    mut args: InitArgs,
    places: &Places,
    output: &Output,
) -> Result<Exit, edge::Error> {
    let root = Rc::new(Root::at(&places.root)?);
    if root.is_real() && !root.privileged() {
        return Err(edge::Error::Usage(
            Problem::new("`trueup init` on this host needs root")
                .hint("`sudo trueup init`, or `--root DIR` for a sandbox"),
        ));
    }
    let configured = settings::is_configured(&places.config).map_err(input)?;
    if configured && !args.force {
        return Err(edge::Error::Usage(
            Problem::new(format!("{} is configured already", places.config.display())).hint(
                "change it by hand, or begin anew with --force: the old file is kept beside it",
            ),
        ));
    }
    if args.save_credentials {
        // Before anybody answers questions.
        Shell::this().keys().map_err(edge::Error::Usage)?;
    }
    let lookup = lookup(places)?;
    let lists = if args.env.is_none() || args.role.is_empty() || args.store.is_none() {
        if !ask::somebody() || output.json {
            return Err(edge::Error::Usage(missing(&args)));
        }
        ask::complete(&mut args, &lookup).map_err(input)?
    } else {
        role::lists(&lookup, &args.role).map_err(input)?
    };
    if in_s3(args.store.as_deref().unwrap_or_default()) {
        // The timer has nothing of this environment.
        args.region = args.region.or_else(credentials::region);
    } else if args.save_credentials {
        return Err(edge::Error::Usage(
            Problem::new("--save-credentials: only a store in S3 asks for keys")
                .hint("as in `--store s3://bucket/prefix`"),
        ));
    }
    let mut answers = Answers::new(&args, &lists).map_err(edge::Error::Usage)?;
    let mut work = Work {
        lists,
        root: root.clone(),
        args: &args,
        places,
        output,
        checks: Vec::new(),
        written: Vec::new(),
        stop: StopFlag::default(),
    };
    let done = work.all(&mut answers);
    // Also what one left that was killed.
    root.remove(Path::new(NEW_KEY))?;
    let timer = done?;
    work.report(timer)
}

/// Where roles and templates are looked up once the settings are in place.
fn lookup(places: &Places) -> Result<Lookup, edge::Error> {
    Lookup::beside(&places.config, &places.share).map_err(input)
}

fn in_s3(url: &str) -> bool {
    url.starts_with("s3://")
}

fn input(problem: Problem) -> edge::Error {
    edge::Error::Input(problem.into())
}

fn missing(args: &InitArgs) -> Problem {
    let options = [
        ("--env", args.env.is_none()),
        ("--role", args.role.is_empty()),
        ("--store", args.store.is_none()),
    ];
    let missing = options.iter().filter(|(_, missing)| *missing);
    let missing: Vec<&str> = missing.map(|(option, _)| *option).collect();
    Problem::new(format!(
        "init needs {}, and there is no terminal to ask at",
        missing.join(", ")
    ))
    .hint("as in `trueup init --env production --role app --store s3://acme-deploys --region eu-west-1`")
}

/// One run of it.
struct Work<'a> {
    /// Of the roles.
    lists: Vec<List>,
    root: Rc<Root>,
    args: &'a InitArgs,
    places: &'a Places,
    output: &'a Output,
    checks: Vec<Check>,
    written: Vec<String>,
    /// Somebody wants it to end.
    stop: StopFlag,
}

impl Work<'_> {
    /// Looks, and if all is well writes and starts. Whether the timer runs then.
    fn all(&mut self, answers: &mut Answers) -> Result<bool, edge::Error> {
        let root = self.root.clone();
        let key = self.args.deploy_key.as_deref();
        let key = key.map(key::read).transpose()?;
        let kept = self.look(answers, key.as_deref())?;
        if self.checks.iter().any(Check::is_bad) {
            return Ok(false);
        }
        if let Some(key) = &key {
            key::place(&root, KEY, key)?;
            self.written
                .push(root.outside(Path::new(KEY)).display().to_string());
        }
        if let Some(kept) = kept {
            credentials::keep(&root, &kept)?;
            self.written.push(credentials::FILE.to_owned());
        }
        self.write(answers)?;
        if !root.is_real() || self.args.no_timer {
            return Ok(false);
        }
        let started = timer::start(&root);
        let runs = started.is_ok();
        let note = |problem| Check::note("timer", problem);
        self.checks.extend(started.err().map(note));
        Ok(runs)
    }

    /// The settings that these answers make, held against roles and templates.
    fn session(&self, answers: &Answers, key: Option<&str>) -> Result<Session, edge::Error> {
        let settings = settings::take(
            &self.places.config,
            self.text(answers, key).as_bytes(),
            &self.places.share,
        )
        .map_err(|problems| options::blamed(problems, &self.places.config))?;
        Ok(Session::with(settings, self.places, self.stop.clone())?)
    }

    fn text(&self, answers: &Answers, key: Option<&str>) -> String {
        let mut answers = answers.clone();
        if let Some(key) = key {
            let key = serde_json::Value::from(key);
            answers.attributes.shift_insert(0, "deploy_key".into(), key);
        }
        text::filled(text::SHIPPED, &answers.settings())
    }

    fn write(&mut self, answers: &Answers) -> Result<(), edge::Error> {
        let config = &self.places.config;
        let real = Root::real()?;
        if let Some(base) = config.parent() {
            real.make_dirs(base, &Attrs::mode(0o755))?;
        }
        let key = self.args.deploy_key.as_ref().map(|_| KEY);
        let body = self.text(answers, key);
        let before = real.read_with_meta(config, 1 << 20)?;
        let attrs = attrs(answers, before.as_ref().map(|(meta, _)| meta));
        if let Some((_, before)) = before.filter(|_| self.args.force) {
            let old = config.with_extension("yml.old");
            real.replace(&old, &before, &Attrs::mode(0o600))?;
            self.written.push(old.display().to_string());
        }
        real.replace(config, body.as_bytes(), &attrs)?;
        let secret = match answers.has_secrets() {
            true => " (for root's eyes only: it holds secrets)",
            false => "",
        };
        self.written.push(format!("{}{secret}", config.display()));
        Ok(())
    }
}

/// Whoever may log in may look how the host stands, but for secrets, and unless somebody made the file
/// before it stricter.
fn attrs(answers: &Answers, before: Option<&Meta>) -> Attrs {
    let usual = if answers.has_secrets() { 0o600 } else { 0o644 };
    let Some(before) = before.filter(|before| before.kind == FileKind::File) else {
        return Attrs::mode(usual);
    };
    let mode = usual & before.mode;
    Attrs {
        // Whose group it was may go on reading.
        gid: (mode & 0o077 != usual & 0o077).then_some(before.gid),
        ..Attrs::mode(mode)
    }
}
