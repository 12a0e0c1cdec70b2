//! Owner, group and mode, as several kinds manage them. A field that is not given stays unmanaged.

use super::{Failure, FieldChange, FieldValue, Mode};
use crate::ports::Host;
use crate::ports::root::{Attrs, Meta};

/// The owner, group and mode that a spec asks for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Access<'a> {
    pub owner: Option<&'a str>,
    pub group: Option<&'a str>,
    pub mode: Option<Mode>,
}

/// The owner, group and mode of a path on the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AccessState {
    /// Spelt as in the spec where both mean the same (a name and its number).
    pub owner: String,
    pub group: String,
    pub mode: Mode,
    /// False in an unprivileged run, which cannot change owners.
    pub owners_managed: bool,
}

impl Access<'_> {
    pub(crate) fn observe(&self, meta: &Meta, host: &Host) -> Result<AccessState, Failure> {
        let (root, accounts) = (&host.root, &host.accounts);
        let same = |wanted: Option<&str>, id: u32, wanted_id: Option<u32>| {
            wanted.filter(|_| wanted_id == Some(id)).map(str::to_owned)
        };
        let owner = match self.owner {
            Some(name) => same(self.owner, meta.uid, accounts.uid(root, name)?),
            None => None,
        };
        let group = match self.group {
            Some(name) => same(self.group, meta.gid, accounts.gid(root, name)?),
            None => None,
        };
        Ok(AccessState {
            owner: match owner {
                Some(owner) => owner,
                None => accounts.user_name(root, meta.uid)?,
            },
            group: match group {
                Some(group) => group,
                None => accounts.group_name(root, meta.gid)?,
            },
            mode: Mode(meta.mode),
            owners_managed: root.is_privileged(),
        })
    }

    /// The fields that differ. Pass `with_mode: false` for a link, which has no mode of its own.
    pub(crate) fn diff(&self, state: &AccessState, with_mode: bool) -> Vec<FieldChange> {
        let mut fields = Vec::new();
        let mut compare = |field, wanted: Option<&str>, found: &String| {
            if let Some(wanted) = wanted.filter(|wanted| state.owners_managed && wanted != found) {
                fields.push(FieldChange::new(
                    field,
                    FieldValue::value(found),
                    FieldValue::value(wanted),
                ));
            }
        };
        compare("owner", self.owner, &state.owner);
        compare("group", self.group, &state.group);
        if let Some(mode) = self.mode.filter(|mode| with_mode && *mode != state.mode) {
            fields.push(FieldChange::new(
                "mode",
                FieldValue::value(state.mode),
                FieldValue::value(mode),
            ));
        }
        fields
    }

    /// Whether the owner differs.
    pub(crate) fn changes_owner(&self, state: &AccessState) -> bool {
        state.owners_managed && self.owner.is_some_and(|owner| owner != state.owner)
    }

    /// The fields that a plan shows for a path that will be created.
    pub(crate) fn creation_fields(&self) -> Vec<FieldChange> {
        [
            ("owner", self.owner.map(str::to_owned)),
            ("group", self.group.map(str::to_owned)),
            ("mode", self.mode.map(|mode| mode.to_string())),
        ]
        .into_iter()
        .filter_map(|(field, value)| {
            Some(FieldChange::new(
                field,
                FieldValue::Absent,
                FieldValue::Value(value?),
            ))
        })
        .collect()
    }

    /// Resolves the names to ids for `ports::root`. The accounts must exist by now.
    pub(crate) fn resolve_attrs(&self, host: &Host) -> Result<Attrs, Failure> {
        let (root, accounts) = (&host.root, &host.accounts);
        let mut attrs = Attrs {
            mode: self.mode.map(|mode| mode.0),
            uid: None,
            gid: None,
        };
        if !root.is_privileged() {
            return Ok(attrs);
        }
        let missing = |kind: &str, name: &str| {
            Failure::not_ready(format!("there is no {kind} `{name}` on this host")).hint(format!(
                "describe it in a `{kind}` resource before this one"
            ))
        };
        if let Some(name) = self.owner {
            attrs.uid = accounts.uid(root, name)?;
            attrs.uid.ok_or_else(|| missing("user", name))?;
        }
        if let Some(name) = self.group {
            attrs.gid = accounts.gid(root, name)?;
            attrs.gid.ok_or_else(|| missing("group", name))?;
        }
        Ok(attrs)
    }
}
