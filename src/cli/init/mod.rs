//! `trueup init`: asks for the settings of this host, has them checked and written, and prints the results.

mod option_errors;
mod options;
mod print;
mod prompt;

use self::option_errors::attribute_to_options;
use super::Output;
use super::args::InitArgs;
use crate::exit::Exit;
use crate::operate::CommandError;
use crate::operate::init::{Init, ShellEnvironment, Target};
use crate::pass::Paths;
use crate::ports::exec::StopFlag;
use crate::ports::signals;
use crate::problem::Problem;
use crate::role::{self, ItemList};
use crate::settings::Lookup;

pub(super) fn run(
    mut args: InitArgs,
    paths: &Paths,
    output: &Output,
) -> Result<Exit, CommandError> {
    let target = Target::open(paths, args.force)?;
    let shell = ShellEnvironment::current();
    if args.save_credentials {
        // Fails before the operator answers questions.
        shell.render_keys().map_err(CommandError::Usage)?;
    }
    let can_prompt = prompt::is_interactive() && !output.is_document();
    let lists = complete_options(&mut args, paths, &shell, can_prompt)?;
    let request = options::parse(&args, shell)?;
    let stop = StopFlag::default();
    let mut init = Init::new(target, request, lists, stop.clone())?;
    run_checks(&mut init, &args, &stop, can_prompt)
        .map_err(|error| attribute_to_options(error, &paths.config))?;
    let report = init.finish()?;
    print::print_report(&report, paths, output);
    Ok(report.outcome)
}

/// Prompts for missing options, and returns the item lists of the roles.
fn complete_options(
    args: &mut InitArgs,
    paths: &Paths,
    shell: &ShellEnvironment,
    can_prompt: bool,
) -> Result<Vec<ItemList>, CommandError> {
    let lookup = Lookup::for_config(&paths.config, &paths.share).map_err(CommandError::input)?;
    if args.env.is_some() && !args.role.is_empty() && args.store.is_some() {
        return role::item_lists(&lookup, &args.role).map_err(CommandError::input);
    }
    if !can_prompt {
        return Err(CommandError::Usage(missing_options(args)));
    }
    prompt::prompt_missing(args, &lookup, shell).map_err(CommandError::input)
}

fn run_checks(
    init: &mut Init<'_>,
    args: &InitArgs,
    stop: &StopFlag,
    can_prompt: bool,
) -> Result<(), CommandError> {
    init.check_settings()?;
    if args.unchecked {
        return Ok(());
    }
    if can_prompt {
        for line in init.unknown_host_keys()? {
            if prompt::confirm_host_key(&line).map_err(CommandError::Usage)? {
                init.trust_host_key(line)?;
            }
        }
    }
    // No questions follow: from here on, Ctrl-C sets the stop flag so that the command can clean up.
    signals::stop_on_termination(stop);
    init.check_connections()
}

fn missing_options(args: &InitArgs) -> Problem {
    let options = [
        ("--env", args.env.is_none()),
        ("--role", args.role.is_empty()),
        ("--store", args.store.is_none()),
    ];
    let missing = options.iter().filter(|(_, missing)| *missing);
    let missing: Vec<&str> = missing.map(|(option, _)| *option).collect();
    Problem::new(format!(
        "init needs {}, and there is no terminal for a prompt",
        missing.join(", ")
    ))
    .hint("as in `trueup init --env production --role app --store s3://acme-deploys --region eu-west-1`")
}
