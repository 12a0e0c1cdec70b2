//! Adopts releases that are not on record: those of another tool that deployed here before, and all of them
//! if the record was lost.
//!
//! The one rule that cannot activate a half-built release: a release counts as good only if its sha is known
//! and it is active now or listed in `revisions.log`, to which only activations are written. Any other counts
//! as failed. If no such log was ever written (Chef's `deploy_revision`, fab), none of trueup's releases can
//! be half-built either; then every release that is older than the active one counts as one that was active
//! before.

use std::path::{Path, PathBuf};

use super::disk::{current, current_subdir, read_revision};
use super::entry::{ReleaseEntry, ReleaseStatus};
use crate::ports::Host;
use crate::release::app::layout::{Layout, stays_inside};
use crate::resource::Failure;

/// Largest `revisions.log` that trueup reads, in bytes.
const MAX_REVISIONS_LOG: usize = 8 << 20;

/// The line of `revisions.log` about the activation of a release. People read it, and [`adopt_releases`].
pub(in crate::release) fn activation_line(entry: &ReleaseEntry, reference: Option<&str>) -> String {
    let mut line = format!(
        "Branch {} (at {}) deployed as release {} by trueup",
        reference.unwrap_or("(none)"),
        entry.sha,
        entry.name
    );
    if entry.subdir != Path::new("") {
        line.push_str(&format!(" in {}", entry.subdir.display()));
    }
    line
}

/// Entries for these releases, in the order of their last activation.
pub(crate) fn adopt_releases(
    host: &Host,
    layout: &Layout,
    names: Vec<String>,
) -> Result<Vec<ReleaseEntry>, Failure> {
    // An unreadable log proves no release good, and must not stop the pass.
    let log = host.root.read(&layout.revisions_log(), MAX_REVISIONS_LOG);
    let log = log.unwrap_or_else(|error| {
        tracing::warn!("{error}: treating its releases as never activated");
        Some(Vec::new())
    });
    let logged = log
        .as_ref()
        .map(|log| parse_activated(&String::from_utf8_lossy(log)));
    let active = current(host, layout)?;
    let of = |name: &str| host.root.meta(&layout.release(name)).ok().flatten();
    let active_since = active.as_deref().and_then(of).map(|meta| meta.ctime);
    let mut adopted = Vec::new();
    for name in names {
        let Some((meta, sha)) = of(&name).zip(read_revision(host, layout, &name)) else {
            continue;
        };
        let position = logged
            .as_ref()
            .and_then(|logged| logged.iter().position(|known| known.name == name));
        let older = logged.is_none() && active_since.is_some_and(|since| meta.ctime <= since);
        let good = position.is_some() || active.as_ref() == Some(&name) || older;
        let mut entry = ReleaseEntry::new(&name, &sha, meta.ctime);
        entry.state = if good {
            ReleaseStatus::Good
        } else {
            ReleaseStatus::Failed
        };
        entry.why = (!good).then(|| "there is no record that it was finished".to_owned());
        entry.subdir = match position.zip(logged.as_ref()) {
            _ if active.as_ref() == Some(&name) => current_subdir(host, layout)?,
            Some((position, logged)) => logged[position].subdir.clone(),
            None => PathBuf::new(),
        };
        adopted.push((position, entry));
    }
    adopted.sort_by(|(a, one), (b, other)| (a, one.at, &one.name).cmp(&(b, other.at, &other.name)));
    Ok(adopted.into_iter().map(|(_, entry)| entry).collect())
}

/// A release in `revisions.log`.
#[derive(Debug, PartialEq, Eq)]
struct LoggedRelease {
    name: String,
    /// The app's folder in it; empty: all of it.
    subdir: PathBuf,
}

/// All releases that were activated and not rolled back, the last one last.
fn parse_activated(log: &str) -> Vec<LoggedRelease> {
    let mut releases: Vec<LoggedRelease> = Vec::new();
    // An operator's reason may contain any text.
    let lines = log
        .lines()
        .filter(|line| !line.starts_with("trueup lifted "));
    for line in lines {
        let after = |mark| line.split_once(mark).map(|(_, rest): (&str, &str)| rest);
        let first_word = |rest: &str| rest.split_whitespace().next().map(str::to_owned);
        if let Some(rest) = after("deployed as release ")
            && let Some(name) = first_word(rest)
        {
            let subdir = rest.split_once(" by trueup in ");
            let subdir = subdir.map(|(_, subdir)| PathBuf::from(subdir));
            let subdir = subdir.filter(|subdir| stays_inside(subdir));
            releases.retain(|known| known.name != name);
            releases.push(LoggedRelease {
                name,
                subdir: subdir.unwrap_or_default(),
            });
        } else if let Some(name) = after("took back release ").and_then(first_word) {
            releases.retain(|known| known.name != name);
        }
    }
    releases
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::desired::Sha;

    #[test]
    fn only_activation_lines_of_revisions_log_are_parsed() {
        let log = "Branch main (at 4f2c) deployed as release 20261121050000 by ana\n\
                   Branch (none) (at 9b1c) deployed as release 20261122050000-9b1c44e by trueup\n\
                   trueup took back release 20261122050000-9b1c44e and went back to 20261121050000\n\
                   trueup lifted the quarantine of 9b1c (release x) for ana: deployed as release 20261123050000\n";
        let logged = parse_activated(log);
        assert_eq!(logged.len(), 1);
        assert_eq!(logged[0].name, "20261121050000");
        assert_eq!(logged[0].subdir, PathBuf::new());
    }

    #[test]
    fn folder_of_an_app_is_read_from_the_line_of_its_activation() {
        let sha = Sha::parse(&"4f2c9d0e".repeat(5)).unwrap();
        let mut entry = ReleaseEntry::new("20261121050000-4f2c9d0", &sha, Timestamp::UNIX_EPOCH);
        for subdir in ["", "services/my shop"] {
            entry.subdir = subdir.into();
            let logged = parse_activated(&activation_line(&entry, Some("main")));
            assert_eq!(logged[0].name, entry.name);
            assert_eq!(logged[0].subdir, entry.subdir);
        }
    }
}
