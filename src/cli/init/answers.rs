//! Converts the options and answers of `trueup init` into settings.

use serde_json::{Map, Value, json};

use super::secrets;
use crate::cli::args::InitArgs;
use crate::ports::root::Root;
use crate::ports::store::StoreSettings;
use crate::problem::Problem;
use crate::role::ItemList;
use crate::yaml::{self, ParseLimits};

/// Maximum size of a file that a value is read from, in bytes.
const MAX_VALUE_BYTES: usize = 64 << 10;

/// All settings that the command writes.
#[derive(Debug, Clone, Default)]
pub(super) struct Answers {
    pub environment: String,
    pub roles: Vec<String>,
    pub tags: Map<String, Value>,
    pub node: Option<String>,
    pub store: Map<String, Value>,
    pub manifest: Option<String>,
    pub attributes: Map<String, Value>,
    /// A value was read from a file (`@FILE`).
    from_file: bool,
}

impl Answers {
    /// `lists` are the item lists of the roles: an app goes into the list that its role reads.
    pub(super) fn new(args: &InitArgs, lists: &[ItemList]) -> Result<Answers, Problem> {
        let store = StoreSettings {
            url: args.store.clone().unwrap_or_default(),
            region: args.region.clone(),
            endpoint: args.endpoint.clone(),
            path_style: args.path_style,
        };
        let mut answers = Answers {
            environment: args.env.clone().unwrap_or_default(),
            roles: args.role.clone(),
            node: args.node.clone(),
            manifest: args.manifest.clone(),
            store: as_map(serde_json::to_value(store).unwrap_or_default()),
            ..Answers::default()
        };
        // Settings without a value are not written.
        answers.store.retain(|_, value| *value != json!(false));
        for word in &args.tag {
            let (key, value) = split_pair(word, "--tag", "KEY=VALUE, as in `zone=eu-west-1a`")?;
            answers.tags.insert(key.to_owned(), json!(value));
        }
        for word in &args.app {
            let (name, repo) = split_pair(
                word,
                "--app",
                "NAME=REPO, as in `shop=git@github.com:acme/shop.git`",
            )?;
            let list = app_list(lists)?;
            answers.set(&[&list.name, name, "repo"], json!(repo), "--app")?;
        }
        if !args.known_host.is_empty() {
            answers.add_known_hosts(&args.known_host)?;
        }
        for word in &args.set {
            let form = "KEY=VALUE, as in `apps.shop.port=3000`";
            let (key, value) = split_pair(word, "--set", form)?;
            let path: Vec<&str> = key.split('.').collect();
            if path.iter().any(|part| part.is_empty()) {
                return Err(Problem::new(format!("--set: `{key}` is not a key")).hint(
                    "expected a dotted key that starts with the parameter: `apps.shop.port`",
                ));
            }
            answers.from_file |= value.starts_with('@');
            answers.set(&path, parse_value(key, value)?, "--set")?;
        }
        Ok(answers)
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

    /// The settings in the order of `node.yml`.
    pub(super) fn settings(&self) -> Vec<(&'static str, Value)> {
        let mut settings = vec![
            ("environment", json!(self.environment)),
            ("roles", json!(self.roles)),
        ];
        let mut add = |key, value: Value, there| {
            if there {
                settings.push((key, value));
            }
        };
        add("tags", json!(self.tags), !self.tags.is_empty());
        add("node", json!(self.node), self.node.is_some());
        add("store", json!(self.store), true);
        add("manifest", json!(self.manifest), self.manifest.is_some());
        let attributes = &self.attributes;
        add("attributes", json!(attributes), !attributes.is_empty());
        settings
    }

    /// Whether the settings hold secrets. A value from a file counts as one: the operator had a reason to use
    /// a file.
    pub(super) fn has_secrets(&self) -> bool {
        let all = [&self.attributes, &self.store, &self.tags];
        self.from_file || all.iter().any(|map| secrets::contains_secret(&json!(map)))
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

fn split_pair<'w>(word: &'w str, option: &str, form: &str) -> Result<(&'w str, &'w str), Problem> {
    word.split_once('=')
        .filter(|(key, value)| !key.is_empty() && !value.is_empty())
        .ok_or_else(|| Problem::new(format!("{option}: `{word}` is not {form}")))
}

/// Parses a value as YAML; `@FILE` takes the text of a file.
fn parse_value(key: &str, text: &str) -> Result<Value, Problem> {
    let Some(file) = text.strip_prefix('@') else {
        // Parsed as part of a map, where an empty value and `null` keep their meaning.
        let tree = yaml::parse(
            &format!("--set {key}"),
            format!("value: {text}").as_bytes(),
            ParseLimits::default(),
        )?;
        let value = tree.get("value").map(yaml::Node::to_json);
        return Ok(value.unwrap_or_default());
    };
    let path = std::path::absolute(file).unwrap_or_else(|_| file.into());
    let unread = |why: String| Problem::new(format!("--set {key}: {why}"));
    let body = Root::real()
        .and_then(|root| root.read(&path, MAX_VALUE_BYTES))
        .map_err(|error| unread(error.to_string()))?
        .ok_or_else(|| unread(format!("there is no file {}", path.display())))?;
    let text = String::from_utf8(body)
        .map_err(|_| unread(format!("{} is not text in UTF-8", path.display())))?;
    Ok(json!(text.trim_end_matches(['\r', '\n'])))
}

/// The only list of these roles whose items have a repository.
pub(super) fn app_list(lists: &[ItemList]) -> Result<&ItemList, Problem> {
    let has_repo = |list: &&ItemList| list.settings.iter().any(|(name, _)| name == "repo");
    let found: Vec<&ItemList> = lists.iter().filter(has_repo).collect();
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
