//! The stage that makes a good release the active one: one rename.

use std::io::Write;
use std::path::Path;

use super::Deployment;
use super::record::{Entry, Record, Stage, Standing};
use crate::ports::root::{Attrs, FileKind};
use crate::resource::Failure;

/// Refuses, before anything is built, a host on which `current` could not be switched.
pub(super) fn possible(d: &Deployment<'_>) -> Result<(), Failure> {
    let current = d.layout.current();
    match d.host.root.meta(&current)?.map(|meta| meta.kind) {
        None | Some(FileKind::Symlink) => Ok(()),
        Some(other) => Err(Failure::new(format!(
            "{} is {} and no symbolic link",
            current.display(),
            other.words()
        ))
        .hint("move it away by hand: trueup does not replace somebody's data by a link")),
    }
}

/// Switches `current` to a release that the record already calls good.
pub(super) fn switch(d: &Deployment<'_>, record: &mut Record, name: &str) -> Result<(), Failure> {
    let (host, layout) = (d.host, &d.layout);
    let root = &host.root;
    let target = Path::new("releases").join(name);
    root.link(&layout.current(), &target, &Attrs::default())?;
    let line = format!(
        "Branch {} (at {}) deployed as release {name} by trueup\n",
        d.spec.reference.as_deref().unwrap_or("(none)"),
        d.sha
    );
    let log = layout.revisions_log();
    let written = root
        .append(&log, &Attrs::mode(0o644))?
        .write_all(line.as_bytes());
    if let Err(error) = written {
        tracing::warn!("cannot write {}: {error}", log.display());
    }
    record.put(Entry {
        name: name.to_owned(),
        sha: d.sha.clone(),
        state: Standing::Good,
        stage: Stage::Activate,
        at: host.clock.now(),
        why: None,
    });
    record.last(name);
    record.save(host, layout)
}
