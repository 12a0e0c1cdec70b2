//! The `group` kind: a group of users.

use serde::Deserialize;

use super::shadow_utils::{self, Manage};
use crate::kind::{Condition, Diff, Kind};
use crate::ports::Host;
use crate::problem::Problem;
use crate::resource::{
    ApplyOutcome, Change, Failure, FieldChange, FieldValue, Presence, ResolveInputs, Verb,
};

pub(super) struct Group;

/// A group.
#[derive(Debug, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub(super) struct GroupSpec {
    /// At most 32 of a-z, 0-9, `_` and `-`. Each `user` lists its groups.
    pub name: String,
    /// Its gid; not given: left as it is (the next free one for a new group). Files keep the gid
    /// that they have.
    pub gid: Option<u32>,
    /// Take a new group's gid from the range for system groups.
    #[serde(default)]
    pub system: bool,
    /// `local`: give the host this group even if a name service (LDAP, SSSD) knows one of this name. Not given:
    /// such a group is left as it is, with a note.
    pub manage: Option<Manage>,
    /// `absent` removes it.
    #[serde(default)]
    pub state: Presence,
}

pub(super) enum GroupState {
    /// An unprivileged run, which cannot change groups.
    Unmanaged,
    Missing,
    /// In no file of the host, but known to a name service, which trueup cannot change.
    NameService,
    Group {
        gid: u32,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum GroupAction {
    Create,
    SetGid,
    Remove,
}

impl Kind for Group {
    const NAME: &'static str = "group";
    const ABOUT: &'static str = "A group of users.";
    const EXAMPLE: &'static str = "group: {name: deploy, gid: 2001}";

    type Spec = GroupSpec;
    type State = GroupState;
    type Action = GroupAction;

    fn subject(spec: &GroupSpec) -> String {
        spec.name.clone()
    }

    fn resolve(spec: &mut GroupSpec, _inputs: &dyn ResolveInputs) -> Result<(), Problem> {
        shadow_utils::validate_name("name", &spec.name)
    }

    fn inspect(spec: &GroupSpec, host: &Host) -> Result<GroupState, Failure> {
        if !shadow_utils::can_manage_accounts(host) {
            return Ok(GroupState::Unmanaged);
        }
        let (root, accounts) = (&host.root, &host.accounts);
        Ok(match accounts.local_group(root, &spec.name)? {
            Some(group) => GroupState::Group { gid: group.gid },
            None if spec.manage.is_none() && accounts.group(root, &spec.name)?.is_some() => {
                GroupState::NameService
            }
            None => GroupState::Missing,
        })
    }

    fn condition(spec: &GroupSpec, state: &GroupState) -> Condition {
        match state {
            GroupState::NameService => shadow_utils::name_service_note(&spec.name),
            _ => Condition::None,
        }
    }

    fn diff(spec: &GroupSpec, state: &GroupState) -> Option<Diff<GroupAction>> {
        let name = || FieldValue::value(&spec.name);
        match (spec.state, state) {
            (_, GroupState::Unmanaged | GroupState::NameService)
            | (Presence::Absent, GroupState::Missing) => None,
            (Presence::Absent, GroupState::Group { .. }) => {
                let change = Change::new(Verb::Remove);
                let change = change.with_field("name", name(), FieldValue::Absent);
                Some(Diff::new(GroupAction::Remove, change))
            }
            (Presence::Present, GroupState::Missing) => {
                let mut change =
                    Change::new(Verb::Create).with_field("name", FieldValue::Absent, name());
                if let Some(gid) = spec.gid {
                    change = change.with_field("gid", FieldValue::Absent, FieldValue::value(gid));
                }
                Some(Diff::new(GroupAction::Create, change))
            }
            (Presence::Present, GroupState::Group { gid }) => {
                let field = FieldChange::diff("gid", gid, &spec.gid.unwrap_or(*gid));
                let change = Change::update(field.into_iter().collect())?;
                Some(Diff::new(GroupAction::SetGid, change))
            }
        }
    }

    fn apply(spec: &GroupSpec, action: &GroupAction, host: &Host) -> Result<ApplyOutcome, Failure> {
        if *action == GroupAction::Remove {
            shadow_utils::run(host, "groupdel", &[&spec.name])?;
            return Ok(ApplyOutcome::Done);
        }
        let gid = spec.gid.map(|gid| gid.to_string());
        let mut args = Vec::new();
        if let Some(gid) = &gid {
            let holder = host
                .accounts
                .group_name(&host.root, spec.gid.unwrap_or_default())?;
            if holder != *gid && holder != spec.name {
                return Err(Failure::new(format!(
                    "gid {gid} is already used by group `{holder}`"
                ))
                .hint(
                    "choose another gid, or change that group's gid in a resource before this one",
                ));
            }
            args.extend(["-g", gid]);
        }
        if *action == GroupAction::Create && spec.system {
            args.push("-r");
        }
        let is_created = *action == GroupAction::Create;
        if is_created
            && spec.manage.is_some()
            && host.accounts.group(&host.root, &spec.name)?.is_some()
        {
            args.splice(0..0, shadow_utils::FILES_ONLY);
        }
        args.push(&spec.name);
        let program = match action {
            GroupAction::Create => "groupadd",
            _ => "groupmod",
        };
        shadow_utils::run(host, program, &args)?;
        Ok(ApplyOutcome::Done)
    }
}

#[cfg(test)]
mod conformance {
    use super::Group;
    use crate::kind::ConformanceProbes;
    use crate::kind::conformance::Probe;
    use crate::ports::testing::Sandbox;

    impl ConformanceProbes for Group {
        fn skip_reason(host: &Sandbox) -> Option<&'static str> {
            (!host.can_set_owners()).then_some("needs root")
        }

        fn probes() -> Vec<Probe> {
            vec![
                Probe::removal("name", |host| {
                    host.edit("/etc/group", "deploy:", "renamed:");
                    host.edit("/etc/group", ":2001:", ":2002:");
                }),
                Probe::drift("gid", |host| host.edit("/etc/group", ":2001:", ":2003:")),
                Probe::not_set("system", "it only says where a new group's number is from"),
                Probe::not_set("manage", "it says whether the group is trueup's"),
                Probe::removal("state", |host| host.write("/etc/group", "root:x:0:\n")),
            ]
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::kind::conformance::parse_resource;
    use crate::ports::testing::{Sandbox, machine_file, skip_test};

    #[test]
    fn gid_in_use_is_rejected_with_its_groups_name() {
        let sandbox = Sandbox::with_base_system();
        if !sandbox.can_set_owners() {
            return skip_test("a taken gid", "needs root");
        }
        sandbox.write("/etc/group", "root:x:0:\nwww:x:2001:\n");
        let group = parse_resource("group: {name: deploy, gid: 2001}").unwrap();
        let observed = group.inspect(&sandbox.host).unwrap();
        let failure = observed.apply(&sandbox.host).unwrap_err();
        assert!(failure.message.contains("group `www`"), "{failure}");
        assert_eq!(
            sandbox.read("/etc/group"),
            "root:x:0:\nwww:x:2001:\n",
            "a refused change left something behind"
        );
    }

    #[test]
    fn primary_group_of_a_user_is_not_removed() {
        let sandbox = Sandbox::with_base_system();
        if !sandbox.can_set_owners() {
            return skip_test("removing a primary group", "needs root");
        }
        let group = parse_resource("group: {name: nogroup, state: absent}").unwrap();
        let observed = group.inspect(&sandbox.host).unwrap();
        let failure = observed.apply(&sandbox.host).unwrap_err();
        assert!(failure.hint.unwrap().contains("primary group"));
        assert!(sandbox.read("/etc/group").contains("nogroup"));
    }

    #[test]
    fn ambiguous_group_names_are_rejected() {
        for bad in ["-r", "a:b", "Deploy", "1st", "a,b", "\"a\\nb\"", "ü"] {
            assert!(
                parse_resource(&format!("group: {{name: {bad}}}")).is_err(),
                "{bad}"
            );
        }
        assert!(parse_resource(&format!("group: {{name: {}}}", "a".repeat(33))).is_err());
        assert!(parse_resource("group: {name: _ssh-2}").is_ok());
    }

    #[test]
    fn group_in_an_empty_sandbox_leaves_the_machine_alone() {
        let sandbox = Sandbox::empty();
        if !sandbox.can_set_owners() {
            return skip_test("a group in an empty sandbox", "needs root");
        }
        let machine = machine_file("/etc/group");
        let group = parse_resource("group: {name: trueup-probe, system: true}").unwrap();
        let observed = group.inspect(&sandbox.host).unwrap();
        assert!(observed.change().is_some());
        observed.apply(&sandbox.host).unwrap();
        assert_eq!(group.inspect(&sandbox.host).unwrap().change(), None);
        assert_eq!(sandbox.mode("/etc/gshadow") & 0o077, 0);
        assert_eq!(machine_file("/etc/group"), machine);
    }
}
