//! Every command that these pages name is one that trueup has.

use clap::Parser;
use clap::error::ErrorKind;

use super::docs_path;
use crate::cli::Cli;

/// Pages of commands, and how many they have at least.
const PAGES: &[(&str, usize)] = &[
    ("coming-from.md", 30),
    ("ci.md", 4),
    ("story.md", 15),
    ("operators.md", 10),
    ("policy.md", 2),
];

/// `trueup …`, in a cell or a line of its own or after `$` in a block.
fn commands(page: &str) -> Vec<String> {
    let text = std::fs::read_to_string(docs_path(page)).unwrap();
    let mut found = Vec::new();
    for (number, part) in text.split("```").enumerate() {
        if number % 2 == 1 {
            let lines = part.lines().filter_map(|line| line.strip_prefix("$ "));
            found.extend(lines.map(str::to_owned));
        } else {
            found.extend(part.split('`').skip(1).step_by(2).map(str::to_owned));
        }
    }
    let own = found.into_iter().filter_map(|command| {
        let own = command.strip_prefix("sudo ").unwrap_or(&command);
        own.starts_with("trueup ").then(|| own.to_owned())
    });
    own.collect()
}

/// The words of a line of a shell without expansions; `…` stands for others.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quote) = (Vec::new(), String::new(), None);
    for c in line.chars() {
        match (quote, c) {
            (Some(end), _) if c == end => quote = None,
            (None, '\'' | '"') => quote = Some(c),
            (None, _) if c.is_whitespace() => words.push(std::mem::take(&mut word)),
            _ => word.push(c),
        }
    }
    words.push(word);
    words.retain(|word| !word.is_empty() && word != "…");
    words
}

#[test]
fn every_command_of_the_guides_for_publishers_parses() {
    let mut wrong = String::new();
    for (page, at_least) in PAGES {
        let commands = commands(page);
        assert!(commands.len() >= *at_least, "{page}: {commands:?}");
        for command in commands {
            if let Err(error) = Cli::try_parse_from(words(&command)) {
                let is_name = command.contains('…') || words(&command).len() <= 3;
                let is_incomplete = matches!(
                    error.kind(),
                    ErrorKind::MissingRequiredArgument
                        | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
                );
                if !is_name || !is_incomplete {
                    wrong.push_str(&format!("docs/{page}: `{command}`: {error}\n"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn names_of_other_tools_are_understood() {
    for (accepted, shown) in [
        (
            "trueup deploy production shop=main",
            "trueup publish production shop=main",
        ),
        (
            "trueup rollout undo production shop",
            "trueup rollback production shop",
        ),
        (
            "trueup rollout history production shop",
            "trueup history production shop",
        ),
    ] {
        let parse = |line| Cli::try_parse_from(words(line)).map(|cli| format!("{:?}", cli.command));
        let (accepted, shown) = (parse(accepted).unwrap(), parse(shown).unwrap());
        let arguments = |text: &str| text[text.find("Args").unwrap()..].to_owned();
        let shown = arguments(&shown);
        assert!(
            accepted.contains(shown.trim_end_matches(')')),
            "{accepted}\n{shown}"
        );
    }
}
