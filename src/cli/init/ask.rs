//! Questions at a terminal. They and their answers go by standard error and standard input, so that
//! standard output stays for results.

use std::io::{BufRead, IsTerminal, Write};

use crate::cli::args::InitArgs;
use crate::ports::store::{self, StoreSettings};
use crate::problem::Problem;
use crate::release::Repo;
use crate::role::{self, List};
use crate::settings::{Lookup, is_name};

/// Whether somebody is there to answer.
pub(super) fn somebody() -> bool {
    std::io::stdin().is_terminal() && std::io::stderr().is_terminal()
}

/// Asks for what the options do not say and no host can do without. What cannot be is asked again.
pub(super) fn complete(args: &mut InitArgs, lookup: &Lookup) -> Result<Vec<List>, Problem> {
    if args.env.is_none() {
        args.env = Some(asked("environment", "production", name)?);
    }
    let lists = if args.role.is_empty() {
        let known = lookup.names("roles", ".yml").join(", ");
        let question = format!("roles, by commas (there are {known})");
        let (roles, lists) = asked(&question, "app", |said| {
            let roles: Vec<String> = said.split(',').map(|role| role.trim().to_owned()).collect();
            let lists = role::lists(lookup, &roles)?;
            Ok((roles, lists))
        })?;
        args.role = roles;
        lists
    } else {
        role::lists(lookup, &args.role)?
    };
    if args.store.is_none() {
        let url = asked("store (s3://bucket/prefix, or dir:/path)", "", address)?;
        if url.starts_with("s3://") && args.region.is_none() {
            let (question, usual) = match super::credentials::region() {
                Some(region) => ("region of the bucket", region),
                None => (
                    "region of the bucket (empty: as root's AWS profile says)",
                    "-".into(),
                ),
            };
            let said = answer(question, &usual)?;
            args.region = Some(said).filter(|said| said != "-");
        }
        args.store = Some(url);
    }
    if args.app.is_empty()
        && args.set.is_empty()
        && let Ok(list) = super::answers::list_of_apps(&lists)
    {
        let app = asked(
            "name of the app (empty: none yet)",
            "-",
            |said| match said {
                "-" => Ok(None),
                said => name(said).map(Some),
            },
        )?;
        if let Some(app) = app {
            the_app(args, list, &app)?;
        }
    }
    Ok(lists)
}

fn the_app(args: &mut InitArgs, list: &List, app: &str) -> Result<(), Problem> {
    let repo = asked(
        "its repository (git@host:path, https://…)",
        "",
        |said| match Repo::parse(said) {
            Ok(_) => Ok(said.to_owned()),
            Err(why) => Err(Problem::new(why)),
        },
    )?;
    for (setting, has_value) in &list.settings {
        if setting == "port" && !has_value {
            let port = asked("its port on this host", "3000", port)?;
            args.set.push(format!("{}.{app}.port={port}", list.name));
        }
    }
    let by_ssh = !repo.starts_with('/') && (!repo.contains("://") || repo.starts_with("ssh://"));
    if by_ssh && args.deploy_key.is_none() {
        let question = "file with its deploy key, the private half (empty: none)";
        args.deploy_key = asked(question, "-", |said| match said {
            "-" => Ok(None),
            said => match super::key::read(said.as_ref()) {
                Ok(_) => Ok(Some(said.into())),
                Err(error) => Err(Problem::new(error.to_string())),
            },
        })?;
    }
    args.app.push(format!("{app}={repo}"));
    Ok(())
}

fn name(said: &str) -> Result<String, Problem> {
    match is_name(said) {
        true => Ok(said.to_owned()),
        false => Err(Problem::new(format!(
            "`{said}` is not a name: expected letters, digits, `-`, `_` or `.`, starting with a letter or digit"
        ))),
    }
}

fn port(said: &str) -> Result<u16, Problem> {
    let port = said.parse().ok().filter(|port| *port > 0);
    port.ok_or_else(|| Problem::new(format!("`{said}` is no port: expected 1 to 65535")))
}

/// Only whether it can be one: nobody is asked yet.
fn address(said: &str) -> Result<String, Problem> {
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

/// Shows the line for a server that nothing here knows, and asks whether it is the right one.
pub(super) fn is_its_key(line: &str) -> Result<bool, Problem> {
    let said = answer(
        &format!(
            "the git server shows this key; is it the one that its owner publishes?\n  {line}\n(yes or no)"
        ),
        "no",
    )?;
    Ok(["y", "yes"].contains(&said.to_lowercase().as_str()))
}

/// One answer, as `take` understands it; what it does not is told, and asked again.
fn asked<T>(
    question: &str,
    usual: &str,
    take: impl Fn(&str) -> Result<T, Problem>,
) -> Result<T, Problem> {
    loop {
        match take(&answer(question, usual)?) {
            Ok(taken) => return Ok(taken),
            Err(problem) => {
                let _ = writeln!(std::io::stderr(), "  {problem}");
            }
        }
    }
}

/// One answer; an empty line is `usual`, and asked again where there is none.
fn answer(question: &str, usual: &str) -> Result<String, Problem> {
    loop {
        let shown = match usual {
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
            "" if usual.is_empty() => {}
            "" => return Ok(usual.to_owned()),
            said => return Ok(said.to_owned()),
        }
    }
}
