//! The catalog: all resources of a node, checked against each other (unique ids, one owner per object).

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::PathBuf;

use super::check::ConfigCheck;
use super::draft::Draft;
use super::path_check::check_unique_paths;
use super::port_check::check_unique_ports;
use super::resource::Resource;
use crate::problem::{Problem, Problems, nearest};
use crate::release::ReleaseSpec;
use crate::resource::Trigger;
use crate::yaml::{Node, NodeKind};

/// Everything that the roles describe for a node, in order.
pub(crate) struct Catalog {
    pub resources: Vec<Resource>,
    /// Commands that check sets of files together, by name.
    pub checks: BTreeMap<String, ConfigCheck>,
    /// The ports that this node publishes to peers, by name.
    pub ports: BTreeMap<String, u16>,
    by_id: HashMap<String, usize>,
}

/// Fields that say when to act, not what is wanted: duplicate declarations may differ in them.
const TRIGGER_FIELDS: &[&str] = &["restart_on", "reload_on", "when_changed"];

impl Catalog {
    pub(super) fn build(
        drafts: Vec<Draft>,
        left_out: &[String],
        checks: BTreeMap<String, ConfigCheck>,
    ) -> Result<Catalog, Problems> {
        let mut problems = Vec::new();
        let (drafts, aliases) = merge_duplicates(drafts, &mut problems);
        let mut resources: Vec<Resource> = Vec::new();
        let ids: Vec<String> = drafts.iter().map(|(draft, _)| draft.id.clone()).collect();
        let known = KnownIds {
            ids: &ids,
            aliases: &aliases,
            left_out,
        };
        for (mut draft, triggers) in drafts {
            let triggers = known.resolve_triggers(&draft, triggers, &mut problems);
            let requires = known.resolve_requires(&mut draft, &mut problems);
            resources.push(Resource::from_draft(draft, triggers, requires));
        }
        let paths = resources.iter().filter_map(|r| r.body.owned_path());
        let paths: BTreeSet<PathBuf> = paths.collect();
        for resource in &mut resources {
            resource.body.set_owned_paths(&paths);
        }
        check_required_order(&resources, &mut problems);
        check_coordinated(&resources, &mut problems);
        check_unique_paths(&resources, &mut problems);
        check_unique_ids(&resources, &mut problems);
        check_unique_ports(&resources, &mut problems);
        check_known_checks(&resources, &checks, &mut problems);
        if problems.is_empty() {
            let mut catalog = Catalog::index(resources, checks);
            catalog.add_restart_requests();
            Ok(catalog)
        } else {
            Err(Problems(problems))
        }
    }

    fn index(mut resources: Vec<Resource>, checks: BTreeMap<String, ConfigCheck>) -> Catalog {
        let ids = resources.iter().enumerate();
        let by_id: HashMap<String, usize> = ids.map(|(at, r)| (r.id.clone(), at)).collect();
        let watched: Vec<usize> = resources
            .iter()
            .flat_map(|resource| &resource.triggers)
            .flat_map(|trigger| &trigger.on)
            .filter_map(|id| by_id.get(id).copied())
            .collect();
        for at in watched {
            resources[at].watched = true;
        }
        Catalog {
            resources,
            checks,
            ports: BTreeMap::new(),
            by_id,
        }
    }

    /// The app that a resource belongs to: the one that it deploys, else the one that it is declared for or
    /// runs from.
    pub(crate) fn app_of<'c>(&'c self, resource: &'c Resource) -> Option<&'c str> {
        let deploys = |id: &String| self.find(id)?.app();
        let named = |item: &&str| {
            self.resources
                .iter()
                .any(|other| other.app() == Some(*item))
        };
        let mut on = resource.triggers.iter().flat_map(|trigger| &trigger.on);
        let own = resource.app().or_else(|| on.find_map(deploys));
        own.or_else(|| resource.item.as_deref().filter(named))
    }

    /// The ids of an app's own resources: the one that deploys it, and those that run from it.
    pub(crate) fn app_resource_ids(&self, app: &str) -> Vec<&str> {
        let deploys = |resource: &&Resource| resource.app() == Some(app);
        let mut ids = Vec::new();
        for resource in self.resources.iter().filter(deploys) {
            ids.push(resource.id.as_str());
            ids.extend(self.dependents(&resource.id).map(|user| user.id.as_str()));
        }
        ids
    }

    /// The apps of the node, each with the resource that deploys it.
    pub(crate) fn releases(&self) -> impl Iterator<Item = (&Resource, &ReleaseSpec)> {
        let resources = self.resources.iter();
        resources.filter_map(|resource| Some((resource, resource.body.release()?)))
    }

    /// The releases of its apps, to complete them from what the fleet says.
    pub(crate) fn releases_mut(&mut self) -> impl Iterator<Item = &mut ReleaseSpec> {
        let resources = self.resources.iter_mut();
        resources.filter_map(|resource| resource.body.release_mut())
    }

    pub(crate) fn find(&self, id: &str) -> Option<&Resource> {
        self.by_id.get(id).map(|at| &self.resources[*at])
    }
}

/// A trigger as written, with the item in whose scope its ids resolve.
type ScopedTrigger = (Option<String>, Trigger);

/// Merges duplicate declarations of one object (the items of a `for_each` may all need nginx). The result has
/// the triggers of all of them. A resource with triggers takes the position of the last declaration, so that
/// it comes after all its dependencies.
#[allow(clippy::type_complexity, reason = "a list and an index made in one go")]
fn merge_duplicates(
    drafts: Vec<Draft>,
    problems: &mut Vec<Problem>,
) -> (Vec<(Draft, Vec<ScopedTrigger>)>, HashMap<String, String>) {
    let mut aliases = HashMap::new();
    let mut merged: Vec<Option<(Draft, Vec<ScopedTrigger>)>> = Vec::new();
    let mut indices: HashMap<(&'static str, String), usize> = HashMap::with_capacity(drafts.len());
    for draft in drafts {
        let triggers: Vec<ScopedTrigger> = draft
            .body
            .triggered()
            .map(|body| body.triggers())
            .into_iter()
            .flatten()
            .map(|trigger| (draft.item.clone(), trigger))
            .collect();
        let key = (draft.body.kind(), draft.body.subject());
        let Some(at) = indices.get(&key).copied() else {
            indices.insert(key, merged.len());
            merged.push(Some((draft, triggers)));
            continue;
        };
        let (mut first, mut all) = merged[at]
            .take()
            .expect("an index is only kept for what is there");
        if without_triggers(&first.node) != without_triggers(&draft.node) {
            problems.push(
                Problem::new(format!(
                    "it is described differently as {} on {}",
                    first.id, first.at
                ))
                .at(&draft.at)
                .resource(draft.id.clone())
                .hint("describe it once, or the same each time"),
            );
        }
        if draft.explicit_id && draft.id != first.id {
            aliases.insert(draft.id.clone(), first.id.clone());
        }
        all.extend(triggers);
        first.requires.extend(draft.requires);
        first.unresolved = first.unresolved.or(draft.unresolved);
        if all.is_empty() {
            merged[at] = Some((first, all));
        } else {
            indices.insert(key, merged.len());
            merged.push(Some((first, all)));
        }
    }
    (merged.into_iter().flatten().collect(), aliases)
}

fn without_triggers(node: &Node) -> serde_json::Value {
    let mut node = node.clone();
    if let NodeKind::Map(entries) = &mut node.kind {
        entries.retain(|entry| !TRIGGER_FIELDS.contains(&entry.key.as_str()));
    }
    node.to_json()
}

struct KnownIds<'a> {
    ids: &'a [String],
    aliases: &'a HashMap<String, String>,
    left_out: &'a [String],
}

impl KnownIds<'_> {
    fn resolve_triggers(
        &self,
        draft: &Draft,
        scoped: Vec<ScopedTrigger>,
        problems: &mut Vec<Problem>,
    ) -> Vec<Trigger> {
        let mut triggers: Vec<Trigger> = Vec::new();
        for (item, trigger) in scoped {
            let merged = match triggers.iter_mut().find(|known| known.duty == trigger.duty) {
                Some(known) => known,
                None => {
                    triggers.push(Trigger {
                        duty: trigger.duty,
                        on: Vec::new(),
                    });
                    triggers.last_mut().expect("pushed just above")
                }
            };
            for name in trigger.on {
                match self.resolve_id(draft, item.as_deref(), &name) {
                    Ok(Some(id)) if !merged.on.contains(&id) => merged.on.push(id),
                    Ok(_) => {}
                    Err(problem) => problems.push(problem),
                }
            }
        }
        triggers
    }

    fn resolve_requires(&self, draft: &mut Draft, problems: &mut Vec<Problem>) -> Vec<String> {
        let mut requires = Vec::new();
        for (item, name) in std::mem::take(&mut draft.requires) {
            match self.resolve_id(draft, item.as_deref(), &name) {
                Ok(id) => requires.extend(id),
                Err(problem) => problems.push(problem.field("requires")),
            }
        }
        requires
    }

    /// The full id of another resource; `None`: it is declared, but not part of this node.
    fn resolve_id(
        &self,
        draft: &Draft,
        item: Option<&str>,
        name: &str,
    ) -> Result<Option<String>, Problem> {
        match self.find(item, name) {
            Some(Some(id)) if id == draft.id => {
                Err(self.problem(draft, "a resource cannot wait for itself"))
            }
            Some(found) => Ok(found),
            None => {
                let problem = self.problem(draft, &format!("there is no resource `{name}`"));
                let own: Vec<&str> = self
                    .ids
                    .iter()
                    .map(|id| id.rsplit('/').next().unwrap_or(id))
                    .collect();
                Err(match nearest(name, own) {
                    Some(near) => problem.hint(format!("did you mean `{near}`?")),
                    None => problem.hint("expected the `id` of a resource, or `kind:name`"),
                })
            }
        }
    }

    /// The full id of a name; `Some(None)`: it is declared, but not part of this node.
    fn find(&self, item: Option<&str>, name: &str) -> Option<Option<String>> {
        let candidates = [
            item.map(|item| format!("{item}/{name}")),
            Some(name.to_owned()),
        ];
        for id in candidates.into_iter().flatten() {
            if let Some(id) = self.aliases.get(&id) {
                return Some(Some(id.clone()));
            }
            if self.ids.contains(&id) {
                return Some(Some(id));
            }
            if self.left_out.contains(&id) {
                return Some(None);
            }
        }
        None
    }

    fn problem(&self, draft: &Draft, message: &str) -> Problem {
        Problem::new(message)
            .at(&draft.at)
            .resource(draft.id.clone())
    }
}

/// Resources are applied in the order of the list, so a required one must come earlier.
fn check_required_order(resources: &[Resource], problems: &mut Vec<Problem>) {
    if resources
        .iter()
        .all(|resource| resource.requires.is_empty())
    {
        return;
    }
    let at: HashMap<&str, usize> = resources
        .iter()
        .enumerate()
        .map(|(at, resource)| (resource.id.as_str(), at))
        .collect();
    for (own, resource) in resources.iter().enumerate() {
        let later = |id: &&String| at.get(id.as_str()).is_some_and(|at| *at > own);
        if let Some(id) = resource.requires.iter().find(later) {
            problems.push(
                Problem::new(format!("it requires `{id}`, which comes after it"))
                    .at(&resource.at)
                    .resource(resource.id.clone())
                    .field("requires")
                    .hint("resources are applied in the order of the list: put it before this one"),
            );
        }
    }
}

/// A service that acts on a release does so under a slot of the app, and during a rollback it must not wait.
fn check_coordinated(resources: &[Resource], problems: &mut Vec<Problem>) {
    let releases = resources
        .iter()
        .filter(|other| other.body.release().is_some());
    let releases: BTreeSet<&str> = releases.map(|other| other.id.as_str()).collect();
    for resource in resources {
        let service = resource.body.service();
        if service.is_none_or(|service| service.slots().is_none()) {
            continue;
        }
        let mut on = resource.triggers.iter().flat_map(|trigger| &trigger.on);
        if let Some(release) = on.find(|id| releases.contains(id.as_str())) {
            problems.push(
                Problem::new(format!("it acts on `{release}`, the release of an app"))
                    .at(&resource.at)
                    .resource(resource.id.clone())
                    .field("coordinated")
                    .hint("leave it out: the rollout policy of the app stands for its services"),
            );
        }
    }
}

fn check_unique_ids(resources: &[Resource], problems: &mut Vec<Problem>) {
    let mut by_id: HashMap<&str, &Resource> = HashMap::with_capacity(resources.len());
    for resource in resources {
        if let Some(first) = by_id.insert(&resource.id, resource) {
            problems.push(
                Problem::new(format!(
                    "the id `{}` is already taken on {}",
                    resource.id, first.at
                ))
                .at(&resource.at)
                .resource(resource.id.clone())
                .field("id"),
            );
        }
    }
}

fn check_known_checks(
    resources: &[Resource],
    checks: &BTreeMap<String, ConfigCheck>,
    problems: &mut Vec<Problem>,
) {
    for resource in resources {
        if let Some(name) = resource
            .body
            .check_name()
            .filter(|name| !checks.contains_key(*name))
        {
            problems.push(
                Problem::new(format!("no role of this node has a check `{name}`"))
                    .at(&resource.at)
                    .resource(resource.id.clone())
                    .field("check")
                    .suggest(name, checks.keys().map(String::as_str))
                    .hint(format!(
                        "define it under `checks:` in the role: `{name}: [command, arguments]`"
                    )),
            );
        }
    }
}
