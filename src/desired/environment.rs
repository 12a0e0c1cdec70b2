//! One environment of the manifest: its apps, and what is for all of them.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Deserialize;
use serde::de::{self, Deserializer};

use super::change::ManifestChange;
use super::content_digest::ContentDigest;
use super::entry::{AppEntry, DesiredApp, parse_entry};
use super::notify::NotifySpec;
use super::repository::RepositorySetting;
use super::rollout::{RolloutMode, RolloutSpec, apps_in_circles};
use crate::problem::{Location, Problem};
use crate::settings::{invalid_name, is_name};
use crate::yaml::{self, Node};

/// The one key of an environment that is no app.
pub(crate) const SETTINGS_KEY: &str = "_settings";

/// What stands for the policy bundle among the apps, in rollouts and in records of hosts.
pub(crate) const POLICY_APP: &str = "_policy";

/// The setting that names the bundle.
pub(crate) const POLICY_SETTING: &str = "policy";

/// Whether a name of an environment's map is none of an app: no app's name begins with it.
pub(crate) fn is_reserved(name: &str) -> bool {
    name.starts_with('_')
}

/// What is for all apps of an environment.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct EnvironmentSettings {
    /// The `rollout` of each app; its own overrides single fields.
    #[serde(default)]
    pub rollout: Option<RolloutSpec>,
    /// Where `publish` looks up the branches and commits of an app, which need not have an entry yet. Hosts do not use it.
    #[serde(default)]
    pub repositories: BTreeMap<String, RepositorySetting>,
    /// The environment's own generation, which takes the place of the file's.
    #[serde(default)]
    pub generation: Option<u64>,
    /// What made this generation.
    #[serde(default)]
    pub change: Option<ManifestChange>,
    /// When an operator last asked for a pass of every host. Like `restart_requested_at` it only tells requests apart.
    #[serde(default, deserialize_with = "yaml::deserialize_optional_time")]
    pub passes_requested_at: Option<Timestamp>,
    /// The store and the key of the manifest that a signed environment is for: it is not taken anywhere else.
    #[serde(default)]
    pub signed_for: Option<String>,
    /// Commands ask before they change this environment.
    #[serde(default)]
    pub protected: bool,
    /// The secrets of its hosts, by name: the digest of the encrypted object.
    #[serde(default, deserialize_with = "deserialize_secrets")]
    pub secrets: BTreeMap<String, ContentDigest>,
    /// The policy bundle of its hosts. Only those with signers act on it: it is root's own roles.
    #[serde(default)]
    pub policy: Option<ContentDigest>,
    /// The bundle before, which was good: for a rollback, and for new hosts while nobody knows that `policy` is.
    #[serde(default)]
    pub previous_policy: Option<ContentDigest>,
    /// The public keys that the secrets are encrypted to. Only commands of operators use them, so a mistake in one
    /// stops no host.
    #[serde(default)]
    pub recipients: Vec<String>,
    /// Channels of the hosts' settings that rollouts notify.
    #[serde(default)]
    pub notify: NotifySpec,
}

impl EnvironmentSettings {
    /// The entry of the app that the policy bundle is in rollouts.
    fn policy_entry(&self) -> Option<AppEntry> {
        let policy = self.policy.as_ref()?;
        let previous = self.previous_policy.as_ref();
        Some(AppEntry {
            previous: previous.map(ContentDigest::rollout_sha),
            ..AppEntry::of_sha(policy.rollout_sha())
        })
    }
}

/// The policy bundle that an environment wants of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct WantedPolicy {
    pub digest: ContentDigest,
    /// The one before, which was good.
    pub previous: Option<ContentDigest>,
    /// The same as an app of rollouts.
    pub app: DesiredApp,
}

/// Secrets by name, of which hosts make paths.
fn deserialize_secrets<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<BTreeMap<String, ContentDigest>, D::Error> {
    let secrets: BTreeMap<String, ContentDigest> = BTreeMap::deserialize(deserializer)?;
    match secrets.keys().find(|name| !is_name(name)) {
        Some(bad) => Err(de::Error::custom(invalid_name(bad))),
        None => Ok(secrets),
    }
}

/// The apps of an environment.
#[derive(Debug, Clone)]
pub(crate) struct Environment {
    /// A mistake in them concerns every host of the environment.
    pub settings: Result<EnvironmentSettings, Problem>,
    /// The location of its own generation, if it has one.
    pub(super) generation_at: Option<Location>,
    apps: BTreeMap<String, Result<AppEntry, Problem>>,
    /// Why an app cannot go after those of its `after`.
    order_problems: BTreeMap<String, Problem>,
    /// The policy bundle as an app.
    policy: Option<AppEntry>,
}

impl Environment {
    pub(super) fn parse(node: &Node) -> Result<Environment, Problem> {
        let mut environment = Environment {
            settings: Ok(EnvironmentSettings::default()),
            generation_at: None,
            apps: BTreeMap::new(),
            order_problems: BTreeMap::new(),
            policy: None,
        };
        if node.is_null() {
            return Ok(environment);
        }
        for entry in node.expect_map("an environment: a map of apps to shas")? {
            let key = &entry.key;
            if key == SETTINGS_KEY {
                let generation = entry.value.get("generation");
                environment.generation_at = generation.map(|node| node.at.clone());
                if environment.settings.is_ok() {
                    environment.settings = parse_settings(&entry.value);
                }
            } else if is_reserved(key) {
                environment.settings = Err(reserved_name_problem(key).at(&entry.key_at));
            } else {
                let app = parse_entry(&entry.value).map_err(|problem| problem.within_field(key));
                environment.apps.insert(key.clone(), app);
            }
        }
        environment.check_order(node);
        let settings = environment.settings.as_ref().ok();
        environment.policy = settings.and_then(EnvironmentSettings::policy_entry);
        Ok(environment)
    }

    /// Its own generation, if it has one.
    pub(super) fn generation(&self) -> Option<u64> {
        self.settings.as_ref().ok()?.generation
    }

    /// The names of all apps, also of those whose entry is invalid.
    pub(crate) fn app_names(&self) -> impl Iterator<Item = &str> {
        self.apps.keys().map(String::as_str)
    }

    /// Whether it has an entry for an app, be it invalid.
    pub(crate) fn has_app(&self, app: &str) -> bool {
        self.apps.contains_key(app)
    }

    /// The entry of an app, which hosts may act on; or why they may not.
    pub(crate) fn entry(&self, app: &str) -> Option<Result<&AppEntry, &Problem>> {
        if app == POLICY_APP {
            return self.policy.as_ref().map(Ok);
        }
        let entry = self.apps.get(app)?;
        let settings = self.settings.as_ref().map(|_| ());
        let order = self.order_problems.get(app).map_or(Ok(()), Err);
        Some(
            settings
                .and(entry.as_ref())
                .and_then(|entry| order.map(|()| entry)),
        )
    }

    /// The entry of an app by itself, whatever the settings and other entries are.
    pub(crate) fn own_entry(&self, app: &str) -> Option<Result<&AppEntry, &Problem>> {
        if app == POLICY_APP {
            return self.policy.as_ref().map(Ok);
        }
        self.apps.get(app).map(Result::as_ref)
    }

    /// The desired state of an app for a node with these tags, at this time; or why its entry is invalid.
    pub(crate) fn desired_app(
        &self,
        app: &str,
        tags: &BTreeMap<String, String>,
        now: Timestamp,
    ) -> Option<Result<DesiredApp, &Problem>> {
        let entry = self.entry(app)?;
        Some(entry.map(|entry| entry.for_node(tags, now, self.rollout(app))))
    }

    /// The policy bundle that it wants of a node with these tags.
    pub(super) fn wanted_policy(
        &self,
        tags: &BTreeMap<String, String>,
        now: Timestamp,
    ) -> Option<WantedPolicy> {
        let settings = self.settings.as_ref().ok()?;
        let entry = self.policy.as_ref()?;
        Some(WantedPolicy {
            digest: settings.policy.clone()?,
            previous: settings.previous_policy.clone(),
            app: entry.for_node(tags, now, self.rollout(POLICY_APP)),
        })
    }

    /// How hosts take up a new sha of an app. The default where its entry or the settings are invalid.
    pub(crate) fn rollout(&self, app: &str) -> RolloutMode {
        let own = self.apps.get(app).and_then(|entry| entry.as_ref().ok());
        let own = own.and_then(|entry| entry.rollout.as_ref());
        let mut mode = RolloutSpec::resolve(app, own, self.shared_rollout());
        if app == POLICY_APP
            && let RolloutMode::Coordinated(policy) = &mut mode
        {
            // It is below all apps, so it goes after none.
            policy.after.clear();
        }
        mode
    }

    fn shared_rollout(&self) -> Option<&RolloutSpec> {
        self.settings.as_ref().ok()?.rollout.as_ref()
    }

    /// Validates that each app of an `after` has an entry, and that none goes after itself. `node` is this
    /// environment.
    fn check_order(&mut self, node: &Node) {
        let names: Vec<&str> = self.apps.keys().map(String::as_str).collect();
        let shared = self.shared_rollout();
        let shared_names = shared.and_then(RolloutSpec::after).unwrap_or_default();
        let list = AfterList::find(node, SETTINGS_KEY);
        let shared_numbers = match list.numbers(shared_names, &names) {
            Ok(numbers) => numbers,
            Err(problem) => {
                self.settings = Err(problem);
                return;
            }
        };
        let mut problems = Vec::new();
        let mut after = Vec::with_capacity(names.len());
        for (number, (app, entry)) in self.apps.iter().enumerate() {
            let Ok(entry) = entry else {
                after.push(Vec::new());
                continue;
            };
            after.push(match entry.rollout.as_ref().and_then(RolloutSpec::after) {
                Some(own) => match AfterList::find(node, app).numbers(own, &names) {
                    Ok(numbers) => numbers,
                    Err(problem) => {
                        problems.push((app.clone(), problem));
                        Vec::new()
                    }
                },
                // Those that the settings name go before all others.
                None if shared_numbers.contains(&number) => Vec::new(),
                None => vec![names.len()],
            });
        }
        // One number for all of the settings' list: a hundred thousand apps may inherit it.
        after.push(shared_numbers);
        for (number, circle) in apps_in_circles(&names, &after) {
            let app = names[number];
            let own = AfterList::find(node, app);
            let list = if own.node.is_some() { &own } else { &list };
            let problem = Problem::new(format!(
                "{app} can never take a new sha, because its `after` goes in a circle: {circle}"
            ));
            problems.push((app.to_owned(), list.add_location(problem)));
        }
        self.order_problems = problems.into_iter().collect();
    }
}

/// The `after` of an app or of the settings in the text.
struct AfterList<'n> {
    node: Option<&'n Node>,
    field: String,
    /// The start of the environment, where there is no list.
    fallback: &'n Location,
}

impl<'n> AfterList<'n> {
    fn find(environment: &'n Node, key: &str) -> AfterList<'n> {
        let rollout = environment.get(key).and_then(|entry| entry.get("rollout"));
        AfterList {
            node: rollout.and_then(|rollout| rollout.get("after")),
            field: format!("{key}.rollout.after"),
            fallback: &environment.at,
        }
    }

    /// Adds the location of the list.
    fn add_location(&self, problem: Problem) -> Problem {
        let at = self.node.map_or(self.fallback, |node| &node.at);
        problem.at(at).field(self.field.clone())
    }

    /// The numbers of these apps of the list in `known`, which is sorted.
    fn numbers(&self, apps: &[String], known: &[&str]) -> Result<Vec<usize>, Problem> {
        let number = |(index, app): (usize, &String)| {
            known.binary_search(&app.as_str()).map_err(|_| {
                let item = self.node.and_then(|node| node.as_list()?.get(index));
                let problem = Problem::new(format!("there is no app `{app}` in this environment"));
                let problem = match item {
                    Some(item) => problem
                        .at(&item.at)
                        .field(format!("{}[{index}]", self.field)),
                    None => self.add_location(problem),
                };
                problem.suggest(app, known.iter().copied())
            })
        };
        apps.iter().enumerate().map(number).collect()
    }
}

fn parse_settings(node: &Node) -> Result<EnvironmentSettings, Problem> {
    if node.is_null() {
        return Ok(EnvironmentSettings::default());
    }
    let settings: EnvironmentSettings =
        yaml::decode(node).map_err(|problem: Problem| problem.within_field(SETTINGS_KEY))?;
    if let Some(name) = settings.repositories.keys().find(|name| is_reserved(name)) {
        let repositories = node.get("repositories");
        let at = repositories.and_then(|map| map.get(name)).unwrap_or(node);
        return Err(no_app_problem(name)
            .at(&at.at)
            .field(format!("{SETTINGS_KEY}.repositories.{name}")));
    }
    if let (Some(change), Some(at)) = (&settings.change, node.get("change")) {
        let checked = change.check();
        checked.map_err(|problem| problem.at(&at.at).field(format!("{SETTINGS_KEY}.change")))?;
    }
    Ok(settings)
}

/// Why a name can be none of an app.
pub(crate) fn reserved_name_problem(name: &str) -> Problem {
    let problem = no_app_problem(name);
    problem.suggest(name, [SETTINGS_KEY]).hint(format!(
        "the only one is `{SETTINGS_KEY}`, for what all apps share"
    ))
}

fn no_app_problem(name: &str) -> Problem {
    Problem::new(format!(
        "`{name}` cannot be an app: names that begin with `_` are reserved"
    ))
}
