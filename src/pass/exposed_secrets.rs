//! World-readable secrets: every pass and `doctor` warn about them.

use super::Session;
use crate::problem::Problem;
use crate::role::Catalog;

impl Session {
    /// One problem for each file, with the command that fixes it.
    pub(crate) fn exposed_secrets(&self, catalog: &Catalog) -> Vec<Problem> {
        let mut keys: Vec<_> = catalog
            .releases()
            .filter_map(|(_, spec)| spec.deploy_key.as_deref())
            .collect();
        keys.sort();
        keys.dedup();
        let keys = keys.into_iter();
        let exposed = keys.filter(|key| self.host.root.is_readable_by_all(key));
        let exposed = exposed.map(|key| {
            let key = key.display();
            Problem::new(format!(
                "the deploy key {key} is readable by every user of this host"
            ))
            .hint(format!("`chmod go-rwx {key}`"))
        });
        self.settings
            .warnings
            .iter()
            .cloned()
            .chain(exposed)
            .collect()
    }
}
