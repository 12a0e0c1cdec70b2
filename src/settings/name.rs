//! The names of nodes, environments and apps.

/// Whether the word is safe as part of a path, a unit name and a store key.
pub(crate) fn is_name(name: &str) -> bool {
    name.len() <= 64
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
}

/// Why a name is refused.
pub(crate) fn invalid_name(name: &str) -> String {
    format!(
        "`{name}` is not a name: expected letters, digits, `-`, `_` or `.`, starting with a letter or digit"
    )
}
