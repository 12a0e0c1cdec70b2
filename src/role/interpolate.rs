//! Renders plain references without Tera. Most strings of roles and many templates contain only `{{
//! name.field }}`, and compiling each of them in every run would dominate the cost of a quiet pass.

use serde_json::Value;

use super::template_syntax::is_plain_path;

/// Substitutes the references of a text that contains only plain references to strings and integers. `None`:
/// the text needs Tera, which also produces the error messages.
pub(super) fn interpolate<'v>(
    text: &str,
    lookup: impl Fn(&str) -> Option<&'v Value>,
) -> Option<String> {
    if text.contains("{%") || text.contains("{#") {
        return None;
    }
    let mut result = String::with_capacity(text.len() + text.len() / 2);
    let mut rest = text;
    while let Some(start) = rest.find("{{") {
        let inner = &rest[start + 2..];
        let end = inner.find("}}")?;
        let path = inner[..end].trim_matches(' ');
        if !is_plain_path(path) {
            return None;
        }
        result.push_str(&rest[..start]);
        match lookup(path)? {
            Value::String(word) => result.push_str(word),
            Value::Number(number) if number.is_i64() => result.push_str(&number.to_string()),
            _ => return None,
        }
        rest = &inner[end + 2..];
    }
    result.push_str(rest);
    Some(result)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn render(text: &str) -> Option<String> {
        let values = json!({"a": "<x>", "n": -3, "deep": {"b": "y"}, "f": 1.5, "none": null});
        interpolate(text, |path| {
            path.split('.')
                .try_fold(&values, |value, part| value.get(part))
        })
    }

    #[test]
    fn plain_references_are_put_in_and_all_else_is_left_to_tera() {
        assert_eq!(render("{{ a }}-{{n}}-{{ deep.b }}").unwrap(), "<x>--3-y");
        for left in [
            "{{ a | upper }}",
            "{{- a }}",
            "{% if a %}{% endif %}",
            "{# a #}",
            "{{ f }}",
            "{{ none }}",
            "{{ x }}",
            "{{ a",
            "{{ 1 }}",
            "{{ true }}",
        ] {
            assert_eq!(render(left), None, "{left}");
        }
    }

    proptest! {
        /// For a text that both accept, both give the same result.
        #[test]
        fn interpolation_renders_the_same_as_tera(parts in proptest::collection::vec(
            prop_oneof![
                "[ -z}\n\r]{0,6}",
                Just("{{ a }}".to_owned()), Just("{{n}}".to_owned()), Just("{{ deep.b }}".to_owned()),
            ], 0..8)) {
            let text = parts.concat();
            if let Some(ours) = render(&text) {
                let mut context = tera::Context::new();
                context.insert("a", "<x>");
                context.insert("n", &-3);
                context.insert("deep", &json!({"b": "y"}));
                prop_assert_eq!(tera::Tera::default().render_str(&text, &context, false).unwrap(), ours);
            }
        }
    }
}
