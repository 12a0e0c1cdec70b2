//! `trueup policy show`.

use serde::Serialize;

use super::opened::OpenedStore;
use crate::cli::Output;
use crate::cli::args::PolicyShowArgs;
use crate::cli::format::format_bytes;
use crate::desired::ContentDigest;
use crate::exit::Exit;
use crate::operate::CommandError;
use crate::pass::Paths;
use crate::policy;
use crate::problem::Problem;

/// The document of `policy show --output`.
#[derive(Debug, Serialize)]
struct ShowDocument<'a> {
    version: u32,
    digest: &'a ContentDigest,
    files: Vec<FileRow<'a>>,
}

#[derive(Debug, Serialize)]
struct FileRow<'a> {
    path: &'a str,
    /// In bytes.
    size: usize,
    /// If it was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    content: Option<String>,
}

pub(super) fn run(
    args: &PolicyShowArgs,
    paths: &Paths,
    output: &Output,
) -> Result<Exit, CommandError> {
    let opened = OpenedStore::open(&args.at, paths, "policy show")?;
    let digest = opened.with(&args.env, |target| target.find(args.digest.as_deref()))?;
    let packed = policy::fetch(opened.store.as_ref(), &digest);
    let packed = packed.map_err(|error| CommandError::failed(error.to_string()))?;
    let mut files = policy::unpack(&packed).map_err(CommandError::failed)?;
    if let Some(path) = &args.file {
        if !files.contains_key(path) {
            let problem = Problem::new(format!("sha256:{} has no {path}", digest.short()));
            return Err(CommandError::Usage(
                problem.suggest(path, files.keys().map(String::as_str)),
            ));
        }
        files.retain(|known, _| known == path);
    }
    if output.is_document() {
        let row = |(path, body)| FileRow::new(path, body, args.file.is_some());
        output.print_document(&ShowDocument {
            version: crate::report::VERSION,
            digest: &digest,
            files: files.iter().map(row).collect(),
        });
        return Ok(Exit::Converged);
    }
    match (&args.file, files.values().next()) {
        (Some(_), Some(body)) => output.print_text(String::from_utf8_lossy(body).trim_end()),
        _ => print_files(&digest, &files, output),
    }
    Ok(Exit::Converged)
}

impl FileRow<'_> {
    fn new<'a>(path: &'a String, body: &Vec<u8>, with_content: bool) -> FileRow<'a> {
        FileRow {
            path,
            size: body.len(),
            content: with_content.then(|| String::from_utf8_lossy(body).into_owned()),
        }
    }
}

/// Prints the list of files, with the digest below.
pub(super) fn print_files(
    digest: &ContentDigest,
    files: &std::collections::BTreeMap<String, Vec<u8>>,
    output: &Output,
) {
    let rows = files
        .iter()
        .map(|(path, body)| vec![path.clone(), format_bytes(body.len() as u64)]);
    output.print_list(&rows.collect::<Vec<_>>());
    output.print_line(format!("{} files, {digest}", files.len()));
}
