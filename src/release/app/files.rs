//! Files rendered into a release, such as its environment and its server's configuration: they belong to the
//! release, so a rollback restores them as well.
//!
//! In the release that is active because the manifest wants it, trueup keeps them as declared. A release that
//! was rolled back to keeps those that it ran with.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize;

use crate::ports::secrets;
use crate::problem::Problem;
use crate::resource::{FieldValue, Mode, ResolveInputs, check_secret_mode};

/// A file of a release that does not come from the repository.
#[derive(Debug, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub(crate) struct ReleaseFile {
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
    /// Never show the content in a plan, a report or a log.
    #[serde(default)]
    pub secret: bool,
    #[serde(skip)]
    pub(in crate::release) body: String,
    /// Whether it comes from `config_files`.
    #[serde(skip)]
    is_config: bool,
}

/// A configuration file of an app; its path is the key.
#[derive(Debug, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub(crate) struct ConfigFile {
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
    /// Never show the content in a plan, a report or a log.
    #[serde(default)]
    pub secret: bool,
}

impl ConfigFile {
    fn at_path(self, path: PathBuf) -> ReleaseFile {
        ReleaseFile {
            path,
            source: self.source,
            content: self.content,
            vars: self.vars,
            mode: self.mode,
            secret: self.secret,
            body: String::new(),
            is_config: true,
        }
    }
}

/// The release files for the configuration files of an app, without those that are `null`.
pub(crate) fn from_config(files: BTreeMap<PathBuf, Option<ConfigFile>>) -> Vec<ReleaseFile> {
    let described = files.into_iter();
    described
        .filter_map(|(path, file)| Some(file?.at_path(path)))
        .collect()
}

impl ReleaseFile {
    /// The field that describes it.
    pub(in crate::release) fn field(&self) -> String {
        match self.is_config {
            true => format!("config_files.{}", self.path.display()),
            false => "files".to_owned(),
        }
    }

    pub(in crate::release) fn is_config(&self) -> bool {
        self.is_config
    }

    pub(in crate::release) fn mode(&self) -> u32 {
        self.mode.map_or(0o640, |mode| mode.0)
    }

    pub(crate) fn register_secrets(&self) {
        if self.secret {
            secrets::add_secrets_of_text(&self.body);
        }
    }

    /// Renders the file. `number`: its place in the list of files.
    pub(crate) fn resolve(
        &mut self,
        number: usize,
        inputs: &dyn ResolveInputs,
    ) -> Result<(), Problem> {
        let (number, path) = (number.to_string(), self.path.to_string_lossy());
        let field = match self.is_config {
            true => ["config_files", &path, "content"],
            false => ["files", &number, "content"],
        };
        let mut has_secret = inputs.is_secret(&field);
        self.body = match (&self.source, &self.content) {
            (Some(source), None) => {
                let vars = std::mem::take(&mut self.vars);
                let vars = serde_json::Value::Object(vars.into_iter().collect());
                let given = vars.as_object().is_some_and(|vars| !vars.is_empty());
                let rendered = inputs
                    .render_template(source, given.then_some(&vars))
                    .map_err(|problem| match self.is_config {
                        true => problem.field(format!("{}.source", self.field())),
                        false => problem.field(self.field()),
                    })?;
                has_secret = has_secret || rendered.is_secret;
                rendered.text
            }
            (None, Some(content)) => content.clone(),
            (source, _) => {
                let found = match source {
                    Some(_) => "both",
                    None => "neither",
                };
                let path = self.path.display();
                return Err(Problem::new(format!(
                    "expected either `source` or `content` for {path}, found {found}"
                ))
                .field(self.field()));
            }
        };
        if has_secret {
            check_secret_mode(Some(Mode(self.mode())))
                .map_err(|problem| problem.within_field(&self.field()))?;
            self.secret = true;
        }
        Ok(())
    }

    pub(in crate::release) fn displayed(&self, body: &[u8]) -> FieldValue {
        match std::str::from_utf8(body) {
            _ if self.secret => FieldValue::Secret,
            Ok(text) => FieldValue::Text(text.to_owned()),
            Err(_) => FieldValue::Value(format!("{} bytes", body.len())),
        }
    }
}
