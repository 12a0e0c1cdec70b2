//! Committed examples of the files of every version that trueup still reads (`tests/fixtures/state`).

use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::super::testing::Sandbox;
use super::Document;

macro_rules! embed_examples {
    ($($name:literal,)*) => {
        &[$((
            $name,
            include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/state/", $name)),
        )),*]
    };
}

/// All examples by name. Embedded, because the tests also run on hosts without the repository.
const EXAMPLES: &[(&str, &[u8])] = embed_examples![
    "address-claim.json",
    "asset-list.json",
    "balancer-drain.json",
    "balancer-state.json",
    "check-journal.json",
    "commit-metadata.json",
    "drain.json",
    "haproxy-loaded.json",
    "last-good-lists-v1.json",
    "last-good-lists.json",
    "last-published.json",
    "lock-holder.json",
    "maintenance.json",
    "manifest-meta.json",
    "overrides.json",
    "owed-record.json",
    "pass-summary.json",
    "policy-state.json",
    "process.json",
    "record-cache.json",
    "release-record-described.json",
    "release-record.json",
    "report.json",
    "store-liveness.json",
];

/// The example with this name.
pub(crate) fn example(name: &str) -> Vec<u8> {
    let mut all = EXAMPLES.iter();
    let found = all.find(|(known, _)| *known == name);
    found.expect("it is listed above").1.to_vec()
}

/// Loads an example and saves it again: neither loses a byte.
pub(crate) fn assert_round_trip<T: DeserializeOwned + Serialize>(document: &Document, name: &str) {
    assert_saved_as_loaded(document, name, |sandbox, path| {
        let contents: T = document.load(&sandbox.host.root, path).unwrap().unwrap();
        sandbox.remove(path.to_str().unwrap());
        document.save(&sandbox.host.root, path, &contents).unwrap();
    });
}

/// [`assert_round_trip`] with the functions of a module: `resave` loads the file at a path and saves it there.
pub(crate) fn assert_saved_as_loaded(
    document: &Document,
    name: &str,
    resave: impl FnOnce(&Sandbox, &Path),
) {
    let sandbox = Sandbox::empty();
    let path = PathBuf::from("/var/lib/trueup").join(name);
    let text = path.to_str().unwrap();
    let written = example(name);
    sandbox.write(text, &written);
    resave(&sandbox, &path);
    assert_eq!(
        String::from_utf8_lossy(&sandbox.bytes(text)),
        String::from_utf8_lossy(&written),
        "{name}"
    );
    assert_eq!(sandbox.mode(text), document.mode, "{name}");
}
