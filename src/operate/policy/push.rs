//! `policy push`: packs a folder, and has the manifest name it.

use std::collections::BTreeMap;
use std::path::Path;
use std::rc::Rc;

use super::{EnvironmentPolicy, PolicyTarget};
use crate::desired::{Action, ContentDigest, POLICY_APP, PublishSummary};
use crate::fleet::rollout::RolloutStore;
use crate::operate::CommandError;
use crate::operate::rollout::RolloutTarget;
use crate::pass::PassError;
use crate::policy::{self, pack, read_folder};
use crate::ports::root::Root;
use crate::ports::store::WriteCondition;
use crate::problem::{Problem, Problems};
use crate::role;
use crate::settings::{Lookup, PolicyFiles, exposed_values};

/// A bundle that is ready to be pushed.
pub(crate) struct PackedBundle {
    pub digest: ContentDigest,
    pub files: Rc<PolicyFiles>,
    pub packed: Vec<u8>,
    /// What everybody should know before it is pushed.
    pub warnings: Vec<Problem>,
}

/// What a push did.
pub(crate) struct PushOutcome {
    /// The bundle that the manifest names now: with equal files it stays the one before.
    pub digest: ContentDigest,
    pub previous: Option<ContentDigest>,
    /// `None`: the manifest named a bundle with these files already.
    pub published: Option<PublishSummary>,
}

impl PackedBundle {
    /// Packs a folder, after checking the roles and templates in it. `share` is the folder of the shipped ones, which they may
    /// include.
    pub(crate) fn read(folder: &Path, share: &Path) -> Result<PackedBundle, CommandError> {
        let folder = std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned());
        let root = Root::real().map_err(PassError::Root)?;
        let files = read_folder(&root, &folder)?;
        let packed = pack(&files).map_err(CommandError::input)?;
        let files = Rc::new(PolicyFiles {
            name: folder.display().to_string(),
            files,
        });
        let lookup = Lookup::for_policy(files.clone(), share).map_err(CommandError::input)?;
        let problems = role::check_files(&lookup);
        if !problems.is_empty() {
            return Err(Problems(problems).into());
        }
        let warnings = exposed_values(&files).map_err(CommandError::input)?;
        Ok(PackedBundle {
            digest: ContentDigest::of(&packed),
            files,
            packed,
            warnings,
        })
    }
}

/// Pushes a bundle.
pub(crate) fn push(
    target: &PolicyTarget<'_>,
    bundle: &PackedBundle,
) -> Result<PushOutcome, CommandError> {
    let current = target.read()?;
    if let Some(same) = named_with_equal_files(target, &current, &bundle.files.files)? {
        return Ok(PushOutcome {
            digest: same,
            previous: current.previous,
            published: None,
        });
    }
    let key = policy::object_key(&bundle.digest);
    let written = target
        .store
        .put(&key, &bundle.packed, WriteCondition::Absent);
    written.map_err(PassError::Store)?;
    // Somebody may have written another one there.
    policy::fetch(target.store, &bundle.digest).map_err(|error| {
        let hint = format!("remove {key} from the store, and push again");
        CommandError::Failed(Problem::new(error.to_string()).hint(hint))
    })?;
    let previous = good_previous(target, &current)?;
    let published = target.publish(
        Action::Policy,
        &current,
        Some(&bundle.digest),
        previous.as_ref(),
    );
    let mut published = published?;
    published.warnings.extend(target.sweep());
    Ok(PushOutcome {
        digest: bundle.digest.clone(),
        previous,
        published: Some(published),
    })
}

/// The bundle that the manifest names, if it has the same files: another version of trueup may have packed them otherwise.
fn named_with_equal_files(
    target: &PolicyTarget<'_>,
    current: &EnvironmentPolicy,
    files: &BTreeMap<String, Vec<u8>>,
) -> Result<Option<ContentDigest>, CommandError> {
    let Some(digest) = &current.policy else {
        return Ok(None);
    };
    // One that is gone or damaged is replaced.
    let Ok(packed) = policy::fetch(target.store, digest) else {
        return Ok(None);
    };
    let is_equal = policy::unpack(&packed).is_ok_and(|known| known == *files);
    Ok(is_equal.then(|| digest.clone()))
}

/// The bundle to go back to: the one that the manifest names, unless no host has shown that it works; then the one before.
fn good_previous(
    target: &PolicyTarget<'_>,
    current: &EnvironmentPolicy,
) -> Result<Option<ContentDigest>, CommandError> {
    let Some(digest) = &current.policy else {
        return Ok(None);
    };
    // Hosts on one machine ask nobody.
    if target.store.address().starts_with("dir:") {
        return Ok(Some(digest.clone()));
    }
    let rollout = RolloutTarget {
        store: target.store,
        environment: target.environment,
        app: POLICY_APP,
        manifest_key: target.manifest_key,
        fleet: target.fleet,
    };
    let register = rollout.objects().register()?;
    let is_good = register.is_none_or(|found| {
        let entry = found.object.current(&digest.rollout_sha());
        entry.is_some_and(|entry| entry.proven || entry.was_done)
    });
    Ok(match is_good {
        true => Some(digest.clone()),
        false => current.previous.clone(),
    })
}
