//! Metrics of the claims of addresses. They have their own file, because claims happen between passes.

use std::path::Path;
use std::time::Duration;

use super::{Metric, bool_value, render, unix_seconds};
use crate::balancer::claim::{ClaimRecord, ClaimResult};
use crate::ports::root::{Attrs, Root, RootError};

const FILE_NAME: &str = "trueup_claims.prom";
const MAX_BYTES: usize = 1 << 20;

/// Writes the file into `folder`, which must exist: it belongs to the collector.
pub(crate) fn write(root: &Root, folder: &Path, claims: &[ClaimRecord]) -> Result<(), RootError> {
    let text = render(claim_metrics(claims));
    let path = folder.join(FILE_NAME);
    root.write_atomic(&path, text.as_bytes(), &Attrs::mode(0o644))
}

/// Writes the file if it has other claims, such as those before the last boot. Creates none without a claim.
pub(crate) fn update(root: &Root, folder: &Path, claims: &[ClaimRecord]) -> Result<(), RootError> {
    let before = root.read(&folder.join(FILE_NAME), MAX_BYTES)?;
    let text = render(claim_metrics(claims));
    match before.unwrap_or_default() == text.as_bytes() {
        true => Ok(()),
        false => write(root, folder, claims),
    }
}

fn claim_metrics(claims: &[ClaimRecord]) -> Vec<Metric> {
    let address = |claim: &ClaimRecord| ("address", claim.address.clone());
    let each = |value: fn(&ClaimRecord) -> f64| {
        let value = |claim: &ClaimRecord| (vec![address(claim)], value(claim));
        claims.iter().map(value).collect()
    };
    let counts = claims.iter().flat_map(|claim| {
        let counts = [
            ("claimed", claim.claimed),
            ("given_up", claim.given_up),
            ("failed", claim.failed),
        ];
        counts.map(|(result, count)| {
            let labels = vec![address(claim), ("result", result.to_owned())];
            (labels, f64::from(count))
        })
    });
    vec![
        Metric {
            name: "trueup_address_claims",
            help: "Number of claims of each address of EC2 by this host since its boot, by result.",
            values: counts.collect(),
        },
        Metric {
            name: "trueup_address_last_claim_timestamp_seconds",
            help: "End of the last claim of each address.",
            values: each(|claim| unix_seconds(claim.at)),
        },
        Metric {
            name: "trueup_address_last_claim_duration_seconds",
            help: "Duration of the last claim of each address.",
            values: each(|claim| Duration::from_millis(claim.took_ms).as_secs_f64()),
        },
        Metric {
            name: "trueup_address_last_claim_failed",
            help: "1 if the last claim of each address failed.",
            values: each(|claim| bool_value(claim.result == ClaimResult::Failed)),
        },
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ports::testing::Sandbox;

    #[test]
    fn claims_are_counted_by_address_and_result() {
        let sandbox = Sandbox::with_base_system();
        sandbox.make_dir("/var/lib/textfile");
        let root = &sandbox.host.root;
        let address = "eipalloc-0a".parse().unwrap();
        let now = "2026-11-29T05:00:00Z".parse().unwrap();
        for result in [ClaimResult::Claimed, ClaimResult::Failed] {
            ClaimRecord::add(root, &address, result, now, 1400).unwrap();
        }
        let claims = ClaimRecord::load_all(root).unwrap();
        write(root, Path::new("/var/lib/textfile"), &claims).unwrap();
        let text = sandbox.read("/var/lib/textfile/trueup_claims.prom");
        for line in [
            "trueup_address_claims{address=\"eipalloc-0a\",result=\"claimed\"} 1",
            "trueup_address_claims{address=\"eipalloc-0a\",result=\"given_up\"} 0",
            "trueup_address_last_claim_timestamp_seconds{address=\"eipalloc-0a\"} 1795928400",
            "trueup_address_last_claim_duration_seconds{address=\"eipalloc-0a\"} 1.4",
            "trueup_address_last_claim_failed{address=\"eipalloc-0a\"} 1",
        ] {
            assert!(text.contains(line), "{line}: {text}");
        }
    }

    #[test]
    fn claims_before_a_boot_are_forgotten_and_no_claim_makes_no_file() {
        let sandbox = Sandbox::with_base_system();
        sandbox.make_dir("/var/lib/textfile");
        let (root, folder) = (&sandbox.host.root, Path::new("/var/lib/textfile"));
        let path = "/var/lib/textfile/trueup_claims.prom";
        update(root, folder, &[]).unwrap();
        assert!(!sandbox.exists(path));
        sandbox.write(
            path,
            "trueup_address_last_claim_failed{address=\"eipalloc-0a\"} 1\n",
        );
        update(root, folder, &[]).unwrap();
        assert_eq!(sandbox.read(path), "");
    }
}
