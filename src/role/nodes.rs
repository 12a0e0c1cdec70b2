//! `nodes(role=…, tag=…, app=…, port=…)`: returns the peers of this node to roles and templates.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use tera::{Kwargs, State, TeraResult, Value};

use crate::fleet::{Peer, PeerList, Query};

/// Valid arguments.
const ARGUMENTS: &[&str] = &["role", "tag", "app", "port"];

/// Answers of the function. Tera owns its functions and calls them where no store is reachable, so the peer
/// list is loaded before a text with a call is rendered.
#[derive(Clone, Default)]
pub(super) struct NodesFunction {
    peers: Arc<OnceLock<Arc<Mutex<PeerList>>>>,
    /// The last answer: Tera renders to text, but some fields need the list.
    last_answer: Arc<Mutex<serde_json::Value>>,
}

impl NodesFunction {
    pub(super) fn provide(&self, look: impl FnOnce() -> Arc<Mutex<PeerList>>) {
        self.peers.get_or_init(look);
    }

    /// The answer to the last call.
    pub(super) fn last_answer(&self) -> serde_json::Value {
        self.last_answer
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    pub(super) fn function(
        &self,
    ) -> impl Fn(Kwargs, &State<'_>) -> TeraResult<Value> + Send + Sync + 'static {
        let (book, last) = (self.peers.clone(), self.last_answer.clone());
        move |kwargs, _| {
            let query = parse_query(&kwargs)?;
            let book = book.get().ok_or_else(|| {
                tera::Error::message("this form of nodes(…) is not supported: write `nodes(`")
            })?;
            let mut book = book.lock().unwrap_or_else(PoisonError::into_inner);
            let nodes = book.nodes(&query).map_err(tera::Error::message)?;
            let nodes: Vec<&Peer> = nodes.iter().map(|peer| &**peer).collect();
            let list = serde_json::to_value(&nodes).expect("plain data is always JSON");
            *last.lock().unwrap_or_else(PoisonError::into_inner) = list;
            Ok(Value::from_serializable(&nodes))
        }
    }
}

fn parse_query(kwargs: &Kwargs) -> TeraResult<Query> {
    for (key, _) in kwargs.iter() {
        let key = key.to_string();
        if !ARGUMENTS.contains(&key.as_str()) {
            return Err(tera::Error::message(format!(
                "nodes(…) has no `{key}`: expected `role`, `tag`, `app` or `port`"
            )));
        }
    }
    let one = |word: &'static str| -> TeraResult<Option<String>> {
        match kwargs.get::<&Value>(word)? {
            None => Ok(None),
            Some(value) if value.is_none() => Ok(None),
            Some(value) => match value.as_str() {
                Some(text) => Ok(Some(text.to_owned())),
                None => Err(tera::Error::message(format!(
                    "nodes(…): expected a text for `{word}`"
                ))),
            },
        }
    };
    let tags = match kwargs.get::<&Value>("tag")? {
        Some(list) if list.is_array() => {
            let texts = list.as_array().unwrap_or_default().iter();
            let texts = texts.map(|tag| tag.as_str().map(str::to_owned));
            texts.collect::<Option<Vec<String>>>().ok_or_else(|| {
                tera::Error::message("nodes(…): expected texts such as `zone=a` for `tag`")
            })?
        }
        _ => one("tag")?.into_iter().collect(),
    };
    Ok(Query {
        role: one("role")?,
        tags,
        app: one("app")?,
        port: one("port")?,
    })
}

/// Whether a text calls the function.
pub(super) fn calls_nodes(text: &str) -> bool {
    let mut rest = text;
    while let Some(at) = rest.find("nodes") {
        let before = rest[..at].chars().next_back();
        let inside = before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == '.');
        rest = &rest[at + "nodes".len()..];
        if !inside && rest.trim_start().starts_with('(') {
            return true;
        }
    }
    false
}

/// Whether a text is exactly one call: it then yields the list itself.
pub(super) fn is_single_call(text: &str) -> bool {
    let inner = |text: &str| {
        let inner = text.strip_prefix("{{")?.strip_suffix("}}")?.trim();
        let arguments = inner.strip_prefix("nodes")?.trim_start();
        let arguments = arguments.strip_prefix('(')?.strip_suffix(')')?;
        Some(!arguments.contains(['(', ')', '{', '}', '|']))
    };
    inner(text).unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_calls_of_the_function_ask_for_peers() {
        for text in [
            "{{ nodes() }}",
            "{% for n in nodes (role=\"a\") %}",
            "x(nodes(tag='a'))",
        ] {
            assert!(calls_nodes(text), "{text}");
        }
        for text in [
            "these nodes",
            "app.nodes(",
            "subnodes()",
            "# nodes: (none)",
            "nodes",
        ] {
            assert!(!calls_nodes(text), "{text}");
        }
    }

    #[test]
    fn a_text_that_is_one_call_is_a_list_and_any_other_is_text() {
        assert!(is_single_call("{{ nodes(role=\"a\") }}") && is_single_call("{{nodes()}}"));
        for text in [
            "{{ nodes() | length }}",
            "{{ nodes() }} ",
            "{{ nodes(a) + nodes(b) }}",
            "nodes()",
        ] {
            assert!(!is_single_call(text), "{text}");
        }
    }
}
