//! Which channels a rollout notifies, and of which transitions: `notify:` below `_settings`. It only names channels; the
//! settings of the hosts define them.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize as DeriveDeserialize, Serialize};

use crate::problem::{InvalidValue, nearest, one_of};
use crate::settings::{invalid_name, is_name};

/// Most channels that an environment names.
const MAX_CHANNELS: usize = 20;

/// What a notice is about.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, DeriveDeserialize,
)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Transition {
    /// The manifest wants another sha.
    Published,
    /// The hosts are counted, and begin.
    Started,
    /// The canaries have passed.
    CanaryOk,
    /// Every host has it.
    Done,
    /// Nobody begins it before an operator has seen to it.
    Halted,
    /// An operator went back, or hosts go back because the sha failed.
    RolledBack,
    /// Hosts cannot take the sha for reasons of their own.
    Failed,
    /// An operator froze the app.
    Held,
    HoldEnded,
    /// Somebody has to do something by hand.
    Note,
}

impl Transition {
    pub(crate) const ALL: [Transition; 10] = [
        Transition::Published,
        Transition::Started,
        Transition::CanaryOk,
        Transition::Done,
        Transition::Halted,
        Transition::RolledBack,
        Transition::Failed,
        Transition::Held,
        Transition::HoldEnded,
        Transition::Note,
    ];

    /// As the manifest and the documents write it.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Transition::Published => "published",
            Transition::Started => "started",
            Transition::CanaryOk => "canary_ok",
            Transition::Done => "done",
            Transition::Halted => "halted",
            Transition::RolledBack => "rolled_back",
            Transition::Failed => "failed",
            Transition::Held => "held",
            Transition::HoldEnded => "hold_ended",
            Transition::Note => "note",
        }
    }

    fn parse(word: &str) -> Result<Transition, InvalidValue> {
        let known = Transition::ALL.map(Transition::word);
        let found = Transition::ALL.iter().find(|one| one.word() == word);
        found.copied().ok_or_else(|| {
            let hint = match nearest(word, known) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("expected {}", one_of(&known)),
            };
            InvalidValue::new(format!("`{word}` is no transition of a rollout"), hint)
        })
    }
}

/// The channels that an environment names, each with its transitions.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct NotifySpec(BTreeMap<String, Vec<Transition>>);

impl NotifySpec {
    pub(crate) fn channels(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// Whether a channel is to know of a transition.
    pub(crate) fn wants(&self, channel: &str, transition: Transition) -> bool {
        let transitions = self.0.get(channel);
        transitions.is_some_and(|transitions| transitions.contains(&transition))
    }

    fn insert<E: de::Error>(&mut self, name: &str, of: Vec<Transition>) -> Result<(), E> {
        if !is_name(name) {
            return Err(E::custom(invalid_name(name)));
        }
        if self.0.len() >= MAX_CHANNELS {
            return Err(E::custom(format!(
                "expected at most {MAX_CHANNELS} channels"
            )));
        }
        self.0.insert(name.to_owned(), of);
        Ok(())
    }
}

struct Transitions(Vec<Transition>);

impl<'de> Deserialize<'de> for Transitions {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Transitions, D::Error> {
        let words = Vec::<String>::deserialize(deserializer)?;
        let transitions = words.iter().map(|word| Transition::parse(word));
        let transitions: Result<Vec<Transition>, InvalidValue> = transitions.collect();
        let mut transitions =
            transitions.map_err(|invalid| de::Error::custom(format_args!("{invalid:#}")))?;
        transitions.sort_unstable();
        transitions.dedup();
        Ok(Transitions(transitions))
    }
}

impl<'de> Deserialize<'de> for NotifySpec {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<NotifySpec, D::Error> {
        struct SpecVisitor;

        impl<'de> Visitor<'de> for SpecVisitor {
            type Value = NotifySpec;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of channels, or a map of channels to transitions, such as `{ops: [halted, rolled_back]}`")
            }

            fn visit_unit<E: de::Error>(self) -> Result<NotifySpec, E> {
                Ok(NotifySpec::default())
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<NotifySpec, A::Error> {
                let mut spec = NotifySpec::default();
                while let Some(name) = items.next_element::<String>()? {
                    spec.insert(&name, Transition::ALL.to_vec())?;
                }
                Ok(spec)
            }

            fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<NotifySpec, A::Error> {
                let mut spec = NotifySpec::default();
                while let Some((name, of)) = entries.next_entry::<String, Transitions>()? {
                    spec.insert(&name, of.0)?;
                }
                Ok(spec)
            }
        }

        deserializer.deserialize_any(SpecVisitor)
    }
}
