//! The `template` kind: a file with rendered content.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize;

use super::file::{DesiredFile, FileAction, FileState};
use super::package_file::FormerFile;
use crate::kind::{Diff, Kind};
use crate::ports::Host;
use crate::problem::Problem;
use crate::resource::{
    Access, ApplyOutcome, Argv, Change, Failure, Mode, Presence, ResolveInputs, Stamp, candidate,
    check_secret_mode,
};

pub(super) struct Template;

/// A file rendered from a template.
#[derive(Debug, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub(crate) struct TemplateSpec {
    /// Absolute path.
    pub path: PathBuf,
    /// The template, a path below `templates/`.
    pub source: String,
    /// More variables for this template, over the role's parameters.
    #[serde(default)]
    #[cfg_attr(test, schemars(with = "BTreeMap<String, String>"))]
    pub vars: BTreeMap<String, serde_json::Value>,
    /// Name or number; not given: left as it is (root for a new one).
    pub owner: Option<String>,
    /// Name or number; not given: left as it is (root for a new one).
    pub group: Option<String>,
    /// Quoted octal; not given: left as it is (`"0644"` for a new one).
    pub mode: Option<Mode>,
    /// Never show the content in a plan, a report or a log.
    #[serde(default)]
    pub secret: bool,
    /// The check that covers this file together with others: a name in the role's `checks`.
    pub check: Option<String>,
    /// A command that must accept new content before it replaces the old: `{path}` stands for a file with the
    /// new content, as in `[visudo, -c, -f, "{path}"]`.
    pub verify: Option<Argv>,
    /// Its path in an earlier version of the role: a file there is removed with the same change, if trueup wrote
    /// it (`Managed by trueup` in its first line).
    pub replaces: Option<PathBuf>,
    /// `absent` removes it.
    #[serde(default)]
    pub state: Presence,
    #[serde(skip)]
    rendered: String,
}

pub(super) struct TemplateState {
    file: FileState,
    former: Option<FormerFile>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TemplateAction {
    /// `None`: the file is as described.
    file: Option<FileAction>,
}

impl TemplateSpec {
    fn desired_file(&self) -> DesiredFile<'_> {
        DesiredFile {
            path: &self.path,
            body: self.rendered.as_bytes(),
            access: Access {
                owner: self.owner.as_deref(),
                group: self.group.as_deref(),
                mode: self.mode,
            },
            secret: self.secret,
            verify: self.verify.as_ref(),
            state: self.state,
        }
    }
}

impl Kind for Template {
    const NAME: &'static str = "template";
    const ABOUT: &'static str =
        "A file rendered from a template with the role's parameters, the facts and `vars`.";
    const EXAMPLE: &'static str = r#"template: {path: /etc/nginx/sites-enabled/shop.conf, source: nginx/site.conf, owner: root, group: root, mode: "0644", check: nginx, replaces: /etc/nginx/sites-enabled/shop}"#;

    const SECRET_FIELDS: &'static [&'static [&'static str]] = &[&["vars"]];

    type Spec = TemplateSpec;
    type State = TemplateState;
    type Action = TemplateAction;

    fn subject(spec: &TemplateSpec) -> String {
        spec.path.display().to_string()
    }

    fn owned_path(spec: &TemplateSpec) -> Option<PathBuf> {
        Some(spec.path.clone())
    }

    fn removed_path(spec: &TemplateSpec) -> Option<PathBuf> {
        spec.replaces.clone()
    }

    fn resolve(spec: &mut TemplateSpec, inputs: &dyn ResolveInputs) -> Result<(), Problem> {
        super::path_field::validate_path("path", &spec.path)?;
        if let Some(former) = &spec.replaces {
            super::path_field::validate_path("replaces", former)?;
            if *former == spec.path {
                return Err(Problem::new("expected another path than `path`").field("replaces"));
            }
        }
        candidate::validate_command(spec.verify.as_ref())?;
        if spec.state == Presence::Present {
            let vars =
                serde_json::Value::Object(std::mem::take(&mut spec.vars).into_iter().collect());
            let vars = vars
                .as_object()
                .is_some_and(|vars| !vars.is_empty())
                .then_some(&vars);
            let rendered = inputs
                .render_template(&spec.source, vars)
                .map_err(|problem| problem.field("source"))?;
            if rendered.is_secret {
                check_secret_mode(spec.mode)?;
                spec.secret = true;
            }
            spec.rendered = rendered.text;
        }
        spec.desired_file().register_secrets();
        Ok(())
    }

    fn check_name(spec: &TemplateSpec) -> Option<&str> {
        spec.check.as_deref()
    }

    fn inspect(spec: &TemplateSpec, host: &Host) -> Result<TemplateState, Failure> {
        let former = match &spec.replaces {
            Some(path) => FormerFile::find(path, host)?,
            None => None,
        };
        let file = spec.desired_file().inspect(host)?;
        Ok(TemplateState { file, former })
    }

    fn diff(spec: &TemplateSpec, state: &TemplateState) -> Option<Diff<TemplateAction>> {
        let file = spec.desired_file().diff(&state.file);
        let moved = state.former.iter().flat_map(FormerFile::changes);
        let (action, change) = match file {
            Some(diff) => (Some(diff.action), diff.change.with_fields(moved)),
            None => (None, Change::update(moved.collect())?.keeping_stamp()),
        };
        Some(Diff::new(TemplateAction { file: action }, change))
    }

    fn apply(
        spec: &TemplateSpec,
        action: &TemplateAction,
        host: &Host,
    ) -> Result<ApplyOutcome, Failure> {
        if let Some(action) = action.file {
            spec.desired_file().apply(action, host)?;
        }
        if let Some(path) = &spec.replaces
            && let Some(former) = FormerFile::find(path, host)?
        {
            former.remove(host)?;
        }
        Ok(ApplyOutcome::Done)
    }

    fn stamp(_spec: &TemplateSpec, state: &TemplateState) -> Option<Stamp> {
        state.file.stamp()
    }
}

#[cfg(test)]
mod conformance {
    use super::Template;
    use crate::kind::ConformanceProbes;
    use crate::kind::conformance::Probe;

    impl ConformanceProbes for Template {
        fn prepare(host: &crate::ports::testing::Sandbox) {
            host.make_dir("/etc/nginx/sites-enabled");
        }

        fn probes() -> Vec<Probe> {
            const PATH: &str = "/etc/nginx/sites-enabled/shop.conf";
            vec![
                Probe::not_set("path", "it says which file is meant"),
                Probe::drift("source", |host| host.write(PATH, "server {}\n"))
                    .reported_as("content"),
                Probe::not_set("vars", "they are in the content by now"),
                Probe::drift("owner", |host| host.chown(PATH, 65534, 0)).needs_root(),
                Probe::drift("group", |host| host.chown(PATH, 0, 65534)).needs_root(),
                Probe::drift("mode", |host| host.chmod(PATH, 0o600)),
                Probe::drift("replaces", |host| {
                    host.write("/etc/nginx/sites-enabled/shop", "# Managed by trueup\n");
                }),
                Probe::not_set("secret", "it says what may be shown"),
                Probe::not_set("check", "the stages run checks, not the kind"),
                Probe::not_set("verify", "it says who has to accept the content"),
                Probe::removal("state", |host| host.remove(PATH)),
            ]
        }
    }
}
