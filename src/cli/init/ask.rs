//! Questions at a terminal. They and their answers go by standard error and standard input, so that
//! standard output stays for results.

use std::io::{BufRead, IsTerminal, Write};

use crate::cli::args::InitArgs;
use crate::problem::Problem;
use crate::role::{self, List};
use crate::settings::Lookup;

/// Whether somebody is there to answer.
pub(super) fn somebody() -> bool {
    std::io::stdin().is_terminal() && std::io::stderr().is_terminal()
}

/// Asks for what the options do not say and no host can do without.
pub(super) fn complete(args: &mut InitArgs, lookup: &Lookup) -> Result<Vec<List>, Problem> {
    if args.env.is_none() {
        args.env = Some(answer("environment", "production")?);
    }
    if args.role.is_empty() {
        let known = lookup.names("roles", ".yml").join(", ");
        let said = answer(&format!("roles, by commas (there are {known})"), "app")?;
        args.role = said.split(',').map(|role| role.trim().to_owned()).collect();
    }
    let lists = role::lists(lookup, &args.role)?;
    if args.store.is_none() {
        let url = answer("store (s3://bucket/prefix, or dir:/path)", "")?;
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
        let name = answer("name of the app (empty: none yet)", "-")?;
        if name != "-" {
            let repo = answer("its repository (git@host:path, https://…)", "")?;
            for (setting, has_value) in &list.settings {
                if setting == "port" && !has_value {
                    let port = answer("its port on this host", "3000")?;
                    args.set.push(format!("{}.{name}.port={port}", list.name));
                }
            }
            let by_ssh = !repo.contains("://") || repo.starts_with("ssh://");
            if by_ssh && args.deploy_key.is_none() {
                let key = answer("file with its deploy key (empty: none)", "-")?;
                args.deploy_key = (key != "-").then(|| key.into());
            }
            args.app.push(format!("{name}={repo}"));
        }
    }
    Ok(lists)
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
