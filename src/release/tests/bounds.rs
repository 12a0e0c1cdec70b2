//! Limits on memory, disk and time for everything that a git server sends or a commit contains.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;

use flate2::Compression;
use flate2::write::ZlibEncoder;

use super::*;

type Responder = dyn Fn(&mut TcpStream) -> std::io::Result<()> + Send + Sync;

/// A git server that starts with the output of `list`, and answers every request for a pack with `pack`.
fn git_server(list: Box<Responder>, pack: Box<Responder>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let speak = Arc::new((list, pack));
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, speak) = (stream.unwrap(), speak.clone());
            std::thread::spawn(move || {
                let mut request = [0; 64 << 10];
                let length = stream.read(&mut request).unwrap_or(0);
                let is_list = request[..length].starts_with(b"GET");
                let (sort, say) = match is_list {
                    true => ("advertisement", &speak.0),
                    false => ("result", &speak.1),
                };
                let head = format!(
                    "HTTP/1.1 200 OK\r\nContent-Type: application/x-git-upload-pack-{sort}\r\nConnection: close\r\n\r\n"
                );
                // A client that has enough closes the connection.
                let _ = stream.write_all(head.as_bytes());
                let _ = say(&mut stream);
            });
        }
    });
    format!("app: shop\nrepo: http://127.0.0.1:{port}/shop.git\nfetch_timeout: 60s\n")
}

fn pkt_line(text: &str) -> String {
    format!("{:04x}{text}", text.len() + 4)
}

/// The list of this many branches.
fn ref_list(count: usize) -> Box<Responder> {
    Box::new(move |to| {
        to.write_all(pkt_line("# service=git-upload-pack\n").as_bytes())?;
        to.write_all(b"0000")?;
        for first in (0..count).step_by(1000) {
            let some = first..count.min(first + 1000);
            let some: String = some
                .map(|n| {
                    let more = if n == 0 { "\0agent=git/9" } else { "" };
                    pkt_line(&format!("{WANTED} refs/heads/b{n:012}{more}\n"))
                })
                .collect();
            to.write_all(some.as_bytes())?;
        }
        to.write_all(b"0000")
    })
}

const WANTED: &str = "4f2c9d0e4f2c9d0e4f2c9d0e4f2c9d0e4f2c9d0e";

fn refused_deploy(text: &str) -> Failure {
    let bench = Bench::new();
    let failure = run_pass(&spec(text, &Sha::parse(WANTED).unwrap()), &bench.host()).unwrap_err();
    assert_eq!(bench.releases(), [""; 0]);
    assert!(failure.hint.is_some(), "{failure}");
    let packs = bench.host_path("var/lib/trueup/mirrors/shop.git/objects/pack");
    assert_eq!(list_names(&packs), [""; 0]);
    failure
}

fn empty_response() -> Box<Responder> {
    Box::new(|_| Ok(()))
}

#[test]
fn an_endless_list_of_refs_is_cut_off() {
    let failure = refused_deploy(&git_server(ref_list(usize::MAX), empty_response()));
    assert!(
        failure
            .message
            .contains("its list of branches, tags and other refs is longer than 32 MiB"),
        "{failure}"
    );
}

#[test]
fn more_refs_than_a_mirror_may_hold_are_refused() {
    let failure = refused_deploy(&git_server(ref_list(100_001), empty_response()));
    assert!(failure.message.contains("100001 branches"), "{failure}");
}

#[test]
fn a_pack_that_claims_four_billion_objects_takes_no_memory() {
    let pack = |to: &mut TcpStream| {
        to.write_all(pkt_line("NAK\n").as_bytes())?;
        to.write_all(b"PACK\0\0\0\x02\xff\xff\xff\xff")?;
        to.write_all(&[0x30; 4096])
    };
    let failure = refused_deploy(&git_server(ref_list(1), Box::new(pack)));
    assert!(
        failure.message.contains("MiB of memory that git may use"),
        "{failure}"
    );
}

/// An object of a pack: its type, its claimed size, the bytes before its body, the body.
fn pack_object(kind: u8, size: usize, before: &[u8], body: &[u8]) -> Vec<u8> {
    let mut out = vec![kind << 4 | (size & 15) as u8];
    let mut left = size >> 4;
    while left > 0 {
        *out.last_mut().unwrap() |= 0x80;
        out.push((left & 0x7f) as u8);
        left >>= 7;
    }
    out.extend_from_slice(before);
    let mut deflated = ZlibEncoder::new(Vec::new(), Compression::best());
    deflated.write_all(body).unwrap();
    out.extend(deflated.finish().unwrap());
    out
}

fn varint(mut number: usize) -> Vec<u8> {
    let mut out = Vec::new();
    while number > 0x7f {
        out.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
    out
}

#[test]
fn delta_that_expands_to_gigabytes_takes_no_memory() {
    use sha1::Digest;
    const BASE: usize = 1 << 16;
    const COPIES: usize = 30_000;
    let base = pack_object(3, BASE, &[], &vec![b'a'; BASE]);
    // Each instruction copies the whole base: no length means 64 KiB.
    let mut delta = [varint(BASE), varint(BASE * COPIES)].concat();
    delta.extend(vec![0x80; COPIES]);
    // The offset back to the base, the highest bits first.
    let (mut distance, mut before) = (base.len(), Vec::new());
    before.push((distance & 0x7f) as u8);
    while distance > 0x7f {
        distance = (distance >> 7) - 1;
        before.insert(0, (distance & 0x7f) as u8 | 0x80);
    }
    let delta = pack_object(6, delta.len(), &before, &delta);
    let mut pack = [b"PACK\0\0\0\x02\0\0\0\x02".as_slice(), &base, &delta].concat();
    let sum = sha1::Sha1::digest(&pack);
    pack.extend_from_slice(&sum);
    let pack = move |to: &mut TcpStream| {
        to.write_all(pkt_line("NAK\n").as_bytes())?;
        to.write_all(&pack)
    };
    let failure = refused_deploy(&git_server(ref_list(1), Box::new(pack)));
    assert!(
        failure.message.contains("MiB of memory that git may use"),
        "{failure}"
    );
}

#[test]
fn large_file_is_refused_by_its_header_and_its_path_is_named() {
    let bench = Bench::new();
    let first = bench.commit(&[("a", "1"), ("large", &"x".repeat(64 << 10))]);
    deploy_ok(&bench.spec(&first, "max_file: 64K\n"), &bench.host());
    let sha = bench.commit(&[("a", "1"), ("data/large", &"x".repeat((64 << 10) + 1))]);
    let failure = run_pass(&bench.spec(&sha, "max_file: 64K\n"), &bench.host()).unwrap_err();
    assert_eq!(
        failure.message,
        "the file `data/large` in the repository has 65537 bytes, and `max_file` allows 65536"
    );
    assert!(
        failure.hint.as_ref().unwrap().contains("Git LFS"),
        "{failure}"
    );
    assert_eq!(bench.releases().len(), 1);
    // Exceeds the default limit of a hundred megabytes with a few hundred bytes in the repository.
    let zeros = "0".repeat((100 << 20) + 1);
    let sha = bench.commit(&[("bomb", &zeros)]);
    let failure = run_pass(&bench.spec(&sha, ""), &bench.host()).unwrap_err();
    assert!(failure.message.contains("`bomb`"), "{failure}");
    assert_eq!(bench.read("current/a"), "1");
}

#[test]
fn file_names_of_a_commit_cannot_forge_a_line_of_a_message() {
    let bench = Bench::new();
    let name = "a\n\u{1b}[32mconverged";
    let large = "x".repeat((64 << 10) + 1);
    let sha = bench.commit(&[(name, &large)]);
    let failure = run_pass(&bench.spec(&sha, "max_file: 64K\n"), &bench.host()).unwrap_err();
    assert!(!failure.message.contains(char::is_control), "{failure:?}");

    let sha = bench.commit(&[(".gitattributes", "a* filter=x\n"), (name, "1")]);
    let failure = run_pass(&bench.spec(&sha, "filters: refuse\n"), &bench.host()).unwrap_err();
    assert!(!failure.message.contains(char::is_control), "{failure:?}");
}

#[test]
fn file_that_placeholders_expand_beyond_max_file_is_refused() {
    let bench = Bench::new();
    for (attribute, mark) in [("export-subst", "$Format:%H%H%H%H$"), ("ident", "$Id$")] {
        let rule = format!("bomb {attribute}\n");
        let sha = bench.commit(&[(".gitattributes", &rule), ("bomb", &mark.repeat(2000))]);
        let failure = run_pass(&bench.spec(&sha, "max_file: 64K\n"), &bench.host()).unwrap_err();
        assert!(failure.message.contains("`bomb`"), "{failure}");
        assert_eq!(bench.releases(), [""; 0]);
    }
}

#[test]
fn attribute_patterns_too_slow_to_match_are_refused() {
    let bench = Bench::new();
    let deep = format!("{}b", "a/".repeat(60));
    for (pattern, why) in [
        (
            "**/".repeat(40) + "zz",
            "line 2 of `.gitattributes` in the repository cannot be used: its pattern has `*` or `**` in more than 10 places",
        ),
        ("*a".repeat(11), "in more than 10 places"),
        ("?".repeat(1025), "its pattern is longer than 1024 bytes"),
        // Cheap enough for shallow paths only.
        (
            "**/".repeat(10) + "zz",
            "the one in line 2 of `.gitattributes` has `**` in 10 places",
        ),
    ] {
        let rule = format!("* text\n{pattern} export-ignore\n");
        let sha = bench.commit(&[(".gitattributes", &rule), (&deep, "x")]);
        let failure = run_pass(&bench.spec(&sha, ""), &bench.host()).unwrap_err();
        assert!(failure.message.contains(why), "{failure}");
        assert!(failure.hint.is_some(), "{failure}");
        assert_eq!(bench.releases(), [""; 0]);
    }
}

#[test]
fn common_attribute_patterns_are_accepted() {
    let bench = Bench::new();
    let rules = "**/**/a/**/*.min.* export-ignore\n[0-9]*-*_*.*.?s -text\n/a/**/b/**/c/**/*z export-ignore\n";
    let deep = format!("{}b", "a/".repeat(60));
    let sha = bench.commit(&[
        (".gitattributes", rules),
        (&deep, "x"),
        ("x/a/y.min.js", ""),
    ]);
    deploy_ok(&bench.spec(&sha, ""), &bench.host());
    assert_eq!(bench.read(&format!("current/{deep}")), "x");
}

/// A commit with this subject.
fn with_subject(bench: &Bench, subject: &str, files: &[(&str, &str)]) -> Sha {
    bench.commit(files);
    let tree = bench.repo.head().unwrap().peel_to_tree().unwrap();
    let author = Signature::now("t", "t@e").unwrap();
    let id = bench
        .repo
        .commit(None, &author, &author, subject, &tree, &[]);
    let id = id.unwrap();
    let branch = bench.repo.reference("refs/heads/subject", id, true, "t");
    branch.unwrap();
    Sha::parse(&id.to_string()).unwrap()
}

#[test]
fn commit_placeholders_cannot_expand_files_or_trees_without_limit() {
    let bench = Bench::new();
    let first = bench.commit(&[("a", "1")]);
    deploy_ok(&bench.spec(&first, ""), &bench.host());
    let rule = (".gitattributes", "*.s export-subst\n");
    // One file of 200 bytes that would expand to 99 MB.
    let bomb = format!("$Format:{}$", "%s".repeat(99));
    let sha = with_subject(&bench, &"S".repeat(1_000_000), &[rule, ("big/x.s", &bomb)]);
    let failure = run_pass(&bench.spec(&sha, ""), &bench.host()).unwrap_err();
    assert!(
        failure.message.contains("`big/x.s`") && failure.message.contains("beyond 65536 bytes"),
        "{failure}"
    );
    // Many files that expand to 64 KB each.
    let names: Vec<String> = (0..1100).map(|n| format!("{n}/x.s")).collect();
    let mut files: Vec<(&str, &str)> = names
        .iter()
        .map(|name| (name.as_str(), "$Format:%s$"))
        .collect();
    files.push(rule);
    let sha = with_subject(&bench, &"S".repeat(64_000), &files);
    let failure = run_pass(&bench.spec(&sha, ""), &bench.host()).unwrap_err();
    assert!(failure.message.contains("64 MiB"), "{failure}");
    assert!(failure.hint.is_some(), "{failure}");
    assert_eq!(bench.releases().len(), 1);
    assert_eq!(bench.read("current/a"), "1");
}

#[test]
fn oversized_commit_attributes_and_link_objects_are_refused() {
    let bench = Bench::new();
    bench.commit(&[("a", "1")]);
    let attributes = "*.x text\n".repeat(40_000);
    let attributes = bench.commit(&[(".gitattributes", &attributes)]);
    let target = "t/".repeat(3000);
    let link = bench.commit_modes(&[("link", &target, 0o120_000)]);
    let tree = bench.repo.head().unwrap().peel_to_tree().unwrap();
    let author = Signature::now("t", "t@e").unwrap();
    let message = "m".repeat(2 << 20);
    let id = bench
        .repo
        .commit(None, &author, &author, &message, &tree, &[])
        .unwrap();
    bench
        .repo
        .reference("refs/heads/long", id, true, "t")
        .unwrap();
    let long = Sha::parse(&id.to_string()).unwrap();
    for (sha, why) in [
        (
            attributes,
            "`.gitattributes` files of the repository come to more than 256 KiB",
        ),
        (
            link,
            "the link `link` in the repository points to a path of 6000 bytes",
        ),
        (long, "no commit has more than 1048576"),
    ] {
        let failure = run_pass(&bench.spec(&sha, ""), &bench.host()).unwrap_err();
        assert!(failure.message.contains(why), "{failure}");
        assert!(failure.hint.is_some(), "{failure}");
        assert_eq!(bench.releases(), [""; 0]);
    }
}
