//! The start of a response as one line of text, for messages.

use crate::ports::secrets;

/// Most characters of a response in a message.
const MAX_SHOWN_CHARS: usize = 200;

/// Elements whose content nobody reads.
const HIDDEN: [&str; 4] = ["script", "style", "head", "svg"];

/// The start of a response in one line, without secrets; of a page in HTML, the text that a visitor sees.
pub(super) fn excerpt(response: &str) -> String {
    // Redacted before it is cut, because half a secret is not recognized.
    let text = secrets::redact(response.trim());
    let text = match is_html(&text) {
        true => visible_text(&text),
        false => text.to_string(),
    };
    let words: Vec<&str> = text.split_whitespace().collect();
    let line = words.join(" ");
    line.chars().take(MAX_SHOWN_CHARS).collect()
}

/// Also a part of a page, and XML.
fn is_html(text: &str) -> bool {
    let mut start = text.chars();
    start.next() == Some('<')
        && start
            .next()
            .is_some_and(|c| c.is_ascii_alphabetic() || c == '!')
}

/// The text between the tags. Rough: it is quoted, not rendered.
fn visible_text(html: &str) -> String {
    let lower = html.to_ascii_lowercase();
    let mut text = String::new();
    let mut at = 0;
    while let Some(start) = lower[at..].find('<').map(|start| at + start) {
        text.push_str(&html[at..start]);
        text.push(' ');
        let name = lower[start + 1..].split(|c: char| !c.is_ascii_alphanumeric());
        let name = name.into_iter().next().unwrap_or_default();
        let end = match HIDDEN.contains(&name) {
            true => format!("</{name}"),
            false if lower[start..].starts_with("<!--") => "-->".to_owned(),
            false => String::new(),
        };
        let content_end = lower[start + 1..].find(&end).map(|found| start + 1 + found);
        let Some(close) = content_end.and_then(|end| Some(end + lower[end..].find('>')?)) else {
            at = html.len();
            break;
        };
        at = close + 1;
    }
    text.push_str(&html[at..]);
    for (entity, character) in [
        ("&lt;", "<"),
        ("&gt;", ">"),
        ("&quot;", "\""),
        ("&#39;", "'"),
        ("&nbsp;", " "),
        ("&amp;", "&"),
    ] {
        text = text.replace(entity, character);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn page_of_an_error_is_quoted_as_its_text() {
        let rails = "<!DOCTYPE html>\n<html>\n<head>\n  <title>We're sorry (500)</title>\n  <style>body { color: red; }</style>\n</head>\n<body class=\"x\">\n<!-- a > comment -->\n<h1>We're sorry, but something went wrong.</h1>\n<p>If you are the owner, check the logs &amp; more.</p><script>if (1 < 2) {}</script>\n</body></html>\n";
        assert_eq!(
            excerpt(rails),
            "We're sorry, but something went wrong. If you are the owner, check the logs & more."
        );
        assert_eq!(excerpt(" plain\n <text> "), "plain <text>");
        assert_eq!(
            excerpt("{\"error\": \"no database\"}"),
            "{\"error\": \"no database\"}"
        );
    }

    #[test]
    fn malformed_pages_end_and_stay_short() {
        for page in [
            "<html>",
            "<html",
            "<html><style>",
            "<html><!--",
            "<html><script>é</scr",
            "<html><<<<>>>",
            "",
        ] {
            assert!(excerpt(page).len() < 20, "{page}");
        }
        let long = format!("<html>{}", "é ".repeat(10_000));
        assert_eq!(excerpt(&long).chars().count(), MAX_SHOWN_CHARS);
    }
}
