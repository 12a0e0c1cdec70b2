//! The files of a host: as text to compare, and as fingerprints that show every write.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Everything below `root`, sorted by path, except what `skip` names (paths from `/` on).
fn walk(root: &Path, skip: &[&str]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut todo = vec![root.to_owned()];
    while let Some(folder) = todo.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let path_in_root = path_in_root(root, &path);
            if skip.contains(&path_in_root.as_str()) {
                continue;
            }
            if path.symlink_metadata().unwrap().is_dir() {
                todo.push(path.clone());
            }
            found.push(path);
        }
    }
    found.sort();
    found
}

fn path_in_root(root: &Path, path: &Path) -> String {
    format!("/{}", path.strip_prefix(root).unwrap().display())
}

/// A listing with modes, link targets and contents:
///
/// ```text
/// d 0755 /srv
/// f 0644 /srv/app.conf
///   | port 3000
/// l /srv/current -> releases/1
/// ```
pub fn listing(root: &Path, skip: &[&str]) -> String {
    let mut text = String::new();
    for path in walk(root, skip) {
        let meta = path.symlink_metadata().unwrap();
        let mode = meta.permissions().mode() & 0o7777;
        let name = path_in_root(root, &path);
        if meta.is_symlink() {
            let to = fs::read_link(&path).unwrap();
            text += &format!("l {name} -> {}\n", to.display());
        } else if meta.is_dir() {
            text += &format!("d {mode:04o} {name}\n");
        } else {
            text += &format!("f {mode:04o} {name}\n");
            let body = fs::read(&path).unwrap();
            for line in String::from_utf8_lossy(&body).lines() {
                text += format!("  | {line}").trim_end();
                text.push('\n');
            }
            if !body.is_empty() && !body.ends_with(b"\n") {
                text += "  (no newline at the end)\n";
            }
        }
    }
    text
}

/// Attributes that any write changes: inode, mtime, ctime, size.
pub type Fingerprints = BTreeMap<String, (u64, i64, i64, i64, i64, u64)>;

pub fn fingerprints(root: &Path, skip: &[&str]) -> Fingerprints {
    walk(root, skip)
        .into_iter()
        .map(|path| {
            let meta = path.symlink_metadata().unwrap();
            let fingerprint = (
                meta.ino(),
                meta.mtime(),
                meta.mtime_nsec(),
                meta.ctime(),
                meta.ctime_nsec(),
                meta.size(),
            );
            (path_in_root(root, &path), fingerprint)
        })
        .collect()
}

/// The paths that differ between two fingerprints.
pub fn changed_paths(before: &Fingerprints, after: &Fingerprints) -> Vec<String> {
    let mut paths: Vec<&String> = before.keys().chain(after.keys()).collect();
    paths.sort();
    paths.dedup();
    paths
        .into_iter()
        .filter(|path| before.get(*path) != after.get(*path))
        .cloned()
        .collect()
}

/// The temporary files of trueup below `root`.
pub fn leftovers(root: &Path) -> Vec<String> {
    walk(root, &[])
        .into_iter()
        .map(|path| path_in_root(root, &path))
        .filter(|name| name.ends_with(".trueup~"))
        .collect()
}

/// Copies a folder over another one, adding to what is there. Text goes through `fill`.
pub fn overlay(from: &Path, to: &Path, fill: &dyn Fn(&str) -> String) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let from = entry.unwrap().path();
        let to = to.join(from.file_name().unwrap());
        if from.is_dir() {
            overlay(&from, &to, fill);
            continue;
        }
        let body = fs::read(&from).unwrap();
        let body = match String::from_utf8(body) {
            Ok(text) => fill(&text).into_bytes(),
            Err(error) => error.into_bytes(),
        };
        fs::write(&to, body).unwrap();
        fs::set_permissions(&to, fs::Permissions::from_mode(0o644)).unwrap();
    }
}
