//! `rollout:` as written in the manifest, for one app or for all apps of an environment.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::value::MapAccessDeserializer;
use serde::de::{self, Deserialize, Deserializer, MapAccess, Visitor};

use super::{Amount, Canary, CanaryHosts, OnFailure, RolloutMode, RolloutPolicy};
use crate::problem::InvalidValue;
use crate::settings::{invalid_name, is_name};
use crate::yaml::{Seconds, SecondsOrZero};

/// `rollout:` as written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum RolloutSpec {
    /// `none`.
    Independent,
    /// Boxed, because a manifest may have a hundred thousand entries and few policies.
    Policy(Box<PolicySpec>),
}

/// The fields of a policy. Outer `None`: it is not written, and comes from the environment; inner `None`: it is
/// written as `null`, and is the default.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PolicySpec {
    #[serde(default, deserialize_with = "deserialize_max_unavailable")]
    max_unavailable: Option<Option<Amount>>,
    #[serde(default, deserialize_with = "deserialize_written")]
    per: Option<Option<TagName>>,
    #[serde(default, deserialize_with = "deserialize_written")]
    canary: Option<Option<Canary>>,
    #[serde(default, deserialize_with = "deserialize_written")]
    min_ready: Option<Option<SecondsOrZero>>,
    #[serde(default, deserialize_with = "deserialize_written")]
    max_failures: Option<Option<Amount>>,
    #[serde(default, deserialize_with = "deserialize_written")]
    on_failure: Option<Option<OnFailure>>,
    #[serde(default, deserialize_with = "deserialize_written")]
    after: Option<Option<AppNames>>,
    #[serde(default, deserialize_with = "deserialize_written")]
    progress_deadline: Option<Option<Seconds>>,
}

impl RolloutSpec {
    /// The mode of the app `app` with its own `rollout:` and that of its environment, of which it overrides single
    /// fields. An environment's `after` is for the apps that it does not name.
    pub(crate) fn resolve(
        app: &str,
        own: Option<&RolloutSpec>,
        shared: Option<&RolloutSpec>,
    ) -> RolloutMode {
        let layers: &[&PolicySpec] = match (own, shared) {
            (Some(RolloutSpec::Independent), _) | (None, Some(RolloutSpec::Independent)) => {
                return RolloutMode::Independent;
            }
            (Some(RolloutSpec::Policy(own)), Some(RolloutSpec::Policy(shared))) => &[shared, own],
            (Some(RolloutSpec::Policy(only)), _) | (None, Some(RolloutSpec::Policy(only))) => {
                &[only]
            }
            (None, None) => &[],
        };
        let mut policy = RolloutPolicy::default();
        for layer in layers {
            layer.apply_to(&mut policy);
        }
        let is_inherited = own.is_none_or(|own| own.after().is_none());
        if is_inherited && policy.after.iter().any(|other| other == app) {
            policy.after.clear();
        }
        RolloutMode::Coordinated(policy)
    }

    /// The apps of `after`; `None`: they come from the environment.
    pub(crate) fn after(&self) -> Option<&[String]> {
        match self {
            RolloutSpec::Independent => Some(&[]),
            RolloutSpec::Policy(policy) => {
                let after = policy.after.as_ref()?.as_ref();
                Some(after.map_or(&[], |after| after.0.as_slice()))
            }
        }
    }
}

impl PolicySpec {
    /// Sets the fields that are written here.
    fn apply_to(&self, policy: &mut RolloutPolicy) {
        let PolicySpec {
            max_unavailable,
            per,
            canary,
            min_ready,
            max_failures,
            on_failure,
            after,
            progress_deadline,
        } = self.clone();
        let default = RolloutPolicy::default();
        if let Some(amount) = max_unavailable {
            policy.max_unavailable = amount.unwrap_or(default.max_unavailable);
        }
        if let Some(tag) = per {
            policy.per = tag.map(|tag| tag.0);
        }
        if let Some(canary) = canary {
            policy.canary = canary;
        }
        if let Some(time) = min_ready {
            policy.min_ready = time.map_or(default.min_ready, |time| time.0);
        }
        if let Some(amount) = max_failures {
            policy.max_failures = amount.unwrap_or(default.max_failures);
        }
        if let Some(action) = on_failure {
            policy.on_failure = action.unwrap_or_default();
        }
        if let Some(apps) = after {
            policy.after = apps.map_or(default.after, |apps| apps.0);
        }
        if let Some(time) = progress_deadline {
            policy.progress_deadline = time.map(|time| time.0);
        }
    }
}

impl<'de> Deserialize<'de> for RolloutSpec {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<RolloutSpec, D::Error> {
        const EXPECTED: &str = "`none`, or a map such as `{max_unavailable: 25%}`";

        struct RolloutVisitor;
        impl<'de> Visitor<'de> for RolloutVisitor {
            type Value = RolloutSpec;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(EXPECTED)
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<RolloutSpec, E> {
                match text {
                    "none" => Ok(RolloutSpec::Independent),
                    _ => Err(E::invalid_type(de::Unexpected::Str(text), &self)),
                }
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<RolloutSpec, A::Error> {
                let policy = PolicySpec::deserialize(MapAccessDeserializer::new(map))?;
                Ok(RolloutSpec::Policy(Box::new(policy)))
            }
        }
        deserializer.deserialize_any(RolloutVisitor)
    }
}

/// A field that is written, be it as `null`.
fn deserialize_written<'de, T, D>(deserializer: D) -> Result<Option<Option<T>>, D::Error>
where
    T: Deserialize<'de>,
    D: Deserializer<'de>,
{
    Option::deserialize(deserializer).map(Some)
}

/// As [`deserialize_written`]; says how to stop an app's rollouts where 0 was meant to.
fn deserialize_max_unavailable<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Option<Amount>>, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?;
    let amount = text.map(|text| {
        let is_zero = matches!(text.as_str(), "0" | "0%");
        text.parse::<Amount>().map_err(|invalid| match is_zero {
            true => InvalidValue::new(
                format!("`{text}` lets no host take a new sha"),
                "expected at least 1; to freeze an app, give it a `hold`",
            ),
            false => invalid,
        })
    });
    amount.transpose().map(Some).map_err(de::Error::custom)
}

/// The name of a tag.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct TagName(String);

/// The name of an app.
struct AppName(String);

/// Different apps, at most [`AppNames::MAX`].
#[derive(Debug, Clone, PartialEq, Eq)]
struct AppNames(Vec<String>);

impl AppNames {
    const MAX: usize = 50;
}

fn deserialize_name<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let name = String::deserialize(deserializer)?;
    match is_name(&name) {
        true => Ok(name),
        false => Err(de::Error::custom(invalid_name(&name))),
    }
}

impl<'de> Deserialize<'de> for TagName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<TagName, D::Error> {
        deserialize_name(deserializer).map(TagName)
    }
}

impl<'de> Deserialize<'de> for AppName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<AppName, D::Error> {
        deserialize_name(deserializer).map(AppName)
    }
}

impl<'de> Deserialize<'de> for AppNames {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<AppNames, D::Error> {
        let names = Vec::<AppName>::deserialize(deserializer)?;
        let names: Vec<String> = names.into_iter().map(|name| name.0).collect();
        if names.len() > AppNames::MAX {
            let (count, max) = (names.len(), AppNames::MAX);
            let message = format!("it names {count} apps; at most {max} are allowed");
            return Err(de::Error::custom(message));
        }
        let repeated = names.iter().enumerate();
        let mut repeated = repeated.filter(|(number, name)| names[..*number].contains(name));
        match repeated.next() {
            Some((_, name)) => Err(de::Error::custom(format!("it names `{name}` twice"))),
            None => Ok(AppNames(names)),
        }
    }
}

impl<'de> Deserialize<'de> for Canary {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Canary, D::Error> {
        const EXPECTED: &str = "expected either `hosts`, a number, or `match`, tags of hosts";

        #[derive(serde::Deserialize)]
        #[serde(deny_unknown_fields)]
        struct CanarySpec {
            #[serde(default)]
            hosts: Option<HostCount>,
            #[serde(default, rename = "match")]
            tags: Option<TagMatch>,
            #[serde(default)]
            bake: Option<SecondsOrZero>,
        }

        let spec = CanarySpec::deserialize(deserializer)?;
        let invalid = |message: &str| Err(de::Error::custom(InvalidValue::new(message, EXPECTED)));
        let hosts = match (spec.hosts, spec.tags) {
            (Some(count), None) => CanaryHosts::First(count.0),
            (None, Some(tags)) => CanaryHosts::Matching(tags.0),
            (None, None) => return invalid("it does not say which hosts go first"),
            (Some(_), Some(_)) => return invalid("it has both `hosts` and `match`"),
        };
        let bake = spec.bake.map_or_else(Default::default, |time| time.0);
        Ok(Canary { hosts, bake })
    }
}

/// A number of canaries.
struct HostCount(u32);

impl<'de> Deserialize<'de> for HostCount {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<HostCount, D::Error> {
        match u32::deserialize(deserializer)? {
            count @ 1..=Canary::MAX_HOSTS => Ok(HostCount(count)),
            0 => Err(de::Error::custom(InvalidValue::new(
                "`0` is no host at all",
                "leave out `canary` if no hosts go first",
            ))),
            count => {
                let max = Canary::MAX_HOSTS;
                let message = format!("`{count}` are too many to go first: at most {max} do");
                Err(de::Error::custom(message))
            }
        }
    }
}

/// Tags of canaries: not empty.
struct TagMatch(BTreeMap<String, String>);

impl<'de> Deserialize<'de> for TagMatch {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<TagMatch, D::Error> {
        const MAX: usize = 20;
        let tags = BTreeMap::<String, String>::deserialize(deserializer)?;
        if tags.is_empty() {
            return Err(de::Error::custom(InvalidValue::new(
                "it names no tag, so it would match every host",
                "expected tags and their values, such as `{zone: eu-west-1a}`",
            )));
        }
        if tags.len() > MAX {
            let count = tags.len();
            let message = format!("it names {count} tags; at most {MAX} are allowed");
            return Err(de::Error::custom(message));
        }
        match tags.keys().find(|tag| !is_name(tag)) {
            Some(tag) => Err(de::Error::custom(invalid_name(tag))),
            None => Ok(TagMatch(tags)),
        }
    }
}
