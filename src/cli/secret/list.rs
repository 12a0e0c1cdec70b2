//! `trueup secret list`.

use serde::Serialize;

use super::recipients::name_recipients;
use crate::cli::Output;
use crate::cli::args::SecretListArgs;
use crate::cli::format::{current_user, format_age};
use crate::cli::target::StoreTarget;
use crate::exit::Exit;
use crate::operate::CommandError;
use crate::operate::publish::PublishTarget;
use crate::operate::secret::{ListedSecret, SecretTarget};
use crate::pass::{PassError, Paths};
use crate::ports::clock::{Clock, SystemClock};
use crate::ports::store;

/// The document of `secret list --output`.
#[derive(Debug, Serialize)]
struct ListDocument<'a> {
    version: u32,
    store: &'a str,
    environment: &'a str,
    secrets: &'a [ListedSecret],
    /// The public keys that they are encrypted to.
    recipients: Vec<String>,
}

pub(super) fn run(
    args: &SecretListArgs,
    paths: &Paths,
    output: &Output,
) -> Result<Exit, CommandError> {
    let resolved = StoreTarget::resolve(&args.at, paths, "secret list")?;
    let store = store::open(&resolved.store).map_err(PassError::Store)?;
    let publisher = PublishTarget {
        store: store.as_ref(),
        manifest_key: &resolved.manifest,
        gone_after: resolved.fleet.gone_after(),
        signing: None,
    };
    let target = SecretTarget {
        store: store.as_ref(),
        environment: &args.env,
        manifest_key: &resolved.manifest,
        gone_after: resolved.fleet.gone_after(),
        by: &current_user(),
        reason: None,
        signers: resolved.signers.as_ref(),
        // It encrypts nothing.
        trusts_current: true,
        publisher: &publisher,
        now: SystemClock.now(),
    };
    let secrets = target.list()?;
    let recipients = target.read()?.recipients;
    if output.is_document() {
        output.print_document(&ListDocument {
            version: crate::report::VERSION,
            store: store.address(),
            environment: &args.env,
            secrets: &secrets,
            recipients: recipients.iter().map(|key| key.line()).collect(),
        });
        return Ok(Exit::Converged);
    }
    if secrets.is_empty() {
        output.print_line(format!("{} has no secrets", args.env));
        return Ok(Exit::Converged);
    }
    let (paint, now) = (output.paint, target.now);
    let heads = ["secret", "since", "object"];
    let mut rows = vec![heads.map(|head| paint.faint(head)).to_vec()];
    rows.extend(secrets.iter().map(|secret| {
        let since = secret.since.map(|since| format_age(since, now));
        vec![
            paint.strong(&secret.name),
            since.unwrap_or_else(|| paint.bad("missing")),
            secret.digest.hex()[..12].to_owned(),
        ]
    }));
    output.print_table(&rows);
    let names = name_recipients(&recipients);
    output.print_paragraph(&format!("encrypted to {names}"));
    Ok(Exit::Converged)
}
