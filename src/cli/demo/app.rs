//! The demo's web app: trueup itself serves one page, so that the demo needs no other software.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::time::Duration;

use crate::exit::Exit;
use crate::operate::CommandError;
use crate::ports::root::Root;

/// Timeout of one request.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// Serves `public/index.html` of the working folder. Reads it once at the start, as real apps do, so that a
/// new release shows only after a restart. Returns only on errors.
#[expect(
    clippy::disallowed_methods,
    reason = "the demo's app is a server of its own, started in its release"
)]
pub(in crate::cli) fn serve(port: u16) -> Result<Exit, CommandError> {
    let failed = |error: String| CommandError::failed(error);
    let folder = std::env::current_dir().map_err(|error| failed(error.to_string()))?;
    let page = Root::real()?
        .read(&folder.join(Path::new("public/index.html")), 1 << 20)?
        .ok_or_else(|| failed(format!("{} has no public/index.html", folder.display())))?;
    let listener = TcpListener::bind(("127.0.0.1", port))
        .map_err(|error| failed(format!("cannot listen on 127.0.0.1:{port}: {error}")))?;
    let line = format!("serving {} on 127.0.0.1:{port}", folder.display());
    let _ = writeln!(io::stdout(), "{line}");
    for stream in listener.incoming().flatten() {
        // A client that closes the connection is no error of the app.
        let _ = respond(stream, &page);
    }
    Ok(Exit::Converged)
}

fn respond(mut stream: TcpStream, page: &[u8]) -> io::Result<()> {
    stream.set_read_timeout(Some(REQUEST_TIMEOUT))?;
    stream.set_write_timeout(Some(REQUEST_TIMEOUT))?;
    let mut request = [0; 1024];
    let _ = stream.read(&mut request)?;
    write!(
        stream,
        "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        page.len()
    )?;
    stream.write_all(page)
}

/// Requests the page until it answers, for at most `timeout`.
pub(super) fn fetch_page(port: u16, timeout: Duration) -> io::Result<String> {
    let pause = Duration::from_millis(50);
    let mut remaining = timeout;
    loop {
        match try_fetch_page(port) {
            Ok(page) => return Ok(page),
            Err(error) if remaining < pause => return Err(error),
            Err(_) => {
                std::thread::sleep(pause);
                remaining -= pause;
            }
        }
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "a single request to the demo's own app on this host"
)]
fn try_fetch_page(port: u16) -> io::Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(REQUEST_TIMEOUT))?;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    match answer.split_once("\r\n\r\n") {
        Some((head, body)) if head.starts_with("HTTP/1.1 200") => Ok(body.to_owned()),
        _ => Err(io::Error::other("it answered without a page")),
    }
}
