//! Signatures of the manifest: one for each environment, inside the manifest, so that both are replaced at once.
//!
//! A signature is over the exact lines of the environment, from its name to its last entry, with a final line break, in
//! OpenSSH's SSHSIG format and in the namespace `trueup@ENVIRONMENT`. A host with signers reads nothing but these lines:
//! no alias, other environment or generation of the file can change what they mean. `ssh-keygen -Y verify` verifies the
//! same.

use jiff::Timestamp;
use ssh_key::SshSig;

use super::Manifest;
use super::manifest::SIGNATURES_KEY;
use crate::problem::{Location, Problem};
use crate::settings::{Signer, SignerRefusal, Signers};
use crate::yaml::{ParseLimits, entry_text, parse};

/// Maximum length of a signature in the manifest: a few hundred bytes are usual.
const MAX_SIGNATURE: usize = 8 << 10;

const BEGIN: &str = "-----BEGIN SSH SIGNATURE-----";
const END: &str = "-----END SSH SIGNATURE-----";

/// The namespace of an environment's signatures.
pub(crate) fn namespace(environment: &str) -> String {
    format!("trueup@{environment}")
}

/// The bytes of an environment that are signed. `name` is the manifest's name in problems.
pub(crate) fn signed_lines(name: &str, body: &[u8], environment: &str) -> Result<String, Problem> {
    let lines = entry_text(name, body, environment).ok_or_else(|| {
        Problem::new(format!(
            "{name}: the environment `{environment}` is not written in lines of its own, so it cannot be signed"
        ))
        .hint("write it as a block, `NAME:` and its apps in the lines below, and without an alias")
    })?;
    Ok(format!("{lines}\n"))
}

/// The signature of an environment as it is written in the manifest: what stands between the first and the last line
/// of a signature of OpenSSH.
pub(crate) fn written_signature(armored: &str) -> Result<String, Problem> {
    let inner = armored.trim().strip_prefix(BEGIN);
    let inner = inner.and_then(|inner| inner.strip_suffix(END));
    let inner: Option<String> = inner.map(|inner| inner.split_whitespace().collect());
    let inner = inner.filter(|inner| read_signature(inner).is_some());
    inner.ok_or_else(|| Problem::new("this is no signature in the format of OpenSSH"))
}

fn read_signature(written: &str) -> Option<SshSig> {
    if written.len() > MAX_SIGNATURE || !written.is_ascii() {
        return None;
    }
    // As ssh-keygen breaks the lines.
    let lines = written.as_bytes().chunks(70);
    let lines = lines.map(|line| String::from_utf8_lossy(line) + "\n");
    let lines: String = lines.collect();
    SshSig::from_pem(format!("{BEGIN}\n{lines}{END}\n")).ok()
}

/// The manifest with this environment alone, if one of the signers has signed it. `now`: when this host takes it.
pub(crate) fn verified_manifest(
    name: &str,
    body: &[u8],
    environment: &str,
    signers: &Signers,
    now: Timestamp,
) -> Result<Manifest, Problem> {
    let signed = check_signature(name, body, environment, signers, now)?;
    // Nothing else than what is signed; with the line numbers of the whole text.
    let above = usize::try_from(signed.at.line.saturating_sub(1)).unwrap_or_default();
    let alone = "\n".repeat(above) + &signed.lines;
    let manifest = Manifest::parse(name, alone.as_bytes())?;
    match manifest.environments.keys().eq([environment]) && manifest.generation.is_none() {
        true => Ok(manifest),
        false => Err(
            Problem::new(format!("the signed lines say more than {environment}")).at(&signed.at),
        ),
    }
}

/// The lines of an environment that a signer has signed.
pub(super) struct SignedLines {
    lines: String,
    at: Location,
}

/// The lines of an environment, if one of the signers has signed them.
pub(super) fn check_signature(
    name: &str,
    body: &[u8],
    environment: &str,
    signers: &Signers,
    now: Timestamp,
) -> Result<SignedLines, Problem> {
    let tree = parse(name, body, ParseLimits::default())?;
    let Some(own) = tree.entry(environment) else {
        return Err(Problem::new(format!(
            "{name} has no environment `{environment}`, so nothing in it is signed"
        )));
    };
    let refuse = |why: String| {
        let problem = Problem::new(why).at(&own.key_at).field(environment);
        problem.hint(format!(
            "publish it with `--sign KEY` and a key of {}",
            signers.path
        ))
    };
    let signature = tree.get(SIGNATURES_KEY);
    let signature = signature.and_then(|all| all.get(environment)?.as_text());
    let signature = signature.ok_or_else(|| refuse("it is not signed".into()))?;
    let signature = read_signature(signature)
        .ok_or_else(|| refuse("its signature is not one in the format of OpenSSH".into()))?;
    let lines = signed_lines(name, body, environment)?;
    verify(&lines, &signature, environment, signers, now).map_err(refuse)?;
    Ok(SignedLines {
        lines,
        at: own.key_at.clone(),
    })
}

/// The signer of a signature as it is written in the manifest.
pub(super) fn own_signer(written: &str) -> Result<Signer, Problem> {
    let signature = read_signature(written);
    let signature = signature.ok_or_else(|| Problem::new("this is no signature of OpenSSH"))?;
    Ok(Signer::of_key(signature.public_key().clone().into()))
}

/// The principals whose key signed a text of an environment, if they may have; else why not. `signature`: as it is written
/// in objects.
pub(crate) fn verify_text<'s>(
    text: &str,
    signature: &str,
    environment: &str,
    signers: &'s Signers,
    now: Timestamp,
) -> Result<&'s str, String> {
    let signature = read_signature(signature).ok_or("its signature is not one of OpenSSH")?;
    let signer = verify(text, &signature, environment, signers, now)?;
    Ok(&signer.principals)
}

/// Whether a signer may have signed these lines at this time; else why not.
fn verify<'s>(
    lines: &str,
    signature: &SshSig,
    environment: &str,
    signers: &'s Signers,
    now: Timestamp,
) -> Result<&'s Signer, String> {
    let namespace = namespace(environment);
    let fingerprint = signature.public_key().fingerprint(Default::default());
    let known = signers.signers.iter();
    let mut known = known.filter(|signer| signer.key.key_data() == signature.public_key());
    let mut refusal = format!(
        "it is signed by the key {fingerprint}, which is not in {}",
        signers.path
    );
    let accepted = known.find(|signer| match signer.check(&namespace, now) {
        Ok(()) => true,
        Err(reason) => {
            let who = &signer.principals;
            refusal = match reason {
                SignerRefusal::Namespace => {
                    format!("it is signed by {who}, whose key may not sign for {environment} (the namespace {namespace})")
                }
                SignerRefusal::NotYetValid(after) => {
                    format!("it is signed by {who}, whose key is valid after {after}")
                }
                SignerRefusal::Expired(before) => {
                    format!("it is signed by {who}, whose key was valid before {before}")
                }
            };
            false
        }
    });
    let signer = accepted.ok_or(refusal)?;
    if signature.namespace() != namespace {
        return Err(format!(
            "its signature is of `{}`, not of `{namespace}`",
            crate::printable::line(signature.namespace())
        ));
    }
    let verified = signer.key.verify(&namespace, lines.as_bytes(), signature);
    if verified.is_err() || !is_touched(signature) {
        return Err(format!(
            "its signature by {} does not fit: somebody changed it after it was signed",
            signer.principals
        ));
    }
    Ok(signer)
}

/// Whether a security key was touched for the signature, as `ssh-keygen -Y verify` demands; other keys know none.
fn is_touched(signature: &SshSig) -> bool {
    const USER_PRESENT: u8 = 1;
    let key = signature.public_key();
    if !key.is_sk_ed25519() && !key.is_sk_ecdsa_p256() {
        return true;
    }
    // The signature ends with a byte of flags and a counter of four bytes.
    let bytes = signature.signature_bytes();
    let flags = bytes.len().checked_sub(5).and_then(|at| bytes.get(at));
    flags.is_some_and(|flags| flags & USER_PRESENT != 0)
}
