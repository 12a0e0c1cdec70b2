//! `trueup secret rekey`.

use super::identity::OperatorKey;
use super::opened::{Changed, OpenedTarget, confirm_protected};
use super::recipients::{ACCEPT_ALL, name_recipients, require_known};
use crate::cli::Output;
use crate::cli::args::RekeyArgs;
use crate::cli::confirm::{confirm, is_interactive};
use crate::cli::progress::Progress;
use crate::exit::Exit;
use crate::operate::CommandError;
use crate::operate::secret::{self, ProposedRecipient, RekeyProposal};
use crate::pass::Paths;
use crate::problem::Problem;
use crate::secrets::Recipient;

pub(super) fn run(args: &RekeyArgs, paths: &Paths, output: &Output) -> Result<Exit, CommandError> {
    let opened = OpenedTarget::open(&args.target, paths)?;
    let proposal = secret::propose(&opened.target())?;
    for warning in &proposal.warnings {
        output.print_text(format!("{}: {warning}", output.paint.changed("warning")));
    }
    let mut accepted = accept(args, &proposal, output)?;
    for line in &args.add {
        let recipient = Recipient::parse(line)
            .map_err(|problem| CommandError::Usage(problem.field("--add")))?;
        accepted.push(ProposedRecipient {
            recipient,
            replaces: None,
        });
    }
    let recipients = proposal.recipients(&accepted, &args.remove)?;
    if recipients.len() == proposal.current.recipients.len()
        && recipients
            .iter()
            .all(|key| proposal.current.recipients.contains(key))
    {
        let line = format!("the recipients of {} stay as they are", args.target.env);
        let unchanged = Changed {
            recipients: Some(recipients.iter().map(Recipient::line).collect()),
            ..Changed::default()
        };
        opened.print_unchanged(&line, unchanged, output);
        return Ok(Exit::Converged);
    }
    confirm_protected(&args.target, &proposal.current, "encrypt its secrets again")?;
    let new: Vec<Recipient> = accepted.into_iter().map(|new| new.recipient).collect();
    require_known(&opened, &recipients, &new, &args.accept.accept, output)?;
    let identities = match proposal.current.named.is_empty() {
        true => Vec::new(),
        false => OperatorKey::require(&args.key)?.unlock()?,
    };
    let count = proposal.current.named.len();
    let progress = Progress::begin(format!(
        "encrypting {count} secrets to {} keys",
        recipients.len()
    ));
    let done = secret::rekey(&opened.target(), &proposal.current, recipients, &identities)?;
    drop(progress);
    let line = format!(
        "encrypted {} secret{} of {} to {}",
        done.secrets,
        if done.secrets == 1 { "" } else { "s" },
        args.target.env,
        name_recipients(&done.recipients),
    );
    let changed = Changed {
        recipients: Some(done.recipients.iter().map(Recipient::line).collect()),
        ..Changed::default()
    };
    opened.print(&line, &done.published, changed, output);
    Ok(Exit::Converged)
}

/// Shows the keys that hosts publish and asks for each whether it is one.
fn accept(
    args: &RekeyArgs,
    proposal: &RekeyProposal,
    output: &Output,
) -> Result<Vec<ProposedRecipient>, CommandError> {
    let fingerprints: Vec<String> = proposal
        .proposed
        .iter()
        .map(|new| new.recipient.fingerprint())
        .collect();
    let mut asked_for = args.accept.accept.iter().filter(|word| *word != ACCEPT_ALL);
    let current = proposal.current.recipients.iter();
    let current: Vec<String> = current.map(Recipient::fingerprint).collect();
    let is_unknown = |word: &&String| !fingerprints.contains(word) && !current.contains(word);
    if let Some(unknown) = asked_for.find(is_unknown) {
        let problem = Problem::new(format!(
            "--accept: no host publishes `{unknown}` as a new key"
        ));
        let known = fingerprints.iter().map(String::as_str);
        return Err(CommandError::Usage(problem.suggest(unknown, known)));
    }
    // Without a terminal, --add and --remove are enough to do.
    let changes_others = !args.add.is_empty() || !args.remove.is_empty();
    let asks = args.accept.accept.is_empty() && (is_interactive() || !changes_others);
    let mut accepted = Vec::new();
    for (new, fingerprint) in proposal.proposed.iter().zip(&fingerprints) {
        let replaces = new.replaces.as_ref().map_or(String::new(), |old| {
            format!(", instead of {}", old.fingerprint())
        });
        let shown = format!("{} {fingerprint}{replaces}", new.recipient.comment);
        output.print_text(format!("{} {shown}", output.paint.good("new:")));
        let is_named = |word: &String| word == fingerprint || word == ACCEPT_ALL;
        let is_accepted = match asks {
            true => confirm(
                &format!("is this the key of {}?", new.recipient.comment),
                "--accept FINGERPRINT",
            )?,
            false => args.accept.accept.iter().any(is_named),
        };
        if is_accepted {
            accepted.push(new.clone());
        }
    }
    for known in &proposal.unreported {
        let shown = format!("{} {}", known.comment, known.fingerprint());
        output.print_text(format!(
            "{} {shown} (no host publishes it; --remove takes it off the list)",
            output.paint.faint("stays:")
        ));
    }
    Ok(accepted)
}
