//! Private releases: an operator builds a sha to inspect it or to run something in it. trueup never activates
//! one by itself, even if its sha is wanted later: its builder may have changed it since.

use std::path::PathBuf;

use jiff::Timestamp;

use crate::desired::Sha;
use crate::ports::Host;
use crate::release::app::spec::ReleaseSpec;
use crate::release::deployment::{Deployment, PrivateBuild, deployment_of_app};
use crate::release::pipeline::Built;
use crate::release::record::ReleaseRecord;
use crate::release::source::mirror;
use crate::release::stages::description::BuildDescription;
use crate::release::stages::folders::prepare_folders;
use crate::release::stages::resume;
use crate::resource::Failure;

/// A complete private release.
#[derive(Debug)]
pub(crate) struct PrivateRelease {
    pub name: String,
    /// The path on the machine.
    pub path: PathBuf,
    pub until: Timestamp,
}

/// Builds a private release without migrating or activating it, resumes one that failed, or extends the
/// expiry of an existing one.
pub(crate) fn build_private(
    spec: &ReleaseSpec,
    sha: &Sha,
    host: &Host,
    private: PrivateBuild,
) -> Result<PrivateRelease, Failure> {
    let mut deployment = Deployment::new(spec, sha, host)?;
    deployment.private = Some(private.clone());
    deployment.check_stop()?;
    prepare_folders(&deployment)?;
    let mut record = ReleaseRecord::load(host, &deployment.layout)?;
    let found = find_private(&record, sha);
    let outdated = found.iter().filter(|name| is_outdated(spec, &record, name));
    let outdated: Vec<String> = outdated.cloned().collect();
    resume::discard(&deployment, &mut record, &outdated)?;
    let name = match found.filter(|_| outdated.is_empty()) {
        None => match deployment.build_new(&mut record, outdated)? {
            Built::Release(name) => name,
            Built::Needless(_) => unreachable!("a private release is compared with no other"),
        },
        Some(name) => {
            deployment.check_refs(&mut record, &name)?;
            let entry = record.find_mut(&name).expect("its name was taken from it");
            entry.private_until = entry.private_until.max(Some(private.until));
            if entry.state.is_complete() {
                record.save(host, &deployment.layout)?;
            } else {
                deployment.resume_build(&mut record, &name)?;
            }
            name
        }
    };
    let until = record.find(&name).and_then(|entry| entry.private_until);
    Ok(PrivateRelease {
        path: host.root.machine_path(deployment.app_folder(&name).path()),
        until: until.unwrap_or(private.until),
        name,
    })
}

/// Whether an unfinished release was begun by another description. A complete one stays: its builder may use
/// it, or have changed it.
fn is_outdated(spec: &ReleaseSpec, record: &ReleaseRecord, name: &str) -> bool {
    record.find(name).is_some_and(|entry| {
        let difference = BuildDescription::of(spec).first_difference(entry);
        !entry.state.is_complete() && difference.is_some()
    })
}

/// The private release of this sha that is complete, or that can be resumed.
fn find_private(record: &ReleaseRecord, sha: &Sha) -> Option<String> {
    let mut own = record.entries().iter().rev();
    let found = own.find(|entry| {
        entry.private_until.is_some()
            && entry.sha == *sha
            && (entry.state.is_complete() || entry.is_resumable())
    });
    found.map(|entry| entry.name.clone())
}

/// Resolves a branch or tag to its commit on the server now.
pub(crate) fn resolve_ref(spec: &ReleaseSpec, host: &Host, name: &str) -> Result<Sha, Failure> {
    mirror::resolve_ref(&deployment_of_app(spec, host)?, name)
}
