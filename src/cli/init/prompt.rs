//! Prompts at a terminal. They use standard error and standard input, so that standard output stays reserved
//! for results.

use std::io::{BufRead, IsTerminal, Write};

use super::options::read_deploy_key;
use crate::cli::args::InitArgs;
use crate::desired::Repo;
use crate::operate::init::{self, ShellEnvironment};
use crate::ports::store::{self, StoreSettings};
use crate::problem::Problem;
use crate::role::{self, ItemList};
use crate::settings::{Lookup, invalid_name, is_name};

/// Whether an operator can answer.
pub(super) fn is_interactive() -> bool {
    std::io::stdin().is_terminal() && std::io::stderr().is_terminal()
}

/// Prompts for required values that the options do not set. Repeats the question after an invalid answer.
pub(super) fn prompt_missing(
    args: &mut InitArgs,
    lookup: &Lookup,
    shell: &ShellEnvironment,
) -> Result<Vec<ItemList>, Problem> {
    if args.env.is_none() {
        args.env = Some(prompt_until_valid("environment", "production", parse_name)?);
    }
    let lists = prompt_roles(args, lookup)?;
    if args.store.is_none() {
        prompt_store(args, shell)?;
    }
    if args.app.is_empty()
        && args.set.is_empty()
        && let Ok(list) = init::app_list(&lists)
    {
        let question = "name of the app (empty: none yet)";
        let app = prompt_until_valid(question, "-", |answer| match answer {
            "-" => Ok(None),
            name => parse_name(name).map(Some),
        })?;
        if let Some(app) = app {
            prompt_app(args, list, &app)?;
        }
    }
    Ok(lists)
}

/// Prompts for the roles if none is given, and returns their item lists.
fn prompt_roles(args: &mut InitArgs, lookup: &Lookup) -> Result<Vec<ItemList>, Problem> {
    if !args.role.is_empty() {
        return role::item_lists(lookup, &args.role);
    }
    let known = lookup.names("roles", ".yml").join(", ");
    let question = format!("roles, separated by commas (available: {known})");
    let (roles, lists) = prompt_until_valid(&question, "app", |answer| {
        let roles = answer.split(',').map(|role| role.trim().to_owned());
        let roles: Vec<String> = roles.collect();
        let lists = role::item_lists(lookup, &roles)?;
        Ok((roles, lists))
    })?;
    args.role = roles;
    Ok(lists)
}

fn prompt_store(args: &mut InitArgs, shell: &ShellEnvironment) -> Result<(), Problem> {
    let question = "store (s3://bucket/prefix, or dir:/path)";
    let url = prompt_until_valid(question, "", parse_store_url)?;
    if init::is_s3(&url) && args.region.is_none() {
        let (question, default) = match &shell.region {
            Some(region) => ("region of the bucket", region.as_str()),
            None => (
                "region of the bucket (empty: that of root's AWS profile)",
                "-",
            ),
        };
        let answer = prompt_line(question, default)?;
        args.region = Some(answer).filter(|answer| answer != "-");
    }
    args.store = Some(url);
    Ok(())
}

fn prompt_app(args: &mut InitArgs, list: &ItemList, app: &str) -> Result<(), Problem> {
    let repo = prompt_until_valid("its repository (git@host:path, https://…)", "", |answer| {
        Repo::parse(answer)?;
        Ok(answer.to_owned())
    })?;
    for (setting, has_value) in &list.settings {
        if setting == "port" && !has_value {
            let port = prompt_until_valid("its port on this host", "3000", parse_port)?;
            args.set.push(format!("{}.{app}.port={port}", list.name));
        }
    }
    let by_ssh = !repo.starts_with('/') && (!repo.contains("://") || repo.starts_with("ssh://"));
    if by_ssh && args.deploy_key.is_none() {
        let question = "file with its deploy key, the private half (empty: none)";
        args.deploy_key = prompt_until_valid(question, "-", |answer| match answer {
            "-" => Ok(None),
            file => match read_deploy_key(file.as_ref()) {
                Ok(_) => Ok(Some(file.into())),
                Err(error) => Err(Problem::new(error.to_string())),
            },
        })?;
    }
    args.app.push(format!("{app}={repo}"));
    Ok(())
}

fn parse_name(answer: &str) -> Result<String, Problem> {
    match is_name(answer) {
        true => Ok(answer.to_owned()),
        false => Err(Problem::new(invalid_name(answer))),
    }
}

fn parse_port(answer: &str) -> Result<u16, Problem> {
    let port = answer.parse().ok().filter(|port| *port > 0);
    port.ok_or_else(|| Problem::new(format!("`{answer}` is not a port: expected 1 to 65535")))
}

/// Validates the syntax of the URL only; does not contact the store.
fn parse_store_url(url: &str) -> Result<String, Problem> {
    let settings = StoreSettings {
        url: url.to_owned(),
        region: Some("any".into()),
        endpoint: None,
        path_style: false,
    };
    match store::open(&settings) {
        Ok(_) => Ok(url.to_owned()),
        Err(error) => Err(Problem::new(error.to_string())),
    }
}

/// Shows the key of an unknown server, and asks whether it is the right one.
pub(super) fn confirm_host_key(line: &str) -> Result<bool, Problem> {
    let answer = prompt_line(
        &format!(
            "the git server presents this key; does its owner publish the same one?\n  {line}\n(yes or no)"
        ),
        "no",
    )?;
    Ok(["y", "yes"].contains(&answer.to_lowercase().as_str()))
}

/// Repeats the question, with the problem, until `parse` accepts the answer.
fn prompt_until_valid<T>(
    question: &str,
    default: &str,
    parse: impl Fn(&str) -> Result<T, Problem>,
) -> Result<T, Problem> {
    loop {
        match parse(&prompt_line(question, default)?) {
            Ok(value) => return Ok(value),
            Err(problem) => {
                let _ = writeln!(std::io::stderr(), "  {problem}");
            }
        }
    }
}

/// Reads one answer; an empty line means `default`, or repeats the question if there is none.
fn prompt_line(question: &str, default: &str) -> Result<String, Problem> {
    loop {
        let suffix = match default {
            "" | "-" => String::new(),
            default => format!(" [{default}]"),
        };
        let _ = write!(std::io::stderr(), "{question}{suffix}: ");
        let _ = std::io::stderr().flush();
        let mut line = String::new();
        let length = std::io::stdin().lock().read_line(&mut line);
        if !length.is_ok_and(|bytes| bytes > 0) {
            return Err(
                Problem::new("nobody answered").hint("give options instead: `trueup init -h`")
            );
        }
        match line.trim() {
            "" if default.is_empty() => {}
            "" => return Ok(default.to_owned()),
            answer => return Ok(answer.to_owned()),
        }
    }
}
