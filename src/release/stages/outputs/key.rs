//! What identifies a shared output: everything that decides what a step makes.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use git2::{Pathspec, PathspecFlags, Tree};

use crate::desired::Sha;
use crate::digest::digest;
use crate::ports::Host;
use crate::ports::os_release;
use crate::ports::root::Root;
use crate::release::app::outputs::SharedOutputs;
use crate::release::app::spec::ReleaseSpec;
use crate::release::source::mirror;
use crate::release::stages::run::Task;
use crate::release::stages::skip::inputs::find_tree;
use crate::resource::Failure;

/// Digits of the digests in a key.
const INPUTS_LENGTH: usize = 16;
const PROGRAMS_LENGTH: usize = 8;

/// The pattern that stands for all of the app's folder.
const EVERYTHING: &str = ".";

/// The key of an output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OutputKey {
    inputs: String,
    programs: String,
}

/// What the repository and the host contribute to a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum OutputInputs {
    Digest(String),
    /// Nothing can identify the output: none of the files exists, or the repository has files in its place.
    None,
    /// The mirror lacks the commit.
    Unknown,
}

impl OutputKey {
    /// `programs`: what the command `key` printed.
    pub(crate) fn new(inputs: String, programs: &str) -> OutputKey {
        let mut programs = digest(programs.trim().as_bytes());
        programs.truncate(PROGRAMS_LENGTH);
        OutputKey { inputs, programs }
    }

    /// The key as a file name.
    pub(crate) fn name(&self) -> String {
        format!("{}-{}", self.inputs, self.programs)
    }

    /// Whether a file name is that of a key.
    pub(crate) fn is_name(name: &str) -> bool {
        let is_digest = |text: &str, length| {
            text.len() == length && text.bytes().all(|byte| byte.is_ascii_hexdigit())
        };
        name.split_once('-').is_some_and(|(inputs, programs)| {
            is_digest(inputs, INPUTS_LENGTH) && is_digest(programs, PROGRAMS_LENGTH)
        })
    }
}

/// The folder of a step's outputs: its name, as far as it is a file name.
pub(crate) fn folder_of_step(name: &str) -> String {
    let usable = |c: char| match c.is_ascii_alphanumeric() || "_-".contains(c) {
        true => c,
        false => '-',
    };
    match name.chars().take(32).map(usable).collect::<String>() {
        folder if folder.is_empty() => "step".into(),
        folder => folder,
    }
}

/// The inputs of a step: the files that it names, its definition, and the operating system.
pub(crate) fn find_inputs(
    spec: &ReleaseSpec,
    host: &Host,
    task: &Task<'_>,
    outputs: &SharedOutputs,
    sha: &Sha,
) -> Result<OutputInputs, Failure> {
    let Some(mirror) = mirror::open_existing(spec, host) else {
        return Ok(OutputInputs::Unknown);
    };
    let Some(tree) = find_tree(&mirror, sha) else {
        return Ok(OutputInputs::Unknown);
    };
    let files = describe_files(spec, outputs, &tree);
    let files = files.map_err(|error| {
        let why = format!("cannot compare the inputs of `{}`: {error}", task.name);
        Failure::new(why)
    })?;
    if files.is_empty() {
        return Ok(OutputInputs::None);
    }
    let text = format!(
        "{} {:?} {} {files}",
        task.fingerprint(spec),
        spec.group,
        operating_system(&host.root)
    );
    let mut inputs = digest(text.as_bytes());
    inputs.truncate(INPUTS_LENGTH);
    Ok(OutputInputs::Digest(inputs))
}

/// A line for each input file, with its content's id. Empty: nothing can identify the output.
fn describe_files(
    spec: &ReleaseSpec,
    outputs: &SharedOutputs,
    tree: &Tree<'_>,
) -> Result<String, git2::Error> {
    let selection = spec.selection();
    let (mut lines, mut inputs) = (Vec::new(), Vec::new());
    let by = outputs.by.iter().map(Path::new);
    let by: Vec<PathBuf> = by.map(|path| selection.path_in_repository(path)).collect();
    let patterns = Pathspec::new(&by)?;
    // One by one: git reads only below what the patterns have in common, and other folders are not this app's.
    for pattern in &by {
        let matching = Pathspec::new([pattern])?;
        let matching = matching.match_tree(tree, PathspecFlags::DEFAULT)?;
        let paths = matching.entries().map(OsStr::from_bytes);
        inputs.extend(paths.map(PathBuf::from));
    }
    inputs.sort();
    inputs.dedup();
    for pattern in &outputs.by {
        let path = selection.path_in_repository(Path::new(pattern));
        if path.as_os_str().is_empty() {
            lines.push(format!("{}\n", tree.id()));
        } else if pattern == EVERYTHING {
            inputs.push(path);
        }
    }
    for path in inputs {
        // The commit lacks the folder of the app, which the checkout will refuse.
        let Ok(entry) = tree.get_path(&path) else {
            return Ok(String::new());
        };
        let (mode, id) = (entry.filemode(), entry.id());
        lines.push(format!("{mode:o} {id} {path:?}\n"));
    }
    // trueup renders these into the release; secrets stay out of a name that everybody can read.
    for file in &spec.files {
        let path = selection.path_in_repository(&file.path);
        let is_input = patterns.matches_path(&path, PathspecFlags::DEFAULT);
        if is_input && !file.secret {
            lines.push(format!(
                "{:?} {}\n",
                file.path,
                digest(file.body.as_bytes())
            ));
        }
    }
    // What the repository has in the place of an output is not all made by the step.
    let is_in_repository =
        |path: &PathBuf| tree.get_path(&selection.path_in_repository(path)).is_ok();
    if outputs.paths.iter().any(is_in_repository) {
        return Ok(String::new());
    }
    lines.sort();
    Ok(lines.concat())
}

/// What an upgrade of the distribution changes: programs that were built before may not run after it.
fn operating_system(root: &Root) -> String {
    let text = os_release::read(root);
    let value = |key| os_release::value(&text, key);
    format!(
        "{} {} {}",
        value("ID"),
        value("VERSION_ID"),
        std::env::consts::ARCH
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_keys_are_recognized_as_names_of_outputs() {
        let key = OutputKey::new("0123456789abcdef".into(), "Python 3.11\n");
        assert!(OutputKey::is_name(&key.name()));
        assert_eq!(
            key,
            OutputKey::new("0123456789abcdef".into(), "Python 3.11")
        );
        for name in [
            "",
            "-",
            "0123456789abcdef",
            "0123456789abcdef-",
            "0123456789abcdeg-01234567",
        ] {
            assert!(!OutputKey::is_name(name), "{name}");
        }
        assert_eq!(folder_of_step("../install the gems"), "---install-the-gems");
        assert_eq!(folder_of_step(""), "step");
    }
}
