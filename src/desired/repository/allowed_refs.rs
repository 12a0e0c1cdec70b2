//! The refs of a repository whose commits may be deployed.
//!
//! Anybody who can open a pull request can put a commit into the repository, and most servers serve it by its
//! sha. So a sha alone proves nothing: it must be on a ref that only maintainers can move.

use std::fmt;

use serde::de::{self, Deserialize, Deserializer};

use crate::digest::digest;
use crate::problem::InvalidValue;

const BRANCHES: &str = "refs/heads/*";
const TAGS: &str = "refs/tags/*";

/// Ref patterns: branches and tags, and the patterns of `allow_refs`, which add to them or replace them.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(test, schemars(with = "Vec<String>"))]
pub(crate) struct AllowedRefs(Vec<RefPattern>);

/// A ref name, in which one `*` matches any text.
#[derive(Debug, Clone, PartialEq, Eq)]
struct RefPattern(String);

impl RefPattern {
    fn parse(text: &str) -> Result<RefPattern, InvalidValue> {
        let bad = |why: &str| {
            Err(InvalidValue::new(
                format!("`{text}` is not a ref pattern: {why}"),
                "expected one such as `refs/heads/release/*`, `refs/tags/v*` or `refs/pull/*/head`",
            ))
        };
        let Some((namespace, rest)) = text
            .strip_prefix("refs/")
            .and_then(|rest| rest.split_once('/'))
        else {
            return bad("it does not begin with `refs/` and a folder");
        };
        if namespace.is_empty() || namespace.contains('*') || rest.is_empty() {
            return bad("it would match more than one kind of ref");
        }
        if rest.matches('*').count() > 1 {
            return bad("it has more than one `*`");
        }
        if !git2::Reference::is_valid_name(&text.replacen('*', "x", 1)) {
            return bad("it is not a valid ref name");
        }
        Ok(RefPattern(text.to_owned()))
    }

    /// As in a refspec: `*` matches any text, including slashes.
    fn matches(&self, name: &str) -> bool {
        match self.0.split_once('*') {
            None => self.0 == name,
            Some((begin, end)) => name
                .strip_prefix(begin)
                .and_then(|rest| rest.strip_suffix(end))
                .is_some_and(|star| !star.is_empty()),
        }
    }

    fn names_branches_or_tags(&self) -> bool {
        self.0.starts_with("refs/heads/") || self.0.starts_with("refs/tags/")
    }
}

impl Default for AllowedRefs {
    /// All branches and tags.
    fn default() -> AllowedRefs {
        AllowedRefs(
            [BRANCHES, TAGS]
                .map(|text| RefPattern(text.to_owned()))
                .into(),
        )
    }
}

impl AllowedRefs {
    /// Patterns of branches or tags replace the default of all branches and tags; others add to it.
    fn parse(texts: &[String]) -> Result<AllowedRefs, InvalidValue> {
        let patterns = texts.iter().map(|text| RefPattern::parse(text));
        let mut patterns: Vec<RefPattern> = patterns.collect::<Result<_, _>>()?;
        if !patterns.iter().any(RefPattern::names_branches_or_tags) {
            let AllowedRefs(mut all) = AllowedRefs::default();
            all.append(&mut patterns);
            patterns = all;
        }
        Ok(AllowedRefs(patterns))
    }

    /// The refspecs to fetch: only the allowed refs, or anybody who may push a branch could enlarge the fetch
    /// at will.
    pub(crate) fn refspecs(&self) -> Vec<String> {
        let all = self.0.iter().map(|pattern| pattern.0.as_str());
        all.map(|pattern| format!("+{pattern}:{pattern}")).collect()
    }

    pub(crate) fn allows(&self, name: &str) -> bool {
        self.0.iter().any(|pattern| pattern.matches(name))
    }

    /// A fingerprint of the patterns, which reveals a release that was checked by others.
    pub(crate) fn fingerprint(&self) -> String {
        format!("refs:{}", &digest(self.to_string().as_bytes())[..16])
    }
}

impl fmt::Display for AllowedRefs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all: Vec<&str> = self.0.iter().map(|pattern| pattern.0.as_str()).collect();
        f.write_str(&all.join(", "))
    }
}

impl<'de> Deserialize<'de> for AllowedRefs {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<AllowedRefs, D::Error> {
        let texts = Vec::deserialize(deserializer)?;
        AllowedRefs::parse(&texts).map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(texts: &[&str]) -> AllowedRefs {
        let texts: Vec<String> = texts.iter().map(|text| (*text).to_owned()).collect();
        AllowedRefs::parse(&texts).unwrap()
    }

    #[test]
    fn named_branches_replace_the_default_and_other_refs_are_added() {
        let cases = [
            (&[][..], "refs/heads/a/b", true),
            (&[], "refs/tags/v1", true),
            (&[], "refs/pull/7/head", false),
            (&["refs/pull/*/head"], "refs/pull/7/head", true),
            (&["refs/pull/*/head"], "refs/pull/7/merge", false),
            (&["refs/pull/*/head"], "refs/heads/master", true),
            (&["refs/heads/release/*"], "refs/heads/release/7", true),
            (&["refs/heads/release/*"], "refs/heads/topic", false),
            (&["refs/heads/release/*"], "refs/tags/v1", false),
            (&["refs/heads/main"], "refs/heads/main", true),
            (&["refs/heads/main"], "refs/heads/main2", false),
            (&["refs/heads/r*"], "refs/heads/r", false),
        ];
        for (patterns, name, expected) in cases {
            assert_eq!(
                allowed(patterns).allows(name),
                expected,
                "{patterns:?} {name}"
            );
        }
    }

    #[test]
    fn overly_broad_ref_pattern_is_refused() {
        for text in [
            "",
            "*",
            "refs/*",
            "refs/**/x",
            "heads/main",
            "main",
            "refs/p*/x",
            "refs/pull/*/*",
            "refs/heads/",
            "refs/heads/a..b",
            "refs/heads/[ab]",
            "+refs/pull/*:refs/heads/*",
        ] {
            let error = RefPattern::parse(text).unwrap_err();
            assert!(error.hint.contains("refs/pull/*/head"), "{text}: {error}");
        }
    }
}
