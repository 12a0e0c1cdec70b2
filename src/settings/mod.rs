//! The node's settings: reads and validates `node.yml` and `node.d/*.yml`.

mod ec2;
mod exposed_secrets;
mod files;
mod fleet;
mod format;
mod lookup;
mod merge;
mod name;
mod notify;
mod signers;
#[cfg(test)]
mod tests;
mod validate;

use std::collections::BTreeMap;
use std::path::Path;
use std::rc::Rc;

use crate::ports::ec2::Ec2Settings;
use crate::ports::root::{Meta, Root};
use crate::ports::services::ServiceManager;
use crate::ports::store::StoreSettings;
use crate::problem::{Location, Problem, Problems};
use crate::yaml::{self, Node, ParseLimits};

pub(crate) use crate::ports::address::{is_host_address, non_host_reason};
pub(crate) use ec2::Ec2Group;
pub(crate) use exposed_secrets::exposed_values;
pub(crate) use fleet::{FleetSettings, StaticNode};
pub(crate) use format::{MetricsSettings, SecretSettings, SettingsFile, default_manifest};
pub(crate) use lookup::{Lookup, PolicyFiles};
pub(crate) use merge::merge;
pub(crate) use name::{invalid_name, is_name};
pub(crate) use notify::{Channel, ChannelKind, EmailChannel, NotifySettings, check_url};
#[cfg(test)]
pub(crate) use signers::parse as parse_signers;
pub(crate) use signers::{Signer, SignerRefusal, Signers};

use files::{read_file, unreadable};
use validate::location_of;

/// Default path of the settings.
pub(crate) const DEFAULT_CONFIG: &str = "/etc/trueup/node.yml";

/// Where the package installs the shipped roles and templates.
pub(crate) const DEFAULT_SHARE: &str = "/usr/share/trueup";

/// Validated settings.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub environment: String,
    pub roles: Vec<String>,
    pub tags: BTreeMap<String, String>,
    pub node: Option<String>,
    pub store: StoreSettings,
    pub manifest: String,
    pub services: ServiceManager,
    pub metrics: MetricsSettings,
    pub fleet: FleetSettings,
    pub secrets: SecretSettings,
    pub ec2: Ec2Settings,
    pub notify: NotifySettings,
    /// Who may sign the manifest; `None`: unsigned manifests are accepted.
    pub signers: Option<Signers>,
    /// A map; every node knows its file and line.
    pub attributes: Node,
    /// The environment's parameters, a map; empty if there is no such file.
    pub environment_attributes: Node,
    pub lookup: Lookup,
    pub locations: SettingLocations,
    /// Problems that should be fixed, but do not prevent a pass.
    pub warnings: Vec<Problem>,
}

/// Locations in the files of those settings whose values are validated later.
#[derive(Debug, Clone)]
pub(crate) struct SettingLocations {
    pub roles: Location,
    pub store: Location,
}

/// Reads the settings of this node. `share` is the folder of the shipped roles, normally [`DEFAULT_SHARE`].
pub(crate) fn load(config: &Path, share: &Path) -> Result<Settings, Problems> {
    let root = Rc::new(Root::real().map_err(unreadable)?);
    let Some((meta, body)) = read_file(&root, config)? else {
        return Err(Problem::new(format!("there are no settings at {}", config.display()))
            .hint("make them with `trueup init`, name another file with --config, or try `trueup demo`")
            .into());
    };
    load_with(root, config, (Some(meta), &body), share)
}

/// The settings of another machine, to see what they make of roles. Without its signers, whose file is there.
pub(crate) fn load_foreign(config: &Path, share: &Path) -> Result<Settings, Problems> {
    let root = Rc::new(Root::real().map_err(unreadable)?);
    let Some((_, body)) = read_file(&root, config)? else {
        return Err(Problem::new(format!("there are no settings at {}", config.display())).into());
    };
    load_parts(root, config, (None, &body), (share, false))
}

/// Uses `body` as the content of `config`, with the drop-ins, roles and templates beside it.
pub(crate) fn load_from_body(
    config: &Path,
    body: &[u8],
    share: &Path,
) -> Result<Settings, Problems> {
    let root = Rc::new(Root::real().map_err(unreadable)?);
    load_with(root, config, (None, body), share)
}

fn load_with(
    root: Rc<Root>,
    config: &Path,
    content: (Option<Meta>, &[u8]),
    share: &Path,
) -> Result<Settings, Problems> {
    load_parts(root, config, content, (share, true))
}

fn load_parts(
    root: Rc<Root>,
    config: &Path,
    (meta, body): (Option<Meta>, &[u8]),
    (share, has_signers): (&Path, bool),
) -> Result<Settings, Problems> {
    let tree = parse_tree(config, body)?;
    let mut warnings: Vec<Problem> = meta
        .and_then(|meta| exposed_secrets::exposure_warning(&root, config, &meta, &tree))
        .into_iter()
        .collect();
    let tree = merge_drop_ins(&root, tree, config, &mut warnings)?;
    require_settings(&tree, config)?;
    let (file, attributes) = decode(&tree)?;
    let problems = validate::validate(&file, &tree);
    if !problems.is_empty() {
        return Err(Problems(problems));
    }
    let signers = file.signers.as_deref().filter(|_| has_signers);
    let signers = load_signers(&root, signers, config, &tree)?;
    let lookup = Lookup::with_root(root, config, share);
    let environment_attributes = load_environment(&lookup, &file.environment, &mut warnings)?
        .unwrap_or_else(|| empty_map(&tree));
    let location = |field| location_of(&tree, field).clone();
    Ok(Settings {
        environment: file.environment,
        roles: file.roles,
        tags: file.tags,
        node: file.node,
        store: file.store,
        manifest: file.manifest,
        services: file.services,
        metrics: file.metrics,
        fleet: file.fleet.with_ec2(&file.ec2),
        secrets: file.secrets,
        ec2: file.ec2,
        notify: file.notify,
        signers,
        attributes,
        environment_attributes,
        lookup,
        locations: SettingLocations {
            roles: location("roles"),
            store: location("store"),
        },
        warnings,
    })
}

impl Settings {
    /// The same settings with the roles, templates and parameters of this policy bundle.
    pub(crate) fn with_policy(&self, policy: Option<Rc<PolicyFiles>>) -> Result<Settings, Problem> {
        let lookup = self.lookup.with_policy(policy);
        // What it warns of is known from before.
        let environment = load_environment(&lookup, &self.environment, &mut Vec::new())?;
        let none = || Node::synthetic(&self.attributes.at, yaml::NodeKind::Map(Vec::new()));
        Ok(Settings {
            environment_attributes: environment.unwrap_or_else(none),
            lookup,
            ..self.clone()
        })
    }
}

/// Reads the keys of `--signers`: only this user and root can change the file.
pub(crate) fn read_signers(path: &Path) -> Result<Signers, Problems> {
    let root = Root::real().map_err(unreadable)?;
    Signers::load_named(&root, path)
}

/// A relative path is one beside `config`.
fn load_signers(
    root: &Root,
    path: Option<&Path>,
    config: &Path,
    tree: &Node,
) -> Result<Option<Signers>, Problems> {
    let Some(path) = path else {
        return Ok(None);
    };
    let beside = config.parent().unwrap_or(Path::new("/")).join(path);
    Signers::load(root, &beside, location_of(tree, "signers")).map(Some)
}

/// Refuses the settings of a host that nobody has configured yet.
fn require_settings(tree: &Node, config: &Path) -> Result<(), Problem> {
    if tree.as_map().is_some_and(|map| !map.is_empty()) {
        return Ok(());
    }
    let message = format!(
        "this host is not configured yet: nothing is set in {}",
        config.display()
    );
    Err(Problem::new(message)
        .hint("`sudo trueup init` sets it up; `trueup init -h` lists its options"))
}

/// The settings by their types, and the attributes, which stay a tree: rendering a role needs their locations.
fn decode(tree: &Node) -> Result<(SettingsFile, Node), Problems> {
    let attributes = match tree.get("attributes") {
        Some(node) if !node.is_null() => {
            node.expect_map("a map of parameters")
                .map_err(|problem| problem.field("attributes"))?;
            node.clone()
        }
        _ => empty_map(tree),
    };
    let mut typed = tree.clone();
    typed.set(
        "attributes",
        Node::from_json(&tree.at, &serde_json::Value::Null),
    );
    let decoded = yaml::decode(&typed).map_err(add_hint);
    Ok((decoded?, attributes))
}

/// Adds what a mistake in the settings themselves, and not in a field of one, most likely means.
fn add_hint(problem: Problem) -> Problem {
    if problem.field.is_some() {
        return problem;
    }
    let example = |field: &str| problem.message == format!("the field `{field}` is missing");
    if example("environment") {
        return problem.hint("such as `environment: production`");
    }
    if example("roles") {
        return problem.hint("such as `roles: [app]`: `trueup roles` lists them");
    }
    if example("store") {
        return problem.hint("such as `store: {url: \"s3://acme-deploys\", region: eu-west-1}`");
    }
    match &problem.hint {
        // Not a mistyped one.
        Some(expected) if expected.starts_with("expected `") => Problem {
            hint: Some(format!(
                "parameters of roles, such as `apps`, go below `attributes:`; {expected}"
            )),
            ..problem
        },
        _ => problem,
    }
}

/// The parameters of an environment; `None`: it has no file.
fn load_environment(
    lookup: &Lookup,
    environment: &str,
    warnings: &mut Vec<Problem>,
) -> Result<Option<Node>, Problem> {
    let Some(found) = lookup.find("environments", &format!("{environment}.yml"))? else {
        return Ok(None);
    };
    let path = found.path;
    let name = path.display().to_string();
    let node = yaml::parse(&name, &found.body, ParseLimits::default())?;
    node.expect_map("a map of parameters")?;
    let meta = found.meta.as_ref();
    warnings.extend(
        meta.and_then(|meta| exposed_secrets::exposure_warning(&lookup.root, &path, meta, &node)),
    );
    Ok(Some(node))
}

fn empty_map(like: &Node) -> Node {
    Node::synthetic(&like.at, yaml::NodeKind::Map(Vec::new()))
}

fn merge_drop_ins(
    root: &Root,
    mut tree: Node,
    config: &Path,
    warnings: &mut Vec<Problem>,
) -> Result<Node, Problem> {
    let folder = config.parent().unwrap_or(Path::new("/")).join("node.d");
    let folder = std::path::absolute(&folder).unwrap_or(folder);
    let names = root.list_trusted(&folder).map_err(unreadable)?;
    let names = names.unwrap_or_default();
    for name in names {
        let hidden = name.as_encoded_bytes().starts_with(b".");
        let path = folder.join(&name);
        if !hidden && path.extension().is_some_and(|end| end == "yaml") {
            let problem = Problem::new(format!("{} is not read", path.display()));
            warnings.push(problem.hint("only files whose name ends in `.yml` are: rename it"));
        }
        if hidden || path.extension().is_none_or(|end| end != "yml") {
            continue;
        }
        if let Some((meta, more)) = read_tree(root, &path)? {
            warnings.extend(exposed_secrets::exposure_warning(root, &path, &meta, &more));
            merge(&mut tree, more);
        }
    }
    Ok(tree)
}

fn read_tree(root: &Root, path: &Path) -> Result<Option<(Meta, Node)>, Problem> {
    let Some((meta, body)) = read_file(root, path)? else {
        return Ok(None);
    };
    Ok(Some((meta, parse_tree(path, &body)?)))
}

/// A file that contains only comments, such as the packaged one, is an empty map.
fn parse_tree(path: &Path, body: &[u8]) -> Result<Node, Problem> {
    let node = yaml::parse(&path.display().to_string(), body, ParseLimits::default())?;
    if node.is_null() {
        return Ok(empty_map(&node));
    }
    node.expect_map("a map of settings")?;
    Ok(node)
}

/// The settings that make a host a host of trueup, and that drop-ins rarely set: the rest may come before them.
const IDENTITY: [&str; 3] = ["environment", "roles", "store"];

/// Why this host counts as configured: something is set in `config`, or a drop-in beside it sets what it cannot do
/// without. `None`: it does not.
pub(crate) fn configured_by(config: &Path) -> Result<Option<String>, Problem> {
    let root = Root::real().map_err(unreadable)?;
    let is_set = |tree: &Node| tree.as_map().is_some_and(|map| !map.is_empty());
    if let Some((_, tree)) = read_tree(&root, config)?
        && is_set(&tree)
    {
        return Ok(Some(format!("{} is already configured", config.display())));
    }
    let at = Location {
        file: config.display().to_string().into(),
        line: 1,
        column: 1,
    };
    let empty = Node::synthetic(&at, yaml::NodeKind::Map(Vec::new()));
    let tree = merge_drop_ins(&root, empty, config, &mut Vec::new())?;
    let identity = IDENTITY.iter().find_map(|key| Some((key, tree.get(key)?)));
    Ok(identity.map(|(key, node)| {
        let file = &node.at.file;
        format!("this host is already configured: {file} sets `{key}`, which overrides node.yml")
    }))
}
