//! Generates the text of `node.yml` from the packaged one, replacing its examples with settings.

use serde_json::{Value, json};

use crate::yaml;

/// The packaged file: nothing set, everything explained.
pub(super) const TEMPLATE: &str = include_str!("../../../packaging/node.yml");

/// Puts each setting in the place of its example, which follows a `#` without a space, or at the end if there
/// is none.
pub(super) fn fill(text: &str, settings: &[(&str, Value)]) -> String {
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    for (key, value) in settings {
        let entry = yaml::serialize(json!({*key: value}));
        let entry = entry.trim_end_matches('\n').to_owned();
        let start = lines
            .iter()
            .position(|line| line.starts_with(&format!("#{key}:")));
        match start {
            Some(start) => {
                let inner = lines[start + 1..]
                    .iter()
                    .take_while(|line| line.starts_with("#  "));
                let end = start + 1 + inner.count();
                lines.splice(start..end, [entry]);
            }
            None => lines.extend([String::new(), entry]),
        }
    }
    lines.join("\n") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_replace_their_examples_and_keep_the_comments() {
        let text = "# Which one.\n#environment: production\n\n# Where.\n#store:\n#  url: x\n#  region: y\n# More.\n";
        let settings = [
            ("environment", json!("staging")),
            ("store", json!({"url": "s3://b"})),
            ("node", json!("web-1")),
        ];
        assert_eq!(
            fill(text, &settings),
            "# Which one.\nenvironment: staging\n\n# Where.\nstore:\n  url: s3://b\n# More.\n\nnode: web-1\n"
        );
    }
}
