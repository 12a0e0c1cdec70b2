//! Writes the rendered files of a release, and compares those on disk with the declared ones.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use crate::digest::digest;
use crate::ports::Host;
use crate::ports::root::{Attrs, FileKind, Root, RootError};
use crate::release::app::files::ReleaseFile;
use crate::release::app::layout::AppFolder;
use crate::release::app::spec::ReleaseSpec;
use crate::release::deployment::Deployment;
use crate::resource::{Failure, FieldChange, FieldValue};

/// Largest such file that is compared, in bytes; a larger one counts as different.
const MAX_FILE: usize = 4 << 20;

/// The mode, content and change time of a file in a release; `None`: it does not exist.
pub(crate) type ObservedFile = Option<(u32, Vec<u8>, Timestamp)>;

/// Refuses a tree in which a configuration file has no place.
pub(crate) fn check_places(deployment: &Deployment<'_>, app: &AppFolder) -> Result<(), Failure> {
    let mut config_files = deployment.spec.files.iter().filter(|file| file.is_config());
    config_files.try_for_each(|file| check_place(&deployment.host.root, app.path(), file))
}

/// Refuses a folder in the place of a configuration file, and anything else, such as a link, in the place of its folder:
/// to replace it would remove what the app has there, also from under the running one.
fn check_place(root: &Root, app: &Path, file: &ReleaseFile) -> Result<(), Failure> {
    let refused = |path: &Path, kind: FileKind| {
        Err(Failure::new(format!(
            "cannot write {}: {} is {} in the release",
            file.path.display(),
            path.display(),
            kind.describe()
        ))
        .hint("a file is only written in real folders, and replaces no folder: change the repository, or the path in `files`"))
    };
    let mut folder = PathBuf::new();
    for part in file.path.parent().into_iter().flatten() {
        folder.push(part);
        match root.meta(&app.join(&folder))?.map(|meta| meta.kind) {
            Some(FileKind::Directory) => {}
            None => return Ok(()),
            Some(other) => return refused(&folder, other),
        }
    }
    match root.meta(&app.join(&file.path))?.map(|meta| meta.kind) {
        Some(FileKind::Directory) => refused(&file.path, FileKind::Directory),
        _ => Ok(()),
    }
}

/// Writes all files into a release. Replaces whatever else the app's user put in their place, but for what
/// [`check_places`] refuses.
pub(crate) fn write_files(deployment: &Deployment<'_>, app: &AppFolder) -> Result<(), Failure> {
    let files = deployment.spec.files.iter();
    write(deployment, app.path(), files)
}

/// Writes the files that a release does not have, because it was built before they were described.
pub(crate) fn write_missing_files(
    deployment: &Deployment<'_>,
    app: &AppFolder,
) -> Result<(), Failure> {
    let mut missing = Vec::new();
    for file in &deployment.spec.files {
        if inspect_file(&deployment.host.root, &app.path().join(&file.path))?.is_none() {
            missing.push(file);
        }
    }
    write(deployment, app.path(), missing)
}

fn write<'f>(
    deployment: &Deployment<'_>,
    app: &Path,
    files: impl IntoIterator<Item = &'f ReleaseFile>,
) -> Result<(), Failure> {
    deployment.check_secrets()?;
    let root = &deployment.host.root;
    for file in files {
        if file.is_config() {
            check_place(root, app, file)?;
        }
        let mut folder = app.to_owned();
        for part in file.path.parent().into_iter().flatten() {
            folder.push(part);
            let kind = root.meta(&folder)?.map(|meta| meta.kind);
            if kind.is_some_and(|kind| kind != FileKind::Directory) {
                root.remove_file(&folder)?;
            }
            if kind != Some(FileKind::Directory) {
                root.create_dir(&folder, &deployment.owner.attrs(0o755))?;
            }
        }
        let path = app.join(&file.path);
        let observed = inspect_file(root, &path)?;
        if observed
            .is_some_and(|(mode, body, _)| mode == file.mode() && body == file.body.as_bytes())
        {
            continue;
        }
        if root
            .meta(&path)?
            .is_some_and(|meta| meta.kind != FileKind::File)
        {
            root.remove_obstacle(&path)?;
        }
        let attrs: Attrs = deployment.owner.attrs(file.mode());
        root.write_atomic(&path, file.body.as_bytes(), &attrs)?;
    }
    Ok(())
}

/// Reads all files of a release, in the order of the spec.
pub(crate) fn inspect(
    spec: &ReleaseSpec,
    host: &Host,
    app: &AppFolder,
) -> Result<Vec<ObservedFile>, Failure> {
    let files = spec.files.iter();
    files
        .map(|file| inspect_file(&host.root, &app.path().join(&file.path)))
        .collect()
}

/// Reads one file. The app's user owns its folder and may have put anything there: that is a difference, and
/// must not prevent a deployment.
fn inspect_file(root: &Root, path: &Path) -> Result<ObservedFile, Failure> {
    let (meta, body) = match root.read_with_meta(path, MAX_FILE) {
        Ok(None) => return Ok(None),
        Ok(Some((meta, body))) => (meta, body),
        Err(RootError::TooLarge { .. }) => match root.meta(path)? {
            Some(meta) => (meta, Vec::new()),
            None => return Ok(None),
        },
        // A link or a file is where a folder was.
        Err(error) if error.is_not_a_folder_on_path() => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let body = (meta.kind == FileKind::File).then_some(body);
    Ok(body.map(|body| (meta.mode, body, meta.ctime)))
}

/// One difference between an observed file and its declaration.
#[derive(Debug)]
pub(crate) struct FileDrift {
    pub shown: FieldChange,
    /// Whether the content differs, and not only the mode.
    pub changes_content: bool,
}

/// The differences between the observed and the declared files.
pub(crate) fn diff(spec: &ReleaseSpec, observed: &[ObservedFile]) -> Vec<FileDrift> {
    let mut drifts = Vec::new();
    for (file, state) in spec.files.iter().zip(observed) {
        let name = file.path.display();
        let (from, mode) = match state {
            Some((mode, body, _)) if body == file.body.as_bytes() => (None, Some(*mode)),
            Some((mode, body, _)) => (Some(file.displayed(body)), Some(*mode)),
            None => (Some(FieldValue::Absent), None),
        };
        if let Some(from) = from {
            drifts.push(FileDrift {
                shown: FieldChange {
                    field: Cow::Owned(name.to_string()),
                    from,
                    to: file.displayed(file.body.as_bytes()),
                },
                changes_content: true,
            });
        }
        if let Some(mode) = mode.filter(|mode| *mode != file.mode()) {
            drifts.push(FileDrift {
                shown: FieldChange {
                    field: Cow::Owned(format!("{name} mode")),
                    from: FieldValue::Value(format!("{mode:04o}")),
                    to: FieldValue::Value(format!("{:04o}", file.mode())),
                },
                changes_content: false,
            });
        }
    }
    drifts
}

/// A fingerprint of the observed files, and when the last of them changed; `None` if there are none.
pub(crate) fn stamp(observed: &[ObservedFile]) -> Option<(String, Timestamp)> {
    let changed = observed.iter().flatten().map(|(_, _, at)| *at).max()?;
    let each = observed.iter().map(|file| match file {
        Some((_, body, _)) => digest(body),
        None => String::new(),
    });
    let all: Vec<String> = each.collect();
    Some((digest(all.join(" ").as_bytes())[..16].to_owned(), changed))
}
