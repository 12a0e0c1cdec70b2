//! The activate stage: makes a complete release the active one, by one rename.

use std::io::Write;

use super::assets;
use super::attempt::Attempt;
use super::hooks::{self, HookTiming};
use crate::ports::root::{Attrs, FileKind};
use crate::release::app::stage::Stage;
use crate::release::deployment::Deployment;
use crate::release::record::adopt::activation_line;
use crate::release::record::entry::StageEntry;
use crate::release::record::{self, RecordedTrial};
use crate::resource::Failure;

/// Refuses, before anything is built, a host on which `current` could not be switched.
pub(crate) fn check_current(deployment: &Deployment<'_>) -> Result<(), Failure> {
    let current = deployment.layout.current();
    match deployment.host.root.meta(&current)?.map(|meta| meta.kind) {
        None | Some(FileKind::Symlink) => Ok(()),
        Some(other) => Err(Failure::new(format!(
            "{} is {} and not a symbolic link",
            current.display(),
            other.describe()
        ))
        .hint("move it away by hand: trueup does not replace data with a link")),
    }
}

/// Switches `current` to a complete release, which is on trial from then on.
pub(crate) fn switch_current(attempt: &mut Attempt<'_, '_>) -> Result<(), Failure> {
    let deployment = attempt.deployment;
    let (host, layout) = (deployment.host, &deployment.layout);
    let from = record::current(host, layout)?;
    let began = host.clock.now();
    hooks::run(
        attempt.deployment,
        &attempt.name,
        HookTiming::Before,
        Stage::Activate,
    )?;
    // Recorded first: if the pass is killed right after the rename, the next one knows that the release is
    // unproven.
    attempt.put_stage(StageEntry::done(Stage::Activate, began));
    attempt.record.set_trial(Some(RecordedTrial {
        name: attempt.name.clone(),
        from: from.filter(|from| *from != attempt.name),
        is_rollback: false,
        is_repeated: false,
        crashed: None,
    }));
    attempt.record.set_bake(None);
    attempt.record.set_last_activated(&attempt.name);
    attempt.save()?;
    point_current_to(deployment, &attempt.name)?;
    let line = activation_line(attempt.entry(), deployment.spec.reference.as_deref());
    append_revisions_log(deployment, &line);
    // From the switch on only the gate decides: a failed hook, a notification say, rolls nothing back.
    if let Err(failure) = hooks::run(
        attempt.deployment,
        &attempt.name,
        HookTiming::After,
        Stage::Activate,
    ) {
        tracing::warn!("{}: {failure}", deployment.spec.app);
    }
    Ok(())
}

/// Points `current` at a release.
pub(crate) fn point_current_to(deployment: &Deployment<'_>, name: &str) -> Result<(), Failure> {
    // First, so that its pages, and those of releases active in between, find their files from the first
    // moment.
    if let Err(failure) = assets::update_links(deployment, name) {
        tracing::warn!("{}: the assets of {name}: {failure}", deployment.spec.app);
    }
    let app = deployment.app_folder(name);
    // Relative, so that the folders above may move.
    let target = app.path().strip_prefix(deployment.layout.deploy_to());
    let target = target.expect("a release is below the folder of its app");
    let current = deployment.layout.current();
    Ok(deployment
        .host
        .root
        .replace_symlink(&current, target, &Attrs::default())?)
}

/// Adds a line to `revisions.log`. It is for people: a failure to write it is only logged.
pub(crate) fn append_revisions_log(deployment: &Deployment<'_>, line: &str) {
    let log = deployment.layout.revisions_log();
    let line = format!("{line}\n");
    let opened = deployment.host.root.open_append(&log, &Attrs::mode(0o644));
    let written = opened.map_err(Failure::from).and_then(|mut log| {
        let written = log.write_all(line.as_bytes());
        written.map_err(|error| Failure::new(error.to_string()))
    });
    if let Err(failure) = written {
        tracing::warn!("{}: {}: {failure}", deployment.spec.app, log.display());
    }
}
