//! Fetched git objects are synced to disk before a release or a record refers to them.

use std::process::Command;

use crate::app::App;
use crate::crash::have_strace;
use crate::sandbox::{binary, isolated};

const ROLE: &str = r#"
resources:
  - directory: {path: /srv/shop, parents: true}
  - release: {id: code, app: shop, repo: "@REPO@", deploy_to: /srv/shop}
"#;

#[test]
fn mirror_packs_are_synced_before_their_release_is_created() {
    if !have_strace() {
        return;
    }
    let app = App::new(ROLE);
    // The first fetch transfers everything, the next only new objects.
    for page in ["one", "two"] {
        app.publish_commit("exec sleep 1000", "200", page);
        let calls = converge_traced(&app);
        let of_pack = |line: &&String| line.contains("/objects/pack/pack-");
        let synced = |ending: &str| {
            let pack_calls = calls.iter().filter(of_pack);
            pack_calls
                .filter(|line| line.contains("sync(") && line.contains(ending))
                .count()
        };
        assert_eq!((synced(".pack>"), synced(".idx>")), (1, 1), "{calls:#?}");
        let last = calls.iter().rposition(|line| of_pack(&line)).unwrap();
        let made = calls.iter().position(|line| line.contains(".partial"));
        assert!(last < made.unwrap(), "{calls:#?}");
    }
}

/// The calls of a pass that sync a file or make a name, in order, with the paths behind the handles.
fn converge_traced(app: &App) -> Vec<String> {
    let log = app.sandbox.sibling("trace");
    let mut command = Command::new("strace");
    isolated(&mut command);
    command
        .args(["-y", "-qq", "-o"])
        .arg(&log)
        .args([
            "-e",
            "trace=fsync,fdatasync,?rename,renameat,?renameat2,?mkdir,mkdirat",
        ])
        .arg(binary())
        .args(["converge", "--root"])
        .arg(&app.sandbox.root);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let log = std::fs::read_to_string(log).unwrap();
    log.lines().map(str::to_owned).collect()
}
