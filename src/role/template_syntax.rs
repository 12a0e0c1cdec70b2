//! Recognizes template syntax in the strings of roles and templates.

use std::borrow::Cow;

/// Whether the text contains anything to render.
pub(super) fn is_template(text: &str) -> bool {
    let mut pairs = text.as_bytes().windows(2);
    pairs.any(|pair| matches!(pair, b"{{" | b"{%" | b"{#"))
}

/// The dotted path of a text that is exactly one `{{ path }}`.
pub(super) fn plain_reference(text: &str) -> Option<&str> {
    let inner = text.strip_prefix("{{")?.strip_suffix("}}")?.trim();
    is_plain_path(inner).then_some(inner)
}

/// Whether this is a dotted path of names without a special meaning in Tera.
pub(super) fn is_plain_path(path: &str) -> bool {
    let ident = |part: &[u8]| {
        part.first()
            .is_some_and(|c| c.is_ascii_alphabetic() || *c == b'_')
            && part.iter().all(|c| c.is_ascii_alphanumeric() || *c == b'_')
    };
    let word = !matches!(
        path,
        "true" | "false" | "none" | "True" | "False" | "None" | "loop"
    );
    word && path.as_bytes().split(|c| *c == b'.').all(ident)
}

/// Names the argument of `secret("name")`: Tera has only named ones. Nothing outside of marks, or between `raw` and
/// `endraw`, is a call.
pub(super) fn with_argument_names(text: &str) -> Cow<'_, str> {
    const CALL: &str = "secret(";
    if !text.contains(CALL) {
        return Cow::Borrowed(text);
    }
    let mut named = String::with_capacity(text.len() + 16);
    let mut rest = text;
    while let Some(start) = rest.find("{{").into_iter().chain(rest.find("{%")).min() {
        let end = if rest[start..].starts_with("{{") {
            "}}"
        } else {
            "%}"
        };
        let Some(length) = rest[start..].find(end) else {
            break;
        };
        let (before, mark) = (&rest[..start], &rest[start..start + length]);
        named.push_str(before);
        rest = &rest[start + length..];
        let tag = mark.trim_start_matches(['{', '%', '-']).trim_start();
        if mark.starts_with("{%") && tag.starts_with("raw") {
            let end = rest.find("endraw").unwrap_or(rest.len());
            named.push_str(mark);
            named.push_str(&rest[..end]);
            rest = &rest[end..];
            continue;
        }
        push_with_argument_name(mark, CALL, &mut named);
    }
    named.push_str(rest);
    Cow::Owned(named)
}

fn push_with_argument_name(mark: &str, call: &str, named: &mut String) {
    let mut parts = mark.split(call);
    let mut before = parts.next().unwrap_or_default();
    named.push_str(before);
    for part in parts {
        let is_call =
            !before.ends_with(|c: char| c.is_ascii_alphanumeric() || c == '_' || c == '.');
        named.push_str(call);
        if is_call && part.trim_start().starts_with(['"', '\'']) {
            named.push_str("name=");
        }
        named.push_str(part);
        before = part;
    }
}

/// The templates that a template names in `include`, `extends` and `import`.
pub(super) fn referenced_templates(text: &str) -> Vec<String> {
    let mut names = Vec::new();
    for tag in text.split("{%").skip(1) {
        let tag = tag
            .split("%}")
            .next()
            .unwrap_or_default()
            .trim_start_matches('-')
            .trim();
        if let Some(rest) = ["include", "extends", "import"]
            .iter()
            .find_map(|word| tag.strip_prefix(word))
        {
            let quote = rest.find(['"', '\'']).map(|at| (at, &rest[at..=at]));
            if let Some((at, quote)) = quote
                && let Some(name) = rest[at + 1..].split(quote).next()
            {
                names.push(name.to_owned());
            }
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_named_only_in_calls() {
        for (text, named) in [
            ("a={{ secret(\"x\") }}", "a={{ secret(name=\"x\") }}"),
            (
                "{% if secret( 'x' ) == secret('y') %}",
                "{% if secret(name= 'x' ) == secret(name='y') %}",
            ),
            ("{{ secret(name=\"x\") }}", "{{ secret(name=\"x\") }}"),
            ("secret(\"x\") {{ a }}", "secret(\"x\") {{ a }}"),
            ("{{ my_secret(\"x\") }}", "{{ my_secret(\"x\") }}"),
            (
                "{% raw %}{{ secret(\"x\") }}{% endraw %}{{ secret(\"x\") }}",
                "{% raw %}{{ secret(\"x\") }}{% endraw %}{{ secret(name=\"x\") }}",
            ),
            ("{{ secret(\"x\")", "{{ secret(\"x\")"),
        ] {
            assert_eq!(with_argument_names(text), named);
        }
    }
}
