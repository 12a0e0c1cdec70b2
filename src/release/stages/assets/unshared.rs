//! Summarizes the files that are not shared in one log line, whatever their number.

use std::path::Path;

use crate::printable;
use crate::release::deployment::Deployment;

/// The files that are left in place for one reason.
#[derive(Default)]
pub(super) struct UnsharedFiles {
    count: usize,
    /// One of them for the message, with its owner if the owner is the reason.
    example: Option<(String, Option<u32>)>,
}

impl UnsharedFiles {
    pub(super) fn add(&mut self, path: &Path, owner: Option<u32>) {
        self.count += 1;
        let shown = || printable::line(&path.to_string_lossy()).into_owned();
        self.example.get_or_insert_with(|| (shown(), owner));
    }

    pub(super) fn warn(&self, deployment: &Deployment<'_>, why: &str) {
        let name = |uid| {
            let name = deployment
                .host
                .accounts
                .user_name(&deployment.host.root, uid);
            name.unwrap_or_else(|_| uid.to_string())
        };
        if let Some(words) = self.describe(why, name) {
            tracing::warn!("{}: {words}", deployment.spec.app);
        }
    }

    fn describe(&self, why: &str, name: impl Fn(u32) -> String) -> Option<String> {
        let (path, owner) = self.example.as_ref()?;
        let owner = owner.map(|uid| format!(" (of {})", name(uid)));
        let more = match self.count - 1 {
            0 => String::new(),
            more => format!("; so are {more} others"),
        };
        Some(format!(
            "`{path}`{} stays in the release and is not shared: {why}{more}",
            owner.unwrap_or_default()
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unshared_files_are_summarized_in_one_line_with_an_example() {
        let mut left = UnsharedFiles::default();
        let words =
            |left: &UnsharedFiles| left.describe("it is closed", |uid| format!("user {uid}"));
        assert_eq!(words(&left), None);
        left.add(Path::new("a/pri\nvate"), Some(0));
        let one = "`a/pri\\nvate` (of user 0) stays in the release and is not shared: it is closed";
        assert_eq!(words(&left).as_deref(), Some(one));
        for n in 0..10_000 {
            left.add(Path::new(&n.to_string()), Some(7));
        }
        assert_eq!(words(&left), Some(format!("{one}; so are 10000 others")));
        left = UnsharedFiles::default();
        left.add(Path::new("b"), None);
        let one = "`b` stays in the release and is not shared: it is closed";
        assert_eq!(words(&left).as_deref(), Some(one));
    }
}
