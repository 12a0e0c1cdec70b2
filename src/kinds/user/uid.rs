//! The uid of a new account.

use std::path::Path;

use crate::ports::Host;
use crate::resource::Failure;

/// The uid that this user had before an operator deleted the account, taken from the owner of the home, if no
/// other account has it. With another uid, all the user's files would belong to a stranger.
pub(super) fn former_uid(
    name: &str,
    home: Option<&Path>,
    host: &Host,
) -> Result<Option<u32>, Failure> {
    let (root, accounts) = (&host.root, &host.accounts);
    if !root.is_privileged() {
        return Ok(None);
    }
    let home = home.map_or_else(|| Path::new("/home").join(name), Path::to_owned);
    let Some(meta) = root.meta(&home)? else {
        return Ok(None);
    };
    let nobodys = accounts.user_name(root, meta.uid)? == meta.uid.to_string();
    Ok(nobodys.then_some(meta.uid))
}
