//! Fuzzes the first message of a git server, the list of its refs, as libgit2 reads it.

use std::cell::RefCell;
use std::io::{self, Read, Write};

use git2::transport::{Service, SmartSubtransport, SmartSubtransportStream, Transport, register};
use git2::{Direction, Remote};

use crate::fuzz::Target;

thread_local! {
    static RESPONSE: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// A server that sends the fuzzed bytes and ignores requests.
struct FakeServer;

struct FakeStream(io::Cursor<Vec<u8>>);

impl SmartSubtransport for FakeServer {
    fn action(&self, _: &str, _: Service) -> Result<Box<dyn SmartSubtransportStream>, git2::Error> {
        let response = RESPONSE.with_borrow(Vec::clone);
        Ok(Box::new(FakeStream(io::Cursor::new(response))))
    }

    fn close(&self) -> Result<(), git2::Error> {
        Ok(())
    }
}

impl Read for FakeStream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl Write for FakeStream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn fuzz_git_advertisements() {
    // SAFETY: nothing else in this process uses these schemes, and each is registered once.
    unsafe {
        register("fuzz", |remote| Transport::smart(remote, false, FakeServer)).unwrap();
        register("fuzz-http", |remote| {
            Transport::smart(remote, true, FakeServer)
        })
        .unwrap();
    }
    let words = &[
        "0000",
        "0001",
        "0004",
        "0005",
        "fff0",
        "ffff",
        "003d",
        "# service=git-upload-pack\n",
        "ERR ",
        "HEAD",
        " refs/heads/",
        "^{}",
        "\0",
        "symref=HEAD:refs/heads/",
        "shallow ",
        "version 1\n",
        "object-format=sha256",
        "../../x",
        "refs/tags/",
        "4f2c9d0e1b3a5c7d9e0f1a2b3c4d5e6f70819203",
        "0000000000000000000000000000000000000000",
        " capabilities^{}",
        "\n",
    ];
    let law = |input: &[u8]| {
        RESPONSE.set(input.to_vec());
        let mut taken = false;
        for scheme in ["fuzz", "fuzz-http"] {
            let mut remote =
                Remote::create_detached(format!("{scheme}://server/shop.git")).unwrap();
            if remote.connect(Direction::Fetch).is_err() {
                continue;
            }
            taken |= remote.list().is_ok_and(|heads| {
                // Each listed ref has a usable name and id.
                heads.iter().all(|head| head.oid().as_bytes().len() == 20)
            });
        }
        taken
    };
    let name = "git-advertisement";
    Target {
        name,
        words,
        law: &law,
    }
    .run();
}
