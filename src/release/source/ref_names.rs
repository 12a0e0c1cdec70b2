//! Resolves the name of a branch or tag to its commit.

use git2::{ObjectType, Repository};

use crate::desired::AllowedRefs;
use crate::desired::Sha;
use crate::problem::nearest;
use crate::release::app::spec::ReleaseSpec;
use crate::resource::Failure;

/// Resolves a branch or tag in a mirror: `main`, `v1.2`, or `heads/x` and `tags/x` if both exist.
pub(crate) fn resolve(mirror: &Repository, name: &str, spec: &ReleaseSpec) -> Result<Sha, Failure> {
    if let Ok(sha) = Sha::parse(name) {
        return Err(
            Failure::new(format!("`{sha}` is a sha and not a branch or tag"))
                .hint(format!("say `--sha {sha}`")),
        );
    }
    let candidates = [
        format!("refs/heads/{name}"),
        format!("refs/tags/{name}"),
        format!("refs/{name}"),
        name.to_owned(),
    ];
    let is_allowed = |candidate: &&String| {
        ["refs/heads/", "refs/tags/"]
            .iter()
            .any(|p| candidate.starts_with(p))
            || spec.allow_refs.allows(candidate)
    };
    let mut found: Vec<git2::Oid> = candidates
        .iter()
        .filter(is_allowed)
        .filter_map(|candidate| {
            let reference = mirror.find_reference(candidate).ok()?;
            Some(reference.peel(ObjectType::Commit).ok()?.id())
        })
        .collect();
    found.dedup();
    match found.as_slice() {
        [one] => Sha::parse(&one.to_string()).map_err(|invalid| Failure::new(invalid.message)),
        [] => Err(unknown_ref(mirror, name, spec)),
        _ => Err(Failure::new(format!(
            "`{name}` is both a branch and a tag of {}, at different commits",
            spec.repo
        ))
        .hint(format!("use `heads/{name}` or `tags/{name}`"))),
    }
}

fn unknown_ref(mirror: &Repository, name: &str, spec: &ReleaseSpec) -> Failure {
    let mut known: Vec<String> = Vec::new();
    if let Ok(references) = mirror.references() {
        for reference in references.flatten() {
            let full = reference.name().unwrap_or_default();
            let short = full.strip_prefix("refs/heads/");
            let short = short.or_else(|| full.strip_prefix("refs/tags/"));
            known.extend(short.map(str::to_owned));
        }
    }
    let failure = Failure::new(format!(
        "there is no branch and no tag `{name}` in {}",
        spec.repo
    ));
    match nearest(name, known.iter().map(String::as_str)) {
        Some(near) => failure.hint(format!("did you mean `{near}`?")),
        None if spec.allow_refs != AllowedRefs::default() => failure.hint(format!(
            "push it, and check that `allow_refs` allows it ({}): nothing else is fetched",
            spec.allow_refs
        )),
        None => failure.hint("push it first"),
    }
}
