use super::*;

const KEY: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIN+NdHYYTyJ3nEi8bopJ68BrUYNyFbt1T6pYLq+zxEyP";

fn time(text: &str) -> Timestamp {
    text.parse().unwrap()
}

#[test]
fn signer_is_accepted_in_its_namespaces_while_it_is_valid() {
    let line = format!(
        "# who may\n\nana@example.com,ci namespaces=\"trueup@staging*,!trueup@staging-eu\",valid-before=\"20270101Z\",valid-after=\"202601020304Z\" {KEY} ana\nbob {KEY}\n"
    );
    let signers = parse("s", &line).unwrap().signers;
    let [ana, bob] = &signers[..] else {
        panic!("{signers:?}");
    };
    let now = time("2026-11-30T00:00:00Z");
    assert_eq!(ana.principals, "ana@example.com,ci");
    for (namespace, now, expected) in [
        ("trueup@staging", now, Ok(())),
        ("trueup@staging-us", now, Ok(())),
        ("trueup@staging-eu", now, Err(SignerRefusal::Namespace)),
        ("trueup@production", now, Err(SignerRefusal::Namespace)),
        (
            "trueup@staging",
            time("2026-01-02T03:03:59Z"),
            Err(SignerRefusal::NotYetValid(time("2026-01-02T03:04:00Z"))),
        ),
        (
            "trueup@staging",
            time("2027-01-01T00:00:01Z"),
            Err(SignerRefusal::Expired(time("2027-01-01T00:00:00Z"))),
        ),
    ] {
        assert_eq!(ana.check(namespace, now), expected, "{namespace} {now}");
    }
    assert_eq!(bob.check("file", now), Ok(()), "no namespaces: any");
}

#[test]
fn mistakes_in_the_signers_are_located_all_at_once() {
    let rsa = "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAAAgQDEQvRaYzo8TImzYo199xTBmUNAeVl5ieGosT45njcqbDLjLhf9D2Kq7H+IY3A9W2ekpu1gK3tA7EGdQrSXXNx23mOaxjqiSLupkCB4w6HBJRjd9GsKSdHc9RA7Zr+sPxpCkpJuY0Ff6d5m8Kt0WN1oeaENC1Je2xyjYi5neiMlCw==";
    let text = format!(
        "ana\nana ssh-ed25519 AAAA\nana cert-authority {KEY}\nana namespace=\"x\" {KEY}\nana namespaces=x {KEY}\nana valid-before=\"20270101\" {KEY}\nana {rsa}\n"
    );
    let problems = parse("s", &text).unwrap_err().0;
    let problems: Vec<String> = problems.iter().map(Problem::to_string).collect();
    let expected = [
        "s:1:1: expected `PRINCIPALS",
        "s:2:1: it has no valid public key: ",
        "s:3:1: `cert-authority`: certificates are not",
        "s:4:1: unknown option `namespace`\n  hint: did you mean `namespaces`?",
        "s:5:1: `namespaces=x`: expected a value in double quotes",
        "s:6:1: `20270101` is not a time in UTC",
        "s:7:1: keys of the type ssh-rsa are not supported",
    ];
    assert_eq!(problems.len(), expected.len(), "{problems:?}");
    for (problem, expected) in problems.iter().zip(expected) {
        assert!(problem.starts_with(expected), "{problem}");
    }
    for empty in ["", "# nobody\n"] {
        let problems = parse("s", empty).unwrap_err().to_string();
        assert!(problems.contains("nobody could sign"), "{problems}");
    }
}

#[test]
fn patterns_match_as_in_openssh_in_bounded_time() {
    for (pattern, text, expected) in [
        ("*", "", true),
        ("a*c", "abbc", true),
        ("a*c", "abbd", false),
        ("a?c", "abc", true),
        ("a?c", "ac", false),
        ("*b*", "abc", true),
        ("", "", true),
        ("", "a", false),
    ] {
        let matches = is_match(pattern.as_bytes(), text.as_bytes());
        assert_eq!(matches, expected, "{pattern} {text}");
    }
    let pattern = "*a".repeat(500);
    assert!(!is_match(pattern.as_bytes(), "b".repeat(5000).as_bytes()));
}
