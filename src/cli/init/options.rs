//! Parses the options of `trueup init`.

use std::path::Path;

use serde_json::{Value, json};

use crate::cli::args::InitArgs;
use crate::operate::CommandError;
use crate::operate::init::{DeployKey, InitRequest, ShellEnvironment};
use crate::ports::root::Root;
use crate::ports::store::StoreSettings;
use crate::problem::Problem;
use crate::yaml::{self, ParseLimits};

/// Maximum size of a file that a value or a private key is read from, in bytes.
const MAX_FILE_BYTES: usize = 64 << 10;

/// What the options request.
pub(super) fn parse(args: &InitArgs, shell: ShellEnvironment) -> Result<InitRequest, CommandError> {
    let parameters = args.set.iter().map(|option| parse_parameter(option));
    let parameters = parameters.collect::<Result<_, Problem>>();
    Ok(InitRequest {
        environment: args.env.clone().unwrap_or_default(),
        roles: args.role.clone(),
        tags: split_pairs(&args.tag, "--tag", "KEY=VALUE, as in `zone=eu-west-1a`")?,
        node: args.node.clone(),
        store: StoreSettings {
            url: args.store.clone().unwrap_or_default(),
            region: args.region.clone(),
            endpoint: args.endpoint.clone(),
            path_style: args.path_style,
        },
        manifest: args.manifest.clone(),
        apps: split_pairs(
            &args.app,
            "--app",
            "NAME=REPO, as in `shop=git@github.com:acme/shop.git`",
        )?,
        known_hosts: args.known_host.clone(),
        parameters: parameters.map_err(CommandError::Usage)?,
        // The operator had a reason to use a file.
        has_secret: args.set.iter().any(|option| is_from_file(option)),
        deploy_key: args
            .deploy_key
            .as_deref()
            .map(read_deploy_key)
            .transpose()?,
        shell,
        save_credentials: args.save_credentials,
        start_timer: !args.no_timer,
        replace: args.force,
    })
}

fn split_pairs(
    options: &[String],
    name: &str,
    form: &str,
) -> Result<Vec<(String, String)>, CommandError> {
    let owned = |(key, value): (&str, &str)| (key.to_owned(), value.to_owned());
    let pairs = options
        .iter()
        .map(|option| split_pair(option, name, form).map(owned));
    pairs.collect::<Result<_, _>>().map_err(CommandError::Usage)
}

fn split_pair<'o>(option: &'o str, name: &str, form: &str) -> Result<(&'o str, &'o str), Problem> {
    option
        .split_once('=')
        .filter(|(key, value)| !key.is_empty() && !value.is_empty())
        .ok_or_else(|| Problem::new(format!("{name}: `{option}` is not {form}")))
}

/// Whether the value of a parameter is `@FILE`.
fn is_from_file(option: &str) -> bool {
    option
        .split_once('=')
        .is_some_and(|(_, value)| value.starts_with('@'))
}

fn parse_parameter(option: &str) -> Result<(String, Value), Problem> {
    let form = "KEY=VALUE, as in `apps.shop.port=3000`";
    let (key, value) = split_pair(option, "--set", form)?;
    if key.split('.').any(str::is_empty) {
        return Err(Problem::new(format!("--set: `{key}` is not a key"))
            .hint("expected a dotted key that starts with the parameter: `apps.shop.port`"));
    }
    Ok((key.to_owned(), parse_value(key, value)?))
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
    let unreadable = |why: String| Problem::new(format!("--set {key}: {why}"));
    let body = Root::real()
        .and_then(|root| root.read(&path, MAX_FILE_BYTES))
        .map_err(|error| unreadable(error.to_string()))?
        .ok_or_else(|| unreadable(format!("there is no file {}", path.display())))?;
    let text = String::from_utf8(body)
        .map_err(|_| unreadable(format!("{} is not text in UTF-8", path.display())))?;
    Ok(json!(text.trim_end_matches(['\r', '\n'])))
}

/// Reads the key with the permissions of the calling user.
pub(super) fn read_deploy_key(file: &Path) -> Result<DeployKey, CommandError> {
    let path = std::path::absolute(file).unwrap_or_else(|_| file.to_owned());
    let invalid = |why: &str| {
        CommandError::Usage(
            Problem::new(format!("--deploy-key: {why} {}", path.display()))
                .hint("the private half, as `ssh-keygen -t ed25519 -N '' -f FILE` makes it"),
        )
    };
    let body = Root::real()?.read(&path, MAX_FILE_BYTES)?;
    let body = body.ok_or_else(|| invalid("there is no file"))?;
    DeployKey::parse(body).ok_or_else(|| invalid("there is no private key in"))
}
