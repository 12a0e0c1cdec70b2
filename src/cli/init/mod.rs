//! `trueup init`: say what this host is, look whether that works, write it down, start the timer.

mod answers;
mod ask;
mod credentials;
mod ports;
mod secrets;
mod text;
mod timer;
mod told;

use std::path::Path;
use std::rc::Rc;

use self::answers::Answers;
use self::credentials::{Shell, Timer};
use super::args::InitArgs;
use super::{Output, edge};
use crate::checks::{self, Check};
use crate::exit::Exit;
use crate::pass::{PassError, Places, Session};
use crate::ports::exec::StopFlag;
use crate::ports::root::{Attrs, FileKind, Meta, Root};
use crate::ports::signals;
use crate::problem::Problem;
use crate::release;
use crate::role::{self, List};
use crate::settings::{self, Lookup, Settings};

/// Where the deploy key is put, on the host.
const KEY: &str = "/etc/trueup/deploy_key";

/// Where it is until everything was looked at.
const NEW_KEY: &str = "/etc/trueup/deploy_key.new";

/// No private key is longer, in bytes.
const MAX_KEY: usize = 64 << 10;

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
    let lookup = lookup(places);
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
fn lookup(places: &Places) -> Lookup {
    let base = places.config.parent().unwrap_or(Path::new("/")).to_owned();
    Lookup {
        folders: vec![base, places.share.clone()],
    }
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
        let key = key.map(read_key).transpose()?;
        let kept = self.look(answers, key.as_deref())?;
        if self.checks.iter().any(Check::is_bad) {
            return Ok(false);
        }
        if let Some(key) = &key {
            place(&root, KEY, key)?;
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
        )?;
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

    /// Every check there is; credentials that are to be kept.
    fn look(
        &mut self,
        answers: &mut Answers,
        key: Option<&[u8]>,
    ) -> Result<Option<String>, edge::Error> {
        let session = self.session(answers, key.map(|_| KEY))?;
        let resources = session.validate()?;
        let (roles, node) = (session.settings.roles.join(", "), session.node().to_owned());
        self.checks.push(Check::good(
            "settings",
            format!("{roles} describe {resources} resources for {node}"),
        ));
        for list in &self.lists {
            let apps = answers.attributes.get(&list.name);
            let apps = apps.and_then(serde_json::Value::as_object);
            let names: Vec<String> = apps
                .into_iter()
                .flat_map(|map| map.keys().cloned())
                .collect();
            let missing = ports::missing(&session.settings, list, &names);
            self.checks.extend(missing);
        }
        if self.args.unchecked {
            return Ok(None);
        }
        if ask::somebody() && !self.output.json {
            for line in strangers(&self.session(answers, None)?)? {
                if ask::is_its_key(&line).map_err(edge::Error::Usage)? {
                    answers.know(&[line]).map_err(edge::Error::Usage)?;
                }
            }
        }
        // Nobody is asked any more: from here on Ctrl-C leaves time to clear up.
        signals::stop_on_termination(&self.stop);
        if let Some(key) = key {
            place(&self.root, NEW_KEY, key)?;
        }
        let session = self.session(answers, key.map(|_| NEW_KEY))?;
        let apps = session.apps()?;
        let names: Vec<String> = apps.all().iter().map(|app| app.spec.app.clone()).collect();
        let store = session.store()?;
        let Settings {
            manifest,
            environment,
            ..
        } = &session.settings;
        let found = checks::store(store.as_ref(), manifest, environment, &names);
        let answered = found.first().is_some_and(|check| !check.is_bad());
        self.checks.extend(found);
        let known = checks::known_hosts(&session.settings);
        for app in apps.all() {
            self.go_on()?;
            self.checks
                .push(checks::git(app.spec, &session.host, &known));
        }
        self.go_on()?;
        self.credentials(&session.settings, answered)
    }

    fn go_on(&self) -> Result<(), edge::Error> {
        match self.stop.is_set() {
            true => Err(edge::Error::Failed(Problem::new(
                "ended by a signal: nothing was written",
            ))),
            false => Ok(()),
        }
    }

    /// Whether the store was asked as the timer will ask it; the keys that are to be kept for it.
    fn credentials(
        &mut self,
        settings: &Settings,
        answered: bool,
    ) -> Result<Option<String>, edge::Error> {
        if !in_s3(&settings.store.url) {
            return Ok(None);
        }
        let about = "credentials";
        let shell = Shell::this();
        let timer = Timer::on(&self.root)?;
        if self.args.save_credentials {
            let keys = shell.keys().map_err(edge::Error::Usage)?;
            if credentials::is_same(&keys, &timer) {
                let said = format!("{} has them already", credentials::FILE);
                self.checks.push(Check::good(about, said));
                return Ok(None);
            }
            if timer.file.is_some() {
                let problem = Problem::new(format!(
                    "{} is there already, with others",
                    credentials::FILE
                ))
                .hint("make it right by hand, and leave --save-credentials away");
                self.checks.push(Check::bad(about, problem));
                return Ok(None);
            }
            let ends = shell.ends().map(|problem| Check::note(about, problem));
            self.checks.extend(ends);
            return Ok(Some(keys));
        }
        let has_files = |home: &Path| {
            let there = |name| Root::real().and_then(|root| root.meta(&home.join(name)));
            [".aws/credentials", ".aws/config"]
                .into_iter()
                .any(|name| matches!(there(name), Ok(Some(_))))
        };
        let differs = shell.differs(&timer, has_files);
        let check = match differs {
            // A check with other credentials than every pass will have says nothing.
            Some(problem) if self.root.is_real() && !self.args.no_timer => {
                Some(Check::bad(about, problem))
            }
            Some(problem) => Some(Check::note(about, problem)),
            None if !answered => shell
                .left_behind()
                .map(|problem| Check::note(about, problem)),
            None => None,
        };
        self.checks.extend(check);
        Ok(None)
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

/// The key, as whoever runs this may read it.
fn read_key(file: &Path) -> Result<Vec<u8>, edge::Error> {
    let path = std::path::absolute(file).unwrap_or_else(|_| file.to_owned());
    let body = Root::real()?.read(&path, MAX_KEY)?;
    body.ok_or_else(|| {
        edge::Error::Usage(
            Problem::new(format!("--deploy-key: there is no file {}", path.display()))
                .hint("the private half, as `ssh-keygen -t ed25519 -N '' -f FILE` makes it"),
        )
    })
}

/// Puts a private key there, for nobody but root.
fn place(root: &Root, path: &str, key: &[u8]) -> Result<(), edge::Error> {
    root.make_dirs(Path::new("/etc/trueup"), &Attrs::mode(0o755))?;
    root.replace(Path::new(path), key, &Attrs::mode(0o600))?;
    Ok(())
}

/// One line for each git server that nothing here knows.
fn strangers(session: &Session) -> Result<Vec<String>, edge::Error> {
    let known = checks::known_hosts(&session.settings);
    let apps = session
        .apps()
        .map_err(|error: PassError| edge::Error::from(error))?;
    let mut lines = Vec::new();
    for app in apps.all() {
        let line = release::unknown_server(app.spec, &session.host, &known);
        lines.extend(line.map_err(super::words::failed)?);
    }
    lines.sort();
    lines.dedup();
    Ok(lines)
}
