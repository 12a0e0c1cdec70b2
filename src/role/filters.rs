//! What templates have besides Tera's own.

use tera::{Error, Kwargs, State, Tera, Value};

/// `json`: for files that hold YAML or JSON, with whatever people wrote as a value.
pub(super) fn register(tera: &mut Tera) {
    tera.register_filter("json", |value: &Value, _: Kwargs, _: &State| {
        serde_json::to_string(value).map_err(Error::message)
    });
}
