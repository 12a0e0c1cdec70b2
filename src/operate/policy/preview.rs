//! `policy test`: what a bundle would change for the settings of given hosts. Touches no host, and needs no privilege.

use std::collections::BTreeMap;
use std::path::Path;
use std::rc::Rc;

use crate::operate::CommandError;
use crate::pass::{Paths, Session};
use crate::ports::exec::StopFlag;
use crate::role::RenderedResource;
use crate::settings::{self, PolicyFiles, Settings};

/// What a bundle changes for one host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BundlePreview {
    /// Resources that differ, by id in the order of the roles: without the bundle, and with it. `None`: there is none.
    pub changes: Vec<(String, Option<String>, Option<String>)>,
    /// Resources with it.
    pub total: usize,
}

/// Renders the roles of a host with two bundles.
pub(crate) fn preview(
    settings: Settings,
    paths: &Paths,
    in_force: Option<Rc<PolicyFiles>>,
    bundle: Rc<PolicyFiles>,
) -> Result<BundlePreview, CommandError> {
    let session = Session::with_settings(settings, paths, StopFlag::default())?;
    let before = session.render_with_policy(in_force);
    let after = session.render_with_policy(Some(bundle))?;
    // Roles that only the bundle has: without it there is nothing to compare with.
    let before = before.unwrap_or_default();
    Ok(compare(before, after))
}

/// The settings in this file, which may be another machine's.
pub(crate) fn load_settings(path: &Path, share: &Path) -> Result<Settings, CommandError> {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    Ok(settings::load_foreign(&path, share)?)
}

fn compare(before: Vec<RenderedResource>, after: Vec<RenderedResource>) -> BundlePreview {
    let total = after.len();
    let mut old: BTreeMap<String, String> = before
        .iter()
        .map(|r| (r.id.clone(), r.text.clone()))
        .collect();
    let mut changes = Vec::new();
    for resource in after {
        let text = old.remove(&resource.id);
        if text.as_ref() != Some(&resource.text) {
            changes.push((resource.id, text, Some(resource.text)));
        }
    }
    let gone = before
        .into_iter()
        .filter(|resource| old.contains_key(&resource.id));
    changes.extend(gone.map(|resource| (resource.id, Some(resource.text), None)));
    BundlePreview { changes, total }
}
