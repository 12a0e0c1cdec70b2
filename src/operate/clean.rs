//! Removes releases that are no longer needed, of one app or of all.

use serde::Serialize;

use crate::exit::Exit;
use crate::pass::{DeployedApp, Session};
use crate::release::{self, CleanResult, KeepFailed};
use crate::resource::Failure;

/// The document of `releases clean --output`.
#[derive(Debug, Serialize)]
pub(crate) struct CleanReport {
    version: u32,
    pub dry_run: bool,
    /// Bytes that no release uses any more.
    pub freed: u64,
    pub apps: Vec<CleanResult>,
}

/// Removes what the apps no longer need; with `dry_run` only lists it. The caller holds the run lock.
pub(crate) fn clean(
    session: &Session,
    apps: &[DeployedApp<'_>],
    failed: KeepFailed,
    dry_run: bool,
) -> Result<CleanReport, Failure> {
    let cleaned = apps
        .iter()
        .map(|app| release::clean(app.spec, &session.host, failed, dry_run))
        .collect::<Result<Vec<CleanResult>, Failure>>()?;
    let removed = cleaned.iter().flat_map(|cleaned| &cleaned.removed);
    Ok(CleanReport {
        version: crate::report::VERSION,
        dry_run,
        freed: removed.filter_map(|release| Some(release.size?.own)).sum(),
        apps: cleaned,
    })
}

impl CleanReport {
    /// [`Exit::Failed`] if a removal failed.
    pub(crate) fn outcome(&self) -> Exit {
        let is_done = self.apps.iter().all(|app| app.unremoved.is_empty());
        match self.dry_run || is_done {
            true => Exit::Converged,
            false => Exit::Failed,
        }
    }
}
