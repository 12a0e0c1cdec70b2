//! Recognizes template syntax in the strings of roles and templates.

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
