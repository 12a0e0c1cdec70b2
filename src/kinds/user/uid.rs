//! Which number a new account gets.

use std::path::Path;

use super::UserSpec;
use crate::ports::Host;
use crate::resource::Failure;

/// The number that this user had before somebody deleted him: his home still belongs to it, and it is
/// nobody's now. With another one, all that he had would be a stranger's.
pub(super) fn former_uid(spec: &UserSpec, host: &Host) -> Result<Option<u32>, Failure> {
    let (root, accounts) = (&host.root, &host.accounts);
    if spec.uid.is_some() || !root.is_privileged() {
        return Ok(None);
    }
    let home = match &spec.home {
        Some(home) => home.clone(),
        None => Path::new("/home").join(&spec.name),
    };
    let Some(meta) = root.meta(&home)? else {
        return Ok(None);
    };
    let nobodys = accounts.user_name(root, meta.uid)? == meta.uid.to_string();
    Ok(nobodys.then_some(meta.uid))
}
