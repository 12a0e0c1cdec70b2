//! Builds a private release of any commit.
//!
//! The caller holds the run lock and makes each step, so that it can report the commit before the build begins:
//! [`Build::resolve`] changes nothing, [`Build::run`] builds the release.

use std::path::PathBuf;

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use crate::desired::Sha;
use crate::pass::{DeployedApp, Session};
use crate::release::{self, PrivateBuild};
use crate::resource::Failure;

/// The commit to build.
pub(crate) enum Commit {
    Sha(Sha),
    /// A branch or tag, as it is on the server now.
    Ref(String),
}

/// A build of a resolved commit.
pub(crate) struct Build<'a> {
    session: &'a Session,
    app: DeployedApp<'a>,
    pub sha: Sha,
    reference: Option<String>,
}

/// The document of `releases build --output`.
#[derive(Debug, Serialize)]
pub(crate) struct BuildReport {
    version: u32,
    app: String,
    pub release: String,
    sha: Sha,
    /// The path on the machine.
    pub path: PathBuf,
    pub private_until: Timestamp,
}

impl<'a> Build<'a> {
    /// Resolves a branch or tag on the server.
    pub(crate) fn resolve(
        session: &'a Session,
        app: DeployedApp<'a>,
        commit: Commit,
    ) -> Result<Build<'a>, Failure> {
        let (sha, reference) = match commit {
            Commit::Sha(sha) => (sha, None),
            Commit::Ref(name) => {
                let sha = release::resolve_ref(app.spec, &session.host, &name)?;
                (sha, Some(name))
            }
        };
        Ok(Build {
            session,
            app,
            sha,
            reference,
        })
    }

    /// Builds the release, or extends the expiry of an existing one.
    pub(crate) fn run(self, keep_days: u16, by: Option<String>) -> Result<BuildReport, Failure> {
        let host = &self.session.host;
        let private = PrivateBuild {
            until: host.clock.now() + SignedDuration::from_hours(24 * i64::from(keep_days)),
            by,
            reference: self.reference,
        };
        let built = release::build_private(self.app.spec, &self.sha, host, private)?;
        Ok(BuildReport {
            version: crate::report::VERSION,
            app: self.app.spec.app.clone(),
            release: built.name,
            sha: self.sha,
            path: built.path,
            private_until: built.until,
        })
    }
}
