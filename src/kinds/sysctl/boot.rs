//! What systemd sets at boot: the files of `sysctl.d`, in the order of their names, whatever their folder. The last one
//! that has a setting wins.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::ports::root::{Root, RootError};

/// The administrator's.
pub(super) const FOLDER: &str = "/etc/sysctl.d";

/// All folders: of files with the same name, that in the first folder replaces the others.
const FOLDERS: [&str; 5] = [
    FOLDER,
    "/run/sysctl.d",
    "/usr/local/lib/sysctl.d",
    "/usr/lib/sysctl.d",
    "/lib/sysctl.d",
];

/// Largest file that is read, in bytes.
const MAX_FILE_BYTES: usize = 1 << 20;

/// The file of a setting in /proc/sys. In names whose first separator is a dot, a `/` stands for a dot.
pub(super) fn kernel_file(name: &str) -> PathBuf {
    let swapped: String = match name.find(['.', '/']).map(|at| &name[at..=at]) {
        Some(".") => {
            let swap = |c| match c {
                '.' => '/',
                '/' => '.',
                c => c,
            };
            name.chars().map(swap).collect()
        }
        _ => name.to_owned(),
    };
    Path::new("/proc/sys").join(swapped)
}

/// The value that a file sets: that of the last line with this setting.
pub(super) fn find_setting(body: &[u8], name: &str) -> Option<String> {
    let text = String::from_utf8_lossy(body);
    let wanted = kernel_file(name);
    let value = |line: &str| {
        let line = line.trim();
        if line.starts_with(['#', ';']) {
            return None;
        }
        // A `-` before the name: an error does not matter.
        let (key, value) = line.strip_prefix('-').unwrap_or(line).split_once('=')?;
        (kernel_file(key.trim()) == wanted).then(|| value.trim().to_owned())
    };
    text.lines().rev().find_map(value)
}

/// The last file after `own` that has this setting, and its value.
pub(super) fn later_setting(
    root: &Root,
    own: &Path,
    name: &str,
) -> Result<Option<(PathBuf, String)>, RootError> {
    let mut files = BTreeMap::<OsString, PathBuf>::new();
    for folder in FOLDERS.map(Path::new) {
        for file in root.list(folder)?.unwrap_or_default() {
            let is_later = own.file_name().is_some_and(|own| *file > *own);
            if is_later
                && Path::new(&file)
                    .extension()
                    .is_some_and(|end| end == "conf")
            {
                let path = folder.join(&file);
                files.entry(file).or_insert(path);
            }
        }
    }
    for path in files.into_values().rev() {
        // A link to nothing, or to /dev/null, sets nothing.
        let Some(target) = root.canonicalize(&path)? else {
            continue;
        };
        let body = root.read(&target, MAX_FILE_BYTES)?.unwrap_or_default();
        if let Some(value) = find_setting(&body, name) {
            return Ok(Some((path, value)));
        }
    }
    Ok(None)
}
