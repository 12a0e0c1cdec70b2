//! A file in memory, for children that insist on a path: a key for `ssh`, say, which would refuse
//! the file that it comes from for its mode, and reads nothing from a descriptor that it inherits.

use std::fs::{File, Permissions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use nix::sys::memfd::{MFdFlags, memfd_create};

/// Bytes that children of the same user can open by a path for as long as this value lives. They
/// are never on disk and are gone with trueup, however it ends.
#[derive(Debug)]
pub struct MemFile(File);

impl MemFile {
    pub fn new(bytes: &[u8]) -> io::Result<MemFile> {
        let mut file = File::from(memfd_create(c"trueup", MFdFlags::MFD_CLOEXEC)?);
        file.set_permissions(Permissions::from_mode(0o600))?;
        file.write_all(bytes)?;
        Ok(MemFile(file))
    }

    /// Where a child finds it.
    pub fn path(&self) -> PathBuf {
        format!("/proc/{}/fd/{}", std::process::id(), self.0.as_raw_fd()).into()
    }

    /// What is in it by now.
    pub fn read(&self) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let mut file = &self.0;
        file.seek(SeekFrom::Start(0))?;
        file.read_to_end(&mut bytes)?;
        Ok(bytes)
    }
}
