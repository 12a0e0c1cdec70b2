//! Parses what S3 answers, and refuses what is incomplete.

use aws_sdk_s3::operation::get_object::GetObjectOutput;
use aws_sdk_s3::primitives::DateTime;
use jiff::Timestamp;

use super::error::S3Error;
use crate::ports::store::{Etag, GetOutcome, Object};

/// Maximum length of a version, in bytes: S3's have 32 digits, and a few more after a multipart upload.
const MAX_ETAG_LENGTH: usize = 256;

/// Maps the answer to a read.
pub(super) async fn parse_get_response(
    answer: Result<GetObjectOutput, S3Error>,
    known: Option<&Etag>,
    limit: usize,
) -> Result<GetOutcome, S3Error> {
    match answer {
        Ok(answer) => {
            let etag = parse_etag(answer.e_tag.as_deref())?;
            // Some servers ignore the condition and send the object.
            if known == Some(&etag) {
                return Ok(GetOutcome::Unchanged);
            }
            let modified = parse_time(answer.last_modified)?;
            let body = read_body(answer, limit).await?;
            Ok(GetOutcome::Object(Object {
                body,
                etag,
                modified,
            }))
        }
        Err(fault) if fault.status() == Some(304) => match known {
            Some(_) => Ok(GetOutcome::Unchanged),
            None => Err(S3Error::invalid_response(
                "\"not modified\" where all of an object was asked for",
            )),
        },
        Err(fault) if fault.is_no_such_key() => Ok(GetOutcome::Missing),
        Err(fault) => Err(fault),
    }
}

/// The body, if it is complete and not too large.
async fn read_body(answer: GetObjectOutput, limit: usize) -> Result<Vec<u8>, S3Error> {
    // Without its length, a body that ends early could pass for a short object.
    let Some(length) = answer.content_length.and_then(|n| usize::try_from(n).ok()) else {
        return Err(S3Error::invalid_response("an object without its length"));
    };
    if length > limit {
        return Err(S3Error::TooLarge(limit));
    }
    let mut stream = answer.body;
    let mut body = Vec::with_capacity(length);
    while let Some(chunk) = stream.next().await {
        let chunk = chunk.map_err(|error| S3Error::truncated_body(&error))?;
        if body.len() + chunk.len() > length {
            return Err(S3Error::invalid_response(
                "more of an object than its length",
            ));
        }
        body.extend_from_slice(&chunk);
    }
    if body.len() < length {
        return Err(S3Error::invalid_response(
            "less of an object than its length",
        ));
    }
    Ok(body)
}

pub(super) fn parse_etag(quoted: Option<&str>) -> Result<Etag, S3Error> {
    let quoted = quoted.ok_or_else(|| S3Error::invalid_response("an object without its ETag"))?;
    if quoted.len() > MAX_ETAG_LENGTH {
        return Err(S3Error::invalid_response("an ETag of more than 256 bytes"));
    }
    let plain = quoted.strip_prefix('"').and_then(|e| e.strip_suffix('"'));
    Ok(Etag(plain.unwrap_or(quoted).to_owned()))
}

/// Quotes a version for `If-None-Match`, as HTTP requires; a weak ETag was kept with its quotes.
pub(super) fn quote_etag(etag: &Etag) -> String {
    if etag.0.contains('"') {
        return etag.0.clone();
    }
    format!("\"{}\"", etag.0)
}

pub(super) fn parse_time(modified: Option<DateTime>) -> Result<Timestamp, S3Error> {
    modified
        .and_then(|time| Timestamp::new(time.secs(), time.subsec_nanos().cast_signed()).ok())
        .ok_or_else(|| S3Error::invalid_response("an object without its modification time"))
}
