//! Memory that a git server, or those who may push to it, can make a pass use.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::sandbox::{Sandbox, isolated};

/// The limit in KiB: a pass without hostile input, plus the bounds of libgit2.
const MOST: u64 = 400 << 10;

/// The peak memory of a pass, in KiB, and its output.
fn peak_memory(sandbox: &Sandbox) -> (u64, String) {
    let mut command = sandbox.command(&["converge"]);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let status = format!("/proc/{}/status", child.id());
    let mut peak = 0;
    while child.try_wait().unwrap().is_none() {
        let text = std::fs::read_to_string(&status).unwrap_or_default();
        let now = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let now = now.and_then(|now| now.trim().trim_end_matches(" kB").parse().ok());
        peak = peak.max(now.unwrap_or(0));
        std::thread::sleep(Duration::from_millis(20));
    }
    let output = child.wait_with_output().unwrap();
    let output = [output.stdout, output.stderr].concat();
    (peak, String::from_utf8_lossy(&output).into_owned())
}

fn release(repo: &str, sha: &str) -> Sandbox {
    Sandbox::of(&format!(
        "- release: {{app: shop, repo: \"{repo}\", sha: {sha}}}"
    ))
}

#[test]
fn endless_refs_of_a_git_server_use_bounded_memory() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let _ = stream.read(&mut [0; 4096]);
            let head = "HTTP/1.1 200 OK\r\nContent-Type: application/x-git-upload-pack-advertisement\r\nConnection: close\r\n\r\n001e# service=git-upload-pack\n0000";
            let _ = stream.write_all(head.as_bytes());
            for number in 0_u64.. {
                let more = if number == 0 { "\0agent=git/9" } else { "" };
                let text = format!("{number:040x} refs/heads/{number}{more}\n");
                let line = format!("{:04x}{text}", text.len() + 4);
                if stream.write_all(line.as_bytes()).is_err() {
                    break;
                }
            }
        }
    });
    let sandbox = release(
        &format!("http://127.0.0.1:{port}/shop.git"),
        &"4f".repeat(20),
    );
    let (peak, output) = peak_memory(&sandbox);
    assert!(output.contains("is longer than 32 MiB"), "{output}");
    assert!(0 < peak && peak < MOST, "{peak} KiB: {output}");
}

#[test]
fn blob_that_inflates_to_gigabytes_uses_bounded_memory() {
    let sandbox = Sandbox::empty();
    let repo = sandbox.sibling("repo");
    std::fs::create_dir_all(&repo).unwrap();
    let git = |args: &[&str]| {
        let mut command = Command::new("git");
        isolated(&mut command);
        let identity = ["-c", "user.name=t", "-c", "user.email=t@example"];
        let output = command
            .current_dir(&repo)
            .args(identity)
            .args(args)
            .output();
        let output = output.unwrap();
        assert!(output.status.success(), "git {args:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    git(&["init", "-q", "-b", "main", "."]);
    let bomb = std::fs::File::create(repo.join("bomb")).unwrap();
    bomb.set_len(1_200_000_000).unwrap();
    git(&["add", "bomb"]);
    git(&["commit", "-q", "-m", "x"]);
    std::fs::remove_file(repo.join("bomb")).unwrap();
    git(&["repack", "-adq"]);
    let sha = git(&["rev-parse", "HEAD"]);
    let (peak, output) = peak_memory(&release(&repo.display().to_string(), &sha));
    // A repository on the same host is packed by libgit2, too; over a wire it is the file that is refused.
    assert!(
        output.contains("MiB of memory that git may use"),
        "{output}"
    );
    assert!(0 < peak && peak < MOST, "{peak} KiB: {output}");
}
