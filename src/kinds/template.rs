//! `template`: a file whose content is rendered.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize;

use super::file::{Found, Wanted};
use crate::ports::Host;
use crate::problem::Problem;
use crate::resource::{
    Access, Argv, Change, Failure, Inputs, Kind, Mode, Outcome, Stamp, State, candidate,
};

pub struct Template;

/// A file rendered from a template.
#[derive(Debug, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Spec {
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
    /// The content is never shown: not in a plan, a report or a log.
    #[serde(default)]
    pub secret: bool,
    /// The set of files that this is checked together with: a name in the role's `checks`.
    pub check: Option<String>,
    /// What has to accept a new content before it takes the place of the old one: a command in which
    /// `{path}` stands for a file with it, as in `[visudo, -c, -f, "{path}"]`.
    pub verify: Option<Argv>,
    /// `absent` removes it.
    #[serde(default)]
    pub state: State,
    #[serde(skip)]
    rendered: String,
}

impl Spec {
    fn wanted(&self) -> Wanted<'_> {
        Wanted {
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

    type Spec = Spec;
    type State = Found;

    fn subject(spec: &Spec) -> String {
        spec.path.display().to_string()
    }

    fn owns(spec: &Spec) -> Option<PathBuf> {
        Some(spec.path.clone())
    }

    fn resolve(spec: &mut Spec, inputs: &dyn Inputs) -> Result<(), Problem> {
        super::usable_path("path", &spec.path)?;
        candidate::usable(spec.verify.as_ref())?;
        if spec.state == State::Present {
            let vars =
                serde_json::Value::Object(std::mem::take(&mut spec.vars).into_iter().collect());
            let vars = vars
                .as_object()
                .is_some_and(|vars| !vars.is_empty())
                .then_some(&vars);
            spec.rendered = inputs
                .template(&spec.source, vars)
                .map_err(|problem| problem.field("source"))?;
        }
        Ok(())
    }

    fn check(spec: &Spec) -> Option<&str> {
        spec.check.as_deref()
    }

    fn inspect(spec: &Spec, host: &Host) -> Result<Found, Failure> {
        spec.wanted().inspect(host)
    }

    fn diff(spec: &Spec, state: &Found) -> Option<Change> {
        spec.wanted().diff(state)
    }

    fn apply(spec: &Spec, change: &Change, host: &Host) -> Result<Outcome, Failure> {
        spec.wanted().apply(change, host)
    }

    fn learn_secrets(spec: &Spec) {
        spec.wanted().learn_secrets();
    }

    fn stamp(_spec: &Spec, state: &Found) -> Option<Stamp> {
        state.stamp()
    }

    fn shows(change: &Change) -> bool {
        !change.only_access()
    }
}

#[cfg(test)]
mod conformance {
    use super::Template;
    use crate::resource::Probed;
    use crate::resource::conformance::Probe;

    impl Probed for Template {
        fn prepare(host: &crate::ports::testing::Sandbox) {
            host.make_dir("/etc/nginx/sites-enabled");
        }

        fn probes() -> Vec<Probe> {
            const PATH: &str = "/etc/nginx/sites-enabled/shop.conf";
            vec![
                Probe::not_set("path", "it says which file is meant"),
                Probe::spoil("source", |host| host.write(PATH, "server {}\n")).shown_as("content"),
                Probe::not_set("vars", "they are in the content by now"),
                Probe::spoil("owner", |host| host.chown(PATH, 65534, 0)).as_root(),
                Probe::spoil("group", |host| host.chown(PATH, 0, 65534)).as_root(),
                Probe::spoil("mode", |host| host.chmod(PATH, 0o600)),
                Probe::not_set("secret", "it says what may be shown"),
                Probe::not_set("check", "the stages run checks, not the kind"),
                Probe::not_set("verify", "it says who has to accept the content"),
                Probe::gone("state", |host| host.remove(PATH)),
            ]
        }
    }
}
