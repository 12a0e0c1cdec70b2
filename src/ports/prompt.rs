//! Asks a person at the terminal for a text that it does not show.

use std::fs::OpenOptions;
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;

use nix::libc;
use nix::sys::termios::{
    LocalFlags, SetArg, SpecialCharacterIndices, Termios, tcgetattr, tcsetattr,
};

/// What the terminal of this process is called.
const TERMINAL: &str = "/dev/tty";

/// Longest line that a terminal passes on, in bytes: the kernel drops the rest.
const MAX_LINE: usize = 4095;

/// The key that interrupts, which is a character while signals are off.
const CTRL_C: u8 = 3;

/// Restores the terminal when dropped.
struct NoEcho<'a> {
    terminal: &'a std::fs::File,
    before: Termios,
}

impl Drop for NoEcho<'_> {
    fn drop(&mut self) {
        let _ = tcsetattr(self.terminal, SetArg::TCSAFLUSH, &self.before);
    }
}

/// Reads one line without showing it. No interrupt ends the process meanwhile, or the terminal would stay without echo.
///
/// # Errors
/// There is no terminal, nobody answered, or the line is longer than a terminal passes on.
pub(crate) fn read_hidden_line(question: &str) -> io::Result<String> {
    let terminal = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NOCTTY | libc::O_CLOEXEC)
        .open(TERMINAL)?;
    let before = tcgetattr(&terminal)?;
    let mut hidden = before.clone();
    let off = LocalFlags::ECHO | LocalFlags::ISIG;
    hidden.local_flags.remove(off);
    hidden
        .local_flags
        .insert(LocalFlags::ECHONL | LocalFlags::ICANON);
    // It ends the line, which is otherwise held back until Enter.
    hidden.control_chars[SpecialCharacterIndices::VEOL as usize] = CTRL_C;
    tcsetattr(&terminal, SetArg::TCSAFLUSH, &hidden)?;
    let _restored = NoEcho {
        terminal: &terminal,
        before,
    };
    // Only now: what is typed before is discarded.
    (&terminal).write_all(question.as_bytes())?;
    let line = read_line(&terminal)?;
    String::from_utf8(line).map_err(|_| io::Error::other("expected UTF-8 text"))
}

fn read_line(mut terminal: &std::fs::File) -> io::Result<Vec<u8>> {
    let mut line = Vec::new();
    let mut byte = [0];
    loop {
        match terminal.read(&mut byte)? {
            0 => return Err(io::Error::other("nobody answered")),
            _ if byte[0] == b'\n' => return Ok(line),
            _ if byte[0] == CTRL_C => return Err(io::Error::other("interrupted")),
            _ => line.push(byte[0]),
        }
        if line.len() >= MAX_LINE {
            return Err(io::Error::other(
                "the line is longer than a terminal passes on: give it on standard input",
            ));
        }
    }
}
