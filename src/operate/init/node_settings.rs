//! Composes the settings of a node from what an operator requests.

use serde_json::{Map, Value, json};

use super::request::InitRequest;
use super::{node_yml, secrets};
use crate::problem::Problem;
use crate::role::ItemList;

/// The settings to write to `node.yml`.
#[derive(Debug, Clone)]
pub(super) struct NodeSettings {
    environment: String,
    roles: Vec<String>,
    tags: Map<String, Value>,
    node: Option<String>,
    store: Map<String, Value>,
    manifest: Option<String>,
    attributes: Map<String, Value>,
    /// A value counts as a secret, whatever its key and value look like.
    has_secret: bool,
}

impl NodeSettings {
    /// `lists` are the item lists of the roles: an app goes into the list that its role reads.
    pub(super) fn new(request: &InitRequest, lists: &[ItemList]) -> Result<NodeSettings, Problem> {
        let tags = request.tags.iter();
        let mut settings = NodeSettings {
            environment: request.environment.clone(),
            roles: request.roles.clone(),
            tags: tags
                .map(|(key, value)| (key.clone(), json!(value)))
                .collect(),
            node: request.node.clone(),
            store: as_map(json!(request.store)),
            manifest: request.manifest.clone(),
            attributes: Map::new(),
            has_secret: request.has_secret,
        };
        // Settings without a value are not written.
        settings.store.retain(|_, value| *value != json!(false));
        for (name, repo) in &request.apps {
            let list = app_list(lists)?;
            settings.set(&[&list.name, name, "repo"], json!(repo), "--app")?;
        }
        if !request.known_hosts.is_empty() {
            settings.add_known_hosts(&request.known_hosts)?;
        }
        for (key, value) in &request.parameters {
            let path: Vec<&str> = key.split('.').collect();
            settings.set(&path, value.clone(), "--set")?;
        }
        Ok(settings)
    }

    /// Adds host keys of servers, as lines of `known_hosts`.
    pub(super) fn add_known_hosts(&mut self, lines: &[String]) -> Result<(), Problem> {
        let lines = lines.iter().flat_map(|lines| lines.lines());
        let lines = lines
            .map(str::trim)
            .filter(|line| !line.starts_with('#') && !line.is_empty());
        let known = self
            .attributes
            .entry("known_hosts")
            .or_insert_with(|| json!([]));
        let Value::Array(known) = known else {
            return Err(Problem::new(
                "--known-host cannot be combined with `--set known_hosts=…`",
            ));
        };
        for line in lines {
            let kinds = ["ssh-", "ecdsa-", "sk-"];
            let is_kind = |word: &str| kinds.iter().any(|kind| word.starts_with(kind));
            let mut words = line.split_ascii_whitespace();
            if words.clone().count() < 3 || !words.any(is_kind) {
                return Err(Problem::new(format!(
                    "--known-host: `{line}` is not a line of known_hosts; expected a name, a key type and a key"
                ))
                .hint("`ssh-keyscan github.com` prints valid lines"));
            }
            if !known.iter().any(|other| other == line) {
                known.push(json!(line));
            }
        }
        Ok(())
    }

    /// The names of the items in a list.
    pub(super) fn item_names(&self, list: &ItemList) -> Vec<String> {
        let items = self.attributes.get(&list.name).and_then(Value::as_object);
        items.into_iter().flat_map(Map::keys).cloned().collect()
    }

    /// The text of `node.yml`; `deploy_key` is a path.
    pub(super) fn render(&self, deploy_key: Option<&str>) -> String {
        node_yml::fill(node_yml::TEMPLATE, &self.entries(deploy_key))
    }

    /// The settings in the order of `node.yml`.
    fn entries(&self, deploy_key: Option<&str>) -> Vec<(&'static str, Value)> {
        let mut entries = vec![
            ("environment", json!(self.environment)),
            ("roles", json!(self.roles)),
        ];
        let mut add = |key, value: Value, is_set| {
            if is_set {
                entries.push((key, value));
            }
        };
        add("tags", json!(self.tags), !self.tags.is_empty());
        add("node", json!(self.node), self.node.is_some());
        add("store", json!(self.store), true);
        add("manifest", json!(self.manifest), self.manifest.is_some());
        let mut attributes = self.attributes.clone();
        if let Some(path) = deploy_key {
            attributes.shift_insert(0, "deploy_key".into(), json!(path));
        }
        add("attributes", json!(attributes), !attributes.is_empty());
        entries
    }

    pub(super) fn has_secrets(&self) -> bool {
        let all = [&self.attributes, &self.store, &self.tags];
        self.has_secret || all.iter().any(|map| secrets::contains_secret(&json!(map)))
    }

    fn set(&mut self, path: &[&str], value: Value, option: &str) -> Result<(), Problem> {
        let Some((last, above)) = path.split_last() else {
            return Ok(());
        };
        let mut map = &mut self.attributes;
        for part in above {
            let inner = map.entry(*part).or_insert_with(|| json!({}));
            let Value::Object(inner) = inner else {
                return Err(Problem::new(format!(
                    "{option}: `{}` is set to a value and to something in it",
                    path.join(".")
                )));
            };
            map = inner;
        }
        map.insert((*last).to_owned(), value);
        Ok(())
    }
}

fn as_map(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

/// Whether the items of a list are apps with a repository.
pub(super) fn has_repo(list: &ItemList) -> bool {
    list.settings.iter().any(|(name, _)| name == "repo")
}

/// The only list of these roles whose items have a repository.
pub(crate) fn app_list(lists: &[ItemList]) -> Result<&ItemList, Problem> {
    let found: Vec<&ItemList> = lists.iter().filter(|list| has_repo(list)).collect();
    match found.as_slice() {
        [one] => Ok(one),
        [] => Err(
            Problem::new("--app: no role given deploys apps from a repository")
                .hint("such as `--role app`; parameters of other roles are set by --set"),
        ),
        [first, ..] => Err(Problem::new(format!(
            "--app: the roles {} deploy apps",
            found
                .iter()
                .map(|list| list.role.as_str())
                .collect::<Vec<_>>()
                .join(" and ")
        ))
        .hint(format!(
            "say which, as in `--set {}.NAME.repo=REPO`",
            first.name
        ))),
    }
}
