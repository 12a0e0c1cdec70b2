//! Keeps the links of a complete release as described: of the active one in every pass, and of any before it
//! is activated.
//!
//! The release and `shared/` belong to the app's user, who may change anything there at any moment. So trueup
//! enters only folders of that user, follows no link, and makes a link only where nothing is. It removes
//! nothing but another link or an empty folder: anything else may be data that the app wrote.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use super::attempt::Attempt;
use super::description::links_fingerprint;
use super::link::{SharedPath, make_shared_path, shared_paths};
use super::parents::make_parents;
use crate::ports::Host;
use crate::ports::root::{FileKind, UserTree};
use crate::release::app::layout::AppFolder;
use crate::release::app::spec::ReleaseSpec;
use crate::release::app::stage::Stage;
use crate::release::deployment::Deployment;
use crate::release::record::ReleaseRecord;
use crate::release::record::entry::{LINKS_STEP, ReleaseStatus, StageEntry, StageStatus};
use crate::resource::{Failure, FailureKind, FieldChange, FieldValue};

/// The state of a link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum LinkState {
    Linked,
    Free,
    /// A link to elsewhere.
    Diverted(PathBuf),
    Occupied(FileKind),
}

/// A described link, as it is in a release.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ObservedLink {
    /// Or why root does not go there.
    state: Result<LinkState, String>,
    /// Whether the shared folder or file exists.
    has_target: bool,
}

impl ObservedLink {
    fn is_right(&self) -> bool {
        self.state == Ok(LinkState::Linked) && self.has_target
    }
}

/// Reads all links of a release, in the order of the description. Costs two reads for each.
pub(crate) fn inspect(
    spec: &ReleaseSpec,
    host: &Host,
    app: &AppFolder,
) -> Result<Vec<ObservedLink>, Failure> {
    let paths = shared_paths(spec);
    if paths.is_empty() {
        return Ok(Vec::new());
    }
    let layout = spec.layout();
    let path = app.path();
    let tree = app.open(&host.root).map_err(Failure::from);
    let observe = |shared: SharedPath<'_>| {
        let state = match &tree {
            Ok(Some(tree)) => observe_state(tree, app, &shared),
            Ok(None) => Err(Failure::new(format!("{} does not exist", path.display()))),
            Err(failure) => Err(failure.clone()),
        };
        let target = host.root.meta(&layout.shared().join(shared.path));
        let kind = target.map(|meta| meta.map(|meta| meta.kind));
        // What the app's user did there is a difference, and must not prevent the deployment of another
        // release.
        let is_fatal = |failure: &Failure| {
            failure.is(FailureKind::PermissionDenied) && !host.root.is_privileged()
        };
        Ok(ObservedLink {
            state: match state {
                Err(failure) if is_fatal(&failure) => return Err(failure),
                state => state.map_err(|failure| failure.message),
            },
            has_target: match kind.map_err(Failure::from) {
                Err(failure) if is_fatal(&failure) => return Err(failure),
                Err(_) | Ok(None) => false,
                Ok(Some(kind)) => shared.accepts(kind),
            },
        })
    };
    paths.into_iter().map(observe).collect()
}

fn observe_state(
    tree: &UserTree,
    app: &AppFolder,
    shared: &SharedPath<'_>,
) -> Result<LinkState, Failure> {
    let folder = tree.open_folder(shared.path.parent().unwrap_or(Path::new("")))?;
    let Some((folder, name)) = folder.zip(shared.path.file_name()) else {
        return Ok(LinkState::Free);
    };
    Ok(match folder.find(name)?.map(|meta| meta.kind) {
        None => LinkState::Free,
        Some(FileKind::Symlink) => match PathBuf::from(folder.read_link(name)?) {
            target if target == shared.link_target(app) => LinkState::Linked,
            target => LinkState::Diverted(target),
        },
        Some(kind) => LinkState::Occupied(kind),
    })
}

/// The differences between the observed links and the described ones.
pub(crate) fn diff(spec: &ReleaseSpec, observed: &[ObservedLink]) -> Vec<FieldChange> {
    let mut fields = Vec::new();
    for (shared, link) in shared_paths(spec).iter().zip(observed) {
        let from = match &link.state {
            Ok(LinkState::Linked) => None,
            Ok(LinkState::Free) => Some(FieldValue::Absent),
            Ok(LinkState::Diverted(target)) => {
                Some(FieldValue::value(format!("a link to {}", target.display())))
            }
            Ok(LinkState::Occupied(kind)) => Some(FieldValue::value(kind.describe())),
            Err(why) => Some(FieldValue::value(why)),
        };
        let own = shared.path.display();
        if let Some(from) = from {
            fields.push(FieldChange {
                field: Cow::Owned(own.to_string()),
                from,
                to: FieldValue::value(format!("a link to shared/{own}")),
            });
        }
        if !link.has_target {
            fields.push(FieldChange {
                field: Cow::Owned(format!("shared/{own}")),
                from: FieldValue::Absent,
                to: FieldValue::value(shared.kind().describe()),
            });
        }
    }
    fields
}

/// Whether the services of a release were started with the links that are described.
pub(crate) fn is_known(spec: &ReleaseSpec, recorded: Option<&StageEntry>) -> bool {
    let fingerprint = links_fingerprint(spec);
    recorded.is_some_and(|links| links.definition.as_ref() == Some(&fingerprint))
}

/// Makes the links of a release as described, and records their new description, from which follows that its
/// services have to be restarted.
pub(crate) fn keep_links(attempt: &mut Attempt<'_, '_>) -> Result<(), Failure> {
    let deployment = attempt.deployment;
    let (spec, host) = (deployment.spec, deployment.host);
    let recorded = attempt.entry().find_stage(Stage::Link, Some(LINKS_STEP));
    let recorded = recorded.cloned();
    let is_settled = recorded
        .as_ref()
        .is_none_or(|links| links.status == StageStatus::Done);
    let observed = inspect(spec, host, &deployment.app_folder(&attempt.name))?;
    if is_settled && observed.iter().all(ObservedLink::is_right) {
        return Ok(());
    }
    let mut entry = StageEntry {
        step: Some(LINKS_STEP.to_owned()),
        status: StageStatus::Running,
        definition: recorded.and_then(|links| links.definition),
        ..StageEntry::done(Stage::Link, host.clock.now())
    };
    // A pass that is killed in between leaves the restart to the next one.
    attempt.put_stage(entry.clone());
    attempt.save()?;
    let made = make_links(deployment, &attempt.name);
    match &made {
        Ok(()) => {
            entry.status = StageStatus::Done;
            if !observed.is_empty() {
                entry.definition = Some(links_fingerprint(spec));
            }
        }
        Err(failure) => {
            entry.status = StageStatus::Failed;
            entry.why = Some(failure.summary());
        }
    }
    attempt.put_stage(entry);
    attempt.save()?;
    made
}

/// [`keep_links`] of the active release.
pub(crate) fn keep_active_links(deployment: &Deployment<'_>, release: &str) -> Result<(), Failure> {
    let mut record = ReleaseRecord::load(deployment.host, &deployment.layout)?;
    if record.find(release).is_none_or(|entry| !entry.is_linked()) {
        return Ok(());
    }
    keep_links(&mut Attempt {
        deployment,
        record: &mut record,
        name: release.to_owned(),
    })
}

/// [`keep_links`] of a release that is about to be activated. A proven one is activated in any case: a
/// rollback must not fail because of what an earlier release left in its folder.
pub(crate) fn keep_links_before_switch(attempt: &mut Attempt<'_, '_>) -> Result<(), Failure> {
    if !attempt.entry().is_linked() {
        return Ok(());
    }
    match keep_links(attempt) {
        Err(failure) if attempt.entry().state == ReleaseStatus::Good => {
            tracing::warn!("{}: {failure}", attempt.deployment.spec.app);
            Ok(())
        }
        // Nothing has used the release yet.
        Err(failure) if !failure.is(FailureKind::NotReady) => Err(failure.hint(
            "a command of the build put it there, and it would be lost with this release: change the command, or leave the path out of `linked_dirs` and `linked_files`",
        )),
        kept => kept,
    }
}

/// Makes all links that can be made; the failure names all others.
fn make_links(deployment: &Deployment<'_>, release: &str) -> Result<(), Failure> {
    let app = deployment.app_folder(release);
    let tree = app.open(&deployment.host.root)?;
    let tree =
        tree.ok_or_else(|| Failure::new(format!("{} does not exist", app.path().display())))?;
    let mut failed: Option<Failure> = None;
    for shared in shared_paths(deployment.spec) {
        let made = make_shared_path(deployment, &shared)
            .and_then(|()| make_link(deployment, &tree, &app, &shared));
        if let Err(failure) = made {
            failed = Some(match failed {
                None => failure,
                Some(first) => first.with_detail(&format!("; {}", failure.message)),
            });
        }
    }
    failed.map_or(Ok(()), Err)
}

fn make_link(
    deployment: &Deployment<'_>,
    tree: &UserTree,
    app: &AppFolder,
    shared: &SharedPath<'_>,
) -> Result<(), Failure> {
    let link = app.path().join(shared.path);
    let folder = match make_parents(deployment, tree, shared.path)? {
        true => tree.open_folder(shared.path.parent().unwrap_or(Path::new("")))?,
        false => None,
    };
    let Some((folder, name)) = folder.zip(shared.path.file_name()) else {
        return Err(Failure::new(format!(
            "cannot link {}: a folder on its path is a link, a file, a mount or another user's",
            link.display()
        ))
        .hint("links are only made in real folders of the app's user: move it away"));
    };
    match observe_state(tree, app, shared)? {
        LinkState::Linked => return Ok(()),
        LinkState::Free => {}
        LinkState::Diverted(_) => folder.unlink(name)?,
        LinkState::Occupied(FileKind::Directory) if folder.remove_empty_folder(name)? => {}
        LinkState::Occupied(kind) => return Err(occupied(deployment, shared, &link, kind)),
    }
    let target = shared.link_target(app);
    folder.create_symlink(name, target.as_os_str(), &deployment.owner.attrs(0o777))?;
    Ok(folder.sync()?)
}

fn occupied(
    deployment: &Deployment<'_>,
    shared: &SharedPath<'_>,
    link: &Path,
    kind: FileKind,
) -> Failure {
    let target = deployment.layout.shared().join(shared.path);
    let (what, hint) = match (kind, shared.is_folder) {
        (FileKind::Directory, true) => (
            "a folder that is not empty",
            format!(
                "it is lost with this release: move what you need from it to {}, and remove it; the next pass makes the link",
                target.display()
            ),
        ),
        _ => (
            kind.describe(),
            format!(
                "compare it with {}, and move it away; the next pass makes the link",
                target.display()
            ),
        ),
    };
    Failure::new(format!(
        "{} is {what}, in the place of the link to {}",
        link.display(),
        target.display()
    ))
    .hint(hint)
}
