//! Collects the ports that a node publishes to its peers, as its roles name them.

use std::collections::BTreeMap;

use crate::problem::Problem;
use crate::settings::is_name;
use crate::yaml::Entry;

/// By name, with the role that declares each.
#[derive(Default)]
pub(super) struct RolePorts(BTreeMap<String, (u16, String)>);

impl RolePorts {
    /// Adds a rendered entry of a role; an empty one counts as absent.
    pub(super) fn add(&mut self, role: &str, entry: &Entry) -> Result<(), Problem> {
        let (name, value) = (&entry.key, &entry.value);
        let text = value.as_text().unwrap_or_default().trim();
        if value.is_null() || (text.is_empty() && value.as_text().is_some()) {
            return Ok(());
        }
        let wrong = |message: String| {
            Problem::new(message)
                .at(&entry.key_at)
                .field(format!("ports.{name}"))
        };
        let port = text.parse::<u16>().ok().filter(|port| *port > 0);
        let (Some(port), true) = (port, is_name(name)) else {
            let message = "expected a name and the number of a port, as in `http: 80`";
            return Err(wrong(message.to_owned()));
        };
        match self.0.get(name) {
            Some((other, by)) if *other != port => Err(wrong(format!(
                "the port `{name}` is {port} in the role `{role}`, and {other} in the role `{by}`"
            ))
            .hint("peers find a port by its name: rename one of them in its role, or give both the same number")),
            Some(_) => Ok(()),
            None => {
                self.0.insert(name.clone(), (port, role.to_owned()));
                Ok(())
            }
        }
    }

    pub(super) fn into_numbers(self) -> BTreeMap<String, u16> {
        let ports = self.0.into_iter();
        ports.map(|(name, (port, _))| (name, port)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::catalog;

    #[test]
    fn one_name_for_two_ports_is_refused_with_both_roles() {
        let with = |port: &str| {
            let other = format!("ports: {{http: {port}}}\nresources: []\n");
            catalog(
                "include: [other]\nports: {http: 80, metrics: 9100}\nresources: []\n",
                "",
                &[("roles/other.yml", &other)],
            )
        };
        let error = with("8080").err().unwrap();
        for part in [
            "roles/web.yml:2:9",
            "ports.http",
            "is 80 in the role `web`, and 8080 in the role `other`",
            "rename one of them",
        ] {
            assert!(error.contains(part), "{part}: {error}");
        }
        // Equal or empty ports do not conflict.
        for port in ["80", "\"\""] {
            let ports = with(port).unwrap().ports;
            assert_eq!((ports["http"], ports["metrics"]), (80, 9100));
        }
    }
}
