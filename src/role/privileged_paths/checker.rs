//! Checks the files that roles write against the table: who could replace what a privileged program opens.

use std::path::Path;

use super::shipped_roles::{RoleFile, RoleFiles};
use super::table::{FORMATS, Format, OTHER_PATHS, PACKAGE_FOLDERS, Rights};

impl RoleFiles {
    /// The user other than root who could replace what is at a path.
    fn unprivileged_owner(&self, path: &Path) -> Option<&str> {
        let above = path.ancestors().skip(1).collect::<Vec<_>>();
        above.into_iter().rev().find_map(|folder| {
            let owner = self.folder_owners.get(folder)?;
            let accepted = PACKAGE_FOLDERS
                .iter()
                .any(|(known, _)| Path::new(known) == folder);
            (owner != "root" && !accepted).then_some(owner.as_str())
        })
    }

    /// Why it is unsafe that root opens a path, if it is.
    pub(super) fn exposure_problem(&self, path: &str) -> Option<String> {
        let owner = self.unprivileged_owner(Path::new(path))?;
        Some(format!(
            "root opens {path}, and {owner} could put a link, a pipe or another file there: have the app's user open it, or keep it in a folder of root's"
        ))
    }

    pub(super) fn file_problems(&self, file: &RoleFile) -> Vec<String> {
        let shown = file.path.display();
        let Some(format) = find_format(&file.path) else {
            return vec![format!(
                "{shown}: say in src/role/privileged_paths/table.rs who reads such a file, and with whose rights each path in it is opened"
            )];
        };
        let mut problems = Vec::new();
        if file.owner != format.owner {
            problems.push(format!(
                "it belongs to {}, not to {}",
                file.owner, format.owner
            ));
        }
        let writable = u32::from_str_radix(&file.mode, 8).unwrap_or(0o777) & 0o022 != 0;
        if writable && format.owner == "root" {
            problems.push(format!("others than root may write it: {}", file.mode));
        }
        if format.owner == "root" {
            problems.extend(self.exposure_problem(&shown.to_string()));
        }
        for line in file.text.lines() {
            problems.extend(self.line_problem(format, file, line));
        }
        let problems = problems.into_iter();
        problems
            .map(|problem| format!("{shown}: {problem}"))
            .collect()
    }

    fn line_problem(&self, format: &Format, file: &RoleFile, line: &str) -> Option<String> {
        let line = line.trim();
        if line.starts_with(['#', ';']) || !line.contains('/') {
            return None;
        }
        let (name, value) = split_directive(format, line);
        let Some(directive) = format.directive(&name) else {
            return Some(format!(
                "`{name}` has a path in it ({line}): say in src/role/privileged_paths/table.rs who opens it, and with whose rights"
            ));
        };
        let paths = absolute_paths(value);
        match directive.rights {
            Rights::NoFile | Rights::User(_) => None,
            Rights::Root if paths.is_empty() => Some(format!("not a whole path: {line}")),
            Rights::Root => paths.iter().find_map(|path| self.exposure_problem(path)),
            Rights::Program => match paths.first() {
                Some(path) if value.trim_start().starts_with(path) => self
                    .exposure_problem(path)
                    .or_else(|| missing_user_problem(format, file)),
                _ => Some(format!("not the whole path of a program: {line}")),
            },
            Rights::Listed => {
                let owner = self.unprivileged_owner(Path::new(*paths.first()?))?;
                let su = format!("su {owner} ");
                let has = file.text.lines().any(|line| line.trim().starts_with(&su));
                (!has).then(|| format!("no `{su}…` beside {line}"))
            }
        }
    }
}

/// Requires a `User=`/`user=` other than root: without one a supervisor runs the program as root.
fn missing_user_problem(format: &Format, file: &RoleFile) -> Option<String> {
    let key = match format.path_prefix {
        "/usr/local/lib/systemd/system/" => "User=",
        "/etc/supervisor/conf.d/" => "user=",
        _ => return None,
    };
    let users = file.text.lines().filter_map(|line| line.strip_prefix(key));
    let users: Vec<&str> = users.collect();
    let fine = users.len() == 1 && !["", "root", "0"].contains(&users[0]);
    (!fine).then(|| format!("`{key}` has to say a user that is not root"))
}

fn find_format(path: &Path) -> Option<&'static Format> {
    let mut path = path.to_str()?.to_owned();
    for (elsewhere, on_debian) in OTHER_PATHS {
        if path.starts_with(elsewhere) {
            path = path.replace(elsewhere, on_debian).replace(".ini", ".conf");
        }
    }
    let mut formats = FORMATS.iter();
    formats
        .find(|format| path.starts_with(format.path_prefix) && path.ends_with(format.path_suffix))
}

/// The directive of a line, and the rest of the line.
fn split_directive<'l>(format: &Format, line: &'l str) -> (String, &'l str) {
    let word = line.split_whitespace().next().unwrap_or_default();
    let network = |word: &str| {
        let address = word.split('/').next().unwrap_or_default();
        address.parse::<std::net::IpAddr>().is_ok()
    };
    let (name, value) = match format.path_prefix {
        "/etc/logrotate.d/" if word.starts_with('/') => ("(pattern)", line),
        "/etc/nginx/maintenance/" => ("(markup)", line),
        "/etc/sudoers.d/" => ("(command)", line.split(": ").nth(1).unwrap_or(line)),
        "/etc/nginx/sites-enabled/" if network(word) => ("(network)", line),
        "/home/deploy/.ssh/" if !line.starts_with("Identity") && line.contains(" ssh-") => {
            ("(key)", line)
        }
        "/etc/datadog-agent/conf.d/" => line.split_once(": ").unwrap_or((line, "")),
        "/usr/local/lib/systemd/system/" | "/etc/supervisor/conf.d/" => {
            line.split_once('=').unwrap_or((line, ""))
        }
        _ => line.split_once(char::is_whitespace).unwrap_or((line, "")),
    };
    (name.trim().to_owned(), value.trim().trim_end_matches(';'))
}

/// The absolute paths in a value, without the prefixes that units and configurations allow.
pub(super) fn absolute_paths(value: &str) -> Vec<&str> {
    let words = value.split(|c: char| c.is_whitespace() || "\"',:=(".contains(c));
    let words = words.map(|word| word.trim_start_matches(['-', '@', '+', '!']));
    words.filter(|word| word.starts_with('/')).collect()
}
