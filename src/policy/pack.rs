//! Packs a bundle: the same files make the same bytes, whoever packs them and where.

use std::collections::BTreeMap;

use ruzstd::encoding::{CompressionLevel, compress_to_vec};
use tar::{Builder, EntryType, Header};

use super::limits::{MAX_FILES, MAX_PACKED, MAX_UNPACKED};
use crate::problem::Problem;

/// The packed bundle of these files, by path. They come from [`super::read_folder`].
pub(crate) fn pack(files: &BTreeMap<String, Vec<u8>>) -> Result<Vec<u8>, Problem> {
    if files.is_empty() {
        return Err(Problem::new("there is nothing to pack")
            .hint("expected files below roles/, templates/ or environments/"));
    }
    if files.len() > MAX_FILES {
        return Err(Problem::new(format!(
            "it has {} files; at most {MAX_FILES} are allowed",
            files.len()
        )));
    }
    let mut archive = Builder::new(Vec::new());
    for (path, body) in files {
        let written = append(&mut archive, path, body);
        written.map_err(|error| Problem::new(format!("{path}: {error}")))?;
    }
    let tar = archive.into_inner();
    let tar = tar.map_err(|error| Problem::new(error.to_string()))?;
    if tar.len() > MAX_UNPACKED {
        return Err(too_large(tar.len(), MAX_UNPACKED));
    }
    let packed = compress_to_vec(tar.as_slice(), CompressionLevel::Fastest);
    match packed.len() > MAX_PACKED {
        true => Err(too_large(packed.len(), MAX_PACKED)),
        false => Ok(packed),
    }
}

fn append(archive: &mut Builder<Vec<u8>>, path: &str, body: &[u8]) -> std::io::Result<()> {
    let mut header = Header::new_ustar();
    header.set_path(path)?;
    header.set_entry_type(EntryType::Regular);
    header.set_size(body.len() as u64);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_cksum();
    archive.append(&header, body)
}

fn too_large(size: usize, most: usize) -> Problem {
    Problem::new(format!(
        "the bundle would have {size} bytes; at most {most} are allowed"
    ))
}
