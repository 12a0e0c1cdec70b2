//! Detects secrets in the settings. In doubt it assumes one: a root-only file costs little, but a leaked key
//! must be changed everywhere.

use serde_json::Value;

/// Parts of keys with secret values, in lower case.
const SECRET_WORDS: [&str; 9] = [
    "secret",
    "password",
    "passwd",
    "passphrase",
    "token",
    "credential",
    "private",
    "apikey",
    "dsn",
];

/// Suffixes of keys with secret values: `RAILS_MASTER_KEY`, `db_pass`.
const SECRET_SUFFIXES: [&str; 3] = ["_key", "_pass", "_pwd"];

/// A key with a secret suffix that names a file instead.
const EXEMPT_KEYS: [&str; 1] = ["deploy_key"];

/// Whether a value, at any depth, looks like a secret.
pub(super) fn contains_secret(value: &Value) -> bool {
    match value {
        Value::Object(map) => map
            .iter()
            .any(|(key, value)| (is_secret_key(key) && is_set(value)) || contains_secret(value)),
        Value::Array(items) => items.iter().any(contains_secret),
        Value::String(text) => is_secret_text(text),
        _ => false,
    }
}

fn is_secret_key(key: &str) -> bool {
    let key = key.to_lowercase().replace('-', "_");
    !EXEMPT_KEYS.contains(&key.as_str())
        && (SECRET_WORDS.iter().any(|word| key.contains(word))
            || SECRET_SUFFIXES.iter().any(|end| key.ends_with(end)))
}

/// Booleans and null are no secrets, whatever their key.
fn is_set(value: &Value) -> bool {
    !matches!(value, Value::Null | Value::Bool(_))
}

fn is_secret_text(text: &str) -> bool {
    let small = text.to_lowercase();
    small.contains("private key-----")
        || small.contains("password=")
        || small.contains("token=")
        || text.split_whitespace().any(has_userinfo)
}

/// A URL with a password, or with any user name where tokens are passed that way: `https://TOKEN@host/`. An
/// ssh user name is public.
fn has_userinfo(word: &str) -> bool {
    let Some((scheme, rest)) = word.split_once("://") else {
        return false;
    };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    match authority.rsplit_once('@') {
        Some((user, _)) => match user.split_once(':') {
            Some((_, password)) => !password.is_empty(),
            None => is_http(scheme),
        },
        // A password that contains a slash, unescaped: the text after the colon is no port.
        None => {
            rest.contains('@')
                && authority
                    .split_once(':')
                    .is_some_and(|(_, rest)| rest.contains(|c: char| !c.is_ascii_digit()))
        }
    }
}

fn is_http(scheme: &str) -> bool {
    let scheme = scheme.to_lowercase();
    scheme.ends_with("http") || scheme.ends_with("https")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn secrets_are_detected_by_key_url_and_form_at_any_depth() {
        for secret in [
            json!({"apps": {"shop": {"env": {"RAILS_MASTER_KEY": "0f"}}}}),
            json!({"apps": {"shop": {"secrets": {"A": "1"}}}}),
            json!({"api-token": 12}),
            json!({"SENTRY_DSN": "x"}),
            json!({"env": {"DATABASE_URL": "postgres://shop:geheim@db/shop"}}),
            json!({"env": {"DATABASE_URL": "postgres://shop:ge/heim@db/shop"}}),
            json!({"env": {"REDIS_URL": "redis://:geheim@cache:6379/0"}}),
            json!({"env": {"JDBC": "jdbc:postgresql://db/shop?user=shop&password=geheim"}}),
            json!({"repo": "https://user:TOKEN@host/shop.git"}),
            json!({"repo": "https://TOKEN@host/shop.git"}),
            json!({"files": [{"content": "-----BEGIN RSA PRIVATE KEY-----\nMII"}]}),
            json!({"command": "serve --db mysql://u:p@db/x"}),
        ] {
            assert!(contains_secret(&secret), "{secret}");
        }
    }

    #[test]
    fn public_addresses_and_file_names_are_not_secrets() {
        for public in [
            json!({"deploy_key": "/etc/trueup/deploy_key"}),
            json!({"apps": {"shop": {"repo": "git@github.com:acme/shop.git", "port": 3000}}}),
            json!({"repo": "ssh://git@github.com:22/acme/shop.git"}),
            json!({"repo": "https://github.com/acme/shop.git"}),
            json!({"health": {"url": "http://127.0.0.1:3000/up?mail=a@b"}}),
            json!({"url": "https://host/@scope/name"}),
            json!({"known_hosts": ["github.com ssh-ed25519 AAAA"]}),
            json!({"authorized_keys": ["ssh-ed25519 AAAA ana@home"]}),
            json!({"tokens": null, "password": false}),
        ] {
            assert!(!contains_secret(&public), "{public}");
        }
    }
}
