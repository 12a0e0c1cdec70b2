//! Files that Git LFS keeps outside the repository: in it are only pointers to them.
//!
//! A pointer in the place of an image or a model is a release that looks whole and is not. So such
//! files are fetched with `git-lfs` where it is installed, and the commit is refused where it is not.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{Read, Seek};
use std::path::Path;

use git2::{Oid, Repository};
use sha2::{Digest, Sha256};

use super::{Item, Trouble};
use crate::ports::exec::{self, Command};
use crate::ports::root::{Attrs, Copier, Folder};
use crate::release::{Deployment, Layout};
use crate::resource::Failure;

/// No pointer is longer, in bytes: so says its specification.
const MAX_POINTER: usize = 1024;

/// So many files are named in a refusal.
const NAMED: usize = 3;

/// The files that a plan takes from LFS, all of them on the host.
#[derive(Debug, Default)]
pub(crate) struct Lfs {
    pointers: HashMap<Oid, Pointer>,
    store: Option<Folder>,
    copier: Copier,
}

/// What stands in the repository instead of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Pointer {
    /// The sha256 of the content, in hexadecimal.
    digest: String,
    /// In bytes.
    size: u64,
}

impl Pointer {
    fn parse(text: &[u8]) -> Option<Pointer> {
        let text = std::str::from_utf8(text).ok()?;
        let version = text.lines().next()?.strip_prefix("version ")?;
        if !version.contains("git-lfs.github.com/spec/")
            && !version.contains("hawser.github.com/spec/")
        {
            return None;
        }
        let said = |key: &str| text.lines().find_map(|line| line.strip_prefix(key));
        let digest = said("oid sha256:")?;
        let hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        if digest.len() != 64 || !digest.bytes().all(hex) {
            return None;
        }
        Some(Pointer {
            digest: digest.to_owned(),
            size: said("size ")?.parse().ok()?,
        })
    }

    /// Where git-lfs keeps the content, below its store.
    fn folder(&self) -> String {
        format!("{}/{}", &self.digest[..2], &self.digest[2..4])
    }

    fn open(&self, store: &Folder) -> Result<Option<File>, Failure> {
        let Some(folder) = store.inside(Path::new(&self.folder()))? else {
            return Ok(None);
        };
        let file = folder.open_file(OsStr::new(&self.digest))?;
        Ok(file.filter(|file| file.metadata().is_ok_and(|meta| meta.len() == self.size)))
    }
}

impl Lfs {
    /// Sees to it that all files that these items take from LFS are on the host.
    pub(crate) fn ready(
        d: &Deployment<'_>,
        mirror: &Repository,
        items: &[Item],
    ) -> Result<Lfs, Trouble> {
        let odb = mirror.odb()?;
        let mut lfs = Lfs::default();
        let mut paths = HashMap::new();
        for item in items.iter().filter(|item| item.how.lfs) {
            if odb.read_header(item.id)?.0 <= MAX_POINTER
                && let Some(pointer) = Pointer::parse(odb.read(item.id)?.data())
            {
                paths.entry(item.id).or_insert(&item.path);
                lfs.pointers.insert(item.id, pointer);
            }
        }
        if lfs.pointers.is_empty() {
            return Ok(lfs);
        }
        let place = d.layout.mirror().join("lfs/objects");
        lfs.store = d.host.root.open_folder(&place)?;
        let missing = lfs.missing()?;
        if !missing.is_empty() {
            let mut named: Vec<String> = missing
                .iter()
                .filter_map(|id| paths.get(id))
                .map(|path| path.display().to_string())
                .collect();
            named.sort();
            let more = named.len().saturating_sub(NAMED);
            named.truncate(NAMED);
            let mut named = named.join(", ");
            if more > 0 {
                named += &format!(" and {more} more");
            }
            fetch(d, &named)?;
            lfs.store = d.host.root.open_folder(&place)?;
            if !lfs.missing()?.is_empty() {
                return Err(Trouble::Other(
                    Failure::new(format!(
                        "git-lfs fetched, and still lacks what belongs into {named}"
                    ))
                    .hint("are these files pushed? `git lfs push --all origin` pushes them"),
                ));
            }
        }
        Ok(lfs)
    }

    fn missing(&self) -> Result<Vec<Oid>, Failure> {
        let mut missing = Vec::new();
        for (id, pointer) in &self.pointers {
            let found = self.store.as_ref().map(|store| pointer.open(store));
            if found.transpose()?.flatten().is_none() {
                missing.push(*id);
            }
        }
        Ok(missing)
    }

    /// The size of what comes in the place of a pointer, in bytes.
    pub(super) fn size(&self, item: &Item) -> Option<u64> {
        let pointer = self.pointers.get(&item.id)?;
        item.how.lfs.then_some(pointer.size)
    }

    /// Makes the file that an item stands for; `None` when it stands for itself.
    pub(super) fn put(
        &self,
        item: &Item,
        folder: &Folder,
        name: &OsStr,
        attrs: &Attrs,
    ) -> Result<Option<File>, Trouble> {
        let (Some(pointer), Some(store)) = (self.pointers.get(&item.id), &self.store) else {
            return Ok(None);
        };
        if !item.how.lfs {
            return Ok(None);
        }
        let unreadable = |why: String| {
            Trouble::Other(Failure::new(format!(
                "cannot lay out {} from Git LFS: {why}",
                item.path.display()
            )))
        };
        let mut source = pointer
            .open(store)?
            .ok_or_else(|| unreadable("it has gone from the mirror".into()))?;
        let found = digest(&mut source).map_err(|error| unreadable(error.to_string()))?;
        if found != pointer.digest {
            // What is broken is fetched anew by the next pass.
            if let Some(folder) = store.inside(Path::new(&pointer.folder()))? {
                folder.remove(OsStr::new(&pointer.digest))?;
            }
            return Err(unreadable(format!(
                "the mirror's copy is broken (its sha256 is {found}) and was removed"
            )));
        }
        Ok(Some(self.copier.copy(&source, folder, name, attrs)?))
    }
}

/// The sha256 of a file, which is at its beginning again afterwards.
fn digest(file: &mut File) -> std::io::Result<String> {
    use std::fmt::Write;
    let mut hash = Sha256::new();
    let mut piece = vec![0; 256 << 10];
    loop {
        match file.read(&mut piece)? {
            0 => break,
            n => hash.update(&piece[..n]),
        }
    }
    file.rewind()?;
    let mut text = String::with_capacity(64);
    for byte in hash.finalize() {
        // A string takes everything.
        let _ = write!(text, "{byte:02x}");
    }
    Ok(text)
}

/// Has git-lfs bring all files of the commit into the mirror.
fn fetch(d: &Deployment<'_>, named: &str) -> Result<(), Failure> {
    let (root, spec) = (&d.host.root, d.spec);
    let installed = |program: &str| -> Result<bool, Failure> {
        for folder in exec::PATH.split(':') {
            // Children run on the machine, also for a sandbox.
            let machine = crate::ports::root::Root::real()?;
            if machine.meta(&Path::new(folder).join(program))?.is_some() {
                return Ok(true);
            }
        }
        Ok(false)
    };
    if !installed("git-lfs")? || !installed("git")? {
        return Err(Failure::new(format!(
            "{} keeps files in Git LFS ({named}), and git-lfs is not installed on this host: their pointers are not deployed in their place",
            spec.app
        ))
        .hint("install it (`apt install git-lfs`, or a `package` resource before this release), or take the files out of LFS (`git lfs migrate export`)"));
    }
    let mirror = root.outside(&d.layout.mirror());
    let url = match spec.repo.url() {
        path if path.starts_with('/') => format!("file://{path}"),
        url => url.to_owned(),
    };
    let argv = [
        "git".into(),
        format!("--git-dir={}", mirror.display()),
        "-c".into(),
        format!("remote.origin.url={url}"),
        // The repository of a `file://` address belongs to whom it belongs, as for every fetch.
        "-c".into(),
        "safe.directory=*".into(),
        "lfs".into(),
        "fetch".into(),
        "origin".into(),
        d.sha.to_string(),
    ];
    let mirrors = root.outside(&Layout::mirrors());
    let mut command = Command::new(argv)
        .env("HOME", &mirrors)
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_TERMINAL_PROMPT", "0")
        .timeout(spec.fetch_timeout());
    if spec.repo.ssh().is_some() {
        let mut known = mirrors.join(".ssh/known_hosts").display().to_string();
        if let Some(more) = &spec.known_hosts {
            known += &format!(" {}", root.outside(more).display());
        }
        let mut ssh = format!(
            "ssh -F none -o BatchMode=yes -o IdentitiesOnly=yes -o StrictHostKeyChecking=yes -o 'UserKnownHostsFile={known}'"
        );
        if let Some(key) = &spec.deploy_key {
            ssh += &format!(" -i '{}'", root.outside(key).display());
        }
        command = command.env("GIT_SSH_COMMAND", ssh);
    }
    let fetched = d
        .host
        .exec
        .run(command)
        .map_err(|error| Failure::new(format!("cannot fetch {named} with git-lfs: {error}")))?;
    if fetched.ok() {
        return Ok(());
    }
    let said = spec.repo.hide_in(&fetched.output.tail(5));
    Err(Failure::new(format!(
        "git-lfs cannot fetch {named}: it {}: {}",
        fetched.ended,
        said.trim()
    ))
    .hint("is the LFS server of this repository reachable from here, and are the files pushed?"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_real_pointers_are_taken_for_pointers() {
        let oid = "4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393";
        let text =
            format!("version https://git-lfs.github.com/spec/v1\noid sha256:{oid}\nsize 12345\n");
        let pointer = Pointer::parse(text.as_bytes()).unwrap();
        assert_eq!((pointer.digest.as_str(), pointer.size), (oid, 12345));
        let bad = [
            String::new(),
            "a file about\nversion https://git-lfs.github.com/spec/v1".into(),
            text.replace("size", "length"),
            text.replace("12345", "many"),
            text.replace("4d7a", "../a"),
            text.replace("git-lfs", "other"),
        ];
        for text in bad {
            assert_eq!(Pointer::parse(text.as_bytes()), None, "{text}");
        }
    }
}
