//! Prompts at a terminal. They use standard error and standard input, so that standard output stays reserved
//! for results.

use std::io::{BufRead, IsTerminal, Write};

use crate::cli::args::InitArgs;
use crate::ports::store::{self, StoreSettings};
use crate::problem::Problem;
use crate::release::Repo;
use crate::role::{self, ItemList};
use crate::settings::{Lookup, is_name};

/// Whether an operator can answer.
pub(super) fn is_interactive() -> bool {
    std::io::stdin().is_terminal() && std::io::stderr().is_terminal()
}

/// Prompts for required values that the options do not set. Repeats the question after an invalid answer.
pub(super) fn prompt_missing(
    args: &mut InitArgs,
    lookup: &Lookup,
) -> Result<Vec<ItemList>, Problem> {
    if args.env.is_none() {
        args.env = Some(prompt_until_valid("environment", "production", parse_name)?);
    }
    let lists = if args.role.is_empty() {
        let known = lookup.names("roles", ".yml").join(", ");
        let question = format!("roles, separated by commas (available: {known})");
        let (roles, lists) = prompt_until_valid(&question, "app", |said| {
            let roles: Vec<String> = said.split(',').map(|role| role.trim().to_owned()).collect();
            let lists = role::item_lists(lookup, &roles)?;
            Ok((roles, lists))
        })?;
        args.role = roles;
        lists
    } else {
        role::item_lists(lookup, &args.role)?
    };
    if args.store.is_none() {
        let url = prompt_until_valid(
            "store (s3://bucket/prefix, or dir:/path)",
            "",
            parse_store_url,
        )?;
        if url.starts_with("s3://") && args.region.is_none() {
            let (question, usual) = match super::credentials::environment_region() {
                Some(region) => ("region of the bucket", region),
                None => (
                    "region of the bucket (empty: that of root's AWS profile)",
                    "-".into(),
                ),
            };
            let said = prompt_line(question, &usual)?;
            args.region = Some(said).filter(|said| said != "-");
        }
        args.store = Some(url);
    }
    if args.app.is_empty()
        && args.set.is_empty()
        && let Ok(list) = super::answers::app_list(&lists)
    {
        let app = prompt_until_valid(
            "name of the app (empty: none yet)",
            "-",
            |said| match said {
                "-" => Ok(None),
                said => parse_name(said).map(Some),
            },
        )?;
        if let Some(app) = app {
            prompt_app(args, list, &app)?;
        }
    }
    Ok(lists)
}

fn prompt_app(args: &mut InitArgs, list: &ItemList, app: &str) -> Result<(), Problem> {
    let repo = prompt_until_valid("its repository (git@host:path, https://…)", "", |said| {
        Repo::parse(said)?;
        Ok(said.to_owned())
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
        args.deploy_key = prompt_until_valid(question, "-", |said| match said {
            "-" => Ok(None),
            said => match super::deploy_key::read(said.as_ref()) {
                Ok(_) => Ok(Some(said.into())),
                Err(error) => Err(Problem::new(error.to_string())),
            },
        })?;
    }
    args.app.push(format!("{app}={repo}"));
    Ok(())
}

fn parse_name(said: &str) -> Result<String, Problem> {
    match is_name(said) {
        true => Ok(said.to_owned()),
        false => Err(Problem::new(format!(
            "`{said}` is not a name: expected letters, digits, `-`, `_` or `.`, starting with a letter or digit"
        ))),
    }
}

fn parse_port(said: &str) -> Result<u16, Problem> {
    let port = said.parse().ok().filter(|port| *port > 0);
    port.ok_or_else(|| Problem::new(format!("`{said}` is not a port: expected 1 to 65535")))
}

/// Validates the syntax of the URL only; does not contact the store.
fn parse_store_url(said: &str) -> Result<String, Problem> {
    let settings = StoreSettings {
        url: said.to_owned(),
        region: Some("any".into()),
        endpoint: None,
        path_style: false,
    };
    match store::open(&settings) {
        Ok(_) => Ok(said.to_owned()),
        Err(error) => Err(Problem::new(error.to_string())),
    }
}

/// Shows the key of an unknown server, and asks whether it is the right one.
pub(super) fn confirm_host_key(line: &str) -> Result<bool, Problem> {
    let said = prompt_line(
        &format!(
            "the git server presents this key; does its owner publish the same one?\n  {line}\n(yes or no)"
        ),
        "no",
    )?;
    Ok(["y", "yes"].contains(&said.to_lowercase().as_str()))
}

/// Repeats the question, with the problem, until `parse` accepts the answer.
fn prompt_until_valid<T>(
    question: &str,
    default: &str,
    parse: impl Fn(&str) -> Result<T, Problem>,
) -> Result<T, Problem> {
    loop {
        match parse(&prompt_line(question, default)?) {
            Ok(taken) => return Ok(taken),
            Err(problem) => {
                let _ = writeln!(std::io::stderr(), "  {problem}");
            }
        }
    }
}

/// Reads one answer; an empty line means `default`, or repeats the question if there is none.
fn prompt_line(question: &str, default: &str) -> Result<String, Problem> {
    loop {
        let shown = match default {
            "" | "-" => String::new(),
            usual => format!(" [{usual}]"),
        };
        let _ = write!(std::io::stderr(), "{question}{shown}: ");
        let _ = std::io::stderr().flush();
        let mut line = String::new();
        let read = std::io::stdin().lock().read_line(&mut line);
        if !read.is_ok_and(|bytes| bytes > 0) {
            return Err(
                Problem::new("nobody answered").hint("give options instead: `trueup init -h`")
            );
        }
        match line.trim() {
            "" if default.is_empty() => {}
            "" => return Ok(default.to_owned()),
            said => return Ok(said.to_owned()),
        }
    }
}
