//! An HTTP server with scripted reactions, one per request.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What the server does with a request. The last reaction repeats forever.
#[derive(Clone)]
pub(in crate::ports) enum Reaction {
    Respond(Vec<u8>),
    /// Sends an answer that depends on the heads of the requests so far.
    RespondWith(fn(&[String]) -> Vec<u8>),
    /// Sends this, then closes the connection.
    RespondAndClose(Vec<u8>),
    /// Sends the head of this at once and the body slowly.
    RespondSlowly(Vec<u8>),
    Hang,
}

#[derive(Clone)]
pub(in crate::ports) struct FaultyServer {
    address: SocketAddr,
    reactions: Arc<Mutex<VecDeque<Reaction>>>,
    request_heads: Arc<Mutex<Vec<String>>>,
    request_bodies: Arc<Mutex<Vec<String>>>,
}

impl FaultyServer {
    /// Serves until the test process ends.
    pub(in crate::ports) fn start(acts: Vec<Reaction>) -> FaultyServer {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = FaultyServer {
            address: listener.local_addr().unwrap(),
            reactions: Arc::new(Mutex::new(acts.into())),
            request_heads: Arc::default(),
            request_bodies: Arc::default(),
        };
        let serving = server.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (server, stream) = (serving.clone(), stream.unwrap());
                // A client that gives up breaks the connection; the server ignores that.
                std::thread::spawn(move || server.serve(&stream).unwrap_or_default());
            }
        });
        server
    }

    pub(in crate::ports) fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The heads of the requests so far, with header names in lower case.
    pub(in crate::ports) fn request_heads(&self) -> Vec<String> {
        self.request_heads.lock().unwrap().clone()
    }

    /// The bodies of the requests so far.
    pub(in crate::ports) fn request_bodies(&self) -> Vec<String> {
        self.request_bodies.lock().unwrap().clone()
    }

    fn next_reaction(&self) -> Reaction {
        let mut acts = self.reactions.lock().unwrap();
        if acts.len() > 1 {
            acts.pop_front().unwrap()
        } else {
            acts[0].clone()
        }
    }

    fn serve(&self, stream: &TcpStream) -> std::io::Result<()> {
        let mut reader = BufReader::new(stream);
        let mut writer = stream;
        while let Some((head, body)) = read_request(&mut reader)? {
            self.request_bodies.lock().unwrap().push(body);
            self.request_heads.lock().unwrap().push(head);
            match self.next_reaction() {
                Reaction::Respond(bytes) => writer.write_all(&bytes)?,
                Reaction::RespondWith(reply) => writer.write_all(&reply(&self.request_heads()))?,
                Reaction::RespondAndClose(bytes) => return writer.write_all(&bytes),
                Reaction::RespondSlowly(bytes) => {
                    let end = bytes
                        .windows(4)
                        .position(|four| four == b"\r\n\r\n")
                        .unwrap();
                    let (head, body) = bytes.split_at(end + 4);
                    writer.write_all(head)?;
                    for byte in body {
                        writer.write_all(&[*byte])?;
                        std::thread::sleep(Duration::from_millis(20));
                    }
                }
                Reaction::Hang => std::thread::sleep(Duration::from_secs(600)),
            }
        }
        Ok(())
    }
}

fn read_request(reader: &mut impl BufRead) -> std::io::Result<Option<(String, String)>> {
    let mut head = String::new();
    let mut length = 0;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        if let Some((name, value)) = line.split_once(": ") {
            let name = name.to_lowercase();
            if name == "content-length" {
                length = value.trim().parse().unwrap();
            }
            line = format!("{name}: {value}");
        }
        head.push_str(&line);
        if line == "\r\n" {
            let mut body = vec![0; length];
            reader.read_exact(&mut body)?;
            return Ok(Some((head, String::from_utf8_lossy(&body).into_owned())));
        }
    }
}
