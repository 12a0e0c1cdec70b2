//! The state of the fleet.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::Timestamp;

use crate::desired::{Manifest, RolloutMode};
use crate::fleet::rollout::AppRollout;
use crate::fleet::{
    self, Ec2Api, FleetView, Instance, Instances, RecordCache, Snapshot, fleet_view, without_agent,
};
use crate::operate::rollout::{RolloutTarget, summarize_rollout};
use crate::pass::PassError;
use crate::ports::store::{Etag, GetOutcome, Store, StoreError};
use crate::problem::nearest;
use crate::settings::FleetSettings;

/// The instances of the cloud with the groups of the settings that each belongs to, or why there is no list.
type InstanceAnswer = Result<Vec<(Instance, Vec<usize>)>, String>;

/// Reads the fleet repeatedly, fetching only changed records.
pub(crate) struct FleetWatch<'a> {
    pub store: &'a dyn Store,
    pub environment: &'a str,
    /// The manifest's key.
    pub manifest_key: &'a str,
    /// When nodes count as gone, and how often one publishes its record that does not say so itself.
    pub fleet: &'a FleetSettings,
    /// Only this app.
    pub app: Option<&'a str>,
    /// A person named the environment; otherwise the settings did. A name without nodes is probably misspelt.
    pub is_environment_given: bool,
    /// It is the one of the settings, which say where its instances are.
    pub is_own_environment: bool,
    /// Lists the instances of the cloud.
    pub instances: &'a dyn Instances,
    cache: RecordCache,
    /// The last list of instances, and when it was asked for, by the store's clock.
    listed: Option<(Timestamp, InstanceAnswer)>,
    manifest: Option<(Etag, Result<Manifest, String>)>,
}

impl<'a> FleetWatch<'a> {
    pub(crate) fn new(
        store: &'a dyn Store,
        environment: &'a str,
        manifest_key: &'a str,
        fleet: &'a FleetSettings,
    ) -> FleetWatch<'a> {
        FleetWatch {
            store,
            environment,
            manifest_key,
            fleet,
            app: None,
            is_environment_given: false,
            is_own_environment: true,
            instances: &Ec2Api,
            listed: None,
            cache: RecordCache::empty(store.address(), environment),
            manifest: None,
        }
    }

    /// The fleet now, and the store's time.
    pub(crate) fn observe(&mut self) -> Result<(FleetView, Timestamp), PassError> {
        let mut snapshot: Snapshot = fleet::take_snapshot(
            self.store,
            self.environment,
            self.fleet.gone_after(),
            &mut self.cache,
        )?;
        let now = snapshot.now;
        let alive = fleet::live_records(&snapshot, self.fleet.gone_after());
        let manifest = match self.read_manifest()? {
            Ok(manifest) => Some(manifest),
            Err(why) => {
                let line = format!("{why}; showing the wanted shas that the nodes last reported");
                snapshot.problems.push(line);
                None
            }
        };
        let mut view = fleet_view(
            self.environment,
            snapshot,
            manifest.as_ref(),
            self.fleet.gone_after(),
            self.fleet.heartbeat(),
        );
        let listed = match self.is_own_environment {
            true => self.list_instances(now),
            false => Ok(Vec::new()),
        };
        match listed {
            Ok(instances) => {
                view.instances = without_agent(&self.fleet.ec2, &instances, &alive);
            }
            Err(why) => view.add_unlisted_instances(&why),
        }
        let mut view = self.select(view, manifest.as_ref());
        if let Some(manifest) = &manifest {
            self.add_rollouts(&mut view, manifest);
        }
        Ok((view, now))
    }

    /// The instances of the cloud, which is asked once a minute.
    fn list_instances(&mut self, now: Timestamp) -> InstanceAnswer {
        let age = |at: Timestamp| Duration::try_from(now.duration_since(at)).unwrap_or_default();
        let known = self.listed.take();
        let known = known.filter(|(at, _)| age(*at) < fleet::ASK_INTERVAL);
        let listed =
            known.unwrap_or_else(|| (now, fleet::list_instances(&self.fleet.ec2, self.instances)));
        self.listed.insert(listed).1.clone()
    }

    /// Adds the rollouts of the apps that are shown. Hosts that share a folder of one machine have none.
    fn add_rollouts(&self, view: &mut FleetView, manifest: &Manifest) {
        let Some(environment) = manifest.environments.get(self.environment) else {
            return;
        };
        if self.store.address().starts_with("dir:") {
            return;
        }
        let nodes = view.nodes.iter();
        let shown: BTreeSet<String> = nodes
            .flat_map(|node| node.apps.iter().map(|app| app.app.clone()))
            .collect();
        for app in shown
            .iter()
            .filter(|app| environment.entry(app).is_some_and(|entry| entry.is_ok()))
        {
            let RolloutMode::Coordinated(policy) = environment.rollout(app) else {
                view.rollouts.push(AppRollout::independent(app));
                continue;
            };
            let target = RolloutTarget {
                store: self.store,
                environment: self.environment,
                app,
                manifest_key: self.manifest_key,
                fleet: self.fleet,
            };
            match summarize_rollout(&target, &policy) {
                Ok(rollout) => view.rollouts.push(AppRollout::coordinated(rollout)),
                Err(error) => view.problems.push(format!("the rollout of {app}: {error}")),
            }
        }
    }

    /// Keeps what was asked for, and reports a name that matches nothing.
    fn select(&self, mut view: FleetView, manifest: Option<&Manifest>) -> FleetView {
        let environment = self.environment;
        if view.nodes.is_empty()
            && view.instances.is_empty()
            && (self.is_environment_given || self.app.is_some())
        {
            let known = manifest.into_iter();
            let known = known.flat_map(|known| known.environments.keys());
            let known: Vec<&str> = known.map(String::as_str).collect();
            view.add_not_found(format!(
                "no node of `{environment}` has reported; the manifest names {}{}",
                join_names(&known),
                suggestion(environment, &known)
            ));
            return view;
        }
        let Some(app) = self.app else {
            return view;
        };
        let nodes = view.nodes.iter();
        let mut apps: Vec<String> = nodes
            .flat_map(|node| node.apps.iter().map(|app| app.app.clone()))
            .collect();
        apps.sort();
        apps.dedup();
        view.retain_app(app);
        if view.nodes.is_empty() && view.instances.is_empty() {
            let apps: Vec<&str> = apps.iter().map(String::as_str).collect();
            view.add_not_found(format!(
                "no node of {environment} runs `{app}`; what they run: {}{}",
                join_names(&apps),
                suggestion(app, &apps)
            ));
        }
        view
    }

    fn read_manifest(&mut self) -> Result<Result<Manifest, String>, StoreError> {
        let key = self.manifest_key;
        let known = self.manifest.as_ref().map(|(etag, _)| etag);
        match self.store.get(key, known)? {
            GetOutcome::Unchanged => {}
            GetOutcome::Missing => return Ok(Err(format!("there is no manifest `{key}`"))),
            GetOutcome::Object(object) => {
                let manifest = Manifest::parse(key, &object.body);
                let manifest = manifest.map_err(|problem| problem.to_string());
                self.manifest = Some((object.etag, manifest));
            }
        }
        let known = self.manifest.as_ref().map(|(_, manifest)| manifest.clone());
        Ok(known.unwrap_or_else(|| Err(format!("there is no manifest `{key}`"))))
    }
}

/// `a, b`, or a note that there are none.
fn join_names(names: &[&str]) -> String {
    const MOST: usize = 20;
    match names {
        [] => "nothing".into(),
        names => names[..names.len().min(MOST)].join(", "),
    }
}

/// `; did you mean …?` for a name that is not one of these.
fn suggestion(name: &str, known: &[&str]) -> String {
    let near = nearest(name, known.iter().copied());
    near.map_or(String::new(), |near| format!("; did you mean `{near}`?"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::InstanceState;
    use crate::ports::store::MemoryStore;
    use crate::settings::Ec2Group;

    struct Cloud;

    impl Instances for Cloud {
        fn list(&self, _: &Ec2Group) -> Result<Vec<Instance>, String> {
            Ok(vec![Instance {
                id: "i-0a".into(),
                state: InstanceState::Running,
                addresses: vec![[10, 1, 0, 1].into()],
                tags: [].into(),
            }])
        }
    }

    #[test]
    fn instances_of_the_settings_are_no_nodes_of_another_environment() {
        let store = MemoryStore::new();
        let groups = serde_json::json!({"ec2": {"filters": {"tag:app": "shop"}}});
        let settings: FleetSettings = serde_json::from_value(groups).unwrap();
        let mut watch = FleetWatch::new(&store, "production", "sha_number.yml", &settings);
        watch.instances = &Cloud;
        watch.is_environment_given = true;
        assert_eq!(watch.observe().unwrap().0.instances.len(), 1);
        let mut watch = FleetWatch::new(&store, "prodution", "sha_number.yml", &settings);
        watch.instances = &Cloud;
        watch.is_environment_given = true;
        watch.is_own_environment = false;
        let view = watch.observe().unwrap().0;
        assert_eq!(view.instances.len(), 0);
        let problems = view.problems.join("\n");
        assert!(problems.contains("prodution"), "{problems}");
    }
}
