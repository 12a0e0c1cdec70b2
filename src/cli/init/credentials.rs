//! Credentials for the store that only the shell of whoever runs `trueup init` has: the timer would
//! not have them.

use std::path::Path;

use crate::ports::root::{Attrs, Root, RootError};

/// Where the AWS tools of root look.
pub(super) const FILE: &str = "/root/.aws/credentials";

/// The keys in the environment, as that file has them.
pub(super) fn in_environment() -> Option<String> {
    let value = |name: &str| {
        let value = std::env::var(name).ok()?;
        (!value.is_empty() && !value.contains(char::is_control)).then_some(value)
    };
    let mut text = format!(
        "[default]\naws_access_key_id = {}\naws_secret_access_key = {}\n",
        value("AWS_ACCESS_KEY_ID")?,
        value("AWS_SECRET_ACCESS_KEY")?
    );
    if let Some(token) = value("AWS_SESSION_TOKEN") {
        text += &format!("aws_session_token = {token}\n");
    }
    Some(text)
}

/// Whether the timer, too, has what is in the environment now.
pub(super) fn are_kept(root: &Root) -> Result<bool, RootError> {
    Ok(root.meta(Path::new(FILE))?.is_some())
}

/// Keeps them for every pass. There is no such file yet.
pub(super) fn keep(root: &Root, text: &str) -> Result<(), RootError> {
    let path = Path::new(FILE);
    root.make_dirs(Path::new("/root/.aws"), &Attrs::mode(0o700))?;
    root.replace(path, text.as_bytes(), &Attrs::mode(0o600))
}
