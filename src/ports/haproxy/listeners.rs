//! New connections to a running haproxy, held back for a moment.
//!
//! A request that is under way while its address moves to another host is lost: that host knows nothing of its
//! connection. So before a move trueup lets requests end while no new ones begin. No command of haproxy does that without
//! refusing clients. A filter on its listening sockets does: the kernel drops the first packet of a connection, and the
//! client sends it again a second later, when the other host has the address.

use std::fs;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use nix::libc;

use crate::ports::processes;

/// The name of haproxy's processes.
const PROGRAM: &str = "haproxy";

/// `BPF_RET | BPF_K`: returns a constant, the number of bytes to keep of a packet.
const RETURN: u16 = 0x06;

/// Listening sockets that accept no new connections until this is dropped.
#[derive(Debug)]
pub(crate) struct HeldListeners(Vec<OwnedFd>);

impl HeldListeners {
    /// Those of the haproxy process with this id.
    pub(crate) fn hold(pid: u32) -> io::Result<HeldListeners> {
        let mut held = HeldListeners(Vec::new());
        for socket in tcp_listeners(pid)? {
            attach_dropping_filter(&socket)?;
            held.0.push(socket);
        }
        Ok(held)
    }

    /// Lets connections in again that a killed trueup has held back.
    pub(crate) fn release(pid: u32) -> io::Result<()> {
        drop(HeldListeners(tcp_listeners(pid)?));
        Ok(())
    }
}

impl Drop for HeldListeners {
    fn drop(&mut self) {
        for socket in &self.0 {
            let unused: libc::c_int = 0;
            // It fails if there is no filter, and then there is nothing to do.
            let _ = set_option(socket, libc::SO_DETACH_FILTER, &unused);
        }
    }
}

/// The TCP sockets on which this process listens.
fn tcp_listeners(pid: u32) -> io::Result<Vec<OwnedFd>> {
    if processes::program_name(pid).as_deref() != Some(PROGRAM) {
        return Err(io::Error::other(format!("the process {pid} is no haproxy")));
    }
    let number = libc::c_long::from(pid);
    // SAFETY: pidfd_open takes two numbers and returns a new descriptor or -1.
    let process = owned(unsafe { libc::syscall(libc::SYS_pidfd_open, number, 0) })?;
    let mut sockets = Vec::new();
    for entry in fs::read_dir(format!("/proc/{pid}/fd"))? {
        let name = entry?.file_name();
        let Some(fd) = name.to_str().and_then(|name| name.parse::<RawFd>().ok()) else {
            continue;
        };
        let (from, fd) = (process.as_raw_fd(), libc::c_long::from(fd));
        // SAFETY: pidfd_getfd takes three numbers and returns a new descriptor or -1.
        let copy = owned(unsafe { libc::syscall(libc::SYS_pidfd_getfd, from, fd, 0) });
        // It may have been closed in the meantime.
        let Ok(copy) = copy else { continue };
        if is_tcp_listener(&copy) {
            sockets.push(copy);
        }
    }
    Ok(sockets)
}

fn owned(result: libc::c_long) -> io::Result<OwnedFd> {
    match RawFd::try_from(result) {
        // SAFETY: the kernel has just returned it, and nobody else owns it.
        Ok(fd) if fd >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        _ => Err(io::Error::last_os_error()),
    }
}

fn is_tcp_listener(fd: &OwnedFd) -> bool {
    let is_listening = option(fd, libc::SO_ACCEPTCONN) == Some(1);
    let family = option(fd, libc::SO_DOMAIN);
    is_listening && [Some(libc::AF_INET), Some(libc::AF_INET6)].contains(&family)
}

/// A number among the options of a socket; `None`: it is no socket.
fn option(fd: &OwnedFd, name: libc::c_int) -> Option<libc::c_int> {
    let mut value: libc::c_int = 0;
    let mut length = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: both pointers are to live variables, and `length` is the size of `value`.
    let result = unsafe {
        libc::getsockopt(
            fd.as_raw_fd(),
            libc::SOL_SOCKET,
            name,
            (&raw mut value).cast(),
            &raw mut length,
        )
    };
    (result == 0).then_some(value)
}

fn attach_dropping_filter(socket: &OwnedFd) -> io::Result<()> {
    let mut drop_all = [libc::sock_filter {
        code: RETURN,
        jt: 0,
        jf: 0,
        k: 0,
    }];
    let program = libc::sock_fprog {
        len: 1,
        filter: drop_all.as_mut_ptr(),
    };
    set_option(socket, libc::SO_ATTACH_FILTER, &program)
}

fn set_option<T>(socket: &OwnedFd, name: libc::c_int, value: &T) -> io::Result<()> {
    // SAFETY: the pointer is to a live value of the given size; the kernel copies it, and the filter that it may point to.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            name,
            std::ptr::from_ref(value).cast(),
            size_of::<T>() as libc::socklen_t,
        )
    };
    match result {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};
    use std::os::unix::net::UnixListener;
    use std::time::Duration;

    use super::*;

    #[test]
    fn held_listener_accepts_nobody_until_it_is_released() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let connects = || TcpStream::connect_timeout(&address, Duration::from_millis(300));
        let open = connects().unwrap();
        let socket = OwnedFd::from(listener);
        assert!(is_tcp_listener(&socket));
        attach_dropping_filter(&socket).unwrap();
        let held = HeldListeners(vec![socket.try_clone().unwrap()]);
        assert_eq!(connects().unwrap_err().kind(), io::ErrorKind::TimedOut);
        drop(held);
        connects().unwrap();
        drop(open);
    }

    #[test]
    fn only_listening_tcp_sockets_of_haproxy_are_held() {
        let folder = tempfile::tempdir().unwrap();
        let local = UnixListener::bind(folder.path().join("s")).unwrap();
        assert!(!is_tcp_listener(&local.into()));
        let file = fs::File::open(folder.path()).unwrap();
        assert!(!is_tcp_listener(&file.into()));
        let error = HeldListeners::hold(std::process::id()).unwrap_err();
        assert!(error.to_string().contains("is no haproxy"), "{error}");
    }
}
