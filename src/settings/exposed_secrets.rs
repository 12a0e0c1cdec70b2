//! Detects world-readable secrets in the settings.

use std::path::Path;

use url::Url;

use crate::ports::root::{Meta, Root};
use crate::problem::Problem;
use crate::yaml::Node;

/// A warning if a settings file holds a secret and is world-readable.
pub(super) fn exposure_warning(
    root: &Root,
    path: &Path,
    meta: &Meta,
    tree: &Node,
) -> Option<Problem> {
    let exposed = meta.mode & 0o004 != 0 && holds_secret(tree) && root.is_readable_by_all(path);
    exposed.then(|| {
        let path = path.display();
        Problem::new(format!(
            "{path} contains secrets and is readable by every user of this host (mode {:04o})",
            meta.mode
        ))
        .hint(format!("`chmod o-r {path}`"))
    })
}

/// Whether the settings hold a parameter `secrets`, a secret file with its content, a private key as text, or a URL
/// with a password.
fn holds_secret(node: &Node) -> bool {
    if let Some(entries) = node.as_map() {
        let is_true = |value: &Node| value.as_text() == Some("true");
        if node.get("secret").is_some_and(is_true) && node.get("content").is_some() {
            return true;
        }
        return entries.iter().any(|entry| {
            let filled = entry.value.as_map().is_some_and(|map| !map.is_empty());
            entry.key == "secrets" && filled || holds_secret(&entry.value)
        });
    }
    if let Some(list) = node.as_list() {
        return list.iter().any(holds_secret);
    }
    let Some(text) = node.as_text() else {
        return false;
    };
    let has_password = || Url::parse(text).is_ok_and(|url| url.password().is_some());
    text.contains("PRIVATE KEY-----") || text.contains("://") && has_password()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::yaml::{self, ParseLimits};

    #[test]
    fn secrets_are_known_by_their_name_and_by_their_form() {
        for (text, secret) in [
            ("attributes: {apps: {shop: {secrets: {TOKEN: abc}}}}", true),
            ("attributes: {apps: {shop: {secrets: {}}}}", false),
            (
                "attributes: {certificate: \"-----BEGIN PRIVATE KEY-----\"}",
                true,
            ),
            (
                "attributes: {apps: {shop: {repo: \"https://ci:abc@git.example.com/shop\"}}}",
                true,
            ),
            (
                "attributes: {apps: {shop: {repo: \"https://git.example.com/shop\"}}}",
                false,
            ),
            ("attributes: {lists: [{secrets: {a: b}}]}", true),
            ("files: {k: {content: abc, secret: true}}", true),
            ("files: {k: {content: abc, secret: false}}", false),
            ("files: {k: {source: abc, secret: true}}", false),
        ] {
            let tree = yaml::parse("node.yml", text.as_bytes(), ParseLimits::default()).unwrap();
            assert_eq!(holds_secret(&tree), secret, "{text}");
        }
    }
}
