//! `trueup policy test`.

use std::path::Path;
use std::rc::Rc;

use serde::Serialize;

use crate::cli::Output;
use crate::cli::args::PolicyTestArgs;
use crate::exit::Exit;
use crate::operate::CommandError;
use crate::operate::policy::{self as operate, BundlePreview, PackedBundle};
use crate::pass::{PassError, Paths};
use crate::policy;
use crate::ports::store;
use crate::problem::Problem;
use crate::report::unified_diff;
use crate::settings::{PolicyFiles, Settings};

/// The document of `policy test --output`.
#[derive(Debug, Serialize)]
struct TestDocument<'a> {
    version: u32,
    outcome: Exit,
    hosts: Vec<HostDocument<'a>>,
}

/// What it changes with the settings in one file.
#[derive(Debug, Serialize)]
struct HostDocument<'a> {
    settings: String,
    environment: &'a str,
    resources: usize,
    changes: Vec<ChangeDocument<'a>>,
}

#[derive(Debug, Serialize)]
struct ChangeDocument<'a> {
    id: &'a str,
    /// `null`: it is new.
    before: Option<&'a str>,
    /// `null`: it is gone.
    after: Option<&'a str>,
}

/// The result for one file.
struct TestedHost<'a> {
    file: &'a Path,
    environment: String,
    preview: BundlePreview,
}

pub(super) fn run(
    args: &PolicyTestArgs,
    paths: &Paths,
    output: &Output,
) -> Result<Exit, CommandError> {
    let bundle = PackedBundle::read(&args.folder, &paths.share)?;
    let mut tested = Vec::new();
    for file in &args.settings {
        let settings = operate::load_settings(file, &paths.share)?;
        let in_force = in_force(args, &settings, paths)?;
        let environment = settings.environment.clone();
        let preview = operate::preview(settings, paths, in_force, bundle.files.clone())?;
        tested.push(TestedHost {
            file,
            environment,
            preview,
        });
    }
    let is_equal = tested.iter().all(|host| host.preview.changes.is_empty());
    let outcome = match is_equal {
        true => Exit::Converged,
        false => Exit::Pending,
    };
    if output.is_document() {
        output.print_document(&TestDocument {
            version: crate::report::VERSION,
            outcome,
            hosts: tested.iter().map(TestedHost::document).collect(),
        });
        return Ok(outcome);
    }
    for host in &tested {
        host.print(output);
    }
    for warning in &bundle.warnings {
        output.print_line(format!("{}: {warning}", output.paint.changed("warning")));
    }
    Ok(outcome)
}

/// The bundle to compare with: the one that the manifest names for the environment of these settings, unless an option names
/// another one.
fn in_force(
    args: &PolicyTestArgs,
    settings: &Settings,
    paths: &Paths,
) -> Result<Option<Rc<PolicyFiles>>, CommandError> {
    match &args.against {
        Some(folder) if folder == Path::new("none") => Ok(None),
        Some(folder) => Ok(Some(PackedBundle::read(folder, &paths.share)?.files)),
        None => {
            let fail = |why: String| {
                let hint = "--against DIR or `--against none` compares without the store";
                CommandError::Failed(Problem::new(why).hint(hint))
            };
            let store = store::open(&settings.store).map_err(PassError::Store);
            let store = store.map_err(|error| fail(error.to_string()))?;
            let (key, environment) = (&settings.manifest, &settings.environment);
            let current = operate::read_policy(store.as_ref(), key, environment, None);
            let Some(digest) = current.map_err(|error| fail(error.summary()))?.policy else {
                return Ok(None);
            };
            let packed = policy::fetch(store.as_ref(), &digest);
            let packed = packed.map_err(|error| fail(error.to_string()))?;
            Ok(Some(policy::open(&digest, &packed).map_err(fail)?))
        }
    }
}

impl TestedHost<'_> {
    fn document(&self) -> HostDocument<'_> {
        let changes = self.preview.changes.iter();
        HostDocument {
            settings: self.file.display().to_string(),
            environment: &self.environment,
            resources: self.preview.total,
            changes: changes
                .map(|(id, before, after)| ChangeDocument {
                    id,
                    before: before.as_deref(),
                    after: after.as_deref(),
                })
                .collect(),
        }
    }

    fn print(&self, output: &Output) {
        let paint = output.paint;
        let changes = &self.preview.changes;
        let count = match changes.len() {
            0 => "nothing changes".to_owned(),
            count => format!(
                "{count} of {} resources change",
                self.preview.total.max(count)
            ),
        };
        output.print_line(format!(
            "{} ({}): {count}",
            paint.strong(&self.file.display().to_string()),
            self.environment
        ));
        for (id, before, after) in changes {
            let word = match (before, after) {
                (None, _) => paint.good("new"),
                (_, None) => paint.bad("gone"),
                _ => paint.changed("change"),
            };
            output.print_line(format!("{word} {id}"));
            let text = |text: &Option<String>| text.clone().unwrap_or_default();
            let (before, after) = (text(before), text(after));
            let lines = unified_diff(paint, ("in force", &before), ("bundle", &after));
            for line in lines {
                output.print_line(format!("    {line}"));
            }
        }
    }
}
