//! Files, recipients and private keys by themselves.

use super::age_file::{MAX_OBJECT_BYTES, MAX_RECIPIENTS};
use super::identity::IdentityError;
use super::tests::{key, ready, recipients};
use super::*;

#[test]
fn damaged_and_oversized_files_are_refused() {
    let file = encrypt(b"value", &recipients(&[key!("web1.pub")])).unwrap();
    let keys = ready(key!("web1"));
    let mut damaged = file.clone();
    *damaged.last_mut().unwrap() ^= 1;
    for (file, expected) in [
        (damaged, AgeError::Damaged),
        (file[..file.len() - 3].to_vec(), AgeError::Damaged),
        (b"no age file".to_vec(), AgeError::NotAge),
        (b"age-encryption.org/v1\n".to_vec(), AgeError::NotAge),
        (
            vec![b'a'; MAX_OBJECT_BYTES + 1],
            AgeError::TooLarge {
                limit: MAX_OBJECT_BYTES,
            },
        ),
    ] {
        assert_eq!(decrypt(&file, &keys), Err(expected));
    }
    let to = recipients(&[key!("web1.pub")]);
    let limit = MAX_VALUE_BYTES;
    assert_eq!(
        encrypt(&vec![0; limit + 1], &to),
        Err(AgeError::TooLarge { limit })
    );
    let largest = encrypt(&vec![b'a'; limit], &to).unwrap();
    assert_eq!(decrypt(&largest, &keys).unwrap().len(), limit);
    let binary = encrypt(&[0xff, 0xfe], &to).unwrap();
    assert_eq!(decrypt(&binary, &keys), Err(AgeError::NotText));
}

#[test]
fn header_with_countless_recipients_is_refused_before_it_is_parsed() {
    let stanza = "-> X25519 AAAA\nAAAA\n".repeat(3000);
    let file = format!("age-encryption.org/v1\n{stanza}--- AAAA\n");
    let keys = ready(key!("web1"));
    assert_eq!(
        decrypt(file.as_bytes(), &keys),
        Err(AgeError::HeaderTooLarge)
    );
    let long = format!("age-encryption.org/v1\n-> X25519 {}\n", "A".repeat(70_000));
    assert_eq!(
        decrypt(long.as_bytes(), &keys),
        Err(AgeError::HeaderTooLarge)
    );
    let one = recipients(&[key!("web1.pub")]);
    let many = |count| vec![one[0].clone(); count];
    assert!(encrypt(b"x", &many(MAX_RECIPIENTS)).is_ok());
    let refused = encrypt(b"x", &many(MAX_RECIPIENTS + 1));
    assert_eq!(refused, Err(AgeError::TooManyRecipients(501)));
    assert_eq!(encrypt(b"x", &[]), Err(AgeError::NoRecipients));
    let rsa = vec![recipients(&[key!("rsa.pub")])[0].clone(); 190];
    assert_eq!(encrypt(b"x", &rsa), Err(AgeError::HeaderTooLarge));
}

#[test]
fn passphrases_and_plugins_are_refused_unopened() {
    let keys = ready(key!("web1"));
    // A work factor of 2^30 would take hours.
    let header = |stanza: &str| format!("age-encryption.org/v1\n-> {stanza}\nAAAA\n--- AAAA\n");
    let file = header("scrypt AAAAAAAAAAAAAAAAAAAAAA 30");
    assert_eq!(decrypt(file.as_bytes(), &keys), Err(AgeError::Passphrase));
    let file = header("piv-p256 AAAA");
    let expected = Err(AgeError::UnsupportedRecipient("piv-p256".into()));
    assert_eq!(decrypt(file.as_bytes(), &keys), expected);
}

#[test]
fn only_keys_that_can_encrypt_are_recipients() {
    for (line, why) in [
        (
            "age1yubikey1q2w7u3vpya839jxxuq8g0sedh3d740d4xvn639sqhr95ejj8vu3hyfumptt",
            "X25519",
        ),
        (
            "ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBBA x",
            "ed25519 and rsa",
        ),
        ("age1pq1xyz", "X25519"),
        ("ssh-ed25519 AAAA", "neither"),
        ("hunter2", "neither"),
        ("", "neither"),
        ("ssh-ed25519 AAAA\nssh-ed25519 BBBB", "control characters"),
        (key!("web1"), "too long, or has control characters"),
    ] {
        let problem = Recipient::parse(line).unwrap_err();
        assert!(problem.message.contains(why), "{line}: {problem}");
        assert!(!problem.to_string().contains("hunter2"), "{problem}");
    }
    let key = Recipient::parse(&format!("{}  of   web 1", key!("web1.pub").trim())).unwrap();
    assert_eq!(key.comment, "web1 of web 1");
    assert_eq!(Recipient::parse(&key.line()).unwrap(), key);
    // As `ssh-keygen -l` prints it.
    assert!(
        key.fingerprint().starts_with("SHA256:"),
        "{}",
        key.fingerprint()
    );
    assert_eq!(ready(key!("web1"))[0].recipient(), Some(key));
}

#[test]
fn passphrase_unlocks_an_ssh_key() {
    let Ok(ParsedIdentity::Locked(locked)) = parse_identity(key!("locked")) else {
        panic!("not locked");
    };
    assert!(locked.unlock("wrong".into()).is_none());
    let key = locked.unlock("open sesame".into()).unwrap();
    let file = encrypt(b"value", &recipients(&[key!("locked.pub")])).unwrap();
    assert_eq!(decrypt(&file, &[key]).unwrap(), "value");
    let unsupported = parse_identity(key!("ecdsa")).err();
    assert_eq!(unsupported, Some(IdentityError::UnsupportedKind));
    assert_eq!(parse_identity("hello").err(), Some(IdentityError::NoKey));
    assert_eq!(parse_identity("").err(), Some(IdentityError::NoKey));
}
