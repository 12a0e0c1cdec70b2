use serde::Deserialize;

use super::*;
use crate::ports::testing::Sandbox;

const DOCUMENT: Document = Document::new(2, 64);
const PATH: &str = "/var/lib/trueup/note.json";

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Example {
    version: u32,
    text: String,
}

fn example(text: &str) -> Example {
    Example {
        version: 2,
        text: text.into(),
    }
}

fn load(sandbox: &Sandbox, body: &str) -> Result<Option<Example>, StateError> {
    sandbox.write(PATH, body);
    DOCUMENT.load(&sandbox.host.root, PATH.as_ref())
}

#[test]
fn saved_document_is_loaded() {
    let sandbox = Sandbox::empty();
    let root = &sandbox.host.root;
    let nothing: Option<Example> = DOCUMENT.load(root, PATH.as_ref()).unwrap();
    assert_eq!(nothing, None);
    DOCUMENT.save(root, PATH.as_ref(), &example("a")).unwrap();
    assert_eq!(
        sandbox.read(PATH),
        "{\n  \"version\": 2,\n  \"text\": \"a\"\n}"
    );
    let loaded: Option<Example> = DOCUMENT.load(root, PATH.as_ref()).unwrap();
    assert_eq!(loaded, Some(example("a")));
}

#[test]
fn mode_and_style_are_those_of_the_document() {
    let sandbox = Sandbox::empty();
    for (document, mode, text) in [
        (
            DOCUMENT.private().compact(),
            0o600,
            "{\"version\":2,\"text\":\"a\"}",
        ),
        (
            DOCUMENT.overwritten(26),
            0o644,
            "{\"version\":2,\"text\":\"a\"}  ",
        ),
    ] {
        sandbox.remove(PATH);
        let root = &sandbox.host.root;
        document.save(root, PATH.as_ref(), &example("a")).unwrap();
        assert_eq!(
            (sandbox.mode(PATH), sandbox.read(PATH)),
            (mode, text.into())
        );
        assert_eq!(document.load_cache(root, PATH.as_ref()), Some(example("a")));
    }
}

#[test]
fn damaged_file_names_its_path_and_the_damage() {
    let sandbox = Sandbox::empty();
    for (body, why) in [
        ("", "EOF while parsing a value"),
        ("{\"version\": 2, torn", "key must be a string"),
        ("{\"text\": \"a\"}", "missing field `version`"),
        ("{\"version\": \"2\"}", "invalid type: string \"2\""),
        ("[1, 2]", "invalid type"),
    ] {
        let error = load(&sandbox, body).unwrap_err();
        let expected = format!("{PATH} is corrupt: ");
        assert!(error.to_string().starts_with(&expected), "{error}");
        assert!(error.why().contains(why), "{body}: {error}");
        assert!(matches!(error, StateError::Damaged { .. }), "{body}");
    }
}

#[test]
fn another_version_is_told_from_damage() {
    let sandbox = Sandbox::empty();
    for body in [
        "{\"version\": 3}",
        "{\"new\": [{}], \"version\": 3, \"text\": \"a\"}",
    ] {
        assert_eq!(
            load(&sandbox, body).unwrap_err().to_string(),
            format!("{PATH} cannot be used: it is of version 3, and this trueup knows 2")
        );
    }
    assert!(matches!(
        load(&sandbox, "{\"version\": 1, \"text\": \"a\"}"),
        Err(StateError::OtherVersion { found: 1, .. })
    ));
    let older =
        DOCUMENT
            .reads_since(1)
            .load_with(&sandbox.host.root, PATH.as_ref(), |version, _| Ok(version));
    assert_eq!(older.unwrap(), Some(1));
    let field = DOCUMENT.version_field("form");
    sandbox.write(PATH, "{\"form\": 3}");
    assert!(matches!(
        field.load::<Example>(&sandbox.host.root, PATH.as_ref()),
        Err(StateError::OtherVersion { found: 3, .. })
    ));
}

#[test]
fn only_an_unversioned_document_needs_no_version() {
    let sandbox = Sandbox::empty();
    sandbox.write(PATH, "{}");
    let load =
        |document: Document| document.load_with(&sandbox.host.root, PATH.as_ref(), |_, _| Ok(()));
    let error = load(DOCUMENT).unwrap_err();
    assert_eq!(error.why(), "it has no `version`");
    assert_eq!(load(Document::unversioned(64)).unwrap(), Some(()));
}

#[test]
fn too_large_file_is_not_parsed() {
    let sandbox = Sandbox::empty();
    let large = format!("{{\"version\": 2, \"text\": \"{}\"}}", "a".repeat(64));
    assert!(matches!(
        load(&sandbox, &large),
        Err(StateError::Root(RootError::TooLarge { limit: 64, .. }))
    ));
    assert_eq!(
        DOCUMENT.load_cache::<Example>(&sandbox.host.root, PATH.as_ref()),
        None
    );
}
