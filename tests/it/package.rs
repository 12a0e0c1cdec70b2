//! What packages bring besides the program: man pages and completions follow the command line.
//!
//! That a package can be installed, upgraded, removed and purged is shown on real hosts, in
//! `tests/lab/scenarios/40-package.sh`.

use clap::{Command, CommandFactory};

#[path = "../../packaging/manual.rs"]
mod manual;

/// Every documented command, with the words that call it.
fn commands(above: &str, command: &Command) -> Vec<(String, Command)> {
    let name = format!("{above}{}", command.get_name());
    let inner = command
        .get_subcommands()
        .filter(|inner| !inner.is_hide_set());
    let mut all: Vec<_> = inner
        .flat_map(|inner| commands(&format!("{name} "), inner))
        .collect();
    all.push((name, command.clone()));
    all
}

#[test]
fn man_pages_cover_every_command_and_option_and_completions_ask() {
    let files = manual::files().unwrap();
    let text = |name: &str| {
        let found = files.iter().find(|(file, _)| file == name);
        let (_, body) = found.unwrap_or_else(|| panic!("there is no {name}"));
        // As roff writes a dash.
        String::from_utf8(body.clone()).unwrap().replace("\\-", "-")
    };
    // They ask the program itself for the rest.
    for (name, shell) in [
        ("bash/trueup", "bash"),
        ("zsh/_trueup", "zsh"),
        ("fish/trueup.fish", "fish"),
    ] {
        let asks = format!("command trueup complete {shell} ");
        assert!(text(name).contains(&asks), "{name}");
    }
    let all = commands("", &trueup::cli::Cli::command());
    assert!(all.len() > 15);
    for (name, command) in &all {
        let page = text(&format!("man/{}.1", name.replace(' ', "-")));
        let about = command.get_about().unwrap().to_string();
        let first = about.split(['`', '-', '\'']).next().unwrap();
        assert!(page.contains(first), "{name}: {about}\n{page}");
        for arg in command.get_arguments().filter(|arg| !arg.is_hide_set()) {
            let Some(long) = arg.get_long() else { continue };
            assert!(
                page.contains(&format!("--{long}")),
                "{name} --{long}: {page}"
            );
        }
    }
    for (name, body) in &files {
        let body = String::from_utf8_lossy(body);
        assert!(
            !body.contains("demo-app"),
            "{name} describes a hidden command"
        );
    }
    let pages = files.iter().filter(|(name, _)| name.starts_with("man/"));
    assert_eq!(pages.count(), all.len());
}
