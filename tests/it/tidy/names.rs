//! Names in the code are terms of the field.

use std::collections::BTreeMap;
use std::fs;

use super::tokens::{Token, tokens};
use super::{assert_none, rust_files, sources, top};

/// Words that are no name of a module, type or function here. Each once was one, and
/// said little without its comment: docs/glossary.md and the field have a term for it.
const NO_NAMES: &[&str] = &[
    "Again",
    "Answer",
    "Asked",
    "Asks",
    "Back",
    "Barred",
    "Book",
    "Found",
    "GivenUp",
    "Halt",
    "Hands",
    "How",
    "Kept",
    "Laid",
    "Left",
    "Look",
    "Meant",
    "Need",
    "Note",
    "Notes",
    "Orders",
    "Own",
    "Pace",
    "Past",
    "Patience",
    "Place",
    "Places",
    "Row",
    "Said",
    "Seen",
    "Standing",
    "Stock",
    "Talk",
    "Told",
    "Trouble",
    "Untold",
    "Way",
    "Wish",
    "Work",
    "Written",
    "ails",
    "again",
    "bar",
    "between",
    "book",
    "bring_down",
    "bring_up",
    "by",
    "calm_down",
    "contact",
    "could_not",
    "edge",
    "found",
    "give",
    "go_on",
    "hands",
    "harmless",
    "inside",
    "is_told",
    "last_words",
    "lay",
    "living",
    "look",
    "moves",
    "orders",
    "own",
    "pace",
    "patience",
    "pause",
    "pour",
    "put_back",
    "reach",
    "reading",
    "said",
    "seen",
    "so",
    "some",
    "standing",
    "stock",
    "stock_up",
    "take_up",
    "talk",
    "tell",
    "told",
    "way",
    "whole",
];

/// Words that are no identifier at all: no variable, parameter, field or method. Each says only that there is a
/// value, not which one: `said` is an output, a message or an answer.
const NO_LOCALS: &[&str] = &[
    "ails", "anew", "begun", "book", "dormant", "heard", "judged", "lies", "looks", "ours",
    "patience", "place", "places", "said", "seen", "somebody", "tells", "theirs", "told", "waits",
    "whoever", "whole", "wished",
];

/// Words that a test's name does without: the promise is the verb in the present tense, of a named subject.
const NO_TEST_WORDS: &[&str] = &[
    "ails", "anew", "heard", "judged", "lies", "looks", "mended", "mends", "said", "somebody",
    "stands", "tell", "tells",
];

#[test]
fn item_names_are_terms_of_the_field() {
    let mut found = Vec::new();
    for source in sources() {
        for (number, line) in (1..).zip(source.text.lines()) {
            if line.trim_start().starts_with("//") {
                continue;
            }
            let words: Vec<&str> = line
                .split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
                .collect();
            for pair in words.windows(2) {
                let defines = ["enum", "fn", "mod", "struct", "trait", "type"].contains(&pair[0]);
                if defines && NO_NAMES.contains(&pair[1]) {
                    found.push(format!("{}:{number}: `{}`", source.path, pair[1]));
                }
            }
        }
    }
    assert_none(found);
}

#[test]
fn identifiers_say_which_value_they_are() {
    let mut found = Vec::new();
    for (path, text) in all_files() {
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        for token in tokens(&text) {
            if let Token::Word(word) = token
                && NO_LOCALS.contains(&word)
            {
                *counts.entry(word).or_default() += 1;
            }
        }
        found.extend(
            counts
                .iter()
                .map(|(word, count)| format!("{path}: `{word}`, {count} times")),
        );
    }
    assert_none(found);
}

#[test]
fn test_names_state_a_promise_in_plain_words() {
    let mut found = Vec::new();
    for (path, text) in all_files() {
        for name in test_names(&tokens(&text)) {
            let mut words = name.split('_');
            if words.clone().count() > 14 || words.any(|word| NO_TEST_WORDS.contains(&word)) {
                found.push(format!("{path}: {name}"));
            }
        }
    }
    assert_none(found);
}

/// Every Rust file of the repository, with its path and text.
fn all_files() -> impl Iterator<Item = (String, String)> {
    ["src", "tests", "benches", "packaging"]
        .into_iter()
        .flat_map(rust_files)
        .map(|path| {
            let name = path.strip_prefix(top()).unwrap().display().to_string();
            (name, fs::read_to_string(path).unwrap())
        })
}

/// The names of the functions right after an attribute `#[test]`.
fn test_names<'t>(all: &[Token<'t>]) -> Vec<&'t str> {
    let attribute = [
        Token::Mark('#'),
        Token::Mark('['),
        Token::Word("test"),
        Token::Mark(']'),
        Token::Word("fn"),
    ];
    all.windows(attribute.len() + 1)
        .filter_map(|window| match window.split_last()? {
            (Token::Word(name), before) if *before == attribute => Some(*name),
            _ => None,
        })
        .collect()
}

#[test]
fn test_names_are_found_after_their_attribute() {
    let text = "#[test]\nfn one_two() {}\nfn three() {}\n#[cfg(test)]\nfn four() {}";
    assert_eq!(test_names(&tokens(text)), ["one_two"]);
}
