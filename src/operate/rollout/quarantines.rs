//! The shas that are quarantined in an environment.

use serde::Serialize;

use crate::desired::Sha;
use crate::fleet::rollout::{Quarantine, list_quarantined};
use crate::operate::CommandError;
use crate::ports::store::Store;

/// A sha that no host of the environment activates.
#[derive(Debug, Serialize)]
pub(crate) struct QuarantinedApp {
    pub app: String,
    pub sha: Sha,
    #[serde(flatten)]
    pub quarantine: Quarantine,
}

/// The quarantines in force, and a line for each object that cannot be used.
pub(crate) fn list_quarantines(
    store: &dyn Store,
    environment: &str,
    app: Option<&str>,
) -> Result<(Vec<QuarantinedApp>, Vec<String>), CommandError> {
    let list = list_quarantined(store, environment, app)?;
    let in_force = list.in_force.into_iter();
    let in_force = in_force.map(|(app, sha, quarantine)| QuarantinedApp {
        app,
        sha,
        quarantine,
    });
    Ok((in_force.collect(), list.damaged))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ports::store::double::StoreDouble;
    use crate::ports::store::{Etag, GetOutcome, MemoryStore, StoreError, WriteCondition};

    fn store(objects: &[(&str, &str)]) -> MemoryStore {
        let store = MemoryStore::new();
        for (key, body) in objects {
            let body = body.as_bytes();
            store.put(key, body, WriteCondition::Always).unwrap();
        }
        store
    }

    fn quarantine(in_force: bool, reason: &str) -> String {
        format!(
            r#"{{"version": 1, "nonce": "00000000000000c3", "epoch": 0, "in_force": {in_force}, "by": "web1",
            "at": "2026-11-29T10:00:07Z", "reason": "{reason}"}}"#
        )
    }

    #[test]
    fn damaged_quarantine_is_named_and_hides_no_other_one() {
        let key = |app: &str, digit: &str| {
            format!("quarantine/production/{app}/{}.json", digit.repeat(40))
        };
        let (good, lifted) = (quarantine(true, r"500 \u001b[2J"), quarantine(false, ""));
        let newer = good.replace("\"version\": 1", "\"version\": 2");
        let large = " ".repeat(100_000);
        let store = store(&[
            (&key("cart", "1"), "\u{1b}{"),
            (&key("cart", "2"), ""),
            (&key("cart", "3"), &newer),
            (&key("cart", "4"), &large),
            (&key("shop", "5"), &good),
            (&key("shop", "6"), &lifted),
            ("quarantine/production/shop/readme", "x"),
            (&key("a\u{202e}b", "7"), &good),
        ]);
        let (found, damaged) = list_quarantines(&store, "production", None).unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!(
            (&*found[0].app, &*found[0].quarantine.reason),
            ("shop", r"500 \x1b[2J")
        );
        assert_eq!(damaged.len(), 4, "{damaged:?}");
        for (line, digit) in damaged.iter().zip(["1", "2", "3", "4"]) {
            assert!(line.starts_with(&key("cart", digit)), "{line}");
        }
        let (found, damaged) = list_quarantines(&store, "production", Some("shop")).unwrap();
        assert_eq!((found.len(), damaged.len()), (1, 0));
        store.set_unreachable(true);
        assert!(list_quarantines(&store, "production", None).is_err());
    }

    /// A store that reads no object of more than a few bytes.
    struct BoundedStore(MemoryStore);

    impl StoreDouble for BoundedStore {
        fn inner(&self) -> &dyn Store {
            &self.0
        }

        fn get(&self, key: &str, known: Option<&Etag>) -> Result<GetOutcome, StoreError> {
            match self.0.get(key, known)? {
                GetOutcome::Object(found) if found.body.len() > 1000 => Err(StoreError::TooLarge {
                    store: "memory:".into(),
                    key: key.into(),
                    limit: 1000,
                }),
                found => Ok(found),
            }
        }
    }

    #[test]
    fn quarantine_that_the_store_does_not_read_hides_no_other_one() {
        let large = format!("quarantine/production/cart/{}.json", "1".repeat(40));
        let good = format!("quarantine/production/shop/{}.json", "5".repeat(40));
        let objects = [
            (&*large, &*" ".repeat(2000)),
            (&*good, &*quarantine(true, "500")),
        ];
        let store = BoundedStore(store(&objects));
        let (found, damaged) = list_quarantines(&store, "production", None).unwrap();
        assert_eq!((found.len(), damaged.len()), (1, 1));
        assert!(damaged[0].contains(&large), "{damaged:?}");
    }
}
