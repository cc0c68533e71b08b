//! Decides how a file of rules is read: one that cannot be is an error with its place, never a wider upload.

use super::ArchiveError;
use miren_api::app_file::FILE_MAX;
use miren_api::beneath;
use std::path::Path;

/// A line that is no rule.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Wrong {
    pub(super) line: usize,
    pub(super) why: String,
}

/// The rules in a file of the folder, if it is there.
pub(super) fn read<R>(
    root: &Path,
    file: impl AsRef<Path>,
    parse: impl FnOnce(&[u8]) -> Result<R, Wrong>,
) -> Result<Option<R>, ArchiveError> {
    let file = file.as_ref();
    let wrong = |line: Option<usize>, why: String| ArchiveError::Rules {
        place: line.map_or_else(
            || file.display().to_string(),
            |line| format!("{}:{line}:", file.display()),
        ),
        why,
    };
    let bytes = beneath::read(root, file, FILE_MAX).map_err(|why| wrong(None, why.to_string()))?;
    let rules = bytes.map(|bytes| parse(&bytes)).transpose();
    rules.map_err(|Wrong { line, why }| wrong(Some(line), why))
}

/// Lines with their numbers, without their ends and without the mark of UTF-8 that editors put in front of the first one.
pub(super) fn lines(bytes: &[u8]) -> Result<impl Iterator<Item = (usize, &[u8])>, Wrong> {
    if let Some(zero) = bytes.iter().position(|byte| *byte == 0) {
        let before = bytes[..zero].iter().filter(|byte| **byte == b'\n').count();
        return Err(Wrong {
            line: before + 1,
            why: "has a zero byte, as text in UTF-16 has: save it as UTF-8".to_owned(),
        });
    }
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let lines = bytes.split(|byte| *byte == b'\n');
    let lines = lines.map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    Ok((1..).zip(lines))
}
