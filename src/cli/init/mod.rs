//! `trueup init`: collects the settings of this host, checks that they work, writes them and starts the
//! timer.

mod answers;
mod credentials;
mod deploy_key;
mod node_yml;
mod option_errors;
mod ports;
mod prompt;
mod secrets;
mod summary;
mod timer;
mod verify;

use std::path::Path;
use std::rc::Rc;

use self::answers::Answers;
use self::credentials::ShellEnvironment;
use self::deploy_key::{DEPLOY_KEY, STAGED_DEPLOY_KEY};
use super::args::InitArgs;
use super::{Output, error};
use crate::checks::Check;
use crate::exit::Exit;
use crate::pass::{Paths, Session};
use crate::ports::exec::StopFlag;
use crate::ports::root::{Attrs, FileKind, Meta, Root};
use crate::problem::Problem;
use crate::role::{self, ItemList};
use crate::settings::{self, Lookup};

pub(super) fn run(
    mut args: InitArgs,
    paths: &Paths,
    output: &Output,
) -> Result<Exit, error::CliError> {
    let root = Rc::new(Root::at(&paths.root)?);
    if root.is_real() && !root.is_privileged() {
        return Err(error::CliError::Usage(
            Problem::new("`trueup init` on this host needs root")
                .hint("`sudo trueup init`, or `--root DIR` for a sandbox"),
        ));
    }
    let configured = settings::is_configured(&paths.config).map_err(input_error)?;
    if configured && !args.force {
        return Err(error::CliError::Usage(
            Problem::new(format!("{} is already configured", paths.config.display()))
                .hint("edit it, or replace it with --force: the old file is kept beside it"),
        ));
    }
    if args.save_credentials {
        // Fails before the operator answers questions.
        ShellEnvironment::current()
            .render_keys()
            .map_err(error::CliError::Usage)?;
    }
    let lookup = lookup(paths)?;
    let lists = if args.env.is_none() || args.role.is_empty() || args.store.is_none() {
        if !prompt::is_interactive() || output.is_document() {
            return Err(error::CliError::Usage(missing_options(&args)));
        }
        prompt::prompt_missing(&mut args, &lookup).map_err(input_error)?
    } else {
        role::item_lists(&lookup, &args.role).map_err(input_error)?
    };
    if is_s3(args.store.as_deref().unwrap_or_default()) {
        // The timer does not inherit this environment.
        args.region = args.region.or_else(credentials::environment_region);
    } else if args.save_credentials {
        return Err(error::CliError::Usage(
            Problem::new("--save-credentials: only an S3 store needs keys")
                .hint("as in `--store s3://bucket/prefix`"),
        ));
    }
    let mut answers = Answers::new(&args, &lists).map_err(error::CliError::Usage)?;
    let mut init = InitRun {
        lists,
        root: root.clone(),
        args: &args,
        paths,
        output,
        checks: Vec::new(),
        written_files: Vec::new(),
        stop: StopFlag::default(),
    };
    let done = init.execute(&mut answers);
    // Also removes the key that a killed run left.
    root.remove_file(Path::new(STAGED_DEPLOY_KEY))?;
    let timer = done?;
    init.print_summary(timer)
}

/// Where roles and templates are looked up once the settings are installed.
fn lookup(paths: &Paths) -> Result<Lookup, error::CliError> {
    Lookup::for_config(&paths.config, &paths.share).map_err(input_error)
}

fn is_s3(url: &str) -> bool {
    url.starts_with("s3://")
}

fn input_error(problem: Problem) -> error::CliError {
    error::CliError::Input(problem.into())
}

fn missing_options(args: &InitArgs) -> Problem {
    let options = [
        ("--env", args.env.is_none()),
        ("--role", args.role.is_empty()),
        ("--store", args.store.is_none()),
    ];
    let missing = options.iter().filter(|(_, missing)| *missing);
    let missing: Vec<&str> = missing.map(|(option, _)| *option).collect();
    Problem::new(format!(
        "init needs {}, and there is no terminal for a prompt",
        missing.join(", ")
    ))
    .hint("as in `trueup init --env production --role app --store s3://acme-deploys --region eu-west-1`")
}

/// State of one run.
struct InitRun<'a> {
    /// The item lists of the roles.
    lists: Vec<ItemList>,
    root: Rc<Root>,
    args: &'a InitArgs,
    paths: &'a Paths,
    output: &'a Output,
    checks: Vec<Check>,
    written_files: Vec<String>,
    /// Set by a signal.
    stop: StopFlag,
}

impl InitRun<'_> {
    /// Runs the checks; if all pass, writes the files and starts the timer. Returns whether the timer is
    /// active.
    fn execute(&mut self, answers: &mut Answers) -> Result<bool, error::CliError> {
        let root = self.root.clone();
        let key = self.args.deploy_key.as_deref();
        let key = key.map(deploy_key::read).transpose()?;
        let kept = self.verify(answers, key.as_deref())?;
        if self.checks.iter().any(Check::is_bad) {
            return Ok(false);
        }
        if let Some(key) = &key {
            deploy_key::install(&root, DEPLOY_KEY, key)?;
            self.written_files.push(
                root.machine_path(Path::new(DEPLOY_KEY))
                    .display()
                    .to_string(),
            );
        }
        if let Some(kept) = kept {
            credentials::save(&root, &kept)?;
            self.written_files
                .push(credentials::CREDENTIALS_FILE.to_owned());
        }
        self.write_settings(answers)?;
        if !root.is_real() || self.args.no_timer {
            return Ok(false);
        }
        let started = timer::start(&root);
        let runs = started.is_ok();
        let note = |problem| Check::note("timer", problem);
        self.checks.extend(started.err().map(note));
        Ok(runs)
    }

    /// A session with the settings of these answers, validated.
    fn session(&self, answers: &Answers, key: Option<&str>) -> Result<Session, error::CliError> {
        let settings = settings::load_from_body(
            &self.paths.config,
            self.render_settings(answers, key).as_bytes(),
            &self.paths.share,
        )
        .map_err(|problems| option_errors::attribute_to_options(problems, &self.paths.config))?;
        Ok(Session::with_settings(
            settings,
            self.paths,
            self.stop.clone(),
        )?)
    }

    fn render_settings(&self, answers: &Answers, key: Option<&str>) -> String {
        let mut answers = answers.clone();
        if let Some(key) = key {
            let key = serde_json::Value::from(key);
            answers.attributes.shift_insert(0, "deploy_key".into(), key);
        }
        node_yml::fill(node_yml::TEMPLATE, &answers.settings())
    }

    fn write_settings(&mut self, answers: &Answers) -> Result<(), error::CliError> {
        let config = &self.paths.config;
        let real = Root::real()?;
        if let Some(base) = config.parent() {
            real.create_dir_all(base, &Attrs::mode(0o755))?;
        }
        let key = self.args.deploy_key.as_ref().map(|_| DEPLOY_KEY);
        let body = self.render_settings(answers, key);
        let before = real.read_with_meta(config, 1 << 20)?;
        let attrs = settings_attrs(answers, before.as_ref().map(|(meta, _)| meta));
        if let Some((_, before)) = before.filter(|_| self.args.force) {
            let old = config.with_extension("yml.old");
            real.write_atomic(&old, &before, &Attrs::mode(0o600))?;
            self.written_files.push(old.display().to_string());
        }
        real.write_atomic(config, body.as_bytes(), &attrs)?;
        let secret = match answers.has_secrets() {
            true => " (readable by root only: it contains secrets)",
            false => "",
        };
        self.written_files
            .push(format!("{}{secret}", config.display()));
        Ok(())
    }
}

/// Settings are world-readable so that any user can run `status`, unless they hold secrets or the previous
/// file was stricter.
fn settings_attrs(answers: &Answers, before: Option<&Meta>) -> Attrs {
    let usual = if answers.has_secrets() { 0o600 } else { 0o644 };
    let Some(before) = before.filter(|before| before.kind == FileKind::File) else {
        return Attrs::mode(usual);
    };
    let mode = usual & before.mode;
    Attrs {
        // The previous file's group keeps its access.
        gid: (mode & 0o077 != usual & 0o077).then_some(before.gid),
        ..Attrs::mode(mode)
    }
}
