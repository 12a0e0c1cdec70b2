//! Reads Rust source as tokens, as far as its imports need it.

/// A token that matters to paths. Comments, strings and numbers are none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Token<'t> {
    Word(&'t str),
    /// `::`
    Colons,
    Mark(char),
}

/// Splits source into tokens.
pub fn tokens(text: &str) -> Vec<Token<'_>> {
    let mut all = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let length = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |end| end + 2)
        } else if let Some(length) = literal(rest) {
            length
        } else if is_word(first) {
            let length = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
            if !first.is_ascii_digit() {
                all.push(Token::Word(&rest[..length]));
            }
            length
        } else if rest.starts_with("::") {
            all.push(Token::Colons);
            2
        } else {
            if !first.is_whitespace() {
                all.push(Token::Mark(first));
            }
            first.len_utf8()
        };
        rest = &rest[length..];
    }
    all
}

/// The length of a string, character or lifetime at the start.
fn literal(text: &str) -> Option<usize> {
    let start = text.trim_start_matches(['b', 'c', 'r']);
    let prefix = text.len() - start.len();
    if prefix > 2 {
        return None;
    }
    if text[..prefix].ends_with('r') {
        let hashes = start.len() - start.trim_start_matches('#').len();
        if start[hashes..].starts_with('"') {
            let end = format!("\"{}", "#".repeat(hashes));
            let body = &start[hashes + 1..];
            let length = body.find(&end).map_or(body.len(), |at| at + end.len());
            return Some(prefix + hashes + 1 + length);
        }
        return None;
    }
    if start.starts_with('"') {
        return Some(prefix + quoted(start, '"'));
    }
    let body = start.strip_prefix('\'')?;
    let mut chars = body.chars();
    match (chars.next()?, chars.next()) {
        ('\\', _) | (_, Some('\'')) => Some(prefix + quoted(start, '\'')),
        _ => {
            let end = body.find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
            Some(prefix + 1 + end.unwrap_or(body.len()))
        }
    }
}

/// The length of what stands between two quotes, with them.
fn quoted(text: &str, quote: char) -> usize {
    let mut chars = text.char_indices().skip(1);
    while let Some((at, c)) = chars.next() {
        if c == '\\' {
            chars.next();
        } else if c == quote {
            return at + 1;
        }
    }
    text.len()
}

/// Leaves out what only tests are built from: each item with an attribute `cfg` that names `test`.
pub fn shipped(all: Vec<Token<'_>>) -> Vec<Token<'_>> {
    let mut kept = Vec::new();
    let mut i = 0;
    while i < all.len() {
        if all[i] == Token::Mark('#') && all.get(i + 1) == Some(&Token::Mark('[')) {
            let end = group_end(&all, i + 1);
            let attribute = &all[i + 2..end];
            let names = |word| attribute.contains(&Token::Word(word));
            if attribute.first() == Some(&Token::Word("cfg")) && names("test") && !names("not") {
                i = item_end(&all, end);
                continue;
            }
            // Other attributes hold no imports.
            i = end;
            continue;
        }
        kept.push(all[i]);
        i += 1;
    }
    kept
}

/// The position after the bracket that closes the group which opens at `open`.
fn group_end(all: &[Token], open: usize) -> usize {
    let mut depth = 0;
    for (at, token) in all.iter().enumerate().skip(open) {
        match token {
            Token::Mark('(' | '[' | '{') => depth += 1,
            Token::Mark(')' | ']' | '}') => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return at + 1;
        }
    }
    all.len()
}

/// The position after the item, statement, field or variant that begins at `start`.
fn item_end(all: &[Token], start: usize) -> usize {
    let mut at = start;
    // Whether a block ends it, as it does a function; a `use` continues to its semicolon.
    let mut ends_at_block = None;
    while let Some(token) = all.get(at) {
        match token {
            Token::Mark('#') => {
                at = group_end(all, at + 1);
                continue;
            }
            Token::Word("use" | "static" | "let" | "type") => {
                ends_at_block = ends_at_block.or(Some(false));
            }
            Token::Word("fn" | "impl" | "mod" | "struct" | "enum" | "trait") => {
                ends_at_block = ends_at_block.or(Some(true));
            }
            Token::Mark(';') => return at + 1,
            Token::Mark(',') if ends_at_block.is_none() => return at + 1,
            Token::Mark('(' | '[' | '{') => {
                let is_block = *token == Token::Mark('{');
                at = group_end(all, at);
                if is_block && ends_at_block != Some(false) {
                    return at;
                }
                continue;
            }
            Token::Mark(')' | ']' | '}') => return at,
            _ => {}
        }
        at += 1;
    }
    at
}

#[test]
fn strings_comments_lifetimes_and_test_items_yield_no_tokens() {
    let text = r##"
        // a::b
        /* a::b */
        fn f<'a>(x: &'a str) -> char { let y = "a::b \" c"; r#"a::"b"#; 'x' }
        #[cfg(test)]
        use a::{b, c};
        #[cfg(any(test, feature = "x"))]
        fn g(a: a::b) { a::b() }
        #[cfg(not(test))]
        use d::e;
    "##;
    let all = shipped(tokens(text));
    let words: Vec<&str> = all
        .iter()
        .filter_map(|token| match token {
            Token::Word(word) => Some(*word),
            _ => None,
        })
        .collect();
    assert_eq!(
        words,
        ["fn", "f", "x", "str", "char", "let", "y", "use", "d", "e"]
    );
}
