//! The `sysctl` kind: a setting of the kernel, now and after the next boot.

mod boot;
#[cfg(test)]
mod tests;
mod value;

use std::path::{Path, PathBuf};

use serde::Deserialize;

use self::value::{SysctlValue, same_value};
use crate::digest::digest;
use crate::kind::{Condition, Diff, Kind};
use crate::ports::Host;
use crate::ports::root::Attrs;
use crate::problem::Problem;
use crate::resource::{
    ApplyOutcome, Change, Failure, FieldValue, Presence, ResolveInputs, Stamp, Verb,
};

/// Longest name, in bytes: it is a part of the name of a file.
const MAX_NAME_BYTES: usize = 128;

/// Largest value of the kernel, and largest file of trueup's own, in bytes.
const MAX_BYTES: usize = 64 << 10;

pub(super) struct Sysctl;

/// A setting of the kernel.
#[derive(Debug, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub(super) struct SysctlSpec {
    /// As `sysctl -a` shows it, such as `net.ipv4.ip_forward`; a dot in the name of an interface is a `/`.
    pub name: String,
    /// A number or a text. Spaces between the numbers of one that has several do not matter. Not needed to remove it.
    #[cfg_attr(test, schemars(with = "Option<String>"))]
    pub value: Option<SysctlValue>,
    /// `absent` removes the file that sets it at boot, and leaves what the kernel has.
    #[serde(default)]
    pub state: Presence,
}

/// The setting as found on the host.
pub(super) struct SysctlState {
    /// trueup's file.
    file: Option<Vec<u8>>,
    /// What the kernel has.
    kernel: Option<String>,
    /// The file that sets another value at boot, after that of trueup, and the value.
    later: Option<(PathBuf, String)>,
}

pub(super) enum SysctlAction {
    Set { file: bool, kernel: bool },
    RemoveFile,
}

impl SysctlSpec {
    /// Comes after the files of packages and `99-sysctl.conf`, a link to /etc/sysctl.conf: the last one wins.
    fn file(&self) -> PathBuf {
        let name = self.name.replace('/', ".");
        Path::new(boot::FOLDER).join(format!("99-trueup-{name}.conf"))
    }

    fn kernel_file(&self) -> PathBuf {
        boot::kernel_file(&self.name)
    }

    fn wanted(&self) -> &str {
        self.value.as_ref().map_or("", SysctlValue::as_str)
    }

    fn body(&self) -> String {
        format!(
            "# Managed by trueup: the next pass overwrites changes made here.\n{} = {}\n",
            self.name,
            self.wanted()
        )
    }
}

impl Kind for Sysctl {
    const NAME: &'static str = "sysctl";
    const ABOUT: &'static str = "A setting of the kernel: its value now, and in a file of /etc/sysctl.d for the next boot. A report names a file that would win over it then.";
    const EXAMPLE: &'static str = "sysctl: {name: net.ipv4.ip_nonlocal_bind, value: 1}";

    type Spec = SysctlSpec;
    type State = SysctlState;
    type Action = SysctlAction;

    fn subject(spec: &SysctlSpec) -> String {
        spec.name.clone()
    }

    fn owned_path(spec: &SysctlSpec) -> Option<PathBuf> {
        Some(spec.file())
    }

    fn resolve(spec: &mut SysctlSpec, _inputs: &dyn ResolveInputs) -> Result<(), Problem> {
        validate_name(&spec.name)?;
        match (&spec.value, spec.state) {
            (None, Presence::Present) => Err(Problem::new("expected a value").field("value")),
            _ => Ok(()),
        }
    }

    fn inspect(spec: &SysctlSpec, host: &Host) -> Result<SysctlState, Failure> {
        let kernel = host.root.read(&spec.kernel_file(), MAX_BYTES)?;
        if spec.state == Presence::Present && kernel.is_none() {
            return Err(unknown_setting(&spec.name));
        }
        Ok(SysctlState {
            file: host.root.read(&spec.file(), MAX_BYTES)?,
            kernel: kernel.map(|value| String::from_utf8_lossy(&value).trim().to_owned()),
            later: boot::later_setting(&host.root, &spec.file(), &spec.name)?
                .filter(|(_, value)| !same_value(value, spec.wanted())),
        })
    }

    fn diff(spec: &SysctlSpec, state: &SysctlState) -> Option<Diff<SysctlAction>> {
        if spec.state == Presence::Absent {
            state.file.as_ref()?;
            let change = Change::new(Verb::Remove);
            let change = change.with_field("state", shown_file(spec), FieldValue::Absent);
            return Some(Diff::new(SysctlAction::RemoveFile, change));
        }
        let wanted = FieldValue::value(spec.wanted());
        let found = state.kernel.as_deref().unwrap_or_default();
        let kernel = !same_value(found, spec.wanted());
        let file = state.file.as_deref() != Some(spec.body().as_bytes());
        if !kernel && !file {
            return None;
        }
        let mut change = Change::new(Verb::Update);
        if kernel {
            change = change.with_field("value", FieldValue::value(found), wanted.clone());
        }
        if file {
            let before = state.file.as_ref().map(|body| {
                let value = boot::find_setting(body, &spec.name);
                value.unwrap_or_else(|| "another file".to_owned())
            });
            change = change.with_field("at boot", FieldValue::from_option(before), wanted);
        }
        Some(Diff::new(SysctlAction::Set { file, kernel }, change))
    }

    fn apply(
        spec: &SysctlSpec,
        action: &SysctlAction,
        host: &Host,
    ) -> Result<ApplyOutcome, Failure> {
        let (file, kernel) = match action {
            SysctlAction::RemoveFile => {
                host.root.remove_file(&spec.file())?;
                return Ok(ApplyOutcome::Done);
            }
            SysctlAction::Set { file, kernel } => (*file, *kernel),
        };
        // The kernel first: it knows which values are valid.
        if kernel {
            let line = format!("{}\n", spec.wanted());
            host.root
                .overwrite(&spec.kernel_file(), line.as_bytes(), 0)
                .map_err(|error| {
                    let failure = Failure::from(error);
                    failure.hint(format!(
                        "the kernel refuses `{}` for {}, or nobody may change this setting on this host",
                        spec.wanted(),
                        spec.name
                    ))
                })?;
        }
        if file {
            let folder = Path::new(boot::FOLDER);
            host.root.create_dir_all(folder, &Attrs::mode(0o755))?;
            let body = spec.body();
            host.root
                .write_atomic(&spec.file(), body.as_bytes(), &Attrs::mode(0o644))?;
        }
        Ok(ApplyOutcome::Done)
    }

    fn stamp(_spec: &SysctlSpec, state: &SysctlState) -> Option<Stamp> {
        let kernel = state.kernel.as_deref()?;
        let words: Vec<&str> = kernel.split_whitespace().collect();
        Some(Stamp {
            fingerprint: digest(words.join(" ").as_bytes()),
            changed_at: None,
            is_request: false,
        })
    }

    fn condition(spec: &SysctlSpec, state: &SysctlState) -> Condition {
        match (&state.later, spec.state) {
            (Some((path, value)), Presence::Present) => Condition::Noted(vec![format!(
                "{} sets {} to `{value}`: that wins at the next boot, because its name comes after {}",
                path.display(),
                spec.name,
                spec.file().display()
            )]),
            _ => Condition::None,
        }
    }
}

fn shown_file(spec: &SysctlSpec) -> FieldValue {
    FieldValue::value(spec.file().display())
}

fn unknown_setting(name: &str) -> Failure {
    Failure::new(format!("the kernel of this host has no setting `{name}`")).hint(
        "`sysctl -a` lists all; one of a module is there once the module is loaded (`modprobe`, /etc/modules-load.d)",
    )
}

/// A name that leads to a file in /proc/sys and nowhere else.
fn validate_name(name: &str) -> Result<(), Problem> {
    let is_part = |part: &str| {
        part.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
            && part.ends_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
            && !part.contains("//")
            && part
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "_-/".contains(c))
    };
    let is_valid = name.len() <= MAX_NAME_BYTES
        && name.contains('.')
        && name.split('.').all(is_part)
        && !name.split('.').next().unwrap_or_default().contains('/');
    match is_valid {
        true => Ok(()),
        false => Err(Problem::new(format!(
            "`{}` is not the name of a setting: expected words with dots between them, such as `net.ipv4.ip_forward`, in at most {MAX_NAME_BYTES} characters",
            name.escape_default()
        ))
        .field("name")),
    }
}

#[cfg(test)]
mod conformance {
    use super::Sysctl;
    use crate::kind::ConformanceProbes;
    use crate::kind::conformance::Probe;
    use crate::ports::testing::Sandbox;

    const KERNEL: &str = "/proc/sys/net/ipv4/ip_nonlocal_bind";
    const FILE: &str = "/etc/sysctl.d/99-trueup-net.ipv4.ip_nonlocal_bind.conf";

    impl ConformanceProbes for Sysctl {
        fn prepare(sandbox: &Sandbox) {
            sandbox.write(KERNEL, "0\n");
        }

        fn probes() -> Vec<Probe> {
            vec![
                Probe::not_set("name", "it says which setting it is"),
                Probe::drift("value", |sandbox| sandbox.write(KERNEL, "0\n")),
                Probe::drift("state", |sandbox| sandbox.remove(FILE)).reported_as("at boot"),
            ]
        }

        fn effects() -> Vec<Probe> {
            vec![Probe::effect("the value at boot", |sandbox| {
                sandbox.write(FILE, "net.ipv4.ip_nonlocal_bind = 0\n")
            })]
        }
    }
}
