//! Template filters beyond Tera's own.

use tera::{Error, Kwargs, State, Tera, Value};

/// `json`: for YAML or JSON files, whatever value an operator set.
pub(super) fn register(tera: &mut Tera) {
    tera.register_filter("json", |value: &Value, _: Kwargs, _: &State| {
        serde_json::to_string(value).map_err(Error::message)
    });
}
