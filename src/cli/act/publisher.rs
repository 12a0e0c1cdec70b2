//! Publishes requests for commands: who, with which key, in which store.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::ffi::OsString;

use super::preview::{Preview, generation_before, preview_lines, show_before_question};
use crate::cli::args::PublisherArgs;
use crate::cli::confirm::{is_interactive, require};
use crate::cli::format::{current_user, parse_one_line};
use crate::cli::target::StoreTarget;
use crate::desired::{
    Action, EditError, MAX_REASON_CHARS, PublishError, PublishRequest, PublishSummary, Signing,
    namespace,
};
use crate::operate::publish::{self, Publish, PublishTarget};
use crate::operate::{CommandError, SigningKey};
use crate::pass::{PassError, Paths};
use crate::ports::clock::{Clock, SystemClock};
use crate::ports::store::{self, Store};
use crate::problem::Problem;
use crate::settings::{self, Signers};

/// A store in which a command changes the manifest.
pub(in crate::cli) struct Publisher<'a> {
    args: &'a PublisherArgs,
    pub target: StoreTarget,
    pub store: Box<dyn Store>,
    /// Who else may have signed the manifest.
    signers: Option<Signers>,
    /// An operator was shown a change before it was written.
    has_previewed: Cell<bool>,
}

impl<'a> Publisher<'a> {
    /// `command` names the caller for error messages.
    pub(in crate::cli) fn open(
        args: &'a PublisherArgs,
        paths: &Paths,
        command: &str,
    ) -> Result<Publisher<'a>, CommandError> {
        let mut target = StoreTarget::resolve(&args.at, paths, command)?;
        let store = store::open(&target.store).map_err(PassError::Store)?;
        let signers = match &args.signers {
            Some(file) => Some(settings::read_signers(file)?),
            None => target.signers.take(),
        };
        Ok(Publisher {
            args,
            target,
            store,
            signers,
            has_previewed: Cell::new(false),
        })
    }

    /// Who may have signed an environment: the signers that are known, and this publisher. `None`: nobody has to have signed
    /// it.
    pub(in crate::cli) fn trust(&self, environment: &str) -> Result<Option<Signers>, CommandError> {
        if self.args.trust_current {
            return Ok(None);
        }
        let known = self.known_signers(environment).cloned();
        let Some(key) = self.signing_key() else {
            return Ok(known);
        };
        let own = key.signer(&namespace(environment));
        let own = own.map_err(CommandError::Failed)?;
        let mut trusted = known.unwrap_or_default();
        if trusted.path.is_empty() {
            "the keys that this publisher knows".clone_into(&mut trusted.path);
        }
        trusted.signers.push(own);
        Ok(Some(trusted))
    }

    /// The signers, if one of them may sign this environment: it is not signed at all otherwise.
    fn known_signers(&self, environment: &str) -> Option<&Signers> {
        let namespace = namespace(environment);
        let signers = self.signers.as_ref();
        signers.filter(|known| known.signers.iter().any(|one| one.is_for(&namespace)))
    }

    fn signing_key(&self) -> Option<SigningKey> {
        self.args.sign.as_ref().map(|file| SigningKey {
            file: file.clone(),
            env: inherited_environment(),
        })
    }

    /// Whether an operator was shown the change before it was written.
    pub(in crate::cli) fn has_previewed(&self) -> bool {
        self.has_previewed.get()
    }

    /// A request of this person that changes nothing yet.
    pub(in crate::cli) fn request(
        &self,
        environment: &str,
        action: Action,
        reason: Option<&str>,
    ) -> Result<PublishRequest, CommandError> {
        let by = parse_one_line("--by", self.args.by.as_deref()).map_err(CommandError::Usage)?;
        Ok(PublishRequest {
            action,
            by: Some(by.unwrap_or_else(current_user)),
            reason: parse_reason(reason)?,
            confirmed: self.args.yes,
            ..PublishRequest::new(environment, SystemClock.now())
        })
    }

    /// Publishes a request, with a generation above those of the fleet if asked for. If the environment is protected, it
    /// shows first what the request changes, and asks; and again if others change the environment meanwhile.
    pub(in crate::cli) fn publish_above(
        &self,
        request: PublishRequest,
        above_fleet: bool,
        preview: Preview<'_>,
    ) -> Result<PublishSummary, CommandError> {
        if let (None, Some(signers)) = (&self.args.sign, self.known_signers(&request.environment)) {
            let problem = Problem::new(format!(
                "{} lists who may sign, so hosts would refuse an edit without a signature",
                signers.path
            ));
            return Err(CommandError::Usage(
                problem.hint("add `--sign KEY`; nothing was written"),
            ));
        }
        match self.write(request.clone(), above_fleet) {
            Err(PublishError::Edit(EditError::Protected(_))) => {}
            done => return Ok(done?),
        }
        let question = format!(
            "{} is protected. {} there?",
            request.environment,
            capitalized(request.action.name())
        );
        if !is_interactive() {
            require(&question, "--yes")?;
        }
        loop {
            let forecast = PublishRequest {
                dry_run: true,
                ..request.clone()
            };
            let forecast = self.write(forecast, above_fleet)?;
            self.has_previewed.set(true);
            show_before_question(|paint| preview(&forecast, paint));
            let confirmed = PublishRequest {
                confirmed: true,
                confirmed_at: generation_before(&forecast, &request.environment),
                ..request.clone()
            };
            require(&question, "--yes")?;
            match self.write(confirmed, above_fleet) {
                Err(PublishError::Edit(error @ EditError::Moved { .. })) => {
                    show_before_question(|paint| vec![paint.changed(&error.to_string())]);
                }
                done => return Ok(done?),
            }
        }
    }

    /// Publishes a request, and asks nothing.
    pub(in crate::cli) fn write(
        &self,
        request: PublishRequest,
        above_fleet: bool,
    ) -> Result<PublishSummary, PublishError> {
        let key = self.signing_key();
        let sign = |namespace: &str, text: &str| match &key {
            Some(key) => key.sign(namespace, text),
            None => Err(Problem::new("there is no key to sign with")),
        };
        let signing = Signing {
            sign: &sign,
            signers: self.signers.as_ref(),
            trusts_current: self.args.trust_current,
        };
        let target = PublishTarget {
            store: self.store.as_ref(),
            manifest_key: &self.target.manifest,
            gone_after: self.target.fleet.gone_after(),
            signing: key.as_ref().map(|_| &signing),
        };
        publish::publish(&target, request, above_fleet)
    }
}

impl Publish for Publisher<'_> {
    fn publish(&self, request: PublishRequest) -> Result<PublishSummary, CommandError> {
        let confirmed = request.confirmed || self.args.yes;
        let request = PublishRequest {
            confirmed,
            ..request
        };
        let environment = request.environment.clone();
        self.publish_above(request, false, &|forecast, paint| {
            preview_lines(&environment, forecast, paint)
        })
    }
}

/// A reason in one line, of a bounded length.
pub(in crate::cli) fn parse_reason(reason: Option<&str>) -> Result<Option<String>, CommandError> {
    let reason = parse_one_line("--reason", reason).map_err(CommandError::Usage)?;
    let length = reason.as_ref().map_or(0, |reason| reason.chars().count());
    match length > MAX_REASON_CHARS {
        true => Err(CommandError::Usage(Problem::new(format!(
            "--reason: it is {length} characters long; at most {MAX_REASON_CHARS} are allowed"
        )))),
        false => Ok(reason),
    }
}

fn capitalized(word: &str) -> String {
    let mut chars = word.chars();
    let first = chars.next().map(|first| first.to_uppercase().to_string());
    first.unwrap_or_default() + chars.as_str()
}

/// What ssh and ssh-keygen need of the caller's environment: its agent, its home, and how it asks for a passphrase.
#[expect(
    clippy::disallowed_methods,
    reason = "cli reads the environment and passes values on"
)]
pub(in crate::cli) fn inherited_environment() -> BTreeMap<OsString, OsString> {
    const NAMES: [&str; 7] = [
        "HOME",
        "PATH",
        "SSH_AUTH_SOCK",
        "SSH_ASKPASS",
        "SSH_ASKPASS_REQUIRE",
        "DISPLAY",
        "SSH_SK_PROVIDER",
    ];
    let found = NAMES.iter().filter_map(|name| {
        let value = std::env::var_os(name)?;
        Some((OsString::from(name), value))
    });
    found.collect()
}
