//! Files rendered into a release, such as its environment and its server's configuration: they belong to the
//! release, so a rollback restores them as well.
//!
//! In the release that is active because the manifest wants it, trueup keeps them as declared. A release that
//! was rolled back to keeps those that it ran with.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::Deserialize;

use super::layout::stays_inside;
use super::{Deployment, ReleaseSpec};
use crate::digest::digest;
use crate::ports::Host;
use crate::ports::root::{Attrs, FileKind, Root, RootError};
use crate::ports::secrets;
use crate::problem::Problem;
use crate::resource::{Failure, FieldChange, FieldValue, Mode, ResolveInputs};

/// Largest such file that is compared, in bytes; a larger one counts as different.
const MAX_FILE: usize = 4 << 20;

/// A file of a release that does not come from the repository.
#[derive(Debug, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct ReleaseFile {
    /// Its path in the release, relative. Replaces a file of the repository.
    pub path: PathBuf,
    /// The template, a path below `templates/`; this or `content`.
    pub source: Option<String>,
    /// The text as it is; this or `source`.
    pub content: Option<String>,
    /// More variables for the template, over the role's parameters.
    #[serde(default)]
    #[cfg_attr(test, schemars(with = "BTreeMap<String, String>"))]
    pub vars: BTreeMap<String, serde_json::Value>,
    /// Quoted octal; `"0640"` when not given. It belongs to the release's user and group.
    pub mode: Option<Mode>,
    /// The content is never shown: not in a plan, a report or a log.
    #[serde(default)]
    pub secret: bool,
    #[serde(skip)]
    body: String,
}

/// The mode, content and change time of a file in a release; `None`: it does not exist.
pub type ObservedFile = Option<(u32, Vec<u8>, Timestamp)>;

impl ReleaseFile {
    fn mode(&self) -> u32 {
        self.mode.map_or(0o640, |mode| mode.0)
    }

    pub(crate) fn learn_secrets(&self) {
        if self.secret {
            secrets::add_secrets_of_text(&self.body);
        }
    }

    /// Renders the file, and checks what the types cannot express.
    pub fn resolve(&mut self, inputs: &dyn ResolveInputs) -> Result<(), Problem> {
        let shown = self.path.display();
        if !stays_inside(&self.path) || self.path.starts_with(".git") {
            return Err(Problem::new(format!(
                "`{shown}` is not a path inside a release | expected a relative one without `..`"
            ))
            .field("files"));
        }
        self.body = match (&self.source, &self.content) {
            (Some(source), None) => {
                let vars = std::mem::take(&mut self.vars);
                let vars = serde_json::Value::Object(vars.into_iter().collect());
                let given = vars.as_object().is_some_and(|vars| !vars.is_empty());
                inputs
                    .render_template(source, given.then_some(&vars))
                    .map_err(|problem| problem.field("files"))?
            }
            (None, Some(content)) => content.clone(),
            _ => {
                return Err(Problem::new(format!(
                    "expected either `source` or `content` for {shown}"
                ))
                .field("files"));
            }
        };
        Ok(())
    }

    fn displayed(&self, body: &[u8]) -> FieldValue {
        match std::str::from_utf8(body) {
            _ if self.secret => FieldValue::Secret,
            Ok(text) => FieldValue::Text(text.to_owned()),
            Err(_) => FieldValue::Value(format!("{} bytes", body.len())),
        }
    }
}

/// Writes all files into a release. Replaces whatever else the app's user put in their place.
pub(super) fn write_files(d: &Deployment<'_>, release: &Path) -> Result<(), Failure> {
    let root = &d.host.root;
    for file in &d.spec.files {
        let mut folder = release.to_owned();
        for part in file.path.parent().into_iter().flatten() {
            folder.push(part);
            let kind = root.meta(&folder)?.map(|meta| meta.kind);
            if kind.is_some_and(|kind| kind != FileKind::Directory) {
                root.remove_file(&folder)?;
            }
            if kind != Some(FileKind::Directory) {
                root.create_dir(&folder, &d.owner.attrs(0o755))?;
            }
        }
        let path = release.join(&file.path);
        let seen = inspect_file(root, &path)?;
        if seen.is_some_and(|(mode, body, _)| mode == file.mode() && body == file.body.as_bytes()) {
            continue;
        }
        if root
            .meta(&path)?
            .is_some_and(|meta| meta.kind != FileKind::File)
        {
            root.remove_obstacle(&path)?;
        }
        let attrs: Attrs = d.owner.attrs(file.mode());
        root.write_atomic(&path, file.body.as_bytes(), &attrs)?;
    }
    Ok(())
}

/// Reads all files of a release, in the order of the spec.
pub fn inspect(
    spec: &ReleaseSpec,
    host: &Host,
    release: &str,
) -> Result<Vec<ObservedFile>, Failure> {
    let release = spec.layout().release(release);
    let files = spec.files.iter();
    files
        .map(|file| inspect_file(&host.root, &release.join(&file.path)))
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
        // A link or a file stands where a folder was.
        Err(error) if error.is_not_a_folder_on_path() => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let body = (meta.kind == FileKind::File).then_some(body);
    Ok(body.map(|body| (meta.mode, body, meta.ctime)))
}

/// The differences between the observed and the declared files.
pub fn diff(spec: &ReleaseSpec, observed: &[ObservedFile]) -> Vec<FieldChange> {
    let mut fields = Vec::new();
    for (file, seen) in spec.files.iter().zip(observed) {
        let name = file.path.display();
        let (from, mode) = match seen {
            Some((mode, body, _)) if body == file.body.as_bytes() => (None, Some(*mode)),
            Some((mode, body, _)) => (Some(file.displayed(body)), Some(*mode)),
            None => (Some(FieldValue::Absent), None),
        };
        if let Some(from) = from {
            fields.push(FieldChange {
                field: Cow::Owned(name.to_string()),
                from,
                to: file.displayed(file.body.as_bytes()),
            });
        }
        if let Some(mode) = mode.filter(|mode| *mode != file.mode()) {
            fields.push(FieldChange {
                field: Cow::Owned(format!("{name} mode")),
                from: FieldValue::Value(format!("{mode:04o}")),
                to: FieldValue::Value(format!("{:04o}", file.mode())),
            });
        }
    }
    fields
}

/// A fingerprint of the observed files, and when the last of them changed; `None` if there are none.
pub fn stamp(observed: &[ObservedFile]) -> Option<(String, Timestamp)> {
    let changed = observed.iter().flatten().map(|(_, _, at)| *at).max()?;
    let each = observed.iter().map(|file| match file {
        Some((_, body, _)) => digest(body),
        None => String::new(),
    });
    let all: Vec<String> = each.collect();
    Some((digest(all.join(" ").as_bytes())[..16].to_owned(), changed))
}
