//! Creates a small real git repository with three commits, the last of which is broken.

use std::path::Path;

use git2::{Error, IndexEntry, IndexTime, Oid, Repository, Signature, Time};

/// The shas of the commits.
pub(super) struct Shas {
    pub first: String,
    pub second: String,
    /// Its page is not the one that the health check expects.
    pub broken: String,
}

const BUILD: &str = "#!/bin/sh\n# Compiles the page: what a real app does with its assets.\nset -eu\nmkdir -p public\n{ printf '<h1>'; cat page.txt; printf '</h1>\\n'; } > public/index.html\n";

/// Creates the repository at `path`.
pub(super) fn create(path: &Path) -> Result<Shas, Error> {
    let repository = Repository::init_bare(path)?;
    let first = commit(&repository, None, "first", "This is the first commit.\n")?;
    let second = commit(
        &repository,
        Some(first),
        "second",
        "This is the second commit.\n",
    )?;
    let broken = commit(
        &repository,
        Some(second),
        "broken",
        "Something is missing.\n",
    )?;
    Ok(Shas {
        first: first.to_string(),
        second: second.to_string(),
        broken: broken.to_string(),
    })
}

fn commit(
    repository: &Repository,
    parent: Option<Oid>,
    message: &str,
    page: &str,
) -> Result<Oid, Error> {
    let mut index = repository.index()?;
    index.clear()?;
    for (path, mode, body) in [
        ("build.sh", 0o100_755, BUILD),
        ("page.txt", 0o100_644, page),
    ] {
        index.add_frombuffer(&entry(path, mode), body.as_bytes())?;
    }
    let tree = repository.find_tree(index.write_tree()?)?;
    let when = Time::new(1_780_000_000 + i64::from(parent.is_some()) * 60, 0);
    let author = Signature::new("trueup demo", "demo@localhost", &when)?;
    let parent = parent.map(|id| repository.find_commit(id)).transpose()?;
    let parents: Vec<_> = parent.iter().collect();
    repository.commit(
        Some("refs/heads/main"),
        &author,
        &author,
        message,
        &tree,
        &parents,
    )
}

fn entry(path: &str, mode: u32) -> IndexEntry {
    IndexEntry {
        ctime: IndexTime::new(0, 0),
        mtime: IndexTime::new(0, 0),
        dev: 0,
        ino: 0,
        mode,
        uid: 0,
        gid: 0,
        file_size: 0,
        id: Oid::ZERO_SHA1,
        flags: 0,
        flags_extended: 0,
        path: path.as_bytes().to_vec(),
    }
}
