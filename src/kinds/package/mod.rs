//! The `package` kind: installed or absent, at a version, on hold.
//!
//! Reads the package manager's database to see what is installed; runs apt or dnf only when something differs.

mod apt;
mod dnf;
#[cfg(test)]
mod dnf_tests;
mod hints;
#[cfg(test)]
mod tests;

use serde::Deserialize;

use crate::kind::{Diff, Kind};
use crate::ports::Host;
use crate::ports::packages::{self, PackageFamily};
use crate::problem::Problem;
use crate::resource::{
    ApplyOutcome, Change, Failure, FieldChange, FieldValue, Presence, ResolveInputs, Verb,
};

use apt::Apt;
use dnf::Dnf;

pub(super) struct Package;

/// Packages of the host's distribution.
#[derive(Debug, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub(super) struct PackageSpec {
    /// Names of packages, as apt or dnf has them. Installed without recommended packages (weak dependencies);
    /// an installed package is not upgraded.
    pub names: Vec<String>,
    /// Exactly this version, or any with this prefix if it ends in `*`; only with one name. Of rpm, the epoch
    /// and the release may be left out. Not given: any installed version.
    pub version: Option<String>,
    /// Whether it is on hold (`apt-mark hold`); not given: left as it is, and a package that an operator put
    /// on hold is not touched. A failure where packages are installed with dnf, which has no holds.
    pub held: Option<bool>,
    /// `absent` removes them and leaves their configuration; dnf leaves only what was changed, as `*.rpmsave`.
    #[serde(default)]
    pub state: Presence,
}

pub(super) enum PackageState {
    /// An unprivileged run in a sandbox, which cannot change packages.
    Unmanaged,
    /// dpkg's record of each name.
    Packages(Vec<(String, Option<packages::Package>)>),
}

impl PackageSpec {
    fn matches_version(&self, package: &packages::Package) -> bool {
        let wanted = self.version.as_deref();
        wanted.is_none_or(|version| package.has_version(version))
    }

    /// Refuses what the host's package manager does not know. Which one it is, only the host tells.
    fn check_family(&self, family: PackageFamily) -> Result<(), Failure> {
        if family == PackageFamily::Debian {
            return match self.names.iter().find(|name| !is_debian_name(name)) {
                Some(name) => Err(Failure::new(format!(
                    "`{name}` is not the name of an apt package"
                ))),
                None => Ok(()),
            };
        }
        if let Some(name) = self.names.iter().find(|name| name.contains(':')) {
            return Err(
                Failure::new(format!("`{name}` is not the name of an rpm package"))
                    .hint("an architecture is written with a dot: `glibc.i686`"),
            );
        }
        if self.held.is_some() {
            return Err(Failure::new("`held` is for apt: dnf has no holds").hint(
                "leave it out on this host, and lock the version with `dnf versionlock`, which dnf respects here, too",
            ));
        }
        Ok(())
    }

    fn query_packages(
        &self,
        host: &Host,
    ) -> Result<Vec<(String, Option<packages::Package>)>, Failure> {
        let mut found = Vec::new();
        for name in &self.names {
            let package = host.packages.get(&host.root, &host.exec, name)?;
            found.push((name.clone(), package));
        }
        Ok(found)
    }

    /// The names that the package manager has to install, remove or change in version.
    fn names_to_change(&self, found: &[(String, Option<packages::Package>)]) -> Vec<String> {
        let due = |package: Option<&packages::Package>| {
            let is_there = |package: &&packages::Package| match self.state {
                Presence::Present => package.is_intact(),
                Presence::Absent => package.installed,
            };
            let installed = package.filter(is_there);
            match (self.state, installed) {
                (Presence::Absent, installed) => installed.is_some(),
                (Presence::Present, None) => true,
                (Presence::Present, Some(installed)) => !self.matches_version(installed),
            }
        };
        found
            .iter()
            .filter(|(_, package)| due(package.as_ref()))
            .map(|(name, _)| name.clone())
            .collect()
    }

    fn change_packages(&self, host: &Host) -> Result<ApplyOutcome, Failure> {
        let found = self.query_packages(host)?;
        let todo = self.names_to_change(&found);
        if host.packages.family(&host.root) == PackageFamily::RedHat {
            return self.change_rpms(&found, &todo, host);
        }
        let is_held = |name: &String| {
            let (_, package) = found.iter().find(|(other, _)| other == name)?;
            package.as_ref().map(|package| package.held)
        };
        let held: Vec<String> = todo
            .iter()
            .filter(|name| is_held(name) == Some(true))
            .cloned()
            .collect();
        // An operator's hold remains unless the role manages holds itself.
        if self.held.is_none() && !held.is_empty() {
            return Ok(ApplyOutcome::Waiting(format!(
                "{} on hold on this host (`apt-mark unhold` lets go; `held` in the role takes over)",
                match held.as_slice() {
                    [one] => format!("`{one}` is"),
                    several => format!("`{}` are", several.join("`, `")),
                }
            )));
        }
        let apt = Apt::new(host)?;
        if self.state == Presence::Absent {
            apt.remove(&todo)?;
            return Ok(ApplyOutcome::Done);
        }
        if !todo.is_empty() {
            // Release exactly these holds, instead of allowing apt to change any held package.
            apt.set_hold(&held, false)?;
            let with_version = |name: &String| match &self.version {
                Some(version) => format!("{name}={version}"),
                None => name.clone(),
            };
            let wanted: Vec<String> = todo.iter().map(with_version).collect();
            apt.install(&wanted, self.version.is_some())?;
        }
        if let Some(hold) = self.held {
            host.packages.invalidate();
            let now = self.query_packages(host)?;
            let differs = |package: &Option<packages::Package>| {
                package.as_ref().is_none_or(|package| package.held != hold)
            };
            let names = now.into_iter().filter(|(_, package)| differs(package));
            let names: Vec<String> = names.map(|(name, _)| name).collect();
            apt.set_hold(&names, hold)?;
        }
        Ok(ApplyOutcome::Done)
    }

    fn change_rpms(
        &self,
        found: &[(String, Option<packages::Package>)],
        todo: &[String],
        host: &Host,
    ) -> Result<ApplyOutcome, Failure> {
        let dnf = Dnf::new(host)?;
        if self.state == Presence::Absent {
            dnf.remove(todo)?;
            return Ok(ApplyOutcome::Done);
        }
        let is_duplicated = |package: &packages::Package| package.duplicated;
        let duplicated = found.iter();
        let duplicated =
            duplicated.filter(|(_, package)| package.as_ref().is_some_and(is_duplicated));
        let duplicated: Vec<String> = duplicated.map(|(name, _)| name.clone()).collect();
        dnf.remove_duplicates(&duplicated)?;
        let is_missing = |name: &&String| !duplicated.contains(name) || self.version.is_some();
        let missing: Vec<String> = todo.iter().filter(is_missing).cloned().collect();
        if !missing.is_empty() {
            dnf.install(&missing, self.version.as_deref())?;
        }
        Ok(ApplyOutcome::Done)
    }
}

fn display_names(names: &[&str]) -> FieldValue {
    FieldValue::from_option((!names.is_empty()).then(|| names.join(" ")))
}

/// The only action: have the package manager make the packages as described.
pub(super) struct ChangePackages;

impl Kind for Package {
    const NAME: &'static str = "package";
    const ABOUT: &'static str = "Installed packages, optionally at a version and on hold.";
    const EXAMPLE: &'static str = r#"package: {names: [nginx], version: "1.22.*", held: true}"#;

    type Spec = PackageSpec;
    type State = PackageState;
    type Action = ChangePackages;

    fn subject(spec: &PackageSpec) -> String {
        spec.names.join(" ")
    }

    fn resolve(spec: &mut PackageSpec, _inputs: &dyn ResolveInputs) -> Result<(), Problem> {
        let wrong = |field: &str, why: String| Err(Problem::new(why).field(field));
        if spec.names.is_empty() {
            return wrong("names", "expected at least one package".into());
        }
        for (at, name) in spec.names.iter().enumerate() {
            if !is_package_name(name) {
                let shown = name.escape_default();
                return wrong("names", format!("`{shown}` is not a package name"));
            }
            if spec.names[..at].contains(name) {
                return wrong("names", format!("`{name}` is listed twice"));
            }
        }
        if let Some(version) = &spec.version {
            let part = version.strip_suffix('*').unwrap_or(version);
            let known = |c: char| c.is_ascii_alphanumeric() || ".+:~-_^".contains(c);
            if part.is_empty() || !part.chars().all(known) {
                return Err(
                    Problem::new(format!("`{version}` is not a package version"))
                        .field("version")
                        .hint("write it as `apt-cache policy` or `rpm -q` shows it, or its beginning and `*`"),
                );
            }
            if spec.names.len() != 1 {
                return wrong("version", "`version` requires exactly one name".into());
            }
        }
        if spec.state == Presence::Absent && (spec.version.is_some() || spec.held.is_some()) {
            return wrong(
                "state",
                "`absent` cannot be combined with `version` or `held`".into(),
            );
        }
        Ok(())
    }

    fn inspect(spec: &PackageSpec, host: &Host) -> Result<PackageState, Failure> {
        if !host.root.is_privileged() && !host.root.is_real() {
            return Ok(PackageState::Unmanaged);
        }
        spec.check_family(host.packages.family(&host.root))?;
        Ok(PackageState::Packages(spec.query_packages(host)?))
    }

    fn diff(spec: &PackageSpec, state: &PackageState) -> Option<Diff<ChangePackages>> {
        let PackageState::Packages(found) = state else {
            return None;
        };
        let installed: Vec<(&str, &packages::Package)> = found
            .iter()
            .filter_map(|(name, package)| Some((name.as_str(), package.as_ref()?)))
            .filter(|(_, package)| match spec.state {
                Presence::Present => package.is_intact(),
                Presence::Absent => package.installed,
            })
            .collect();
        let present: Vec<&str> = installed.iter().map(|(name, _)| *name).collect();
        if spec.state == Presence::Absent {
            let change = Change::new(Verb::Remove).with_field(
                "names",
                display_names(&present),
                FieldValue::Absent,
            );
            return (!present.is_empty()).then(|| Diff::new(ChangePackages, change));
        }
        let all: Vec<&str> = spec.names.iter().map(String::as_str).collect();
        let mut fields = Vec::new();
        if present.len() < all.len() {
            fields.push(FieldChange::new(
                "names",
                display_names(&present),
                display_names(&all),
            ));
        }
        if let Some(version) = &spec.version {
            let from =
                FieldValue::from_option(installed.first().map(|(_, package)| &package.version));
            let right = installed
                .first()
                .is_some_and(|(_, package)| spec.matches_version(package));
            if !right {
                fields.push(FieldChange::new(
                    "version",
                    from,
                    FieldValue::value(version),
                ));
            }
        }
        if let Some(hold) = spec.held {
            // A package that dpkg does not know is not held.
            let held = |package: &Option<packages::Package>| {
                package.as_ref().is_some_and(|package| package.held)
            };
            if found.iter().any(|(_, package)| held(package) != hold) {
                fields.extend(FieldChange::diff("held", &!hold, &hold));
            }
        }
        let mut change = Change::update(fields)?;
        if present.is_empty() {
            change.verb = Verb::Create;
        }
        Some(Diff::new(ChangePackages, change))
    }

    fn apply(spec: &PackageSpec, _: &ChangePackages, host: &Host) -> Result<ApplyOutcome, Failure> {
        let outcome = spec.change_packages(host);
        host.packages.invalidate();
        let outcome = outcome?;
        let remaining = spec.names_to_change(&spec.query_packages(host)?);
        if outcome == ApplyOutcome::Done && !remaining.is_empty() {
            let (program, query) = match host.packages.family(&host.root) {
                PackageFamily::Debian => ("apt", "apt-cache showpkg NAME"),
                PackageFamily::RedHat => ("dnf", "dnf repoquery --whatprovides NAME"),
            };
            return Err(Failure::new(format!(
                "{program} ended well, and `{}` is still not as it should be",
                remaining.join("`, `")
            ))
            .hint(format!(
                "if it is a virtual package, name one that provides it (`{query}`)"
            )));
        }
        Ok(outcome)
    }
}

/// Whether it can be the name of a package, optionally with an architecture. Excludes what apt or dnf takes
/// for something else: options, patterns, files, groups, a version, and a trailing `-` for a removal.
fn is_package_name(name: &str) -> bool {
    let (name, architecture) = name.split_once(':').unwrap_or((name, "any"));
    let known = |byte: u8| byte.is_ascii_alphanumeric() || b"+.-_".contains(&byte);
    name.len() >= 2
        && name.bytes().all(known)
        && !name.starts_with(['+', '.', '-', '_'])
        && !name.ends_with(['-', '.'])
        && !architecture.is_empty()
        && architecture
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
}

/// Names of rpm packages may have capitals and underscores, too: `mod_ssl`, `ImageMagick`.
fn is_debian_name(name: &str) -> bool {
    !name.contains('_') && !name.bytes().any(|byte| byte.is_ascii_uppercase())
}

#[cfg(test)]
mod conformance {
    use super::Package;
    use crate::kind::ConformanceProbes;
    use crate::kind::conformance::Probe;
    use crate::ports::testing::Sandbox;

    impl ConformanceProbes for Package {
        fn skip_reason(host: &Sandbox) -> Option<&'static str> {
            super::tests::skip_reason(host)
        }

        fn prepare(host: &Sandbox) {
            super::tests::create_repository(host, &[("nginx", "1.18.0-1"), ("nginx", "1.22.1-9")]);
        }

        fn probes() -> Vec<Probe> {
            const STATUS: &str = "/var/lib/dpkg/status";
            vec![
                Probe::removal("names", |host| {
                    host.edit(STATUS, "hold ok installed", "deinstall ok half-configured");
                }),
                Probe::drift("version", |host| host.edit(STATUS, "1.22.1-9", "1.18.0-1")),
                Probe::drift("held", |host| host.edit(STATUS, "hold ok", "install ok")),
                Probe::removal("state", |host| host.write(STATUS, "")),
            ]
        }
    }
}
