//! `trueup secret set`.

use std::io::{IsTerminal, Read};

use super::identity::OperatorKey;
use super::opened::{Changed, OpenedTarget, confirm_protected};
use super::recipients::{name_recipients, require_known};
use crate::cli::Output;
use crate::cli::args::SecretSetArgs;
use crate::exit::Exit;
use crate::operate::CommandError;
use crate::operate::secret::{self, EnvironmentSecrets};
use crate::pass::Paths;
use crate::ports::prompt;
use crate::ports::secrets::add_secret;
use crate::problem::Problem;
use crate::secrets::{MAX_VALUE_BYTES, Recipient};

pub(super) fn run(
    args: &SecretSetArgs,
    paths: &Paths,
    output: &Output,
) -> Result<Exit, CommandError> {
    let opened = OpenedTarget::open(&args.target, paths)?;
    let current = opened.target().read()?;
    confirm_protected(&args.target, &current, &format!("set `{}`", args.name))?;
    // Before the value is asked for.
    let key = match current.recipients.is_empty() {
        true => OperatorKey::find(&args.key)?,
        false => None,
    };
    let own: Vec<Recipient> = key.iter().filter_map(OperatorKey::recipient).collect();
    let recipients = match current.recipients.is_empty() {
        true => own
            .iter()
            .map(|own| own.clone().named(&opened.by))
            .collect(),
        false => current.recipients.clone(),
    };
    require_known(&opened, &recipients, &own, &args.accept.accept, output)?;
    let value = read_value(&args.name)?;
    add_secret(&value);
    store(&opened, &current, &args.name, &value, key.as_ref(), output)
}

/// Sets a secret, and prints what was done.
pub(super) fn store(
    opened: &OpenedTarget<'_>,
    current: &EnvironmentSecrets,
    name: &str,
    value: &str,
    key: Option<&OperatorKey>,
    output: &Output,
) -> Result<Exit, CommandError> {
    let own = key.and_then(OperatorKey::recipient);
    let own = own.map(|own| own.named(&opened.by));
    let done = secret::set(&opened.target(), current, name, value, own)?;
    let line = format!(
        "set the secret {}/{name}, encrypted to {}",
        opened.environment,
        name_recipients(&done.recipients)
    );
    let changed = Changed {
        name: Some(name),
        digest: Some(done.digest.to_string()),
        ..Changed::default()
    };
    opened.print(&line, &done.published, changed, output);
    if let Some(own) = &done.added {
        output.print_text(format!(
            "your key is a recipient now: {} ({})",
            own.fingerprint(),
            own.comment
        ));
        output.print_text(format!(
            "no host is one yet: `trueup secret rekey {}` adds them",
            opened.environment
        ));
    }
    Ok(Exit::Converged)
}

/// The value from standard input, or typed at the terminal.
fn read_value(name: &str) -> Result<String, CommandError> {
    let failed = |error: std::io::Error| CommandError::failed(format!("the value: {error}"));
    if std::io::stdin().is_terminal() {
        return prompt::read_hidden_line(&format!("value of {name}: ")).map_err(failed);
    }
    let mut value = Vec::new();
    let stdin = std::io::stdin().lock();
    let mut limited = stdin.take(MAX_VALUE_BYTES as u64 + 1);
    limited.read_to_end(&mut value).map_err(failed)?;
    String::from_utf8(value).map_err(|_| {
        let problem = Problem::new("the value is no UTF-8 text");
        CommandError::Usage(problem.hint("encode a binary one, for example with base64"))
    })
}
