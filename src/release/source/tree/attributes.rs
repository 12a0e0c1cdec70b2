//! Reads the `.gitattributes` files of a commit and resolves the attributes of its paths by git's rules.
//!
//! Only the commit's own files count, not the host's git configuration nor anything in the mirror, so that a
//! commit yields the same files on every host.

use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use git2::Repository;
use gix_attributes::search::{MetadataCollection, Outcome};
use gix_attributes::{Search, StateRef};
use gix_glob::Pattern;
use gix_glob::pattern::{Case, Mode};

use super::walk::display_path;
use crate::release::app::selection::ATTRIBUTES_FILE;
use crate::release::source::error::SourceError;
use crate::resource::Failure;

pub(super) const FILE_NAME: &[u8] = ATTRIBUTES_FILE.as_bytes();

/// Maximum total size of these files in a commit, in bytes: each line of them is compared with each path.
const MAX_BYTES: usize = 256 << 10;

/// Maximum number of comparisons of lines and attributes with paths; this many take about a minute.
const MAX_COMPARISONS: usize = 1_000_000_000;

/// Maximum length of a pattern, in bytes.
const MAX_PATTERN: usize = 1024;

/// Maximum number of places with `*` or `**` in one pattern.
const MAX_WILDCARDS: usize = 10;

/// Maximum number of matcher steps for all patterns against one path, in the worst case: some seconds.
const MAX_STEPS: u64 = 5_000_000_000;

const SHORTEN_HINT: &str = "use fewer lines: a pattern such as `*.bin` covers a whole folder";

const SIMPLIFY_HINT: &str = "fix that line in the repository: one `**` is enough for most patterns";

fn attributes_too_large(path: &Path) -> SourceError {
    SourceError::LimitExceeded(
        Failure::new(format!(
            "the `.gitattributes` files of the repository come to more than {} KiB with `{}`",
            MAX_BYTES >> 10,
            display_path(path)
        ))
        .hint(SHORTEN_HINT),
    )
}

/// The attributes that one lookup returns.
const ATTRIBUTE_NAMES: [&str; 8] = [
    "export-ignore",
    "export-subst",
    "text",
    "crlf",
    "eol",
    "ident",
    "filter",
    "working-tree-encoding",
];

/// The conversions from a blob to the content of its file.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Conversion {
    pub crlf: Crlf,
    /// Expand `$Id$` to the id of the blob.
    pub ident: bool,
    /// Expand `$Format:…$` from the commit.
    pub export_subst: bool,
    /// The blob may be a git-lfs pointer.
    pub lfs: bool,
    pub filter: FilterDriver,
    /// The attributes ask for another encoding, which trueup does not support.
    pub has_encoding: bool,
}

/// The filter program that produces a file from its blob; git-lfs is handled separately.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum FilterDriver {
    #[default]
    None,
    GitCrypt,
    Other,
}

impl FilterDriver {
    fn from_attribute(attribute: Option<&AttributeValue>) -> FilterDriver {
        match attribute {
            Some(AttributeValue::Value(name)) if name == "lfs" => FilterDriver::None,
            // git-crypt names its further keys `git-crypt-NAME`.
            Some(AttributeValue::Value(name))
                if name == "git-crypt" || name.starts_with("git-crypt-") =>
            {
                FilterDriver::GitCrypt
            }
            Some(AttributeValue::Value(_)) => FilterDriver::Other,
            _ => FilterDriver::None,
        }
    }
}

/// When LF becomes CR LF.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Crlf {
    #[default]
    Never,
    /// If the content looks like text and has only LF line ends.
    IfText,
    Always,
}

/// The attributes of all paths of one commit.
pub(super) struct Attributes {
    search: Search,
    outcome: Outcome,
    has_files: bool,
    /// Number of lines, and of attributes in them.
    entry_count: usize,
    cost: MatchCost,
}

/// Worst-case cost of matching all patterns with a path. The matcher tries every way to spread the folders of
/// a path over the `**` of a pattern, so the number of `**` dominates.
#[derive(Debug, Default)]
struct MatchCost {
    /// Total bytes of patterns that match names: they match within one path component.
    in_names: u64,
    /// Total bytes of patterns that match paths, indexed by the number of `**` in a pattern.
    in_paths: [u64; MAX_WILDCARDS + 1],
    /// The pattern with the most `**`: their number, its file and its line.
    worst: (usize, String, usize),
}

impl MatchCost {
    /// Adds the cost of a pattern, or returns why the pattern is refused.
    fn add(&mut self, pattern: &Pattern, file: &Path, line: usize) -> Result<(), String> {
        if pattern.text.len() > MAX_PATTERN {
            return Err(format!("is longer than {MAX_PATTERN} bytes"));
        }
        if pattern.first_wildcard_pos.is_none() {
            return Ok(());
        }
        let (mut single, mut double) = (0, 0);
        for run in pattern.text.chunk_by(|one, other| one == other) {
            match (run[0], run.len()) {
                (b'*', 1) => single += 1,
                (b'*', _) => double += 1,
                _ => {}
            }
        }
        if single + double > MAX_WILDCARDS {
            return Err(format!(
                "has `*` or `**` in more than {MAX_WILDCARDS} places"
            ));
        }
        let bytes = pattern.text.len() as u64;
        if pattern.mode.contains(Mode::NO_SUB_DIR) && !pattern.mode.contains(Mode::ABSOLUTE) {
            self.in_names += bytes * (double as u64 + 1);
            return Ok(());
        }
        self.in_paths[double] += bytes;
        if double > self.worst.0 {
            self.worst = (double, display_path(file), line);
        }
        Ok(())
    }

    /// Worst-case number of matcher steps for this path.
    fn worst_case_steps(&self, path: &[u8]) -> u64 {
        let folders = path.iter().filter(|byte| **byte == b'/').count() as u64;
        let in_paths = self.in_paths.iter().zip(0..).map(|(bytes, doubles)| {
            // The number of ways to spread the folders over the `**`: a binomial coefficient.
            let ways = (1..=doubles).fold(1_u128, |ways, n| {
                ways.saturating_mul(u128::from(folders + n)) / u128::from(n)
            });
            let ways = u64::try_from(ways).unwrap_or(u64::MAX);
            bytes.saturating_mul(doubles + 1).saturating_mul(ways)
        });
        let bytes = in_paths.fold(self.in_names, u64::saturating_add);
        bytes.saturating_mul(path.len() as u64)
    }
}

impl Conversion {
    /// Whether the file can be larger than its blob.
    pub(super) fn may_grow(self) -> bool {
        self.export_subst || self.ident || self.crlf != Crlf::Never
    }
}

impl Attributes {
    /// Reads the attribute files of a commit, given their paths and blobs.
    pub(super) fn read(
        mirror: &Repository,
        files: &BTreeMap<PathBuf, git2::Oid>,
    ) -> Result<Attributes, SourceError> {
        let mut names = MetadataCollection::default();
        let broken = |error: std::io::Error| {
            SourceError::Failed(Failure::new(format!("cannot read .gitattributes: {error}")))
        };
        let mut search =
            Search::new_globals(std::iter::empty::<PathBuf>(), &mut Vec::new(), &mut names)
                .map_err(broken)?;
        // Files of deeper folders come later: they override those of the folders above.
        let mut files: Vec<_> = files.iter().collect();
        files.sort_by_key(|(path, _)| path.components().count());
        let any = !files.is_empty();
        let (odb, mut left) = (mirror.odb()?, MAX_BYTES);
        let (mut entries, mut cost) = (0, MatchCost::default());
        for (path, id) in files {
            left = left
                .checked_sub(odb.read_header(*id)?.0)
                .ok_or_else(|| attributes_too_large(path))?;
            let blob = mirror.find_blob(*id)?;
            entries += blob.content().split(|byte| *byte == b'\n').count();
            for (kind, given, line) in gix_attributes::parse(blob.content()).flatten() {
                entries += given.count();
                if let gix_attributes::parse::Kind::Pattern(pattern) = kind {
                    cost.add(&pattern, path, line).map_err(|why| {
                        SourceError::LimitExceeded(
                            Failure::new(format!(
                                "line {line} of `{}` in the repository cannot be used: its pattern {why}",
                                display_path(path)
                            ))
                            .hint(SIMPLIFY_HINT),
                        )
                    })?;
                }
            }
            // As in git, only the top-level file may define macros.
            let top = path.parent() == Some(Path::new(""));
            search
                .add_patterns_buffer(
                    blob.content(),
                    path.clone(),
                    Some(Path::new("")),
                    &mut names,
                    top,
                )
                .map_err(broken)?;
        }
        let mut outcome = Outcome::default();
        outcome.initialize_with_selection(&names, ATTRIBUTE_NAMES);
        Ok(Attributes {
            search,
            outcome,
            has_files: any,
            entry_count: entries,
            cost,
        })
    }

    /// Refuses a number of lookups that would take hours.
    pub(super) fn check_lookup_count(&self, paths: usize) -> Result<(), SourceError> {
        match self.entry_count.saturating_mul(paths) <= MAX_COMPARISONS {
            true => Ok(()),
            false => Err(SourceError::LimitExceeded(
                Failure::new(format!(
                    "the `.gitattributes` of the repository have {} lines and attributes, too many to be compared with {paths} paths",
                    self.entry_count
                ))
                .hint(SHORTEN_HINT),
            )),
        }
    }

    /// Whether `export-ignore` leaves out this path, with everything below it.
    pub(super) fn is_export_ignored(
        &mut self,
        path: &Path,
        folder: bool,
    ) -> Result<bool, SourceError> {
        if !self.has_files {
            return Ok(false);
        }
        let [ignored, ..] = self.look_up(path, folder)?;
        Ok(matches!(ignored, Some(AttributeValue::Set)))
    }

    /// The conversions for the file at this path.
    pub(super) fn conversion(&mut self, path: &Path) -> Result<Conversion, SourceError> {
        if !self.has_files {
            return Ok(Conversion::default());
        }
        let [_, subst, text, crlf, eol, ident, filter, encoding] = self.look_up(path, false)?;
        let is = |attribute: &Option<AttributeValue>, value: &str| matches!(attribute, Some(AttributeValue::Value(v)) if v == value);
        let set =
            |attribute: &Option<AttributeValue>| matches!(attribute, Some(AttributeValue::Set));
        // `crlf` is the former name of `text`.
        let text = match text {
            None => crlf,
            Some(AttributeValue::Value(value)) if value != "auto" && value != "input" => crlf,
            attribute => attribute,
        };
        let crlf = match &text {
            Some(AttributeValue::Unset) => Crlf::Never,
            _ if !is(&eol, "crlf") => Crlf::Never,
            attribute if is(attribute, "auto") => Crlf::IfText,
            _ => Crlf::Always,
        };
        Ok(Conversion {
            crlf,
            ident: set(&ident),
            export_subst: set(&subst),
            lfs: is(&filter, "lfs"),
            filter: FilterDriver::from_attribute(filter.as_ref()),
            has_encoding: matches!(&encoding, Some(AttributeValue::Value(v)) if !v.eq_ignore_ascii_case("utf-8") && !v.eq_ignore_ascii_case("utf8")),
        })
    }

    fn look_up(
        &mut self,
        path: &Path,
        folder: bool,
    ) -> Result<[Option<AttributeValue>; ATTRIBUTE_NAMES.len()], SourceError> {
        if self.cost.worst_case_steps(path.as_os_str().as_bytes()) > MAX_STEPS {
            let (doubles, file, line) = &self.cost.worst;
            return Err(SourceError::LimitExceeded(
                Failure::new(format!(
                    "the `.gitattributes` of the repository have patterns that take too long to be compared with `{}`: the one in line {line} of `{file}` has `**` in {doubles} places",
                    display_path(path)
                ))
                .hint(SIMPLIFY_HINT),
            ));
        }
        self.outcome.reset();
        self.search.pattern_matching_relative_path(
            path.as_os_str().as_bytes().into(),
            Case::Sensitive,
            Some(folder),
            &mut self.outcome,
        );
        let mut values = [const { None }; ATTRIBUTE_NAMES.len()];
        for (value, found) in values.iter_mut().zip(self.outcome.iter_selected()) {
            *value = match found.assignment.state {
                StateRef::Set => Some(AttributeValue::Set),
                StateRef::Unset => Some(AttributeValue::Unset),
                StateRef::Value(value) => Some(AttributeValue::Value(
                    String::from_utf8_lossy(value.as_bstr()).into_owned(),
                )),
                StateRef::Unspecified => None,
            };
        }
        Ok(values)
    }
}

#[derive(Debug)]
enum AttributeValue {
    Set,
    Unset,
    Value(String),
}
