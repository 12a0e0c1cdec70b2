//! Facts about the host, for templates, with one probe per file. A probe runs when a template first uses its
//! fact, so that a pass pays only for the facts that it uses.

mod agents;
mod hardware;
mod known;
mod network;
mod os;

use std::cell::OnceCell;
use std::rc::Rc;

use serde::Serialize;
use serde_json::{Map, Value};

use crate::ports::root::Root;

/// One group of facts: its name and the function that collects it.
struct Probe {
    name: &'static str,
    collect: fn(&Root) -> Value,
}

/// All groups, in display order.
const PROBES: [Probe; 8] = [
    Probe {
        name: "os",
        collect: |root| to_json(os::probe(root)),
    },
    Probe {
        name: "hostname",
        collect: |_| to_json(os::hostname()),
    },
    // The fully qualified name if the host knows one, else the short one.
    Probe {
        name: "fqdn",
        collect: |root| to_json(os::fqdn(root, &os::hostname())),
    },
    Probe {
        name: "network",
        collect: |root| to_json(network::probe(root)),
    },
    // The number of CPUs that trueup may use.
    Probe {
        name: "cpus",
        collect: |_| to_json(hardware::cpus()),
    },
    Probe {
        name: "memory",
        collect: |_| to_json(hardware::memory()),
    },
    // Mounted filesystems, by mount point.
    Probe {
        name: "disks",
        collect: |_| to_json(hardware::disks()),
    },
    Probe {
        name: "agents",
        collect: |root| to_json(agents::probe(root)),
    },
];

fn to_json(fact: impl Serialize) -> Value {
    serde_json::to_value(fact).expect("facts are plain data")
}

/// The facts of a host, each collected on first use.
pub(crate) struct Facts {
    root: Rc<Root>,
    hostname: String,
    groups: [OnceCell<Value>; PROBES.len()],
    all: OnceCell<Value>,
}

impl Facts {
    pub(crate) fn new(root: Rc<Root>) -> Facts {
        Facts {
            root,
            hostname: os::hostname(),
            groups: Default::default(),
            all: OnceCell::new(),
        }
    }

    /// The host's own name, without a domain.
    pub(crate) fn hostname(&self) -> &str {
        &self.hostname
    }

    /// The fact at a dotted path such as `memory.total`; all facts for an empty path.
    pub(crate) fn at_path(&self, path: &str) -> Option<&Value> {
        if path.is_empty() {
            return Some(self.all());
        }
        let mut parts = path.split('.');
        let mut value = self.group(parts.next()?)?;
        for part in parts {
            value = value.as_object()?.get(part)?;
        }
        Some(value)
    }

    pub(crate) fn all(&self) -> &Value {
        self.all.get_or_init(|| {
            let groups = PROBES.iter().map(|probe| {
                let value = self.group(probe.name).cloned().unwrap_or_default();
                (probe.name.to_owned(), value)
            });
            Value::Object(groups.collect::<Map<_, _>>())
        })
    }

    /// The groups that a template may use; all if it uses `facts` in another way than by name.
    pub(crate) fn groups_used_by(text: &str) -> Vec<&'static str> {
        let every = || PROBES.iter().map(|probe| probe.name).collect();
        let mut used = Vec::new();
        for (at, word) in text.match_indices("facts") {
            let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
            if text[..at].ends_with(is_part) {
                continue;
            }
            let rest = text[at + word.len()..].strip_prefix('.');
            let name = rest.map(|rest| rest.split(|c: char| !is_part(c)).next());
            let known = |probe: &&Probe| name.flatten() == Some(probe.name);
            match PROBES.iter().find(known) {
                Some(probe) => used.push(probe.name),
                None => return every(),
            }
        }
        used
    }

    fn group(&self, name: &str) -> Option<&Value> {
        let index = PROBES.iter().position(|probe| probe.name == name)?;
        Some(self.groups[index].get_or_init(|| (PROBES[index].collect)(&self.root)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn facts_are_found_by_path_and_all_together() {
        let facts = Facts::new(Rc::new(Root::real().unwrap()));
        assert!(facts.at_path("cpus").unwrap().as_u64().unwrap() >= 1);
        assert!(facts.at_path("memory.total").unwrap().as_u64().unwrap() > 1 << 20);
        assert_eq!(facts.at_path("hostname").unwrap(), facts.hostname());
        assert_eq!(facts.at_path("nothing"), None);
        assert_eq!(
            facts.at_path("").unwrap()["cpus"],
            *facts.at_path("cpus").unwrap()
        );
    }

    #[test]
    fn template_costs_only_the_facts_that_it_names() {
        let used = |text: &str| Facts::groups_used_by(text);
        assert_eq!(used("{% if facts.os.family == 'redhat' %}"), ["os"]);
        assert_eq!(
            used("{{ facts.cpus + facts.memory.total }} artifacts"),
            ["cpus", "memory"]
        );
        for all in [
            "{{ facts | json }}",
            "{{ facts['os'] }}",
            "{{ facts.unknown }}",
        ] {
            assert_eq!(used(all).len(), PROBES.len(), "{all}");
        }
        assert!(used("none").is_empty());
    }

    #[test]
    fn facts_of_an_unchanged_host_are_stable() {
        let gather = || Facts::new(Rc::new(Root::real().unwrap())).all().clone();
        assert_eq!(gather(), gather());
    }
}
