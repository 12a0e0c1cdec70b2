//! Content hashing (SHA-256).

use sha2::{Digest, Sha256};

/// The sha256 of `body`, in hexadecimal.
pub fn digest(body: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = String::with_capacity(64);
    for byte in Sha256::digest(body) {
        text.push(DIGITS[usize::from(byte >> 4)].into());
        text.push(DIGITS[usize::from(byte & 15)].into());
    }
    text
}
