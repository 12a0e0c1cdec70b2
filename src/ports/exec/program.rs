//! The program of a child: looked up and executed as execvp(3) does, with all strings allocated before the
//! fork.

use std::ffi::{CString, OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::ptr;

use nix::errno::Errno;
use nix::libc::{self, c_char};

use super::{Command, PATH};

pub(super) struct Program {
    /// Possible paths, in order of preference.
    candidates: Vec<CString>,
    argv: CStringArray,
    environment: CStringArray,
    /// `/bin/sh`, a path, the arguments: the shell runs a file without `#!`.
    shell_argv: CStringArray,
}

impl Program {
    pub(super) fn new(command: &Command) -> io::Result<Program> {
        let name = command
            .argv
            .first()
            .ok_or_else(|| invalid_input("the command is empty"))?;
        let mut env = command.env.clone();
        let path = env
            .entry("PATH".into())
            .or_insert_with(|| PATH.into())
            .clone();
        let assignments = env.into_iter().map(|(mut name, value)| {
            name.push("=");
            name.push(value);
            name
        });
        let script = ["/bin/sh", ""].map(OsString::from).into_iter();
        let arguments = command.argv.iter().skip(1).cloned();
        Ok(Program {
            candidates: candidate_paths(name, &path)?,
            argv: CStringArray::new(command.argv.iter().cloned())?,
            environment: CStringArray::new(assignments)?,
            shell_argv: CStringArray::new(script.chain(arguments))?,
        })
    }

    /// Runs in the child: executes the program, or returns the error. Makes only async-signal-safe calls.
    pub(super) fn exec(&mut self) -> io::Error {
        let environment = self.environment.pointers.as_ptr();
        let mut denied = false;
        let mut why = Errno::ENOENT;
        for candidate in &self.candidates {
            // SAFETY: NUL-terminated strings in null-terminated arrays; all of them outlive the calls.
            unsafe {
                libc::execve(candidate.as_ptr(), self.argv.pointers.as_ptr(), environment);
            }
            if Errno::last() == Errno::ENOEXEC
                && let Some(script) = self.shell_argv.pointers.get_mut(1)
            {
                *script = candidate.as_ptr();
                // SAFETY: as above.
                unsafe {
                    libc::execve(
                        c"/bin/sh".as_ptr(),
                        self.shell_argv.pointers.as_ptr(),
                        environment,
                    );
                }
            }
            why = Errno::last();
            match why {
                Errno::EACCES => denied = true,
                Errno::ENOENT
                | Errno::ESTALE
                | Errno::ENOTDIR
                | Errno::ENODEV
                | Errno::ETIMEDOUT => {}
                _ => return why.into(),
            }
        }
        match denied {
            true => Errno::EACCES.into(),
            false => why.into(),
        }
    }
}

fn candidate_paths(name: &OsStr, path: &OsStr) -> io::Result<Vec<CString>> {
    let name = name.as_bytes();
    if name.is_empty() {
        return Ok(Vec::new());
    }
    if name.contains(&b'/') {
        return Ok(vec![c_string(name)?]);
    }
    let candidate = |folder: &[u8]| match folder {
        b"" => c_string(name),
        _ => c_string([folder, name].join(&b'/')),
    };
    path.as_bytes()
        .split(|byte| *byte == b':')
        .map(candidate)
        .collect()
}

/// Strings in the form that `execve` takes.
struct CStringArray {
    #[allow(dead_code, reason = "the pointers are into it")]
    strings: Vec<CString>,
    /// Ends with a null pointer.
    pointers: Vec<*const c_char>,
}

impl CStringArray {
    fn new(strings: impl Iterator<Item = OsString>) -> io::Result<CStringArray> {
        let strings: Vec<CString> = strings
            .map(|text| c_string(text.as_bytes()))
            .collect::<io::Result<_>>()?;
        let pointers = strings.iter().map(|text| text.as_ptr());
        Ok(CStringArray {
            pointers: pointers.chain([ptr::null()]).collect(),
            strings,
        })
    }
}

pub(super) fn c_string(bytes: impl Into<Vec<u8>>) -> io::Result<CString> {
    CString::new(bytes)
        .map_err(|_| invalid_input("a zero byte in the command, its folder or its environment"))
}

fn invalid_input(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, why)
}
