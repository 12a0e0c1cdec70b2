//! Answers as S3 sends them.

/// An object as S3 sends it.
pub(super) fn object(etag: &str, body: &[u8]) -> Vec<u8> {
    let mut bytes = format!(
        "HTTP/1.1 200 OK\r\nETag: \"{etag}\"\r\nLast-Modified: Sat, 21 Nov 2026 04:43:01 GMT\r\nContent-Length: {}\r\n\r\n",
        body.len()
    )
    .into_bytes();
    bytes.extend_from_slice(body);
    bytes
}

/// An error as S3 sends it.
pub(super) fn error(status: u16, code: &str) -> Vec<u8> {
    let xml = format!("<Error><Code>{code}</Code><Message>In words.</Message></Error>");
    format!(
        "HTTP/1.1 {status} No\r\nContent-Type: application/xml\r\nContent-Length: {}\r\n\r\n{xml}",
        xml.len()
    )
    .into()
}
