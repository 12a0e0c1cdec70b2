//! Extracts the names that a template expression uses.

/// Words of the expression language that do not name values.
const KEYWORDS: &[&str] = &[
    "and", "or", "not", "in", "is", "if", "else", "true", "false", "none", "True", "False", "None",
];

/// Whether the expression itself handles an undefined name.
pub(super) fn handles_undefined(expression: &str) -> bool {
    let asks = |word: &&str| matches!(*word, "defined" | "undefined" | "default");
    let edge = |c: char| !(c.is_ascii_alphanumeric() || c == '_');
    expression.split(edge).any(|word| asks(&word))
}

/// The dotted names of values in an expression, such as `app.port`. Excludes string literals, keywords,
/// functions, filters, tests and argument names.
pub(super) fn value_names(expression: &str) -> Vec<&str> {
    let mut names = Vec::new();
    let mut rest = expression;
    // The text before the current name, without white space.
    let mut before = "";
    while let Some(first) = rest.chars().next() {
        let part = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '.';
        let length = match first {
            '"' | '\'' | '`' => rest[1..].find(first).map_or(rest.len(), |at| at + 2),
            c if part(c) => rest.find(|c| !part(c)).unwrap_or(rest.len()),
            c => c.len_utf8(),
        };
        let (word, after) = rest.split_at(length);
        rest = after;
        if word.trim().is_empty() {
            continue;
        }
        let named = first.is_ascii_alphabetic() || first == '_';
        let next = after.trim_start();
        let called = next.starts_with('(');
        let argument = next.starts_with('=') && !next.starts_with("==");
        // `is odd`, `is not odd`, `| upper`
        let filter_or_test = matches!(before, "|" | "is" | "is not");
        if named && !filter_or_test && !called && !argument && !KEYWORDS.contains(&word) {
            names.push(word.trim_end_matches('.'));
        }
        before = match (before, word) {
            ("is", "not") => "is not",
            (_, word) => word,
        };
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_values_are_names() {
        for (expression, names) in [
            ("port == 1", vec!["port"]),
            (
                "app.port > 80 and not node.tags.lb",
                vec!["app.port", "node.tags.lb"],
            ),
            (r#"facts.os.id == "debian or so""#, vec!["facts.os.id"]),
            ("list | length > 2", vec!["list"]),
            ("name is starting_with(pat='a')", vec!["name"]),
            ("n is not odd or true", vec!["n"]),
            ("'a' in tags", vec!["tags"]),
            ("app['port'] == other", vec!["app", "other"]),
            ("now() == 3.5", vec![]),
        ] {
            assert_eq!(value_names(expression), names, "{expression}");
        }
    }

    #[test]
    fn expression_may_test_whether_a_name_is_defined() {
        assert!(handles_undefined("port is defined"));
        assert!(handles_undefined("port | default(value=1) == 1"));
        assert!(!handles_undefined("port == defined_elsewhere"));
    }
}
