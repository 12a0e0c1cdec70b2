//! The reference of the command line, from clap's help texts.

use clap::Command;

use crate::cli::help;

/// Maximum line width of a help text, in characters.
const WIDTH: usize = 96;

/// Every command with its help; the global options only once.
pub(super) fn all() -> String {
    let mut cli = help::command().term_width(WIDTH);
    cli.build();
    let global: Vec<String> = cli
        .get_arguments()
        .filter(|arg| arg.is_global_set())
        .map(|arg| arg.get_id().to_string())
        .collect();
    let mut text = section("trueup", &cli);
    for command in cli.get_subcommands() {
        text.push_str(&with_subcommands("trueup", command, &global));
    }
    text
}

fn with_subcommands(above: &str, command: &Command, global: &[String]) -> String {
    if command.is_hide_set() || command.get_name() == "help" {
        return String::new();
    }
    let name = format!("{above} {}", command.get_name());
    let own = command.clone().term_width(WIDTH).mut_args(|arg| {
        let id = arg.get_id().as_str();
        let everywhere =
            global.iter().any(|global| global == id) || ["help", "version"].contains(&id);
        if everywhere { arg.hide(true) } else { arg }
    });
    let mut text = section(&name, &own);
    for inner in command.get_subcommands() {
        text.push_str(&with_subcommands(&name, inner, global));
    }
    text
}

fn section(name: &str, command: &Command) -> String {
    let help = help::with_spaces(&command.clone().render_long_help().to_string());
    let lines: Vec<&str> = help.trim_end().lines().map(str::trim_end).collect();
    format!("\n## {name}\n\n```text\n{}\n```\n", lines.join("\n"))
}
