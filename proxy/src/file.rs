//! How a file is kept that is whole or not there: a header with its layout and checksum, written beside and renamed.

use miren_fault::Point;
use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::Path;

/// Of a checksum.
const DIGITS: usize = 64;

/// The content of a file: `header`, which names the layout, then a checksum and a line end, then `value`.
pub fn encode(header: &str, value: &impl Serialize) -> io::Result<Vec<u8>> {
    let body = serde_json::to_vec(value)?;
    let mut file = format!("{header}{}\n", checksum(&body)).into_bytes();
    file.extend_from_slice(&body);
    Ok(file)
}

/// What [`encode`] was given; an error says what is wrong with the file.
pub fn decode<T: DeserializeOwned>(header: &str, file: &[u8]) -> Result<T, String> {
    let end = file
        .iter()
        .position(|byte| *byte == b'\n')
        .ok_or("has no header line")?;
    let (first_line, body) = (&file[..end], &file[end + 1..]);
    let expected = first_line
        .strip_prefix(header.as_bytes())
        .ok_or("is of another layout")?;
    if expected != checksum(body).as_bytes() {
        return Err("does not match its checksum".into());
    }
    serde_json::from_slice(body).map_err(|error| format!("cannot be decoded: {error}"))
}

/// The checksum in the header of what begins like this: another content has another one.
pub fn identity<'f>(header: &str, file: &'f [u8]) -> Option<&'f str> {
    let checksum = file.strip_prefix(header.as_bytes())?.get(..DIGITS)?;
    std::str::from_utf8(checksum).ok()
}

/// The same, of a file.
pub fn identity_of(header: &str, path: &Path) -> Option<String> {
    let mut start = vec![0; header.len() + DIGITS];
    File::open(path).ok()?.read_exact(&mut start).ok()?;
    identity(header, &start).map(str::to_owned)
}

/// Writes a new file so that a later rename cannot bring up an empty one.
pub fn write_new(path: &Path, content: &[u8]) -> io::Result<()> {
    miren_fault::blocking(Point::FileWrite)?;
    let mut file = File::create(path)?;
    file.write_all(content)?;
    miren_fault::blocking(Point::FileSync)?;
    file.sync_all()
}

/// Puts `new` in the place of `current`, for good.
pub fn replace(new: &Path, current: &Path) -> io::Result<()> {
    miren_fault::blocking(Point::FileRename)?;
    fs::rename(new, current)?;
    miren_fault::blocking(Point::FileFolder)?;
    match current.parent() {
        Some(folder) => File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}

/// SHA-256, in hexadecimal digits.
pub fn checksum(body: &[u8]) -> String {
    Sha256::digest(body).iter().map(|byte| format!("{byte:02x}")).collect()
}
