//! Log files of services, read from their last lines on, and on as they grow.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use super::{LogRange, LogRead, LogReader, ServiceError};
use crate::ports::root::{Root, RootError};

/// Most bytes that one read returns.
const CHUNK_BYTES: u64 = 64 << 10;

/// How far back the last lines are looked for, in bytes.
const MAX_TAIL_BYTES: u64 = 64 << 20;

/// A log file, which a service manager may replace or truncate.
pub(super) struct FileLog {
    root: Rc<Root>,
    /// On the host.
    path: PathBuf,
    /// For errors.
    service: String,
    /// `None`: there is none yet.
    file: Option<File>,
    position: u64,
    /// Where to stop; `None`: never.
    end: Option<u64>,
}

impl FileLog {
    pub(super) fn open(
        root: &Rc<Root>,
        path: &Path,
        service: &str,
        range: LogRange,
    ) -> Result<FileLog, ServiceError> {
        let mut log = FileLog {
            root: root.clone(),
            path: path.to_owned(),
            service: service.to_owned(),
            file: None,
            position: 0,
            end: None,
        };
        match log.begin(range) {
            Ok(()) => Ok(log),
            Err(error) => Err(log.failed(&error)),
        }
    }

    fn begin(&mut self, range: LogRange) -> io::Result<()> {
        self.file = open_file(&self.root, &self.path).map_err(io::Error::other)?;
        let mut size = 0;
        if let Some(file) = &mut self.file {
            size = file.metadata()?.len();
            self.position = tail_start(file, size, range.lines)?;
        }
        // A service that prints faster than its log is read must not keep the command running.
        self.end = (!range.follow).then_some(size);
        Ok(())
    }

    fn failed(&self, error: &io::Error) -> ServiceError {
        let path = self.root.machine_path(&self.path);
        let why = match error.get_ref() {
            Some(inner) if inner.is::<RootError>() => error.to_string(),
            _ => format!("{}: {error}", path.display()),
        };
        ServiceError::failed("logs", &self.service, why)
    }

    fn read_chunk(&mut self) -> io::Result<LogRead> {
        let limit = self.end.map_or(CHUNK_BYTES, |end| {
            end.saturating_sub(self.position).min(CHUNK_BYTES)
        });
        let mut bytes = Vec::new();
        if let Some(file) = &mut self.file {
            file.seek(SeekFrom::Start(self.position))?;
            file.take(limit).read_to_end(&mut bytes)?;
        }
        self.position += bytes.len() as u64;
        if !bytes.is_empty() {
            return Ok(LogRead::Bytes(bytes));
        }
        if self.end.is_some() {
            return Ok(LogRead::End);
        }
        self.reopen_if_replaced()?;
        Ok(LogRead::Pending)
    }

    /// Continues at the beginning of the file that took the place of a rotated or truncated one.
    fn reopen_if_replaced(&mut self) -> io::Result<()> {
        let now = self.root.meta(&self.path).map_err(io::Error::other)?;
        let Some(now) = now else { return Ok(()) };
        let is_same = match &self.file {
            Some(file) => {
                let meta = file.metadata()?;
                // Printed since the last read: that comes first.
                if meta.len() > self.position {
                    return Ok(());
                }
                (meta.dev(), meta.ino()) == (now.device, now.inode) && now.size >= self.position
            }
            None => false,
        };
        if !is_same
            && let Some(file) = open_file(&self.root, &self.path).map_err(io::Error::other)?
        {
            self.file = Some(file);
            self.position = 0;
        }
        Ok(())
    }
}

impl LogReader for FileLog {
    fn read(&mut self) -> Result<LogRead, ServiceError> {
        self.read_chunk().map_err(|error| self.failed(&error))
    }
}

/// Opens a regular file without following a link that another user planted. `None`: there is none.
fn open_file(root: &Root, path: &Path) -> Result<Option<File>, RootError> {
    let folder = root.open_folder(path.parent().unwrap_or(Path::new("/")))?;
    let name = path.file_name().unwrap_or_default();
    let file = folder.map(|folder| folder.open_file(name)).transpose()?;
    Ok(file.flatten())
}

/// Where the last lines of a file of this size begin.
fn tail_start(file: &mut File, size: u64, lines: u32) -> io::Result<u64> {
    if lines == 0 {
        return Ok(size);
    }
    // The line end at the end of the file ends its last line and begins none.
    let mut wanted = u64::from(lines);
    let floor = size.saturating_sub(MAX_TAIL_BYTES);
    let mut end = size;
    let mut buffer = Vec::new();
    while end > floor {
        let begin = end.saturating_sub(CHUNK_BYTES).max(floor);
        file.seek(SeekFrom::Start(begin))?;
        buffer.clear();
        file.take(end - begin).read_to_end(&mut buffer)?;
        for (at, byte) in buffer.iter().enumerate().rev() {
            let after = begin + at as u64 + 1;
            if *byte != b'\n' || after == size {
                continue;
            }
            wanted -= 1;
            if wanted == 0 {
                return Ok(after);
            }
        }
        end = begin;
    }
    Ok(floor)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fixture {
        dir: tempfile::TempDir,
        root: Rc<Root>,
    }

    impl Fixture {
        fn new(text: &str) -> Fixture {
            let dir = tempfile::tempdir().unwrap();
            let root = Rc::new(Root::at(dir.path()).unwrap());
            std::fs::write(dir.path().join("app.log"), text).unwrap();
            Fixture { dir, root }
        }

        fn path(&self) -> PathBuf {
            self.dir.path().join("app.log")
        }

        fn append(&self, text: &str) {
            use std::io::Write;
            let mut file = File::options().append(true).open(self.path()).unwrap();
            file.write_all(text.as_bytes()).unwrap();
        }

        fn open(&self, lines: u32, follow: bool) -> FileLog {
            let range = LogRange { lines, follow };
            FileLog::open(&self.root, Path::new("/app.log"), "app", range).unwrap()
        }
    }

    /// All that is there now, and what the read after it returned.
    fn read_all(log: &mut FileLog) -> (String, LogRead) {
        let mut all = Vec::new();
        loop {
            match log.read().unwrap() {
                LogRead::Bytes(bytes) => all.extend(bytes),
                end => return (String::from_utf8(all).unwrap(), end),
            }
        }
    }

    #[test]
    fn last_lines_are_found_in_files_of_any_size() {
        let long = "x".repeat(100_000);
        for (text, lines, expected) in [
            ("", 3, ""),
            ("a\n", 1, "a\n"),
            ("a\nb\nc\n", 0, ""),
            ("a\nb\nc\n", 2, "b\nc\n"),
            ("a\nb\nc", 2, "b\nc"),
            ("a\nb\nc\n", 9, "a\nb\nc\n"),
            ("\n\n\n", 2, "\n\n"),
            (&format!("a\n{long}\nc\n"), 2, &format!("{long}\nc\n")),
        ] {
            let file = Fixture::new(text);
            let found = read_all(&mut file.open(lines, false));
            assert_eq!(found, (expected.to_owned(), LogRead::End), "{lines}");
        }
        let many: String = (0..100_000).map(|n| format!("{n}\n")).collect();
        let (found, _) = read_all(&mut Fixture::new(&many).open(50_000, false));
        assert!(found.starts_with("50000\n") && found.ends_with("99999\n"));
    }

    #[test]
    fn log_that_grows_while_it_is_read_has_an_end() {
        let file = Fixture::new("a\nb\n");
        let mut log = file.open(9, false);
        file.append("c\n");
        assert_eq!(read_all(&mut log), ("a\nb\n".to_owned(), LogRead::End));
    }

    #[test]
    fn followed_log_continues_after_rotation_and_truncation() {
        let file = Fixture::new("a\nb\n");
        let mut log = file.open(1, true);
        let mut next = || {
            let (text, end) = read_all(&mut log);
            assert_eq!(end, LogRead::Pending);
            // The first read after a replacement finds it, the second one reads it.
            text + &read_all(&mut log).0
        };
        assert_eq!(next(), "b\n");
        file.append("c\n");
        assert_eq!(next(), "c\n");
        // What was printed before the rotation is not lost.
        file.append("d\n");
        std::fs::rename(file.path(), file.dir.path().join("app.log.1")).unwrap();
        assert_eq!(next(), "d\n");
        std::fs::write(file.path(), "e\n").unwrap();
        assert_eq!(next(), "e\n");
        std::fs::write(file.path(), "").unwrap();
        assert_eq!(next(), "");
        file.append("f\n");
        assert_eq!(next(), "f\n");
    }

    #[test]
    fn log_that_does_not_exist_yet_is_empty_and_is_followed_once_it_does() {
        let file = Fixture::new("");
        std::fs::remove_file(file.path()).unwrap();
        assert_eq!(
            read_all(&mut file.open(9, false)),
            (String::new(), LogRead::End)
        );
        let mut log = file.open(9, true);
        assert_eq!(log.read().unwrap(), LogRead::Pending);
        std::fs::write(file.path(), "a\n").unwrap();
        assert_eq!(log.read().unwrap(), LogRead::Pending);
        assert_eq!(read_all(&mut log).0, "a\n");
    }

    #[test]
    fn link_and_pipe_in_place_of_a_log_are_not_opened() {
        let file = Fixture::new("");
        std::fs::remove_file(file.path()).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", file.path()).unwrap();
        assert_eq!(read_all(&mut file.open(9, false)).0, "");
        std::fs::remove_file(file.path()).unwrap();
        let mode = nix::sys::stat::Mode::from_bits_truncate(0o666);
        nix::unistd::mkfifo(&file.path(), mode).unwrap();
        assert_eq!(read_all(&mut file.open(9, false)).0, "");
    }
}
