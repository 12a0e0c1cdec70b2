//! Template filters beyond Tera's own.

use tera::{Error, Kwargs, State, Tera, Value};

/// `json`: for YAML or JSON files, whatever value an operator set. `first_host`: of the server names of a site, the
/// first that a request can name; null if there is none.
pub(super) fn register(tera: &mut Tera) {
    tera.register_filter("json", |value: &Value, _: Kwargs, _: &State| {
        serde_json::to_string(value).map_err(Error::message)
    });
    tera.register_filter("first_host", |value: &Value, _: Kwargs, _: &State| {
        let names: Vec<String> = serde_json::to_value(value)
            .and_then(serde_json::from_value)
            .map_err(Error::message)?;
        let host = names.into_iter().find(|name| is_host_name(name));
        Ok(host.map_or_else(Value::none, Value::from))
    });
}

/// Whether nginx compares this server name literally, as opposed to `_`, `*.example.com` or `~^www`.
fn is_host_name(name: &str) -> bool {
    let usable = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-');
    !name.is_empty() && !name.starts_with('.') && name.chars().all(usable)
}

#[cfg(test)]
mod tests {
    use super::is_host_name;

    #[test]
    fn only_literal_server_names_are_host_names() {
        for name in ["shop.example.com", "shop", "xn--bcher-kva.example"] {
            assert!(is_host_name(name), "{name}");
        }
        for name in ["_", "", "*.example.com", ".example.com", "~^www", "www.*"] {
            assert!(!is_host_name(name), "{name}");
        }
    }
}
