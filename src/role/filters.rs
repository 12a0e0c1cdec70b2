//! Template filters beyond Tera's own.

use std::collections::BTreeMap;
use std::fmt::Write;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::de::DeserializeOwned;
use tera::{Error, Kwargs, State, Tera, Value};

use super::vrrp::{self, ThisHost};
use crate::fleet::Peer;
use crate::release;

/// Of RFC 3986, section 2.3: all but the unreserved characters.
const URL_PART: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// `json`: for YAML or JSON files, whatever value an operator set. `first_host`: of the server names of a site, the
/// first that a request can name; null if there is none. `matches`: whether the tags of a node contain all of these.
/// `urlencode`: a text as one part of a URL, such as a password.
/// `unit_argument`: a text as one argument of a command in a systemd unit, where none of it has a meaning. `health_path`: of a
/// health check, the path that stays open during maintenance; null if there is none. `drain_route`: how a health check
/// reaches a drained app, `app` or `web_server`; null if the app cannot be drained. `vrrp`: the instances of keepalived on
/// this host.
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
    tera.register_filter("matches", |value: &Value, kwargs: Kwargs, _: &State| {
        let wanted = string_map(value)?;
        let tags = kwargs.must_get::<&Value>("tags").and_then(string_map)?;
        let is_found = |(tag, value): (&String, &String)| tags.get(tag) == Some(value);
        Ok(wanted.iter().all(is_found))
    });
    tera.register_filter("urlencode", |value: &Value, _: Kwargs, _: &State| {
        let text = value.as_str();
        let text = text.ok_or_else(|| Error::message("urlencode: expected a text"))?;
        Ok(utf8_percent_encode(text, URL_PART).to_string())
    });
    tera.register_filter("unit_argument", |value: &Value, _: Kwargs, _: &State| {
        let text = value.as_str();
        let text = text.ok_or_else(|| Error::message("unit_argument: expected a text"))?;
        Ok(unit_argument(text))
    });
    tera.register_filter("health_path", |value: &Value, _: Kwargs, _: &State| {
        let health = serde_json::to_value(value).map_err(Error::message)?;
        let url = health.get("url").and_then(serde_json::Value::as_str);
        let path = url.and_then(release::health_path);
        Ok(path.map_or_else(Value::none, Value::from))
    });
    tera.register_filter("drain_route", |value: &Value, kwargs: Kwargs, _: &State| {
        let health = serde_json::to_value(value).map_err(Error::message)?;
        let port = serde_json::to_value(kwargs.must_get::<&Value>("port")?);
        let port = port.map_err(Error::message)?;
        let port = port
            .as_str()
            .map_or_else(|| port.to_string(), str::to_owned);
        let port = port.parse::<u16>().ok();
        let url = health.get("url").and_then(serde_json::Value::as_str);
        let route = url.and_then(|url| release::drain_route(url, port));
        Ok(route.map_or_else(Value::none, |route| Value::from(route.as_str())))
    });
    tera.register_filter("vrrp", |value: &Value, kwargs: Kwargs, _: &State| {
        let settings = serde_json::to_value(value).map_err(Error::message)?;
        let balancers: Vec<Peer> = argument(&kwargs, "balancers")?;
        let interface: String = argument(&kwargs, "interface")?;
        let name: String = argument(&kwargs, "node")?;
        let this = ThisHost {
            name: &name,
            addresses: argument(&kwargs, "addresses")?,
            interface: &interface,
        };
        let instances = vrrp::instances(&settings, &balancers, &this).map_err(Error::message)?;
        Ok(Value::from_serializable(&instances))
    });
}

fn argument<T: DeserializeOwned>(kwargs: &Kwargs, name: &'static str) -> Result<T, Error> {
    let value = serde_json::to_value(kwargs.must_get::<&Value>(name)?);
    value
        .and_then(serde_json::from_value)
        .map_err(Error::message)
}

fn string_map(value: &Value) -> Result<BTreeMap<String, String>, Error> {
    serde_json::to_value(value)
        .and_then(serde_json::from_value)
        .map_err(|_| Error::message("expected a map of tags and their values"))
}

/// Quotes a text for a command in a unit file: systemd expands `%` and `$` there, and ends a line at a line end.
fn unit_argument(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            '%' | '$' => quoted.extend([c, c]),
            '\n' => quoted.push_str("\\n"),
            '\t' => quoted.push_str("\\t"),
            c if c.is_ascii_control() => {
                let _ = write!(quoted, "\\x{:02x}", c as u32);
            }
            c => quoted.push(c),
        }
    }
    quoted + "\""
}

/// Whether nginx compares this server name literally, as opposed to `_`, `*.example.com` or `~^www`.
fn is_host_name(name: &str) -> bool {
    let usable = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-');
    !name.is_empty() && !name.starts_with('.') && name.chars().all(usable)
}

#[cfg(test)]
mod tests {
    use super::{is_host_name, unit_argument};

    #[test]
    fn no_text_leaves_its_argument_in_a_unit() {
        let hostile = "a\"b\\c%n$PATH\nExecStartPre=+/bin/sh\r\x1b\u{85}ü";
        let quoted = unit_argument(hostile);
        assert_eq!(
            quoted,
            r#""a\"b\\c%%n$$PATH\nExecStartPre=+/bin/sh\x0d\x1b"#.to_owned() + "\u{85}ü\""
        );
        assert!(!quoted.contains(['\n', '\r']));
    }

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
