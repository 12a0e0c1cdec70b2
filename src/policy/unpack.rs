//! Unpacks a bundle into memory. The digest of the bytes is signed, but whoever signed it may have been careless, so nothing
//! in them is trusted: not their size, nor their names, nor that they are an archive.

use std::collections::BTreeMap;
use std::io::Read;

use ruzstd::decoding::StreamingDecoder;
use tar::{Archive, EntryType};

use super::limits::{MAX_FILE, MAX_FILES, MAX_PACKED, MAX_UNPACKED, check_path};
use crate::printable;

/// Largest window of the compression, in bytes: what the decoder allocates before it has read anything.
const MAX_WINDOW: u64 = 8 << 20;

/// The files of a bundle, by path; or why it is none.
pub(crate) fn unpack(packed: &[u8]) -> Result<BTreeMap<String, Vec<u8>>, String> {
    let tar = decompress(packed)?;
    let not_archive = |error: std::io::Error| {
        let why = error.to_string();
        format!("it is not an archive: {}", printable::line(&why))
    };
    let mut files = BTreeMap::new();
    // Raw: extensions for long names, links and sparse files are entries like others, and refused.
    let mut archive = Archive::new(tar.as_slice());
    for entry in archive.entries().map_err(not_archive)?.raw(true) {
        let mut entry = entry.map_err(not_archive)?;
        let (path, kind) = (entry.path_bytes().into_owned(), entry.header().entry_type());
        let name = String::from_utf8_lossy(&path).into_owned();
        let shown = printable::line(&name);
        let refuse = |why: String| Err(format!("`{shown}`: {why}"));
        if kind != EntryType::Regular {
            return refuse(format!("{}; expected a file", describe(kind)));
        }
        if name.as_bytes() != path {
            return refuse("its name is not UTF-8".into());
        }
        if let Err(why) = check_path(&name) {
            return refuse(why);
        }
        if entry.size() > MAX_FILE as u64 {
            return refuse(format!(
                "it has {} bytes; at most {MAX_FILE} are allowed",
                entry.size()
            ));
        }
        if files.len() == MAX_FILES {
            return Err(format!("it has more than {MAX_FILES} files"));
        }
        let mut body = Vec::new();
        entry.read_to_end(&mut body).map_err(not_archive)?;
        if body.len() as u64 != entry.size() {
            return refuse("the archive ends within it".into());
        }
        if files.insert(name.clone(), body).is_some() {
            return refuse("it is there twice".into());
        }
    }
    // Somebody may have both a file `roles/x` and another one below it.
    let mut paths = files.keys().zip(files.keys().skip(1));
    let nested = paths.find(|(path, next)| {
        let rest = next.strip_prefix(path.as_str());
        rest.is_some_and(|rest| rest.starts_with('/'))
    });
    match nested {
        Some((path, _)) => Err(format!("`{path}`: it is a file and a folder")),
        None if files.is_empty() => Err("it is empty".to_owned()),
        None => Ok(files),
    }
}

/// Decompresses at most [`MAX_UNPACKED`] bytes.
fn decompress(packed: &[u8]) -> Result<Vec<u8>, String> {
    if packed.len() > MAX_PACKED {
        return Err(format!("it has more than {MAX_PACKED} bytes"));
    }
    let broken = |why: String| format!("it cannot be decompressed: {}", printable::line(&why));
    let decoder = StreamingDecoder::new_with_max_window_size(packed, MAX_WINDOW);
    let mut decoder = decoder.map_err(|error| broken(error.to_string()))?;
    let mut tar = Vec::new();
    let limited = decoder.by_ref().take(MAX_UNPACKED as u64 + 1);
    let read = { limited }.read_to_end(&mut tar);
    read.map_err(|error| broken(error.to_string()))?;
    match tar.len() > MAX_UNPACKED {
        true => Err(format!("it unpacks to more than {MAX_UNPACKED} bytes")),
        false => Ok(tar),
    }
}

fn describe(kind: EntryType) -> &'static str {
    match kind {
        EntryType::Directory => "it is a folder",
        EntryType::Symlink | EntryType::Link => "it is a link",
        EntryType::Char | EntryType::Block | EntryType::Fifo => "it is a device or a pipe",
        EntryType::GNULongName | EntryType::GNULongLink => "it is an extension for long names",
        _ => "it is an entry of another type",
    }
}
