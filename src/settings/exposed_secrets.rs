//! Detects world-readable secrets in the settings.

use std::path::Path;

use url::Url;

use super::PolicyFiles;
use crate::ports::root::{Meta, Root};
use crate::problem::Problem;
use crate::yaml::{self, Entry, Node, ParseLimits};

/// The settings about how secrets are decrypted, which hold none.
const DECRYPTION: &str = "secrets";

/// A warning if a settings file holds a secret and is world-readable.
pub(super) fn exposure_warning(
    root: &Root,
    path: &Path,
    meta: &Meta,
    tree: &Node,
) -> Option<Problem> {
    let holds = |entry: &Entry| entry.key != DECRYPTION && holds_secret_in(entry);
    let holds = tree.as_map().unwrap_or_default().iter().any(holds);
    let exposed = meta.mode & 0o004 != 0 && holds && root.is_readable_by_all(path);
    exposed.then(|| {
        let path = path.display();
        Problem::new(format!(
            "{path} contains secrets and is readable by every user of this host (mode {:04o})",
            meta.mode
        ))
        .hint(format!("`chmod o-r {path}`"))
    })
}

/// Warnings about parameters in a policy bundle that look like secrets: every user of every host can read it.
pub(crate) fn exposed_values(policy: &PolicyFiles) -> Result<Vec<Problem>, Problem> {
    let mut warnings = Vec::new();
    for (path, body) in &policy.files {
        if !path.starts_with("environments/") {
            continue;
        }
        let name = format!("{}/{path}", policy.name);
        let tree = yaml::parse(&name, body, ParseLimits::default())?;
        let entries = tree.expect_map("a map of parameters")?;
        if entries.iter().any(holds_secret_in) {
            let problem =
                format!("{name} contains secrets, and every user of every host can read a bundle");
            let hint = "`trueup secret set` encrypts them: `{{ secret(\"name\") }}`";
            warnings.push(Problem::new(problem).hint(hint));
        }
    }
    Ok(warnings)
}

/// Whether the settings hold a parameter `secrets`, a secret file with its content, a private key as text, or a URL
/// with a password.
fn holds_secret(node: &Node) -> bool {
    if let Some(entries) = node.as_map() {
        let is_true = |value: &Node| value.as_text() == Some("true");
        if node.get("secret").is_some_and(is_true) && node.get("content").is_some() {
            return true;
        }
        return entries.iter().any(holds_secret_in);
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

fn holds_secret_in(entry: &Entry) -> bool {
    let values = entry.value.as_map().unwrap_or_default().iter();
    let is_literal = |value: &Entry| !value.value.as_text().is_some_and(is_reference);
    entry.key == "secrets" && values.into_iter().any(is_literal) || holds_secret(&entry.value)
}

/// A value that is not written here: `{{ secret("name") }}`.
fn is_reference(text: &str) -> bool {
    text.starts_with("{{ secret(") || text.starts_with("{{secret(")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_known_by_their_name_and_by_their_form() {
        for (text, secret) in [
            ("attributes: {apps: {shop: {secrets: {TOKEN: abc}}}}", true),
            ("attributes: {apps: {shop: {secrets: {}}}}", false),
            (
                "attributes: {apps: {shop: {secrets: {A: '{{ secret(\"a\") }}'}}}}",
                false,
            ),
            (
                "attributes: {apps: {shop: {secrets: {A: '{{ secret(\"a\") }}', B: c}}}}",
                true,
            ),
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
