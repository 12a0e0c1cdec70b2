//! What is deployed of an app, and what differs from what is wanted.

use crate::desired::Sha;
use crate::release::active_links::{self, ObservedLink};
use crate::release::files::{self, FileDrift, ObservedFile};
use crate::release::{
    self, ActiveRelease, Comparison, Overrides, Pin, ReleaseSpec, ReleaseStatus, SameFiles,
    StageStatus,
};
use crate::resource::{Change, FieldChange, FieldValue, Verb, Withheld};

/// The deployed release, and what prevents the wanted one.
pub(crate) struct ReleaseState {
    pub(super) active: Option<ActiveRelease>,
    /// A complete release of the wanted sha that is not active.
    pub(super) built: Option<String>,
    /// Whether the wanted sha changes anything, if there is no complete release of it.
    pub(super) comparison: Comparison,
    /// The decisions of operators and of the gate on this host.
    pub(super) overrides: Overrides,
    /// The sha to build ahead, if there is no complete release of it yet.
    pub(super) next_sha: Option<Sha>,
    /// The rendered files of the active release.
    pub(super) files: Vec<ObservedFile>,
    /// Whether the active release passed its gate only a moment ago.
    pub(super) is_new: bool,
    /// The described links in the active release, if it is the wanted one.
    pub(super) links: Vec<ObservedLink>,
    /// The steps to run for the wanted sha, one per line, if there is no complete release of it.
    pub(super) pending_steps: String,
}

impl ReleaseState {
    /// The sha that should be active: the pinned one, else the one in the manifest.
    pub(super) fn target_sha<'a>(&'a self, spec: &'a ReleaseSpec) -> Option<&'a Sha> {
        match self.effective_pin(spec) {
            Some(pin) => Some(&pin.sha),
            None => spec.target(),
        }
    }

    /// The pin in force: a pinned sha that failed here since is not.
    pub(super) fn effective_pin(&self, spec: &ReleaseSpec) -> Option<&Pin> {
        let pin = self.overrides.effective_pin(spec.wanted.as_ref())?;
        self.overrides
            .find_quarantined(&pin.sha)
            .is_none()
            .then_some(pin)
    }

    /// A pin that has expired. It is removed, so that it does not apply again when the manifest wants the sha
    /// of that time again.
    pub(super) fn expired_pin(&self, spec: &ReleaseSpec) -> Option<&Pin> {
        let is_over = |_: &&Pin| spec.wanted.is_some() && self.effective_pin(spec).is_none();
        self.overrides.pin.as_ref().filter(is_over)
    }

    /// The sha that the active release stands for.
    pub(super) fn active_sha<'a>(&'a self, spec: &'a ReleaseSpec) -> Option<&'a Sha> {
        self.active.as_ref()?.sha_for(self.target_sha(spec))
    }

    pub(super) fn is_active_bad(&self) -> bool {
        let active = self.active.as_ref();
        active.is_some_and(|active| active.state == Some(ReleaseStatus::Bad))
    }

    /// Whether the active release is the wanted one, and not known to be bad.
    pub(super) fn is_target_active(&self, spec: &ReleaseSpec) -> bool {
        self.active_sha(spec).is_some()
            && self.active_sha(spec) == self.target_sha(spec)
            && !self.is_active_bad()
    }

    /// The trial of the active release, unless another sha is wanted since, and may be activated.
    pub(super) fn trial(&self, spec: &ReleaseSpec) -> Option<&release::RecordedTrial> {
        let trial = self.active.as_ref()?.trial.as_ref()?;
        let stays = || self.target_sha(spec).is_none() || self.activation_blocker(spec).is_some();
        let applies = self.is_target_active(spec) || (trial.is_rollback && stays());
        applies.then_some(trial)
    }

    /// The changes to the files of the active release. A pinned release keeps its own files.
    pub(super) fn files_to_change(&self, spec: &ReleaseSpec) -> Vec<FileDrift> {
        match self.effective_pin(spec) {
            Some(_) => Vec::new(),
            None => files::diff(spec, &self.files),
        }
    }

    /// The changes to the links of the active release. A pinned release keeps its own links, and one of another
    /// tool too.
    pub(super) fn links_to_change(&self, spec: &ReleaseSpec) -> Vec<FieldChange> {
        let active = self.active.as_ref().filter(|active| active.is_linked);
        let Some(active) = active.filter(|_| self.effective_pin(spec).is_none()) else {
            return Vec::new();
        };
        let fields = active_links::diff(spec, &self.links);
        let unsettled = active
            .links
            .as_ref()
            .filter(|links| links.status != StageStatus::Done);
        match unsettled {
            Some(links) if fields.is_empty() => {
                let from = links.why.as_deref().unwrap_or("a pass was killed here");
                vec![FieldChange::new(
                    "links",
                    FieldValue::value(from),
                    FieldValue::value("as described"),
                )]
            }
            _ => fields,
        }
    }

    /// What keeps the wanted release from being activated now.
    pub(super) fn activation_blocker(&self, spec: &ReleaseSpec) -> Option<Withheld> {
        let pin = self.effective_pin(spec);
        if let Some(pin) = pin.filter(|_| self.is_target_active(spec)) {
            return Some(Withheld::OnHold(pin.describe()));
        }
        let target = self.target_sha(spec)?;
        if let Some(barred) = self.overrides.find_quarantined(target) {
            return Some(Withheld::Quarantined(barred.describe()));
        }
        let hold = spec.hold.as_ref().filter(|hold| hold.blocks(target))?;
        // The way back is always open: from a sha that failed, and to what an operator pinned here, over the hold if there
        // was one, also if the pass that was to do it had to wait for a slot.
        let is_way_back = pin.is_some() || (self.active.is_some() && spec.instead.is_some());
        (!is_way_back).then(|| Withheld::OnHold(hold.description()))
    }

    /// What to do while the wanted release may not be activated. A release that is known to be bad is left
    /// all the same, for the last good one.
    pub(super) fn blocked_step(&self, why: Withheld) -> ReleaseStep {
        let bad = self.active.as_ref().filter(|_| self.is_active_bad());
        ReleaseStep::Withhold {
            leave: bad.map(|active| active.name.clone()),
            why,
            build_ahead: None,
        }
    }

    /// The deployment of the wanted sha.
    pub(super) fn deployment(&self, spec: &ReleaseSpec, wanted: &Sha) -> (ReleaseStep, Change) {
        let blocker = self.activation_blocker(spec);
        let step = ReleaseStep::Deploy(wanted.clone());
        if let (Comparison::Same(same), None) = (&self.comparison, &blocker) {
            return (step, self.needless_deployment(spec, wanted, same));
        }
        let mut change = Change::new(Verb::Deploy).with_field(
            "sha",
            FieldValue::from_option(self.active_sha(spec)),
            FieldValue::value(wanted),
        );
        if let Some(Withheld::Quarantined(why)) = &blocker {
            change = change.with_field("quarantine", FieldValue::Absent, FieldValue::value(why));
        } else {
            let name = self.active.as_ref().map(|active| &active.name);
            let to = match (&self.built, &self.comparison) {
                (Some(ready), _) => FieldValue::value(ready),
                (None, Comparison::Unknown) => FieldValue::Unknown(format!(
                    "it is fetched: the active one stays if nothing changes in {}",
                    spec.subdir().display()
                )),
                (None, _) => FieldValue::Unknown("it is built".into()),
            };
            change = change.with_field("release", FieldValue::from_option(name), to);
            if !self.pending_steps.is_empty() {
                let steps = FieldValue::Text(self.pending_steps.clone());
                change = change.with_field("steps", FieldValue::Absent, steps);
            }
            if let Some(Withheld::OnHold(why)) = &blocker {
                change = change.with_field(HOLD_FIELD, FieldValue::Absent, FieldValue::value(why));
            }
        }
        match blocker {
            Some(why) => (self.blocked_step(why.clone()), change.withheld(why)),
            None => (step, change),
        }
    }

    /// What is done about a wanted sha that changes nothing: it is recorded, and nothing is deployed.
    pub(super) fn needless_deployment(
        &self,
        spec: &ReleaseSpec,
        wanted: &Sha,
        same: &SameFiles,
    ) -> Change {
        let active = self.active_sha(spec);
        let not_deployed = |field: &'static str, why: &str| {
            Change::new(Verb::Deploy)
                .with_field(
                    "sha",
                    FieldValue::from_option(active),
                    FieldValue::value(wanted),
                )
                .with_field(field, FieldValue::Absent, FieldValue::value(why))
        };
        match same {
            SameFiles::Active(release) => keep_change(spec, active, wanted, release),
            SameFiles::RolledBack(pin) => {
                let why = pin.describe();
                not_deployed(HOLD_FIELD, &why).withheld(Withheld::OnHold(why))
            }
            SameFiles::Quarantined(bad) => {
                let why = bad.describe();
                not_deployed("quarantine", &why).withheld(Withheld::Quarantined(why))
            }
        }
    }

    /// What brings the files and links of the active release up to their description, if it is the wanted one.
    pub(super) fn refresh(&self, spec: &ReleaseSpec) -> Option<(ReleaseStep, Change)> {
        if !self.is_target_active(spec) {
            return None;
        }
        let (files, links) = (self.files_to_change(spec), self.links_to_change(spec));
        if let (false, Some(active), Some(sha)) = (
            files.is_empty() && links.is_empty(),
            &self.active,
            self.active_sha(spec),
        ) {
            let only_modes = files.iter().all(|file| !file.changes_content);
            // A link that is restored is the one that the services were started with.
            let same_links =
                links.is_empty() || active_links::is_known(spec, active.links.as_ref());
            let fields = files.into_iter().map(|file| file.shown).chain(links);
            let mut change = Change::update(fields.collect())?;
            change.keeps_stamp = only_modes && same_links;
            let step = ReleaseStep::Refresh {
                release: active.name.clone(),
                sha: sha.clone(),
            };
            return Some((step, change));
        }
        None
    }

    /// The smaller matters while the wanted sha is active.
    pub(super) fn upkeep(&self, spec: &ReleaseSpec) -> Option<(ReleaseStep, Change)> {
        if let Some(refresh) = self.refresh(spec) {
            return Some(refresh);
        }
        if let Some(pin) = self.effective_pin(spec) {
            let why = Withheld::OnHold(pin.describe());
            let change = pinned_change(spec, self.active_sha(spec), pin).withheld(why.clone());
            return Some((self.blocked_step(why), change));
        }
        if let Some(instead) = &spec.instead {
            let why = Withheld::OnHold(instead.why.clone());
            let change = waiting_change(spec, self.active_sha(spec), &instead.why);
            let step = ReleaseStep::Withhold {
                leave: None,
                why: why.clone(),
                build_ahead: self.next_sha.clone(),
            };
            return Some((step, change.withheld(why)));
        }
        if let Some(next) = &self.next_sha {
            let change = Change::new(Verb::Build).keeping_stamp();
            let change = change.with_field("next", FieldValue::Absent, FieldValue::value(next));
            return Some((ReleaseStep::BuildAhead(next.clone()), change));
        }
        let pin = self.expired_pin(spec)?;
        let change = Change::new(Verb::Update).keeping_stamp();
        let pin = FieldValue::value(pin.describe());
        let change = change.with_field("pin", pin, FieldValue::Absent);
        Some((ReleaseStep::None, change))
    }
}

/// Reports a pin in every pass, so that a green result never hides that the manifest wants another sha.
pub(super) fn pinned_change(spec: &ReleaseSpec, active: Option<&Sha>, pin: &Pin) -> Change {
    waiting_change(spec, active, &pin.describe())
}

/// The deployment of the wanted sha, which waits.
fn waiting_change(spec: &ReleaseSpec, active: Option<&Sha>, why: &str) -> Change {
    let active = FieldValue::from_option(active);
    Change::new(Verb::Deploy)
        .with_field("sha", active, FieldValue::from_option(spec.wanted.as_ref()))
        .with_field(HOLD_FIELD, FieldValue::Absent, FieldValue::value(why))
}

/// The active release stays, because the wanted sha changes nothing in it.
pub(super) fn keep_change(
    spec: &ReleaseSpec,
    from: Option<&Sha>,
    wanted: &Sha,
    release: &str,
) -> Change {
    let stays = format!("it stays: nothing changes in {}", spec.subdir().display());
    Change::new(Verb::Keep)
        .keeping_stamp()
        .with_field(
            "sha",
            FieldValue::from_option(from),
            FieldValue::value(wanted),
        )
        .with_field(
            "release",
            FieldValue::value(release),
            FieldValue::value(stays),
        )
}

/// The field that shows why a change waits: a hold of the manifest, a pin of this host.
const HOLD_FIELD: &str = "hold";

/// What is done about it.
#[derive(Debug)]
pub(super) enum ReleaseStep {
    None,
    /// The pass settles the trial after it has restarted the services.
    AwaitTrial,
    Deploy(Sha),
    /// Rewrite the rendered files of the active release, and make its links.
    Refresh {
        release: String,
        sha: Sha,
    },
    BuildAhead(Sha),
    Withhold {
        /// The active release, if it is known to be bad.
        leave: Option<String>,
        why: Withheld,
        /// To be built meanwhile.
        build_ahead: Option<Sha>,
    },
}
