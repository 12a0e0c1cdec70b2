//! The trees that are kept ready for the next release of an app, in `releases/.trueup`.
//!
//! | name | what it is |
//! | --- | --- |
//! | `spare-…` | becomes the next release, by one rename |
//! | `pristine-…` | what the next spare is copied from; the next release where there is no spare |
//! | `notes-SHA.json` | what is worth knowing about the commit of a tree |
//! | anything else | what a killed pass was making; removed when the next is made |
//!
//! The name of a tree says of which commit it is, whose it is, and by which rules it was laid out. It
//! gets that name when all of it is on disk, and loses it before anything in it changes.

use std::path::{Path, PathBuf};

use git2::{Oid, Repository};
use serde::{Deserialize, Serialize};

use super::plan::Notes;
use super::{FORM, Filters, Key, Lfs, Limits, Plan, Source, Trouble, Writer, copy, filters, space};
use crate::desired::Sha;
use crate::ports::pace::Pace;
use crate::ports::root::{Attrs, FileKind, Folder, RootError};
use crate::release::Deployment;
use crate::resource::Failure;

/// A tree while it is being made or changed.
const UNFINISHED: &str = "unfinished";

/// No notes are longer, in bytes.
const MAX_NOTES: usize = 4 << 20;

/// What a tree is kept for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Role {
    Spare,
    Pristine,
}

/// A tree that is ready.
#[derive(Debug, Clone)]
pub(crate) struct Kept {
    role: Role,
    pub sha: Sha,
    name: String,
}

/// The trees of one app.
pub(crate) struct Stock<'a> {
    d: &'a Deployment<'a>,
    home: PathBuf,
    /// What the settings of the release change about its files, in a few letters.
    rules: String,
}

#[derive(Serialize, Deserialize)]
struct Written {
    form: u32,
    /// Paths, with the ids of their blobs.
    attributes: Vec<(String, String)>,
    subst: Vec<String>,
}

impl<'a> Stock<'a> {
    pub(crate) fn of(d: &'a Deployment<'a>) -> Stock<'a> {
        let mut rules = String::new();
        if d.spec.filters == Some(Filters::Ignore) {
            rules.push('i');
        }
        if let Ok(Some(key)) = Key::of(d.spec, d.host) {
            rules = format!("{rules}k{}", key.digest());
        }
        Stock {
            d,
            home: d.layout.stock(),
            rules,
        }
    }

    /// Whose a release is, as numbers.
    fn owner(&self) -> (u32, u32) {
        let (uid, gid) = self.d.host.root.maker();
        (
            self.d.owner.uid.unwrap_or(uid),
            self.d.owner.gid.unwrap_or(gid),
        )
    }

    fn name(&self, role: Role, sha: &Sha) -> String {
        let role = match role {
            Role::Spare => "spare",
            Role::Pristine => "pristine",
        };
        let (uid, gid) = self.owner();
        format!("{role}-{FORM}{}-{uid}-{gid}-{sha}", self.rules)
    }

    /// Whether everything that is to be kept is there: the spare comes last. Costs two system calls.
    pub(crate) fn is_full(&self) -> Result<bool, Failure> {
        let last = match self.d.spec.spare {
            true => Role::Spare,
            false => Role::Pristine,
        };
        let path = self.home.join(self.name(last, &self.d.sha));
        let meta = self.d.host.root.meta(&path)?;
        Ok(meta.is_some_and(|meta| meta.kind == FileKind::Directory))
    }

    /// Whether nobody but trueup has ever been able to change what is in there.
    fn is_ours(&self) -> Result<bool, Failure> {
        let meta = self.d.host.root.meta(&self.home)?;
        let (uid, _) = self.d.host.root.maker();
        Ok(meta.is_some_and(|meta| {
            meta.kind == FileKind::Directory && meta.uid == uid && meta.mode & 0o077 == 0
        }))
    }

    /// What is ready for this owner, the spare first; and the names of everything else.
    fn look(&self) -> Result<(Vec<Kept>, Vec<PathBuf>), Failure> {
        let (mut kept, mut other) = (Vec::new(), Vec::new());
        for name in self.d.host.root.list(&self.home)?.unwrap_or_default() {
            let sha = name.to_str().and_then(|name| name.rsplit('-').next());
            let sha = sha.and_then(|sha| Sha::parse(sha).ok());
            let role = sha.as_ref().and_then(|sha| {
                let mut roles = [Role::Spare, Role::Pristine].into_iter();
                roles.find(|role| name.to_str() == Some(&self.name(*role, sha)))
            });
            match (role, sha) {
                (Some(role), Some(sha)) => kept.push(Kept {
                    role,
                    name: self.name(role, &sha),
                    sha,
                }),
                _ => other.push(self.home.join(name)),
            }
        }
        kept.sort_by_key(|kept| kept.role);
        Ok((kept, other))
    }

    /// The trees that a new release can be made from, the best first.
    pub(crate) fn candidates(&self) -> Result<Vec<Kept>, Failure> {
        if !self.is_ours()? {
            return Ok(Vec::new());
        }
        Ok(self.look()?.0)
    }

    /// Takes a tree out, to `to`. Durably so, before anything in it is changed.
    pub(crate) fn take(&self, kept: &Kept, to: &Path) -> Result<(), Failure> {
        Ok(self.d.host.root.rename(&self.home.join(&kept.name), to)?)
    }

    /// Removes the trees that are kept, but for this one, and tells whether there were any.
    pub(crate) fn make_room(&self, but: Option<&Kept>) -> Result<bool, Failure> {
        let mut made = false;
        for kept in self.candidates()? {
            if but.is_none_or(|but| but.name != kept.name) {
                self.discard(&kept)?;
                made = true;
            }
        }
        Ok(made)
    }

    /// Removes all of it.
    pub(crate) fn clear(&self) -> Result<(), Failure> {
        // A tree loses its name before anything in it changes.
        self.make_room(None)?;
        Ok(self.d.host.root.remove_tree(&self.home)?)
    }

    fn discard(&self, kept: &Kept) -> Result<(), Failure> {
        let root = &self.d.host.root;
        let unfinished = self.home.join(UNFINISHED);
        self.vacate()?;
        root.rename(&self.home.join(&kept.name), &unfinished)?;
        self.vacate()
    }

    /// Nothing is being made from then on. What cannot be removed is put aside, and stops nothing.
    fn vacate(&self) -> Result<(), Failure> {
        let (root, unfinished) = (&self.d.host.root, self.home.join(UNFINISHED));
        match root.remove_tree(&unfinished) {
            Ok(()) => return Ok(()),
            Err(error) => self.stays(error),
        }
        let now = self.d.host.clock.now().as_nanosecond();
        Ok(root.rename(&unfinished, &self.home.join(format!("left-{now}")))?)
    }

    fn stays(&self, error: RootError) {
        let failure = Failure::from(error);
        tracing::warn!("{}: a tree is not removed: {failure}", self.d.spec.app);
    }

    fn discard_spares(&self, kept: &[Kept]) -> Result<(), Failure> {
        let mut spares = kept.iter().filter(|kept| kept.role == Role::Spare);
        spares.try_for_each(|kept| self.discard(kept))
    }

    /// Makes what is missing: a pristine tree of the wanted commit, and a spare of it unless it is
    /// not wanted.
    pub(crate) fn fill(&self, mirror: &Repository) -> Result<(), Trouble> {
        let folder = self.home()?;
        let (kept, other) = self.look()?;
        let is_note = |path: &Path| path.extension().is_some_and(|end| end == "json");
        for path in other.iter().filter(|path| !is_note(path)) {
            if let Err(error) = self.d.host.root.remove_tree(path) {
                self.stays(error);
            }
        }
        let filled = self
            .bring(Role::Pristine, &kept, mirror, &folder)
            .and_then(|()| match self.d.spec.spare {
                true => self.bring(Role::Spare, &kept, mirror, &folder),
                false => Ok(self.discard_spares(&kept)?),
            });
        if filled.is_err() {
            self.vacate()?;
            return filled;
        }
        // The notes of trees that were moved on have served.
        let ours = format!("notes-{}.json", &self.d.sha);
        for path in other
            .iter()
            .filter(|path| is_note(path) && !path.ends_with(&ours))
        {
            self.d.host.root.remove_tree(path)?;
        }
        Ok(())
    }

    /// The folder of it all, which only root can enter.
    fn home(&self) -> Result<Folder, Failure> {
        let root = &self.d.host.root;
        if !self.is_ours()? {
            let (uid, gid) = root.maker();
            let attrs = Attrs {
                mode: Some(0o700),
                uid: root.privileged().then_some(uid),
                gid: root.privileged().then_some(gid),
            };
            if root.meta(&self.home)?.is_some() {
                // Taken back first: nobody else puts anything there any more.
                root.set_attrs(&self.home, &attrs)?;
            }
            root.remove_tree(&self.home)?;
            root.make_dir(&self.home, &attrs)?;
        }
        root.open_folder(&self.home)?.ok_or_else(|| {
            Failure::new(format!(
                "{} has gone while it was used",
                self.home.display()
            ))
        })
    }

    /// Sees to it that the tree for this role is at the wanted commit: by moving the one that is
    /// there, or by making it anew.
    fn bring(
        &self,
        role: Role,
        kept: &[Kept],
        mirror: &Repository,
        home: &Folder,
    ) -> Result<(), Trouble> {
        let root = &self.d.host.root;
        let wanted = self.name(role, &self.d.sha);
        let of_role = |kept: &&Kept| kept.role == role;
        let there = kept.iter().any(|kept| kept.name == wanted);
        let mut moved = there;
        for old in kept
            .iter()
            .filter(of_role)
            .filter(|kept| kept.name != wanted)
        {
            self.vacate()?;
            root.rename(&self.home.join(&old.name), &self.home.join(UNFINISHED))?;
            if !moved {
                moved = match self.move_on(old, mirror, home) {
                    Ok(()) => true,
                    Err(trouble @ Trouble::Refused(_)) => return Err(trouble),
                    Err(trouble) if self.d.host.stop.is_set() => return Err(trouble),
                    // Its own commit may have gone from the mirror, say.
                    Err(trouble) => {
                        tracing::info!("{}: a tree is made anew: {trouble}", self.d.spec.app);
                        false
                    }
                };
                if moved {
                    self.finish(home, &wanted)?;
                }
            }
        }
        if !moved {
            self.vacate()?;
            self.make(role, mirror, home)?;
            self.finish(home, &wanted)?;
        }
        Ok(())
    }

    /// All of it on disk, then its name.
    fn finish(&self, home: &Folder, name: &str) -> Result<(), Failure> {
        Pace::Idle.one(|| home.sync_filesystem())?;
        let root = &self.d.host.root;
        Ok(root.rename(&self.home.join(UNFINISHED), &self.home.join(name))?)
    }

    fn unfinished(&self, home: &Folder) -> Result<Folder, Failure> {
        home.inside(Path::new(UNFINISHED))?.ok_or_else(|| {
            Failure::new(format!(
                "{} has gone while it was used",
                self.home.display()
            ))
        })
    }

    fn move_on(&self, old: &Kept, mirror: &Repository, home: &Folder) -> Result<(), Trouble> {
        let most = home.room()?.files;
        let plan = Plan::between(
            mirror,
            oid(&old.sha)?,
            self.notes(&old.sha),
            oid(&self.d.sha)?,
            most,
            &Limits::new(&self.d.host.stop),
        )?;
        self.carry_out(&plan, mirror, home)
    }

    fn make(&self, role: Role, mirror: &Repository, home: &Folder) -> Result<(), Trouble> {
        let closed = Attrs::mode(0o700);
        if role == Role::Spare {
            let pristine = home.inside(Path::new(&self.name(Role::Pristine, &self.d.sha)))?;
            if let Some(pristine) = pristine {
                if home.snapshot(&pristine, UNFINISHED.as_ref()) {
                    return Ok(());
                }
                home.make_folder(UNFINISHED.as_ref(), &closed)?;
                let owner = (self.d.owner.uid, self.d.owner.gid);
                let to = self.unfinished(home)?;
                return copy(&pristine, &to, owner, Pace::Idle, &self.d.host.stop);
            }
        }
        let plan = Plan::whole(
            mirror,
            oid(&self.d.sha)?,
            home.room()?.files,
            &Limits::new(&self.d.host.stop),
        )?;
        // What spares are copied from can be copied whole where the filesystem knows how.
        home.make_volume(UNFINISHED.as_ref(), &closed)?;
        self.carry_out(&plan, mirror, home)
    }

    fn carry_out(&self, plan: &Plan, mirror: &Repository, home: &Folder) -> Result<(), Trouble> {
        let tree = self.unfinished(home)?;
        let odb = mirror.odb()?;
        let lfs = Lfs::ready(self.d, mirror, &plan.put)?;
        let key = Key::of(self.d.spec, self.d.host)?;
        let source = Source {
            odb: &odb,
            lfs: &lfs,
            max_file: self.d.spec.max_file(),
            key: key.as_ref(),
        };
        let large = space::check_plan(plan, source, home, &self.d.host.stop)?;
        filters::check(self.d, source, &plan.put)?;
        let writer = Writer {
            source,
            large: &large,
            uid: self.d.owner.uid,
            gid: self.d.owner.gid,
            pace: Pace::Idle,
            stop: &self.d.host.stop,
        };
        writer.apply(plan, &tree)?;
        self.note(&plan.notes)?;
        Ok(())
    }

    /// What is known about a commit; nothing where that was lost.
    pub(crate) fn notes(&self, sha: &Sha) -> Option<Notes> {
        let path = self.home.join(format!("notes-{sha}.json"));
        let body = self.d.host.root.read(&path, MAX_NOTES).ok()??;
        let written: Written = serde_json::from_slice(&body).ok()?;
        if written.form != FORM {
            return None;
        }
        let attributes = written.attributes.into_iter();
        Some(Notes {
            attributes: attributes
                .map(|(path, id)| Some((PathBuf::from(path), Oid::from_str(&id).ok()?)))
                .collect::<Option<_>>()?,
            subst: written.subst.into_iter().map(PathBuf::from).collect(),
        })
    }

    /// Keeps what is known about the wanted commit. Names that JSON cannot hold are left to be found
    /// again.
    fn note(&self, notes: &Notes) -> Result<(), Failure> {
        let text = |path: &PathBuf| path.to_str().map(str::to_owned);
        let attributes = notes.attributes.iter();
        let attributes: Option<Vec<_>> = attributes
            .map(|(path, id)| Some((text(path)?, id.to_string())))
            .collect();
        let subst: Option<Vec<_>> = notes.subst.iter().map(text).collect();
        let (Some(attributes), Some(subst)) = (attributes, subst) else {
            return Ok(());
        };
        let written = Written {
            form: FORM,
            attributes,
            subst,
        };
        let body = serde_json::to_vec(&written).expect("plain data is always JSON");
        let path = self.home.join(format!("notes-{}.json", &self.d.sha));
        Ok(self
            .d
            .host
            .root
            .replace(&path, &body, &Attrs::mode(0o600))?)
    }
}

pub(crate) fn oid(sha: &Sha) -> Result<Oid, Trouble> {
    Ok(Oid::from_str(sha.as_str())?)
}
