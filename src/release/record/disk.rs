//! The releases of an app as found on disk, independent of the record.

use std::path::{Path, PathBuf};

use crate::desired::Sha;
use crate::ports::Host;
use crate::ports::root::FileKind;
use crate::release::app::layout::{Layout, is_release_name, stays_inside};
use crate::resource::Failure;

/// Largest file that contains a sha, in bytes.
const MAX_SHA_FILE: usize = 4096;

/// The name of the release that `current` points to, whether or not that exists.
pub(crate) fn current(host: &Host, layout: &Layout) -> Result<Option<String>, Failure> {
    let target = host.root.read_link(&layout.current())?;
    Ok(target.and_then(|target| layout.release_of_link(&target)))
}

/// The app's folder in the release that `current` points to; empty: all of it.
pub(crate) fn current_subdir(host: &Host, layout: &Layout) -> Result<PathBuf, Failure> {
    let target = host.root.read_link(&layout.current())?;
    let name = target
        .as_ref()
        .and_then(|target| layout.release_of_link(target));
    Ok(match target.zip(name) {
        Some((target, name)) => layout.subdir_of_link(&target, &name),
        None => PathBuf::new(),
    })
}

/// The names of all folders in `releases/` that are a release's.
pub(crate) fn list_release_folders(host: &Host, layout: &Layout) -> Result<Vec<String>, Failure> {
    let names = host.root.list(&layout.releases())?.unwrap_or_default();
    let mut releases = Vec::new();
    for name in names.iter().filter_map(|name| name.to_str()) {
        let folder = |kind| kind == FileKind::Directory;
        if is_release_name(name)
            && host
                .root
                .meta(&layout.release(name))?
                .is_some_and(|meta| folder(meta.kind))
        {
            releases.push(name.to_owned());
        }
    }
    Ok(releases)
}

/// The sha of a release: from its `REVISION`, its name, or its git clone. The release belongs to the app's
/// user, so callers believe this only where it does not matter or the record agrees.
pub(crate) fn read_revision(host: &Host, layout: &Layout, name: &str) -> Option<Sha> {
    let release = layout.release(name);
    let text = |path: &Path| {
        let text = host.root.read(path, MAX_SHA_FILE).ok()??;
        Some(String::from_utf8(text).ok()?.trim().to_owned())
    };
    if let Some(written) = text(&release.join("REVISION")) {
        return Sha::parse(&written).ok();
    }
    if let Ok(sha) = Sha::parse(name) {
        return Some(sha);
    }
    let git = release.join(".git");
    let head = text(&git.join("HEAD"))?;
    match head.strip_prefix("ref: ") {
        Some(branch) if stays_inside(Path::new(branch)) => {
            Sha::parse(&text(&git.join(branch))?).ok()
        }
        Some(_) => None,
        None => Sha::parse(&head).ok(),
    }
}
