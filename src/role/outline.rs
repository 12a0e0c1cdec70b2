//! What an expansion of the roles produced, to find what depends on secrets: the same roles are expanded with other values,
//! and whatever differs depends on them, through whatever parameters and filters they went.

use std::collections::BTreeMap;

use super::check::ConfigCheck;
use super::draft::Draft;
use crate::yaml::{Node, NodeKind};

pub(super) use super::secret_taint::FieldPath;

/// The resources of an expansion in order.
pub(super) struct Outline {
    pub resources: Vec<OutlinedResource>,
    /// Ids whose `when` was false.
    pub skipped_ids: Vec<String>,
    pub checks: BTreeMap<String, ConfigCheck>,
}

/// A resource of an expansion.
pub(super) struct OutlinedResource {
    id: String,
    requires: Vec<(Option<String>, String)>,
    /// Its fields. `None`: they were rendered before any secret was used.
    node: Option<Node>,
    /// The templates that it rendered, in order. `None`: no secret was used by then, so it has none.
    pub rendered: Vec<Option<String>>,
}

impl OutlinedResource {
    pub(super) fn of(draft: &Draft, with_fields: bool) -> OutlinedResource {
        OutlinedResource {
            id: draft.id.clone(),
            requires: draft.requires.clone(),
            node: with_fields.then(|| draft.node.clone()),
            rendered: Vec::new(),
        }
    }

    /// Whether both expansions made the same resource, maybe with other values of its fields.
    pub(super) fn is_same_resource(&self, draft: &Draft) -> bool {
        self.id == draft.id && self.requires == draft.requires
    }

    /// The fields whose values differ.
    pub(super) fn differing_fields(&self, draft: &Draft) -> Vec<FieldPath> {
        let mut found = Vec::new();
        if let Some(node) = &self.node {
            collect_differences(node, &draft.node, &mut Vec::new(), &mut found);
        }
        found
    }

    /// The fields that depend on secrets: those whose values differ, and those that were rendered with one.
    pub(super) fn secret_paths(&self, draft: &Draft) -> Vec<FieldPath> {
        let mut paths = self.differing_fields(draft);
        for leaf in &draft.secret_fields {
            if !paths.contains(&leaf.path) {
                paths.push(leaf.path.clone());
            }
        }
        paths
    }

    /// Whether anything of the resource differs.
    pub(super) fn differs(&self, draft: &Draft, rendered: &[Option<String>]) -> bool {
        let is_same_template = |(number, text): (usize, &Option<String>)| {
            text.as_ref()
                .is_none_or(|text| !self.differs_in_template(number, text))
        };
        !self.differing_fields(draft).is_empty()
            || !rendered.iter().enumerate().all(is_same_template)
    }

    /// Whether a template that is rendered now differs from the same of this expansion.
    pub(super) fn differs_in_template(&self, number: usize, text: &str) -> bool {
        match self.rendered.get(number) {
            Some(Some(other)) => other != text,
            Some(None) => false,
            // Rendered only now, so because of a secret.
            None => true,
        }
    }
}

fn collect_differences(a: &Node, b: &Node, path: &mut FieldPath, found: &mut Vec<FieldPath>) {
    match (&a.kind, &b.kind) {
        (NodeKind::List(a), NodeKind::List(b)) if a.len() == b.len() => {
            for (number, (a, b)) in a.iter().zip(b).enumerate() {
                path.push(number.to_string());
                collect_differences(a, b, path, found);
                path.pop();
            }
        }
        (NodeKind::Map(a), NodeKind::Map(b))
            if a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.key == b.key) =>
        {
            for (a, b) in a.iter().zip(b) {
                path.push(a.key.clone());
                collect_differences(&a.value, &b.value, path, found);
                path.pop();
            }
        }
        (NodeKind::Scalar { text: a, .. }, NodeKind::Scalar { text: b, .. }) if a == b => {}
        _ => found.push(path.clone()),
    }
}

/// The field as errors show it: `files[0].path`.
pub(super) fn shown(path: &FieldPath) -> String {
    let mut text = String::new();
    for part in path {
        match part.bytes().all(|byte| byte.is_ascii_digit()) {
            true => text.push_str(&format!("[{part}]")),
            false if text.is_empty() => text.push_str(part),
            false => text.push_str(&format!(".{part}")),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::yaml::{ParseLimits, parse};

    fn differences(a: &str, b: &str) -> Vec<String> {
        let [a, b] =
            [a, b].map(|text| parse("t", text.as_bytes(), ParseLimits::default()).unwrap());
        let mut found = Vec::new();
        collect_differences(&a, &b, &mut Vec::new(), &mut found);
        found.iter().map(shown).collect()
    }

    #[test]
    fn differences_are_the_innermost_fields_with_other_values() {
        assert_eq!(
            differences(
                "{a: 1, b: {c: [x, y]}, d: s}",
                "{a: 1, b: {c: [x, z]}, d: t}"
            ),
            ["b.c[1]", "d"]
        );
        assert_eq!(differences("{a: [x]}", "{a: [x, y]}"), ["a"]);
        assert_eq!(differences("{a: {b: x}}", "{a: {c: x}}"), ["a"]);
        assert_eq!(differences("{a: x}", "{a: {c: x}}"), ["a"]);
        assert_eq!(differences("{a: x}", "{a: 'x'}"), [""; 0]);
    }
}
