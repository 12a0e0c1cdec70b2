//! `group`: a group of users.

use serde::Deserialize;

use super::shadow;
use crate::ports::Host;
use crate::problem::Problem;
use crate::resource::{Change, Failure, FieldChange, Inputs, Kind, Outcome, Shown, State, Verb};

pub struct Group;

/// A group.
#[derive(Debug, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Spec {
    /// At most 32 of a-z, 0-9, `_` and `-`. Its members are said in each `user`.
    pub name: String,
    /// Its number; not given: left as it is (the next free one for a new group). Files keep the
    /// number that they have.
    pub gid: Option<u32>,
    /// Take a new group's number from the range for the system's own groups.
    #[serde(default)]
    pub system: bool,
    /// `absent` removes it.
    #[serde(default)]
    pub state: State,
}

pub enum Found {
    /// An unprivileged run: groups are not ours to set.
    NotOurs,
    Nothing,
    Group {
        gid: u32,
    },
}

impl Kind for Group {
    const NAME: &'static str = "group";
    const ABOUT: &'static str = "A group of users.";
    const EXAMPLE: &'static str = "group: {name: deploy, gid: 2001}";

    type Spec = Spec;
    type State = Found;

    fn subject(spec: &Spec) -> String {
        spec.name.clone()
    }

    fn resolve(spec: &mut Spec, _inputs: &dyn Inputs) -> Result<(), Problem> {
        shadow::usable_name("name", &spec.name)
    }

    fn inspect(spec: &Spec, host: &Host) -> Result<Found, Failure> {
        if !shadow::are_ours(host) {
            return Ok(Found::NotOurs);
        }
        let group = host.accounts.group(&host.root, &spec.name)?;
        Ok(group.map_or(Found::Nothing, |group| Found::Group { gid: group.gid }))
    }

    fn diff(spec: &Spec, state: &Found) -> Option<Change> {
        let name = || Shown::value(&spec.name);
        match (spec.state, state) {
            (_, Found::NotOurs) | (State::Absent, Found::Nothing) => None,
            (State::Absent, Found::Group { .. }) => {
                Some(Change::new(Verb::Remove).with("name", name(), Shown::Absent))
            }
            (State::Present, Found::Nothing) => {
                let mut change = Change::new(Verb::Create).with("name", Shown::Absent, name());
                if let Some(gid) = spec.gid {
                    change = change.with("gid", Shown::Absent, Shown::value(gid));
                }
                Some(change)
            }
            (State::Present, Found::Group { gid }) => {
                let wanted = spec.gid.unwrap_or(*gid);
                Change::update(FieldChange::of("gid", gid, &wanted).into_iter().collect())
            }
        }
    }

    fn apply(spec: &Spec, change: &Change, host: &Host) -> Result<Outcome, Failure> {
        if change.verb == Verb::Remove {
            shadow::run(host, "groupdel", &[&spec.name])?;
            return Ok(Outcome::Done);
        }
        let gid = spec.gid.map(|gid| gid.to_string());
        let mut args = Vec::new();
        if let Some(gid) = &gid {
            let holder = host
                .accounts
                .group_name(&host.root, spec.gid.unwrap_or_default())?;
            if holder != *gid && holder != spec.name {
                return Err(Failure::new(format!(
                    "gid {gid} is already the number of group `{holder}`"
                ))
                .hint(
                    "choose another number, or describe that group with another one before this",
                ));
            }
            args.extend(["-g", gid]);
        }
        if change.verb == Verb::Create && spec.system {
            args.push("-r");
        }
        args.push(&spec.name);
        let program = match change.verb {
            Verb::Create => "groupadd",
            _ => "groupmod",
        };
        shadow::run(host, program, &args)?;
        Ok(Outcome::Done)
    }
}

#[cfg(test)]
mod conformance {
    use super::Group;
    use crate::ports::testing::Sandbox;
    use crate::resource::Probed;
    use crate::resource::conformance::Probe;

    impl Probed for Group {
        fn cannot_run(host: &Sandbox) -> Option<&'static str> {
            (!host.is_privileged()).then_some("needs root")
        }

        fn probes() -> Vec<Probe> {
            vec![
                Probe::gone("name", |host| {
                    host.edit("/etc/group", "deploy:", "renamed:");
                    host.edit("/etc/group", ":2001:", ":2002:");
                }),
                Probe::spoil("gid", |host| host.edit("/etc/group", ":2001:", ":2003:")),
                Probe::not_set("system", "it only says where a new group's number is from"),
                Probe::gone("state", |host| host.write("/etc/group", "root:x:0:\n")),
            ]
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::ports::testing::{Sandbox, machine_file, skipped};
    use crate::resource::conformance::resource;

    #[test]
    fn gid_in_use_is_rejected_with_its_groups_name() {
        let sandbox = Sandbox::with_basics();
        if !sandbox.is_privileged() {
            return skipped("a taken gid", "needs root");
        }
        sandbox.write("/etc/group", "root:x:0:\nwww:x:2001:\n");
        let group = resource("group: {name: deploy, gid: 2001}").unwrap();
        let change = group.look(&sandbox.host, false).unwrap().change.unwrap();
        let failure = group.apply(&change, &sandbox.host).unwrap_err();
        assert!(failure.message.contains("group `www`"), "{failure}");
        assert_eq!(
            sandbox.read("/etc/group"),
            "root:x:0:\nwww:x:2001:\n",
            "a refused change left something behind"
        );
    }

    #[test]
    fn primary_group_of_a_user_is_not_removed() {
        let sandbox = Sandbox::with_basics();
        if !sandbox.is_privileged() {
            return skipped("removing a main group", "needs root");
        }
        let group = resource("group: {name: nogroup, state: absent}").unwrap();
        let change = group.look(&sandbox.host, false).unwrap().change.unwrap();
        let failure = group.apply(&change, &sandbox.host).unwrap_err();
        assert!(failure.hint.unwrap().contains("main group"));
        assert!(sandbox.read("/etc/group").contains("nogroup"));
    }

    #[test]
    fn ambiguous_group_names_are_rejected() {
        for bad in ["-r", "a:b", "Deploy", "1st", "a,b", "\"a\\nb\"", "ü"] {
            assert!(
                resource(&format!("group: {{name: {bad}}}")).is_err(),
                "{bad}"
            );
        }
        assert!(resource(&format!("group: {{name: {}}}", "a".repeat(33))).is_err());
        assert!(resource("group: {name: _ssh-2}").is_ok());
    }

    #[test]
    fn group_in_an_empty_sandbox_leaves_the_machine_alone() {
        let sandbox = Sandbox::empty();
        if !sandbox.is_privileged() {
            return skipped("a group in an empty sandbox", "needs root");
        }
        let machine = machine_file("/etc/group");
        let group = resource("group: {name: trueup-probe, system: true}").unwrap();
        let change = group.look(&sandbox.host, false).unwrap().change.unwrap();
        group.apply(&change, &sandbox.host).unwrap();
        assert_eq!(group.look(&sandbox.host, false).unwrap().change, None);
        assert_eq!(sandbox.mode("/etc/gshadow") & 0o077, 0);
        assert_eq!(machine_file("/etc/group"), machine);
    }
}
