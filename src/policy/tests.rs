use std::collections::BTreeMap;
use std::path::Path;

use ruzstd::encoding::{CompressionLevel, compress_to_vec};
use tar::{Builder, EntryType, Header};

use super::limits::{MAX_FILES, MAX_PACKED, MAX_UNPACKED};
use super::{KeptBundles, digest_of_key, fetch, object_key, open, pack, read_folder, unpack};
use crate::desired::ContentDigest;
use crate::ports::root::Root;
use crate::ports::store::{MemoryStore, Store, WriteCondition};
use crate::ports::testing::Sandbox;

fn files(paths: &[(&str, &str)]) -> BTreeMap<String, Vec<u8>> {
    let files = paths.iter();
    files
        .map(|(path, body)| ((*path).to_owned(), body.as_bytes().to_vec()))
        .collect()
}

/// An entry of a hostile archive. Its name is written raw, because the library refuses to.
fn entry(name: &[u8], kind: EntryType, body: &[u8]) -> Vec<u8> {
    let mut header = Header::new_ustar();
    header.set_entry_type(kind);
    header.set_size(body.len() as u64);
    header.set_mode(0o644);
    header.as_old_mut().name[..name.len()].copy_from_slice(name);
    header.set_cksum();
    let mut bytes = header.as_bytes().to_vec();
    bytes.extend(body);
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    bytes
}

fn compressed(entries: &[Vec<u8>]) -> Vec<u8> {
    let mut tar = entries.concat();
    tar.extend([0; 1024]);
    compress_to_vec(tar.as_slice(), CompressionLevel::Fastest)
}

fn refusal(entries: &[Vec<u8>]) -> String {
    unpack(&compressed(entries)).unwrap_err()
}

#[test]
fn equal_files_make_equal_bytes_and_come_out_as_they_went_in() {
    let long = format!("templates/{}/{}.conf", "d".repeat(90), "f".repeat(80));
    let big = "x = {{ y }}\n".repeat(20_000);
    let all = files(&[
        ("roles/app.yml", "resources: []\n"),
        (&long, &big),
        ("environments/production.yml", ""),
    ]);
    let packed = pack(&all).unwrap();
    assert_eq!(packed, pack(&all).unwrap());
    assert!(packed.len() < big.len() / 4, "{} bytes", packed.len());
    assert_eq!(unpack(&packed).unwrap(), all);
    let other = pack(&files(&[("roles/app.yml", "resources: [] \n")])).unwrap();
    assert_ne!(ContentDigest::of(&packed), ContentDigest::of(&other));
}

#[test]
fn names_that_lead_elsewhere_are_refused() {
    for (name, why) in [
        ("../etc/passwd", "roles/, templates/ and environments/"),
        ("roles/../../etc/passwd", "`..`"),
        ("/etc/passwd", "roles/, templates/ and environments/"),
        ("roles//app.yml", "empty parts"),
        ("roles/./app.yml", "empty parts"),
        ("node.yml", "roles/, templates/ and environments/"),
        ("secrets/db.age", "roles/, templates/ and environments/"),
        ("roles", "roles/, templates/ and environments/"),
        ("roles/", "empty parts"),
        ("roles/.hidden.yml", "hidden"),
        ("roles/a\\b.yml", "backslashes"),
        ("roles/a\nb.yml", "control characters"),
        ("roles/1/2/3/4/5/6/7/8.yml", "folders deep"),
    ] {
        let refused = refusal(&[entry(name.as_bytes(), EntryType::Regular, b"x")]);
        assert!(refused.contains(why), "{name:?}: {refused}");
        assert!(!refused.contains('\n'), "{refused}");
    }
    let refused = refusal(&[entry(b"roles/\xff.yml", EntryType::Regular, b"x")]);
    assert!(refused.contains("not UTF-8"), "{refused}");
}

#[test]
fn everything_that_is_no_plain_file_is_refused() {
    for kind in [
        EntryType::Symlink,
        EntryType::Link,
        EntryType::Char,
        EntryType::Block,
        EntryType::Fifo,
        EntryType::Directory,
        EntryType::GNUSparse,
        EntryType::XHeader,
        EntryType::XGlobalHeader,
        EntryType::GNULongLink,
    ] {
        let refused = refusal(&[entry(b"roles/app.yml", kind, b"")]);
        assert!(refused.contains("expected a file"), "{kind:?}: {refused}");
    }
    // A name of ten megabytes, which a reader of long names would put together.
    let name = vec![b'a'; 10 << 20];
    let refused = refusal(&[
        entry(b"././@LongLink", EntryType::GNULongName, &name),
        entry(b"roles/app.yml", EntryType::Regular, b"x"),
    ]);
    assert!(refused.contains("extension for long names"), "{refused}");
}

#[test]
fn names_that_occur_twice_or_are_also_folders_are_refused() {
    let file = |name: &str| entry(name.as_bytes(), EntryType::Regular, b"x");
    let refused = refusal(&[file("roles/a.yml"), file("roles/a.yml")]);
    assert!(refused.contains("twice"), "{refused}");
    let refused = refusal(&[file("roles/a"), file("roles/a/b.yml")]);
    assert!(refused.contains("a file and a folder"), "{refused}");
    assert!(refusal(&[]).contains("empty"));
}

#[test]
fn bombs_end_at_their_limit() {
    let zeros = compress_to_vec(
        vec![0; MAX_UNPACKED + 4096].as_slice(),
        CompressionLevel::Fastest,
    );
    assert!(zeros.len() < 1 << 20, "{} bytes", zeros.len());
    assert!(unpack(&zeros).unwrap_err().contains("unpacks to more than"));
    let many: Vec<Vec<u8>> = (0..=MAX_FILES)
        .map(|n| entry(format!("roles/{n}.yml").as_bytes(), EntryType::Regular, b""))
        .collect();
    assert!(refusal(&many).contains("more than"));
    let large = entry(b"roles/a.yml", EntryType::Regular, &vec![b'x'; 2 << 20]);
    assert!(refusal(&[large]).contains("at most"));
    assert!(unpack(&vec![0; MAX_PACKED + 1]).is_err());
    // A header that announces a file of 8 GB, a window of 2 GB, and what is cut off or garbage.
    let mut header = Header::new_ustar();
    header.set_size((1 << 33) - 1);
    header.set_entry_type(EntryType::Regular);
    header.as_old_mut().name[..11].copy_from_slice(b"roles/a.yml");
    header.set_cksum();
    assert!(refusal(&[header.as_bytes().to_vec()]).contains("at most"));
    let window = [0x28, 0xb5, 0x2f, 0xfd, 0x00, 21 << 3, 0x01, 0x00, 0x00];
    assert!(
        unpack(&window)
            .unwrap_err()
            .contains("cannot be decompressed")
    );
    let packed = pack(&files(&[("roles/app.yml", "resources: []\n")])).unwrap();
    for end in 0..packed.len() {
        assert!(unpack(&packed[..end]).is_err(), "{end} bytes of it");
    }
    assert!(unpack(b"not a bundle").is_err());
}

#[test]
fn archive_of_the_usual_tools_is_read_as_well() {
    let mut tar = Builder::new(Vec::new());
    let mut header = Header::new_gnu();
    header.set_path("roles/app.yml").unwrap();
    header.set_size(3);
    header.set_cksum();
    tar.append(&header, &b"a:\n"[..]).unwrap();
    let tar = tar.into_inner().unwrap();
    let packed = compress_to_vec(tar.as_slice(), CompressionLevel::Fastest);
    assert_eq!(
        unpack(&packed).unwrap(),
        files(&[("roles/app.yml", "a:\n")])
    );
}

#[test]
fn folder_with_links_or_hidden_files_is_refused_with_their_paths() {
    let folder = tempfile::tempdir().unwrap();
    let at = |path: &str| folder.path().join(path);
    let root = Root::real().unwrap();
    std::fs::create_dir_all(at("roles/.git")).unwrap();
    std::fs::write(at("roles/app.yml"), "resources: []\n").unwrap();
    std::fs::write(at("README.md"), "not packed").unwrap();
    std::os::unix::fs::symlink("/etc/passwd", at("roles/link.yml")).unwrap();
    let problems = read_folder(&root, folder.path()).unwrap_err().to_string();
    for path in [
        "roles/.git: hidden files",
        "roles/link.yml: it is a symbolic link",
    ] {
        assert!(problems.contains(path), "{problems}");
    }
    std::fs::remove_dir(at("roles/.git")).unwrap();
    std::fs::remove_file(at("roles/link.yml")).unwrap();
    let read = read_folder(&root, folder.path()).unwrap();
    assert_eq!(read, files(&[("roles/app.yml", "resources: []\n")]));
    let nothing = read_folder(&root, Path::new("/nonexistent-folder"));
    assert!(nothing.unwrap_err().to_string().contains("nothing to pack"));
}

#[test]
fn tampered_or_missing_object_of_the_store_is_refused() {
    let store = MemoryStore::new();
    let packed = pack(&files(&[("roles/app.yml", "resources: []\n")])).unwrap();
    let digest = ContentDigest::of(&packed);
    let key = object_key(&digest);
    assert_eq!(digest_of_key(&key), Some(digest.clone()));
    let missing = fetch(&store, &digest).unwrap_err().to_string();
    assert!(missing.contains("there is no"), "{missing}");
    store.put(&key, &packed, WriteCondition::Always).unwrap();
    assert_eq!(fetch(&store, &digest).unwrap(), packed);
    let other = pack(&files(&[("roles/app.yml", "resources: [x]\n")])).unwrap();
    store.put(&key, &other, WriteCondition::Always).unwrap();
    let tampered = fetch(&store, &digest).unwrap_err().to_string();
    assert!(tampered.contains("another content"), "{tampered}");
}

#[test]
fn damaged_bundle_on_the_host_counts_as_missing_and_others_are_removed() {
    let sandbox = Sandbox::empty();
    let kept = KeptBundles {
        host: &sandbox.host,
    };
    let packed = |text: &str| pack(&files(&[("roles/app.yml", text)])).unwrap();
    let (first, second) = (packed("a: 1\n"), packed("a: 2\n"));
    let (one, two) = (ContentDigest::of(&first), ContentDigest::of(&second));
    kept.save(&one, &first).unwrap();
    kept.save(&two, &second).unwrap();
    assert_eq!(
        kept.open(&one).unwrap().unwrap().files,
        open(&one, &first).unwrap().files
    );
    kept.prune(&[&two]).unwrap();
    assert!(kept.read(&one).is_none());
    let path = format!("/var/lib/trueup/policy/{}.tar.zst", two.hex());
    sandbox.write(&path, &first);
    assert!(kept.read(&two).is_none());
    kept.save_if_absent(&two, &second).unwrap();
    assert_eq!(kept.read(&two), Some(second));
}
