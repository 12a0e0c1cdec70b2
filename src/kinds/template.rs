//! The `template` kind: a file with rendered content.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize;

use super::file::{DesiredFile, FileAction, FileState};
use crate::kind::{Diff, Kind};
use crate::ports::Host;
use crate::problem::Problem;
use crate::resource::{
    Access, ApplyOutcome, Argv, Failure, Mode, Presence, ResolveInputs, Stamp, candidate,
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
    /// `absent` removes it.
    #[serde(default)]
    pub state: Presence,
    #[serde(skip)]
    rendered: String,
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
    const EXAMPLE: &'static str = r#"template: {path: /etc/nginx/sites-enabled/shop.conf, source: nginx/site.conf, owner: root, group: root, mode: "0644", check: nginx}"#;

    type Spec = TemplateSpec;
    type State = FileState;
    type Action = FileAction;

    fn subject(spec: &TemplateSpec) -> String {
        spec.path.display().to_string()
    }

    fn owned_path(spec: &TemplateSpec) -> Option<PathBuf> {
        Some(spec.path.clone())
    }

    fn resolve(spec: &mut TemplateSpec, inputs: &dyn ResolveInputs) -> Result<(), Problem> {
        super::path_field::validate_path("path", &spec.path)?;
        candidate::validate_command(spec.verify.as_ref())?;
        if spec.state == Presence::Present {
            let vars =
                serde_json::Value::Object(std::mem::take(&mut spec.vars).into_iter().collect());
            let vars = vars
                .as_object()
                .is_some_and(|vars| !vars.is_empty())
                .then_some(&vars);
            spec.rendered = inputs
                .render_template(&spec.source, vars)
                .map_err(|problem| problem.field("source"))?;
        }
        spec.desired_file().register_secrets();
        Ok(())
    }

    fn check_name(spec: &TemplateSpec) -> Option<&str> {
        spec.check.as_deref()
    }

    fn inspect(spec: &TemplateSpec, host: &Host) -> Result<FileState, Failure> {
        spec.desired_file().inspect(host)
    }

    fn diff(spec: &TemplateSpec, state: &FileState) -> Option<Diff<FileAction>> {
        spec.desired_file().diff(state)
    }

    fn apply(
        spec: &TemplateSpec,
        action: &FileAction,
        host: &Host,
    ) -> Result<ApplyOutcome, Failure> {
        spec.desired_file().apply(*action, host)
    }

    fn stamp(_spec: &TemplateSpec, state: &FileState) -> Option<Stamp> {
        state.stamp()
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
                Probe::not_set("secret", "it says what may be shown"),
                Probe::not_set("check", "the stages run checks, not the kind"),
                Probe::not_set("verify", "it says who has to accept the content"),
                Probe::removal("state", |host| host.remove(PATH)),
            ]
        }
    }
}
