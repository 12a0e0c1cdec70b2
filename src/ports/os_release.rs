//! `/etc/os-release`: which distribution the host runs.

use std::path::Path;

use super::root::Root;

/// The file is short.
const MAX_SIZE: usize = 1 << 16;

/// The text of `/etc/os-release`, which is a link on most distributions; empty if there is none.
pub(crate) fn read(root: &Root) -> String {
    let files = ["/etc/os-release", "/usr/lib/os-release"];
    let texts = files.into_iter().filter_map(|path| {
        let real = root.canonicalize(Path::new(path)).ok()??;
        root.read(&real, MAX_SIZE).ok()?
    });
    let text = texts.into_iter().next().unwrap_or_default();
    String::from_utf8_lossy(&text).into_owned()
}

/// The value of a key; empty if the text lacks it.
pub(crate) fn value<'t>(text: &'t str, key: &str) -> &'t str {
    let mut values = text
        .lines()
        .filter_map(|line| line.strip_prefix(key)?.strip_prefix('='));
    values
        .next()
        .map_or("", |value| value.trim_matches(['"', '\'']))
}

#[cfg(test)]
#[allow(clippy::disallowed_methods)] // prepares the host
mod tests {
    use super::*;

    #[test]
    fn distribution_is_read_through_the_link_that_debian_ships() {
        let host = tempfile::tempdir().unwrap();
        for folder in ["etc", "usr/lib"] {
            std::fs::create_dir_all(host.path().join(folder)).unwrap();
        }
        let root = Root::at(host.path()).unwrap();
        assert_eq!(read(&root), "");
        std::fs::write(
            host.path().join("usr/lib/os-release"),
            "ID=debian\nVERSION_ID=\"12\"\n",
        )
        .unwrap();
        assert_eq!(value(&read(&root), "VERSION_ID"), "12");
        std::os::unix::fs::symlink("../usr/lib/os-release", host.path().join("etc/os-release"))
            .unwrap();
        assert_eq!(value(&read(&root), "ID"), "debian");
        assert_eq!(value(&read(&root), "VERSION"), "");
    }
}
