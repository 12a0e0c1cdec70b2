//! Bounded walks of the commit history, which anybody with push access may have written.
//!
//! A server accepts commits that no honest git creates: without a committer, or with tens of thousands of
//! parents. libgit2 aborts a whole walk at the first, and works for minutes on the second. So the walks here
//! are bounded, and an unreadable commit counts only against the refs that lead to it.

#[cfg(test)]
mod tests;

use std::collections::hash_map::Entry;
use std::collections::{BinaryHeap, HashMap, HashSet, VecDeque};

use git2::{Error, ObjectType, Odb, Oid, Repository};

/// Largest accepted commit or tag, in bytes, which leaves room for a long message.
pub(crate) const MAX_COMMIT_SIZE: usize = 1 << 20;

/// Most parents of an accepted commit.
const MAX_PARENTS: usize = 1000;

/// Longest accepted chain of tags of tags.
const MAX_TAG_DEPTH: usize = 16;

/// Most commits that a walk visits, and most parents of all of them.
pub(crate) const MAX_WALKED_COMMITS: usize = 4 << 20;

/// How many commits behind its tip a ref must be sound: libgit2 reads 256 commits, and the parents of those,
/// to tell a server what the mirror has. Older histories have harmless flaws.
const CHECKED_DEPTH: usize = 257;

/// Most skipped objects that are logged; otherwise their author would decide the number of lines.
const MAX_SKIPPED_SHOWN: usize = 10;

/// Commits read between two checks of the time limit and of a stop request.
const CHECK_STOP_EVERY: usize = 1000;

/// Why a commit or tag cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum GitObjectError {
    /// It was created malformed.
    #[error("{0}")]
    Malformed(String),
    /// It is missing or damaged.
    #[error(transparent)]
    Git(#[from] Error),
}

/// Why a walk ended early.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WalkError {
    #[error(transparent)]
    Git(#[from] Error),
    /// `may_continue` returned false.
    #[error("stopped on request")]
    Stopped,
    #[error("too much history")]
    TooLong,
}

pub(crate) struct Commit {
    pub parents: Vec<Oid>,
    pub time: i64,
}

/// The type of an object. Refuses a commit or tag larger than [`MAX_COMMIT_SIZE`].
fn read_header(odb: &Odb<'_>, id: Oid) -> Result<ObjectType, GitObjectError> {
    let (size, kind) = odb.read_header(id)?;
    let is_read = matches!(kind, ObjectType::Commit | ObjectType::Tag);
    if is_read && size > MAX_COMMIT_SIZE {
        return Err(GitObjectError::Malformed(format!(
            "{id} is a {kind} of {size} bytes, and none has more than {MAX_COMMIT_SIZE}"
        )));
    }
    Ok(kind)
}

/// Follows tags to the commit that a ref names; `None` if it names another type of object.
pub(crate) fn peel(
    mirror: &Repository,
    odb: &Odb<'_>,
    id: Oid,
) -> Result<Option<Oid>, GitObjectError> {
    let mut at = id;
    for _ in 0..MAX_TAG_DEPTH {
        match read_header(odb, at)? {
            ObjectType::Commit => return Ok(Some(at)),
            ObjectType::Tag => {
                let tag = mirror.find_tag(at);
                at = tag.map_err(|error| malformed(at, &error))?.target_id();
            }
            _ => return Ok(None),
        }
    }
    Err(GitObjectError::Malformed(format!(
        "{id} is a tag of tags, more than {MAX_TAG_DEPTH} deep"
    )))
}

fn malformed(id: Oid, error: &Error) -> GitObjectError {
    GitObjectError::Malformed(format!("{id} does not parse: {}", error.message()))
}

/// Reads a commit at least as strictly as libgit2 does in a walk.
pub(crate) fn read_commit(odb: &Odb<'_>, id: Oid) -> Result<Commit, GitObjectError> {
    let bad = |why: &str| GitObjectError::Malformed(format!("the commit {id} {why}"));
    if read_header(odb, id)? != ObjectType::Commit {
        return Err(bad("is none"));
    }
    let object = odb.read(id)?;
    let mut lines = object.data().split(|byte| *byte == b'\n').peekable();
    let oid = |line: &[u8], name: &str| {
        let hex = line.strip_prefix(name.as_bytes())?;
        let hex = std::str::from_utf8(hex)
            .ok()
            .filter(|hex| hex.len() == 40)?;
        Oid::from_str(hex).ok()
    };
    lines
        .next()
        .and_then(|line| oid(line, "tree "))
        .ok_or_else(|| bad("names no tree"))?;
    let mut parents = Vec::new();
    while let Some(line) = lines.next_if(|line| line.starts_with(b"parent ")) {
        parents.push(oid(line, "parent ").ok_or_else(|| bad("has a parent that is no id"))?);
        if parents.len() > MAX_PARENTS {
            return Err(bad(&format!("has more than {MAX_PARENTS} parents")));
        }
    }
    // Some tools wrote commits with two authors.
    if lines.next_if(|line| line.starts_with(b"author ")).is_none() {
        return Err(bad("has no author"));
    }
    while lines.next_if(|line| line.starts_with(b"author ")).is_some() {}
    let committer = lines
        .next()
        .and_then(|line| line.strip_prefix(b"committer "));
    let committer = committer.ok_or_else(|| bad("has no committer"))?;
    let time = parse_time(committer)
        .ok_or_else(|| bad("has a committer that is not `NAME <MAIL> TIME`"))?;
    Ok(Commit { parents, time })
}

/// Parses the time of a line `NAME <MAIL> TIME ZONE`; a missing time is 0.
fn parse_time(signature: &[u8]) -> Option<i64> {
    let last = |wanted: u8| signature.iter().rposition(|byte| *byte == wanted);
    let (begin, end) = (last(b'<')?, last(b'>')?);
    if end <= begin {
        return None;
    }
    let rest = std::str::from_utf8(signature.get(end + 1..)?)
        .ok()?
        .trim_start();
    match rest.split_ascii_whitespace().next() {
        None => Some(0),
        Some(seconds) => seconds.parse().ok(),
    }
}

/// Adds the reason of a skip, up to [`MAX_SKIPPED_SHOWN`].
pub(crate) fn push_skipped(skipped: &mut Vec<String>, why: String) {
    match skipped.len() {
        0..MAX_SKIPPED_SHOWN => skipped.push(why),
        MAX_SKIPPED_SHOWN => skipped.push("more like these".into()),
        _ => {}
    }
}

/// Whether a commit is one of these tips, or an ancestor of one. What is behind an unreadable commit does not
/// count; `skipped` gets the reason.
pub(crate) fn is_reachable(
    odb: &Odb<'_>,
    tips: &[Oid],
    wanted: Oid,
    may_continue: &dyn Fn() -> bool,
    skipped: &mut Vec<String>,
) -> Result<bool, WalkError> {
    let mut walk = Walk::default();
    if tips.contains(&wanted) {
        return Ok(true);
    }
    for tip in tips {
        walk.push(*tip, i64::MAX, false)?;
    }
    // Youngest first, because the wanted commit is mostly a recent one.
    while let Some((id, _)) = walk.pop(may_continue)? {
        match read_commit(odb, id) {
            Ok(commit) if commit.parents.contains(&wanted) => return Ok(true),
            Ok(commit) => {
                for parent in commit.parents {
                    walk.push(parent, commit.time, false)?;
                }
            }
            Err(GitObjectError::Malformed(why)) => push_skipped(skipped, why),
            Err(GitObjectError::Git(error)) => return Err(WalkError::Git(error)),
        }
    }
    Ok(false)
}

/// For each tip, what is wrong with it or close behind it. `known` are commits that are sound, together with
/// all that is behind them. With `is_new`, a missing object counts as malformed: the server never sent it.
pub(crate) fn find_flaws(
    repository: &Repository,
    known: &[Oid],
    tips: &[Oid],
    is_new: bool,
    may_continue: &dyn Fn() -> bool,
) -> Result<Vec<Option<String>>, WalkError> {
    let odb = repository.odb()?;
    let mut walk = Walk::default();
    for id in known {
        walk.push(*id, i64::MAX, true)?;
    }
    for id in tips {
        walk.push(*id, i64::MAX, false)?;
    }
    let (mut bad, mut edges) = (Vec::new(), Vec::new());
    while walk.queued_unknown > 0
        && let Some((id, number)) = walk.pop(may_continue)?
    {
        let is_known = walk.is_known(number);
        match read_commit(&odb, id) {
            Ok(commit) => {
                for parent in commit.parents {
                    let parent = walk.push(parent, commit.time, is_known)?;
                    if !is_known {
                        edges.push((parent, number));
                    }
                }
                if edges.len() > MAX_WALKED_COMMITS {
                    return Err(WalkError::TooLong);
                }
            }
            // An old flaw, too far back to matter.
            Err(GitObjectError::Malformed(_)) if is_known => {}
            Err(GitObjectError::Malformed(why)) => bad.push((number, why)),
            Err(GitObjectError::Git(error)) if is_new => {
                bad.push((number, format!("{id} cannot be read: {}", error.message())));
            }
            Err(GitObjectError::Git(error)) => return Err(WalkError::Git(error)),
        }
    }
    add_unparsable_tips(repository, &walk, tips, &mut bad);
    let flawed = propagate_flaws(&bad, edges);
    let flaw = |id: &Oid| {
        let number = walk.numbers.get(id)?;
        let (_, why) = bad.get(*flawed.get(number)?)?;
        Some(why.clone())
    };
    Ok(tips.iter().map(flaw).collect())
}

/// Adds the tips that libgit2, which parses all of a tip, refuses.
fn add_unparsable_tips(
    repository: &Repository,
    walk: &Walk,
    tips: &[Oid],
    bad: &mut Vec<(u32, String)>,
) {
    let looked_at: HashSet<u32> = bad.iter().map(|(number, _)| *number).collect();
    for id in tips {
        if let Some(number) = walk.numbers.get(id).copied()
            && !walk.is_known(number)
            && !looked_at.contains(&number)
            && let Err(error) = repository.find_commit(*id)
        {
            bad.push((
                number,
                format!("the commit {id} does not parse: {}", error.message()),
            ));
        }
    }
}

/// Maps every commit with a flaw close behind it to the flaw's index in `bad`. `edges` are pairs of a parent
/// and its child.
fn propagate_flaws(bad: &[(u32, String)], mut edges: Vec<(u32, u32)>) -> HashMap<u32, usize> {
    let mut flawed = HashMap::new();
    if bad.is_empty() {
        return flawed;
    }
    edges.sort_unstable();
    let mut todo: VecDeque<(u32, usize, usize)> = VecDeque::new();
    for (index, (number, _)) in bad.iter().enumerate() {
        flawed.insert(*number, index);
        todo.push_back((*number, index, 0));
    }
    while let Some((number, index, depth)) = todo.pop_front() {
        let first = edges.partition_point(|(parent, _)| *parent < number);
        let children = edges.iter().skip(first);
        let children =
            children.take_while(|(parent, _)| *parent == number && depth < CHECKED_DEPTH);
        for (_, child) in children {
            if let Entry::Vacant(new) = flawed.entry(*child) {
                new.insert(index);
                todo.push_back((*child, index, depth + 1));
            }
        }
    }
    flawed
}

/// The commits seen so far, and the queue of those to read, youngest first.
#[derive(Default)]
struct Walk {
    numbers: HashMap<Oid, u32>,
    /// By number: the id, whether it is known, and whether it is queued.
    commits: Vec<(Oid, bool, bool)>,
    queue: BinaryHeap<(i64, u32)>,
    /// Number of queued commits that are not known.
    queued_unknown: usize,
    read: usize,
}

impl Walk {
    /// Queues a commit that is new, or that turns out to be known.
    fn push(&mut self, id: Oid, time: i64, is_known: bool) -> Result<u32, WalkError> {
        let next = u32::try_from(self.commits.len()).map_err(|_| WalkError::TooLong)?;
        let number = *self.numbers.entry(id).or_insert(next);
        if number == next {
            if self.commits.len() >= MAX_WALKED_COMMITS {
                return Err(WalkError::TooLong);
            }
            self.commits.push((id, is_known, true));
            self.queue.push((time, number));
            self.queued_unknown += usize::from(!is_known);
        } else if let Some((_, known, is_queued)) = self.commits.get_mut(number as usize)
            && is_known
            && !*known
        {
            *known = true;
            match is_queued {
                true => self.queued_unknown -= 1,
                // Queued again, so that what is behind it becomes known too.
                false => {
                    *is_queued = true;
                    self.queue.push((time, number));
                }
            }
        }
        Ok(number)
    }

    fn pop(&mut self, may_continue: &dyn Fn() -> bool) -> Result<Option<(Oid, u32)>, WalkError> {
        self.read += 1;
        if self.read.is_multiple_of(CHECK_STOP_EVERY) && !may_continue() {
            return Err(WalkError::Stopped);
        }
        let Some((_, number)) = self.queue.pop() else {
            return Ok(None);
        };
        let Some((id, known, is_queued)) = self.commits.get_mut(number as usize) else {
            return Ok(None);
        };
        *is_queued = false;
        self.queued_unknown -= usize::from(!*known);
        Ok(Some((*id, number)))
    }

    fn is_known(&self, number: u32) -> bool {
        let commit = self.commits.get(number as usize);
        commit.is_some_and(|(_, known, _)| *known)
    }
}
