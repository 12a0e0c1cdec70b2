//! A pseudo-terminal with a program in its foreground.

use std::io::{Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use nix::libc;

pub struct Terminal {
    pub child: Child,
    keyboard: std::fs::File,
    screen: Arc<Mutex<Vec<u8>>>,
    /// Kept open, to read its state after the program's end.
    line: OwnedFd,
    reader: Option<std::thread::JoinHandle<()>>,
}

impl Terminal {
    /// Starts a command whose controlling terminal this is. Streams that are given are not the terminal.
    pub fn start(command: Command, stdin: Option<Stdio>, stdout: Option<Stdio>) -> Terminal {
        Terminal::start_sized(command, stdin, stdout, 0)
    }

    /// The same at a terminal of so many columns; 0: its width is unknown.
    pub fn start_sized(
        mut command: Command,
        stdin: Option<Stdio>,
        stdout: Option<Stdio>,
        columns: u16,
    ) -> Terminal {
        let size = nix::pty::Winsize {
            ws_row: if columns > 0 { 50 } else { 0 },
            ws_col: columns,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        let pair = nix::pty::openpty(&size, None).unwrap();
        for fd in [&pair.master, &pair.slave] {
            nix::fcntl::fcntl(
                fd,
                nix::fcntl::FcntlArg::F_SETFD(nix::fcntl::FdFlag::FD_CLOEXEC),
            )
            .unwrap();
        }
        let stream = || Stdio::from(pair.slave.try_clone().unwrap());
        command
            .stdin(stdin.unwrap_or_else(stream))
            .stdout(stdout.unwrap_or_else(stream))
            .stderr(stream());
        let line = pair.slave.as_raw_fd();
        // SAFETY: async-signal-safe calls on numbers.
        unsafe {
            command.pre_exec(move || {
                libc::setsid();
                match libc::ioctl(line, libc::TIOCSCTTY, 0) {
                    0 => Ok(()),
                    _ => Err(std::io::Error::last_os_error()),
                }
            });
        }
        let child = command.spawn().unwrap();
        // It holds copies of the terminal.
        drop(command);
        let screen = Arc::new(Mutex::new(Vec::new()));
        let shown = Arc::clone(&screen);
        let mut from = std::fs::File::from(pair.master.try_clone().unwrap());
        let reader = std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(n @ 1..) = from.read(&mut buffer) {
                shown.lock().unwrap().extend_from_slice(&buffer[..n]);
            }
        });
        Terminal {
            child,
            keyboard: pair.master.into(),
            screen,
            line: pair.slave,
            reader: Some(reader),
        }
    }

    pub fn type_keys(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).unwrap();
    }

    pub fn screen(&self) -> String {
        String::from_utf8_lossy(&self.screen.lock().unwrap()).into_owned()
    }

    /// Waits until this text is on the screen.
    pub fn wait_for_text(&self, text: &str) {
        let found = crate::processes::wait_until(|| self.screen().contains(text));
        assert!(found, "`{text}` was not shown: {:?}", self.screen());
    }

    pub fn resize(&self, rows: u16, columns: u16) {
        let size = libc::winsize {
            ws_row: rows,
            ws_col: columns,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        // SAFETY: a valid struct for the length of the call.
        unsafe { libc::ioctl(self.line.as_raw_fd(), libc::TIOCSWINSZ, &size) };
    }

    /// The terminal itself, which outlives the program.
    pub fn line(&self) -> Line {
        Line(self.line.try_clone().unwrap())
    }

    pub fn is_cooked(&self) -> bool {
        self.line().is_cooked()
    }

    /// Waits for the end of the program. Returns how it ended, and what was on the screen.
    pub fn end(mut self) -> (ExitStatus, String) {
        let started = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            if started.elapsed() > Duration::from_secs(60) {
                let _ = self.child.kill();
                panic!("it did not end: {:?}", self.screen());
            }
            std::thread::sleep(Duration::from_millis(10));
        };
        let Terminal {
            line,
            screen,
            reader,
            keyboard,
            ..
        } = self;
        // Closing this side ends the reader, unless a test still has a [`Line`].
        drop(line);
        let reader = reader.unwrap();
        let started = Instant::now();
        while !reader.is_finished() && started.elapsed() < Duration::from_millis(500) {
            std::thread::sleep(Duration::from_millis(10));
        }
        drop(keyboard);
        let screen = String::from_utf8_lossy(&screen.lock().unwrap()).into_owned();
        (status, screen)
    }
}

/// The program's side of a terminal.
pub struct Line(OwnedFd);

impl Line {
    /// Whether the terminal echoes input and delivers it line by line, as a shell needs it.
    pub fn is_cooked(&self) -> bool {
        use nix::sys::termios::{LocalFlags, tcgetattr};
        let flags = tcgetattr(&self.0).unwrap().local_flags;
        flags.contains(LocalFlags::ICANON | LocalFlags::ECHO | LocalFlags::ISIG)
    }

    /// The number of typed bytes that no process has read.
    pub fn unread(&mut self) -> usize {
        use nix::sys::termios::{LocalFlags, SetArg, tcgetattr, tcsetattr};
        // Whole lines or not.
        let mut now = tcgetattr(&self.0).unwrap();
        now.local_flags.remove(LocalFlags::ICANON);
        tcsetattr(&self.0, SetArg::TCSANOW, &now).unwrap();
        let mut count: libc::c_int = 0;
        // SAFETY: writes a number of ours.
        unsafe { libc::ioctl(self.0.as_raw_fd(), libc::FIONREAD, &mut count) };
        usize::try_from(count).unwrap()
    }

    pub fn name(&self) -> String {
        let name = nix::unistd::ttyname(&self.0).unwrap();
        name.display().to_string()
    }
}
