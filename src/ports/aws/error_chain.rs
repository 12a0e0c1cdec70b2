//! The causes of an error of the SDK.

use std::error::Error;

use crate::ports::error_sources::error_sources;

/// The messages of an error and its causes, without the SDK's wrappers.
pub(in crate::ports) fn error_chain(error: &(dyn Error + 'static)) -> String {
    const SDK_WRAPPERS: [&str; 7] = [
        "dispatch failure",
        "request has timed out",
        "response error",
        "unhandled error",
        "io error",
        "other",
        "client error (Connect)",
    ];
    let mut words: Vec<String> = Vec::new();
    for link in error_sources(error) {
        let text = link.to_string();
        let repeated = words.last().is_some_and(|last| last.ends_with(&text));
        if !repeated && !SDK_WRAPPERS.contains(&text.as_str()) {
            words.push(text);
        }
    }
    if words.is_empty() {
        words.push(error.to_string());
    }
    words.join(": ")
}
