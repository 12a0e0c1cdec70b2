//! Reads the folder that a bundle is made of, on an operator's machine or in CI.

use std::collections::BTreeMap;
use std::path::Path;

use super::limits::{FOLDERS, MAX_DEPTH, MAX_FILE, MAX_FILES, check_path};
use crate::ports::root::{FileKind, Root};
use crate::problem::{Problem, Problems};

/// The files below roles/, templates/ and environments/ of a folder, by path. Refuses everything that is no plain file,
/// instead of leaving it out: a bundle without it would be another one than the folder that was tested.
pub(crate) fn read_folder(
    root: &Root,
    folder: &Path,
) -> Result<BTreeMap<String, Vec<u8>>, Problems> {
    let mut reader = FolderReader {
        root,
        folder,
        files: BTreeMap::new(),
        problems: Vec::new(),
    };
    for name in FOLDERS {
        match kind(root, &folder.join(name))? {
            Some(FileKind::Directory) => reader.read_below(name, 1)?,
            Some(kind) => reader.refuse(
                name,
                format!("it is {}; expected a folder", kind.describe()),
            ),
            None => {}
        }
    }
    if reader.files.is_empty() && reader.problems.is_empty() {
        let problem = format!("there is nothing to pack in {}", folder.display());
        return Err(Problem::new(problem)
            .hint("expected files below roles/, templates/ or environments/")
            .into());
    }
    match reader.problems.is_empty() {
        true => Ok(reader.files),
        false => Err(Problems(reader.problems)),
    }
}

struct FolderReader<'a> {
    root: &'a Root,
    folder: &'a Path,
    files: BTreeMap<String, Vec<u8>>,
    problems: Vec<Problem>,
}

impl FolderReader<'_> {
    fn read_below(&mut self, relative: &str, depth: usize) -> Result<(), Problem> {
        let names = self.root.list(&self.folder.join(relative));
        for name in names.map_err(unreadable)?.unwrap_or_default() {
            let Some(name) = name.to_str() else {
                let shown = name.to_string_lossy().into_owned();
                self.refuse(
                    &format!("{relative}/{shown}"),
                    "its name is not UTF-8".into(),
                );
                continue;
            };
            let path = format!("{relative}/{name}");
            if let Err(why) = check_path(&path) {
                self.refuse(&path, why);
                continue;
            }
            match kind(self.root, &self.folder.join(&path))? {
                Some(FileKind::Directory) if depth < MAX_DEPTH => {
                    self.read_below(&path, depth + 1)?;
                }
                Some(FileKind::File) => self.read_file(path)?,
                Some(kind) => self.refuse(
                    &path,
                    format!("it is {}; a bundle has plain files only", kind.describe()),
                ),
                None => {}
            }
        }
        Ok(())
    }

    fn read_file(&mut self, path: String) -> Result<(), Problem> {
        if self.files.len() == MAX_FILES {
            return Err(Problem::new(format!(
                "{} has more than {MAX_FILES} files",
                self.folder.display()
            )));
        }
        let body = self.root.read(&self.folder.join(&path), MAX_FILE);
        if let Some(body) = body.map_err(unreadable)? {
            self.files.insert(path, body);
        }
        Ok(())
    }

    fn refuse(&mut self, path: &str, why: String) {
        let path = self.folder.join(path);
        self.problems
            .push(Problem::new(format!("{}: {why}", path.display())));
    }
}

fn kind(root: &Root, path: &Path) -> Result<Option<FileKind>, Problem> {
    let meta = root.meta(path).map_err(unreadable)?;
    Ok(meta.map(|meta| meta.kind))
}

fn unreadable(error: crate::ports::root::RootError) -> Problem {
    Problem::new(error.to_string()).optional_hint(error.hint())
}
