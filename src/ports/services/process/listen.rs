//! Binds the sockets that a service inherits, before it starts.

use std::io;
use std::net::{TcpListener, ToSocketAddrs};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::Path;

use super::unit::Unit;

/// Maximum number of sockets: the number of the descriptor after the last one must be a single digit.
pub(super) const MAX_SOCKETS: usize = 6;

/// Binds every `ListenStream=` of a socket unit, in order: a port, `host:port`, or the absolute path of a
/// Unix socket.
pub(super) fn bind(unit: &Unit) -> Result<Vec<OwnedFd>, String> {
    if unit.listen_streams.len() > MAX_SOCKETS {
        return Err(format!("more than {MAX_SOCKETS} sockets cannot be passed"));
    }
    let one = |address: &String| {
        let bound = if address.starts_with('/') {
            bind_unix(Path::new(address), unit.socket_mode)
        } else {
            bind_tcp(address)
        };
        bound.map_err(|error| format!("cannot listen on {address}: {error}"))
    };
    unit.listen_streams.iter().map(one).collect()
}

/// The standard library sets SO_REUSEADDR, so that a service can restart at once.
fn bind_tcp(address: &str) -> io::Result<OwnedFd> {
    let listener = match address.parse::<u16>() {
        // Like systemd: both address families, or IPv4 alone on a host without IPv6.
        Ok(port) => {
            TcpListener::bind(("::", port)).or_else(|_| TcpListener::bind(("0.0.0.0", port)))?
        }
        Err(_) => TcpListener::bind(&*address.to_socket_addrs()?.collect::<Vec<_>>())?,
    };
    Ok(listener.into())
}

fn bind_unix(path: &Path, mode: u32) -> io::Result<OwnedFd> {
    match std::fs::symlink_metadata(path) {
        Ok(meta) if meta.file_type().is_socket() => std::fs::remove_file(path)?,
        Ok(_) => return Err(io::Error::other("something that is not a socket is there")),
        Err(_) => {}
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))?;
    Ok(listener.into())
}
