//! Splits a line of a unit file into words, as systemd does.

use std::collections::BTreeMap;

/// Splits at white space; quotes keep words together, and a backslash starts an escape.
pub(super) fn split_words(text: &str) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote: Option<char> = None;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match (c, quote) {
            ('\\', _) => word.get_or_insert_default().push(parse_escape(&mut chars)?),
            (c, Some(open)) if c == open => quote = None,
            ('"' | '\'', None) => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (c, None) if c.is_whitespace() => words.extend(word.take()),
            (c, _) => word.get_or_insert_default().push(c),
        }
    }
    if let Some(open) = quote {
        return Err(format!("a quote {open} is not closed in `{text}`"));
    }
    words.extend(word);
    Ok(words)
}

fn parse_escape(chars: &mut std::str::Chars<'_>) -> Result<char, String> {
    let c = chars
        .next()
        .ok_or("a line ends in the middle of an escape")?;
    Ok(match c {
        'a' => '\x07',
        'b' => '\x08',
        'f' => '\x0c',
        'n' => '\n',
        'r' => '\r',
        't' => '\t',
        'v' => '\x0b',
        's' => ' ',
        '\\' | '"' | '\'' => c,
        'x' => {
            let digits: String = chars.take(2).collect();
            let byte = u8::from_str_radix(&digits, 16).ok().filter(u8::is_ascii);
            byte.map(char::from)
                .ok_or_else(|| format!("`\\x{digits}` is not an ASCII character"))?
        }
        other => return Err(format!("`\\{other}` is not an escape")),
    })
}

/// Expands variables: `${NAME}` anywhere in a word, `$NAME` as a whole word, which then splits at white
/// space. An unset variable is empty; `$$` is a dollar sign.
pub(super) fn expand_variables(words: &[String], env: &BTreeMap<String, String>) -> Vec<String> {
    let value = |name: &str| env.get(name).cloned().unwrap_or_default();
    let mut done = Vec::new();
    for word in words {
        match word.strip_prefix('$') {
            Some(name) if is_variable_name(name) => {
                done.extend(value(name).split_whitespace().map(str::to_owned));
            }
            _ => done.push(expand_in_word(word, &value)),
        }
    }
    done
}

fn expand_in_word(word: &str, value: &dyn Fn(&str) -> String) -> String {
    let mut done = String::new();
    let mut rest = word;
    while let Some(at) = rest.find('$') {
        done.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            done.push('$');
            rest = after;
        } else if let Some((name, after)) = parse_braced_name(rest) {
            done.push_str(&value(name));
            rest = after;
        } else {
            done.push('$');
        }
    }
    done + rest
}

fn parse_braced_name(text: &str) -> Option<(&str, &str)> {
    let (name, after) = text.strip_prefix('{')?.split_once('}')?;
    is_variable_name(name).then_some((name, after))
}

pub(super) fn is_variable_name(text: &str) -> bool {
    let letter = |c: char| c.is_ascii_alphabetic() || c == '_';
    text.starts_with(letter) && text.chars().all(|c| letter(c) || c.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_split_as_systemd_splits_them() {
        let words = split_words(r#"/bin/sh -c 'echo "a b"; exit' "x y"z \x41\s"" ''"#).unwrap();
        let expected = ["/bin/sh", "-c", r#"echo "a b"; exit"#, "x yz", "A ", ""];
        assert_eq!(words, expected);
        assert!(split_words("'open").is_err());
        assert!(split_words(r"\q").is_err());
    }

    #[test]
    fn variables_expand_as_systemd_expands_them() {
        let env = BTreeMap::from([
            ("PORT".to_owned(), "3000".to_owned()),
            ("ARGS".to_owned(), "-a  -b".to_owned()),
        ]);
        let words = [
            "tcp://${PORT}/",
            "$ARGS",
            "$NONE",
            "a$ARGS",
            "$$PORT",
            "${NONE}",
        ];
        let done = expand_variables(&words.map(str::to_owned), &env);
        assert_eq!(done, ["tcp://3000/", "-a", "-b", "a$ARGS", "$PORT", ""]);
    }
}
