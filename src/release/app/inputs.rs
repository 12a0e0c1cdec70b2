//! Validates `when_changed` and `outputs` of the release settings.

use std::path::{Path, PathBuf};

use super::layout::stays_inside;
use super::outputs::{Outputs, SharedOutputs};
use super::selection::Selection;
use super::step::{AssetsSpec, MigrationSpec, Step};
use crate::problem::Problem;

/// Refuses paths that cannot be inputs or outputs.
pub(crate) fn validate(
    selection: &Selection,
    steps: &[Step],
    assets: Option<&AssetsSpec>,
    migrate: Option<&MigrationSpec>,
    links: &[(&Path, PathBuf)],
) -> Result<(), Problem> {
    let inputs = steps
        .iter()
        .enumerate()
        .map(|(i, step)| (format!("steps[{i}].when_changed"), &step.when_changed))
        .chain(
            assets
                .iter()
                .map(|assets| ("assets.when_changed".to_owned(), &assets.when_changed)),
        )
        .chain(
            migrate
                .iter()
                .map(|migrate| ("migrate.when_changed".to_owned(), &migrate.when_changed)),
        );
    for (field, paths) in inputs {
        if let Some(paths) = paths {
            validate_inputs(selection, &field, paths)?;
        }
    }
    for (i, step) in steps.iter().enumerate() {
        validate_outputs(selection, &format!("steps[{i}].outputs"), step, links)?;
    }
    if let Some(assets) = assets
        && assets
            .manifests
            .iter()
            .any(|pattern| pattern.is_empty() || pattern.contains('\0'))
    {
        return Err(
            Problem::new("expected patterns, such as `manifest.json`").field("assets.manifests")
        );
    }
    Ok(())
}

fn validate_inputs(selection: &Selection, field: &str, paths: &[PathBuf]) -> Result<(), Problem> {
    // With a `subdir`, a path that begins with `/` is one from the top of the repository.
    let from_app = |path: &Path| match path.strip_prefix("/") {
        Ok(from_top) if !selection.is_everything() => from_top.to_owned(),
        _ => path.to_owned(),
    };
    if paths.iter().all(|path| excluded_path(path).is_some()) {
        return Err(Problem::new("expected at least one path: without one, nothing could change")
            .field(field)
            .hint("list the files and folders of the repository that it depends on, or omit `when_changed` to run it always"));
    }
    for path in paths {
        let usable = match excluded_path(path) {
            Some(path) => stays_inside(&from_app(path)),
            None => stays_inside(&from_app(path)) || path == Path::new("."),
        };
        if !usable {
            return Err(path_outside(path, "the repository").field(field));
        }
        let input = excluded_path(path).unwrap_or(path);
        if !selection.covers(input) {
            return Err(not_checked_out(input).field(field));
        }
    }
    Ok(())
}

/// What a step cannot read decides nothing.
fn not_checked_out(path: &Path) -> Problem {
    Problem::new(format!(
        "`{}` is not checked out: it is in neither `subdir` nor `also`",
        path.display()
    ))
    .hint("list it in `also`, by its path from the top of the repository")
}

fn validate_outputs(
    selection: &Selection,
    field: &str,
    step: &Step,
    links: &[(&Path, PathBuf)],
) -> Result<(), Problem> {
    match &step.outputs {
        Outputs::Copied(paths) if !paths.is_empty() && step.when_changed.is_none() => {
            return Err(Problem::new("`outputs` needs a step that can be skipped")
                .field(field)
                .hint(
                    "set `when_changed` to the paths that the step depends on, or omit `outputs`",
                ));
        }
        Outputs::Copied(_) => {}
        Outputs::Shared(shared) => validate_shared(selection, field, step, shared)?,
    }
    let paths = step.outputs.paths();
    for (n, path) in paths.iter().enumerate() {
        if !stays_inside(path) || path.starts_with(".git") || path.starts_with("REVISION") {
            return Err(path_outside(path, "the release").field(field));
        }
        let covers = |other: &Path| path.starts_with(other) || other.starts_with(path);
        if let Some(other) = paths[..n].iter().find(|other| covers(other)) {
            return Err(Problem::new(format!(
                "`{}` and `{}` overlap: list only one of them",
                path.display(),
                other.display()
            ))
            .field(field));
        }
        // The other form makes links of its own. A copied output in a linked folder is never copied.
        let is_shared = step.outputs.shared().is_some();
        let linked = links.iter().find(|(link, _)| path.starts_with(link));
        if let Some((link, _)) = linked.filter(|_| is_shared) {
            return Err(Problem::new(format!(
                "`{}` is linked (`linked_dirs` or `linked_files` has `{}`), so all releases share it already",
                path.display(),
                link.display()
            ))
            .field(field)
            .hint(format!(
                "leave `{}` out of `linked_dirs` and `linked_files`: the step keeps it beside the releases",
                link.display()
            )));
        }
    }
    Ok(())
}

fn validate_shared(
    selection: &Selection,
    field: &str,
    step: &Step,
    shared: &SharedOutputs,
) -> Result<(), Problem> {
    if step.when_changed.is_some() {
        return Err(Problem::new(
            "expected only one of `when_changed` and `by`: both say when it runs",
        )
        .field(field)
        .hint("list the inputs in `by`, and omit `when_changed`"));
    }
    if shared.by.is_empty() {
        return Err(
            Problem::new("expected the files of the repository that decide what the step makes, such as `package-lock.json`")
                .field(format!("{field}.by")),
        );
    }
    // As git reads these, they match nothing.
    let is_odd = |pattern: &&String| {
        let from_top = pattern
            .strip_prefix('/')
            .filter(|_| !selection.is_everything());
        let pattern = from_top.unwrap_or(pattern);
        let starts = ["./", "../", "/", "!"];
        pattern.is_empty()
            || pattern.contains('\0')
            || starts.iter().any(|start| pattern.starts_with(start))
    };
    if let Some(odd) = shared.by.iter().find(is_odd) {
        return Err(Problem::new(format!(
            "`{odd}` matches no file: expected a path in the app's folder of the repository, such as `package-lock.json` or `requirements*`"
        ))
        .field(format!("{field}.by")));
    }
    let by = shared.by.iter().map(Path::new);
    if let Some(missing) = by.into_iter().find(|path| !selection.covers(path)) {
        return Err(not_checked_out(missing).field(format!("{field}.by")));
    }
    if shared.paths.is_empty() {
        return Err(
            Problem::new("expected a path that the step makes, such as `node_modules`")
                .field(format!("{field}.path")),
        );
    }
    Ok(())
}

fn path_outside(path: &Path, of: &str) -> Problem {
    Problem::new(format!(
        "`{}` is not a path inside {of}: expected a relative one without `..`",
        path.display()
    ))
}

/// The excluded path, if the entry has the form `!path`.
pub(crate) fn excluded_path(path: &Path) -> Option<&Path> {
    path.to_str()?.strip_prefix('!').map(Path::new)
}
