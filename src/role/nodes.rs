//! `nodes(role=…, tag=…, app=…, port=…)`: returns the peers of this node to roles and templates.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tera::{Kwargs, State, TeraResult, Value};

use crate::fleet::{LoadedPeers, Peer, Query};

/// Valid arguments.
const ARGUMENTS: &[&str] = &["role", "tag", "app", "port"];

/// The function in Tera. Tera owns its functions and calls them where no store is reachable, so the function
/// borrows the peers for one rendering at a time.
#[derive(Default)]
pub(super) struct NodesFunction {
    loan: Arc<Mutex<Loan>>,
}

/// What the function has during one rendering.
#[derive(Default)]
struct Loan {
    peers: Option<LoadedPeers>,
    /// The function was called and had no peers.
    lacks_peers: bool,
}

impl NodesFunction {
    /// Lends the peers to the function while `render` runs. Returns `None` if the function was called and
    /// there were none to lend.
    pub(super) fn lend<T>(
        &self,
        peers: &mut Option<LoadedPeers>,
        render: impl FnOnce() -> T,
    ) -> Option<T> {
        lock(&self.loan).peers = peers.take();
        let rendered = render();
        let returned = std::mem::take(&mut *lock(&self.loan));
        *peers = returned.peers;
        (!returned.lacks_peers).then_some(rendered)
    }

    pub(super) fn function(
        &self,
    ) -> impl Fn(Kwargs, &State<'_>) -> TeraResult<Value> + Send + Sync + 'static {
        let loan = self.loan.clone();
        move |kwargs, _| {
            let query = parse_query(&kwargs)?;
            let mut loan = lock(&loan);
            let Some(peers) = &mut loan.peers else {
                loan.lacks_peers = true;
                return Err(tera::Error::message("the peers are not loaded yet"));
            };
            let nodes = peers.nodes(&query).map_err(tera::Error::message)?;
            let nodes: Vec<&Peer> = nodes.iter().map(|peer| &**peer).collect();
            Ok(Value::from_serializable(&nodes))
        }
    }
}

fn lock(loan: &Mutex<Loan>) -> MutexGuard<'_, Loan> {
    loan.lock().unwrap_or_else(PoisonError::into_inner)
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

/// If the text is exactly one call, which yields the list itself: the text that renders this list as JSON.
pub(super) fn single_call_as_json(text: &str) -> Option<String> {
    let call = text.strip_prefix("{{")?.strip_suffix("}}")?.trim();
    let arguments = call.strip_prefix("nodes")?.trim_start();
    let arguments = arguments.strip_prefix('(')?.strip_suffix(')')?;
    let is_single = !arguments.contains(['(', ')', '{', '}', '|']);
    is_single.then(|| format!("{{{{ {call} | json }}}}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_that_is_one_call_is_a_list() {
        for text in ["{{ nodes(role=\"a\") }}", "{{nodes()}}"] {
            assert!(single_call_as_json(text).is_some(), "{text}");
        }
        for text in [
            "{{ nodes() | length }}",
            "{{ nodes() }} ",
            "{{ nodes(a) + nodes(b) }}",
            "nodes()",
        ] {
            assert_eq!(single_call_as_json(text), None, "{text}");
        }
    }
}
