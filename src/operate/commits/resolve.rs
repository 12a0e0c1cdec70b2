//! What a revision means that a person wrote, and whether its commit may be deployed.

use super::{AppCommits, short_name};
use crate::desired::Sha;
use crate::operate::CommandError;
use crate::ports::git::GitRef;
use crate::problem::{Problem, nearest};

/// A commit as a person names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Revision {
    Full(Sha),
    /// A branch, a tag, another ref, or the beginning of a sha.
    Name(String),
}

/// The commit that a revision means now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Resolved {
    pub sha: Sha,
    /// The branch or tag that named it.
    pub reference: Option<String>,
    pub warnings: Vec<Problem>,
}

/// Branches and tags that an error lists.
const MAX_LISTED: usize = 10;

/// The shortest beginning of a sha that git accepts.
const MIN_DIGITS: usize = 4;

impl Revision {
    /// Parses what stands behind `APP=`. Full shas are always shas.
    pub(crate) fn parse(text: &str) -> Result<Revision, Problem> {
        let refused = match Sha::parse(text) {
            Ok(sha) => return Ok(Revision::Full(sha)),
            Err(refused) => refused,
        };
        // The object format that trueup does not deploy.
        let is_long_id = text.len() == 64 && is_hexadecimal(text);
        if text.is_empty() || is_long_id {
            return Err(Problem::new(refused.message).hint(refused.hint));
        }
        // As git checks the names of refs. What remains are its expressions, such as `main~1`.
        let is_plain = |c: char| !c.is_control() && !c.is_whitespace() && !"~^:?*[\\".contains(c);
        let is_name = text.chars().all(is_plain)
            && !text.starts_with(['-', '/'])
            && !text.ends_with(['/', '.'])
            && !text.contains("..")
            && !text.contains("@{");
        match is_name {
            true => Ok(Revision::Name(text.to_owned())),
            false => Err(Problem::new(format!("`{text}` is not the name of a commit"))
                .hint(format!(
                    "expected a branch, a tag or a sha; for anything else `git rev-parse '{text}'` prints the sha"
                ))),
        }
    }
}

fn is_hexadecimal(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

impl AppCommits<'_> {
    /// The commit that a revision means, which may be deployed.
    pub(crate) fn resolve(&self, revision: &Revision) -> Result<Resolved, CommandError> {
        let resolved = match revision {
            Revision::Full(sha) => self.known_commit(sha)?,
            Revision::Name(name) => self.resolve_name(name)?,
        };
        let named = resolved.reference.as_deref();
        if !self.is_allowed(&resolved.sha)? {
            return Err(self.refusal(&resolved.sha, named)?);
        }
        Ok(Resolved {
            warnings: resolved.warnings,
            reference: resolved.reference.map(|name| {
                let name = self.repository.names.name(&name).unwrap_or(name);
                short_name(&name).to_owned()
            }),
            sha: resolved.sha,
        })
    }

    fn known_commit(&self, sha: &Sha) -> Result<Resolved, CommandError> {
        if !self.repository.git.has_commit(sha.as_str())? {
            let problem = Problem::new(format!(
                "{}: no branch or tag of {} has the commit {sha}",
                self.app,
                self.address()
            ));
            let hint = self.shallow_hint().unwrap_or_else(|| {
                "push it first, or look whether it belongs to another repository".into()
            });
            return Err(CommandError::Usage(problem.hint(hint)));
        }
        Ok(Resolved {
            sha: sha.clone(),
            reference: None,
            warnings: Vec::new(),
        })
    }

    /// In git's order: a tag goes before a branch, and a name before the beginning of a sha. `reference` is the full name.
    fn resolve_name(&self, name: &str) -> Result<Resolved, CommandError> {
        if name == "HEAD" && !self.repository.git.is_copy() {
            let head = self.repository.git.head()?;
            let sha = head.and_then(|id| Sha::parse(&id).ok());
            return match sha {
                Some(sha) => self.known_commit(&sha),
                None => Err(self.unknown_name(name)),
            };
        }
        let candidates = [
            if name.starts_with("refs/") {
                name.to_owned()
            } else {
                format!("refs/{name}")
            },
            format!("refs/tags/{name}"),
            format!("refs/heads/{name}"),
            format!("refs/remotes/{name}"),
            // A checkout of CI has the branches of its remote alone.
            format!("refs/remotes/origin/{name}"),
        ];
        let found: Vec<&GitRef> = candidates
            .iter()
            .filter_map(|full| self.repository.refs.iter().find(|one| one.name == *full))
            .collect();
        let Some(first) = found.first() else {
            let is_short = name.len() >= MIN_DIGITS && name.len() < 40 && is_hexadecimal(name);
            return match is_short {
                true => self.resolve_digits(name),
                false => Err(self.unknown_name(name)),
            };
        };
        let commit = first.commit.as_deref();
        let Some(sha) = commit.and_then(|id| Sha::parse(id).ok()) else {
            return Err(CommandError::Usage(Problem::new(format!(
                "{}: `{name}` of {} is the name of no commit",
                self.app,
                self.address()
            ))));
        };
        let other = found[1..].iter().find(|other| other.commit != first.commit);
        let ambiguous = other.map(|other| {
            let (taken, left) = (&first.name, &other.name);
            let at = other.commit.as_deref().unwrap_or_default();
            Problem::new(format!(
                "{}: `{name}` means {taken} here, as it does for git; {left} is at {}",
                self.app,
                at.get(..7).unwrap_or("no commit")
            ))
            .hint(format!("{}={left} means the other", self.app))
        });
        Ok(Resolved {
            sha,
            reference: Some(first.name.clone()),
            warnings: ambiguous.into_iter().collect(),
        })
    }

    fn resolve_digits(&self, digits: &str) -> Result<Resolved, CommandError> {
        let digits = digits.to_ascii_lowercase();
        let commits = self.repository.git.commits_with_prefix(&digits)?;
        match commits.as_slice() {
            [] => Err(self.unknown_name(&digits)),
            [id] => {
                let sha = Sha::parse(id).map_err(|invalid| {
                    CommandError::Failed(Problem::new(invalid.message).hint(invalid.hint))
                })?;
                self.known_commit(&sha)
            }
            many => {
                let shown = many.iter().take(MAX_LISTED).map(|id| id.as_str());
                let shown: Vec<&str> = shown.collect();
                Err(CommandError::Usage(
                    Problem::new(format!(
                        "{}: {} commits of {} begin with `{digits}`",
                        self.app,
                        many.len(),
                        self.address()
                    ))
                    .hint(format!("write more digits: {}", shown.join(", "))),
                ))
            }
        }
    }

    fn unknown_name(&self, name: &str) -> CommandError {
        let problem = Problem::new(format!(
            "{}: {} has no branch, tag or commit `{name}`",
            self.app,
            self.address()
        ));
        let names: Vec<&str> = self
            .repository
            .refs
            .iter()
            .map(|one| short_name(&one.name))
            .collect();
        let hint = match nearest(name, names.iter().copied()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => match self.shallow_hint() {
                Some(hint) => hint,
                None if names.is_empty() => "it is empty: push a branch first".to_owned(),
                None => {
                    let shown = &names[..names.len().min(MAX_LISTED)];
                    let more = match names.len() - shown.len() {
                        0 => String::new(),
                        more => format!(" and {more} more"),
                    };
                    format!("it has {}{more}", shown.join(", "))
                }
            },
        };
        CommandError::Usage(problem.hint(hint))
    }

    /// Whether hosts may deploy a commit: one of the allowed refs has it.
    pub(crate) fn is_allowed(&self, sha: &Sha) -> Result<bool, CommandError> {
        let names = &self.repository.names;
        let is_allowed = |one: &&GitRef| {
            let name = names.name(&one.name);
            name.is_some_and(|name| self.allowed.allows(&name))
        };
        let refs = self.repository.refs.iter().filter(is_allowed);
        let tips = refs.filter_map(|one| one.commit.as_deref());
        Ok(self.repository.git.is_reachable(sha.as_str(), tips)?)
    }

    fn refusal(&self, sha: &Sha, named: Option<&str>) -> Result<CommandError, CommandError> {
        // Each is one walk through the history.
        const MAX_ASKED: usize = 20;
        let holder = match named {
            Some(name) => Some(name.to_owned()),
            None => {
                let mut holder = None;
                for one in self.repository.refs.iter().take(MAX_ASKED) {
                    let Some(tip) = one.commit.as_deref() else {
                        continue;
                    };
                    if self.repository.git.is_reachable(sha.as_str(), [tip])? {
                        holder = Some(one.name.clone());
                        break;
                    }
                }
                holder
            }
        };
        let of = holder.map_or(String::new(), |name| format!(" of {name}"));
        let problem = Problem::new(format!(
            "{}: {}{of} is on no ref that may be deployed: {}",
            self.app,
            sha.short(),
            self.allowed
        ));
        let is_clone = self.repository.names.is_clone();
        let own = is_clone.then(|| {
            format!(
                "push it and fetch again: of {} only the branches of its remote count, and tags; or ",
                self.address()
            )
        });
        let own = own.unwrap_or_default();
        let hint = self.shallow_hint().unwrap_or_else(|| {
            format!(
                "{own}merge it into one of them, or name its ref in `_settings.repositories.{}.allow_refs` and in the `allow_refs` of the hosts",
                self.app
            )
        });
        Ok(CommandError::Usage(problem.hint(hint)))
    }
}
