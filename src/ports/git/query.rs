//! What a repository on this machine holds.

use super::{GitError, GitRepository};

/// A branch, a tag or another ref, and the commit that it leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct GitRef {
    /// Such as `refs/heads/main`.
    pub name: String,
    /// The id of a commit; for an annotated tag, that of the commit behind it. `None`: it leads to no commit.
    pub commit: Option<String>,
}

/// A commit, as its author wrote it: texts of strangers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Commit {
    pub id: String,
    pub author: String,
    /// Seconds since 1970, by the committer's clock.
    pub committed_s: i64,
    /// The first line of the message.
    pub subject: String,
}

/// How two commits differ in their history.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Divergence {
    /// Number of commits that only the first one has.
    pub only_first: u64,
    /// Number of commits that only the second one has.
    pub only_second: u64,
}

/// A file that differs between two commits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FileChange {
    pub path: String,
    /// `A` added, `D` deleted, `M` modified, `T` of another type.
    pub status: char,
}

/// Fields of one line of output; no ref name, number or id has it.
const SEPARATOR: char = '\x1f';

impl GitRepository<'_> {
    /// All refs.
    pub(crate) fn refs(&self) -> Result<Vec<GitRef>, GitError> {
        // `*` is the object behind an annotated tag.
        const FORMAT: &str =
            "--format=%(objecttype)%1f%(objectname)%1f%(*objecttype)%1f%(*objectname)%1f%(refname)";
        let output = self.read(["for-each-ref", FORMAT], b"")?;
        let output = String::from_utf8_lossy(&output);
        output
            .lines()
            .map(|line| {
                let fields: Vec<&str> = line.split(SEPARATOR).collect();
                let [kind, id, inner_kind, inner_id, name] = fields[..] else {
                    return Err(unexpected("git for-each-ref"));
                };
                let commit = match (kind, inner_kind) {
                    ("commit", _) => Some(id.to_owned()),
                    ("tag", "commit") => Some(inner_id.to_owned()),
                    // Older versions of git look behind one tag only.
                    ("tag", "tag") => self.peel(name)?,
                    _ => None,
                };
                Ok(GitRef {
                    name: name.to_owned(),
                    commit,
                })
            })
            .collect()
    }

    /// The commit that a ref leads to. `name` is a full name that the repository has given.
    fn peel(&self, name: &str) -> Result<Option<String>, GitError> {
        let expression = format!("{name}^{{commit}}");
        match self.read(["rev-parse", "--verify", "--quiet", &expression], b"") {
            Ok(output) => Ok(Some(String::from_utf8_lossy(&output).trim().to_owned())),
            Err(GitError::Failed { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The commit that is checked out.
    pub(crate) fn head(&self) -> Result<Option<String>, GitError> {
        self.peel("HEAD")
    }

    /// The commits whose ids begin with these digits. Of more than ten thousand objects, those among the first ones.
    pub(crate) fn commits_with_prefix(&self, digits: &str) -> Result<Vec<String>, GitError> {
        const MAX_IDS: usize = 10_000;
        let option = format!("--disambiguate={digits}");
        let output = self.read(["rev-parse", &option], b"")?;
        let output = String::from_utf8_lossy(&output);
        let ids: Vec<&str> = output.lines().take(MAX_IDS).collect();
        self.commits_among(&ids)
    }

    /// Whether it has this commit.
    pub(crate) fn has_commit(&self, id: &str) -> Result<bool, GitError> {
        Ok(!self.commits_among(&[id])?.is_empty())
    }

    /// Those of the ids that are commits here.
    fn commits_among(&self, ids: &[&str]) -> Result<Vec<String>, GitError> {
        let input: String = ids.iter().map(|id| format!("{id}\n")).collect();
        let format = "--batch-check=%(objectname) %(objecttype)";
        let output = self.read(["cat-file", format], input.as_bytes())?;
        let output = String::from_utf8_lossy(&output);
        let commits = output
            .lines()
            .filter_map(|line| line.strip_suffix(" commit"));
        Ok(commits.map(str::to_owned).collect())
    }

    /// Whether one of the commits `tips` is the commit or has it in its history.
    pub(crate) fn is_reachable<'t>(
        &self,
        id: &str,
        tips: impl IntoIterator<Item = &'t str>,
    ) -> Result<bool, GitError> {
        let mut input = format!("{id}\n");
        for tip in tips {
            input.push_str(&format!("^{tip}\n"));
        }
        let output = self.read(["rev-list", "--max-count=1", "--stdin"], input.as_bytes())?;
        Ok(output.is_empty())
    }

    /// How many commits each of two has that the other has not.
    pub(crate) fn divergence(&self, first: &str, second: &str) -> Result<Divergence, GitError> {
        let range = format!("{first}...{second}");
        let options = ["rev-list", "--count", "--left-right", &range, "--"];
        let output = self.read(options, b"")?;
        let output = String::from_utf8_lossy(&output);
        let numbers = output.trim().split_once('\t');
        let numbers = numbers.and_then(|(first, second)| {
            Some(Divergence {
                only_first: first.parse().ok()?,
                only_second: second.parse().ok()?,
            })
        });
        numbers.ok_or_else(|| unexpected("git rev-list --count"))
    }

    /// The newest commits that `to` has and `from` has not.
    pub(crate) fn log(&self, from: &str, to: &str, most: usize) -> Result<Vec<Commit>, GitError> {
        // git itself shortens the texts: a message may be as long as its author likes.
        const FORMAT: &str = "--format=%H%x1f%ct%x1f%<(200,trunc)%s%x1f%<(80,trunc)%an";
        let range = format!("{from}..{to}");
        let count = format!("--max-count={most}");
        let options = [
            "log",
            "--no-color",
            "--no-notes",
            &count,
            FORMAT,
            &range,
            "--",
        ];
        let output = self.read(options, b"")?;
        let output = String::from_utf8_lossy(&output);
        output
            .lines()
            .map(|line| {
                // A text may have the separator as well.
                let mut fields = line.splitn(3, SEPARATOR);
                let id = fields.next().filter(|id| id.len() >= 40);
                let time = fields.next().and_then(|time| time.parse().ok());
                let texts = fields.next().and_then(|rest| rest.rsplit_once(SEPARATOR));
                let (Some(id), Some(committed_s), Some((subject, author))) = (id, time, texts)
                else {
                    return Err(unexpected("git log"));
                };
                Ok(Commit {
                    id: id.to_owned(),
                    author: author.trim_end().to_owned(),
                    committed_s,
                    subject: subject.trim_end().to_owned(),
                })
            })
            .collect()
    }

    /// The files that differ between two commits and match one of the patterns, which are git's, with `**`. At most `most`,
    /// and how many there are.
    pub(crate) fn changed_files(
        &self,
        from: &str,
        to: &str,
        patterns: &[&str],
        most: usize,
    ) -> Result<(Vec<FileChange>, usize), GitError> {
        let options = [
            "diff-tree",
            "-r",
            "-z",
            "--name-status",
            "--no-renames",
            "--no-ext-diff",
            "--no-commit-id",
            from,
            to,
            "--",
        ];
        let patterns: Vec<String> = patterns
            .iter()
            .map(|pattern| format!(":(glob){pattern}"))
            .collect();
        let words = options
            .into_iter()
            .chain(patterns.iter().map(String::as_str));
        let output = self.read(words, b"")?;
        let mut fields = output.split(|byte| *byte == 0);
        let mut changes = Vec::new();
        let mut count = 0;
        while let (Some(status), Some(path)) = (fields.next(), fields.next()) {
            count += 1;
            if changes.len() < most {
                changes.push(FileChange {
                    path: String::from_utf8_lossy(path).into_owned(),
                    status: status.first().copied().unwrap_or(b'?').into(),
                });
            }
        }
        Ok((changes, count))
    }

    /// Whether it has no work tree.
    pub(crate) fn is_bare(&self) -> Result<bool, GitError> {
        let output = self.read(["rev-parse", "--is-bare-repository"], b"")?;
        Ok(output.starts_with(b"true"))
    }

    /// The names of its remotes.
    pub(crate) fn remotes(&self) -> Result<Vec<String>, GitError> {
        let output = self.read(["remote"], b"")?;
        let output = String::from_utf8_lossy(&output);
        Ok(output.lines().map(str::to_owned).collect())
    }

    /// What it fetches from a remote, as it is configured: `+refs/heads/*:refs/remotes/origin/*`.
    pub(crate) fn refspecs(&self, remote: &str) -> Result<Vec<String>, GitError> {
        // Unlike `--get-all` it does not fail without a value.
        let output = self.read(["config", "--null", "--list"], b"")?;
        let output = String::from_utf8_lossy(&output);
        let key = format!("remote.{remote}.fetch");
        let entries = output
            .split('\0')
            .filter_map(|entry| entry.split_once('\n'));
        let values = entries.filter(|(known, _)| *known == key);
        Ok(values.map(|(_, value)| value.to_owned()).collect())
    }

    /// Whether it lacks the history before some commits.
    pub(crate) fn is_shallow(&self) -> Result<bool, GitError> {
        let output = self.read(["rev-parse", "--is-shallow-repository"], b"")?;
        Ok(output.starts_with(b"true"))
    }
}

fn unexpected(line: &str) -> GitError {
    GitError::Unexpected { line: line.into() }
}
