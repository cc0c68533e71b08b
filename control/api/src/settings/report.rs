//! How mistakes in settings files are told, and how the keys are listed in the reference.

use super::schema::Shape;
use serde::Serialize;
use std::fmt;
use std::path::{Path, PathBuf};

/// Most problems of one file that are told one by one.
pub const PROBLEMS_MAX: usize = 100;

/// One thing wrong with a settings file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    pub file: PathBuf,
    /// Line in the file, from 1; 0 when the problem has no place.
    #[serde(skip_serializing_if = "is_zero")]
    pub line: usize,
    /// Character in the line, from 1; 0 when the problem has no place.
    #[serde(skip_serializing_if = "is_zero")]
    pub column: usize,
    /// Dotted path of the key; empty for a syntax error.
    pub key: String,
    pub message: String,
}

impl Problem {
    /// One that is about the file as a whole.
    pub fn of_file(file: &Path, message: impl Into<String>) -> Self {
        Self {
            file: file.to_owned(),
            line: 0,
            column: 0,
            key: String::new(),
            message: message.into(),
        }
    }
}

fn is_zero(number: &usize) -> bool {
    *number == 0
}

impl fmt::Display for Problem {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}", self.file.display())?;
        if self.line > 0 {
            write!(out, ":{}", self.line)?;
        }
        if !self.key.is_empty() {
            write!(out, ": {}", self.key)?;
        }
        write!(out, ": {}", self.message)
    }
}

/// Everything wrong with a settings file, all at once.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Problems(pub Vec<Problem>);

impl fmt::Display for Problems {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines: Vec<String> = self.0.iter().map(Problem::to_string).collect();
        out.write_str(&lines.join("\n"))
    }
}

/// One documented key, as the generated reference lists it.
#[derive(Clone, Debug, PartialEq)]
pub struct KeyDoc {
    pub path: String,
    pub kind: &'static str,
    pub shape: Shape,
    pub default: String,
    pub doc: &'static str,
}

/// Less alike than this, a known key is no likely meaning of an unknown one.
const ALIKE: f64 = 0.6;

/// What is said about a key that nobody asked for; `elsewhere` is where a key of this name is known.
pub(super) fn unknown_key(key: &str, known: &[String], elsewhere: Option<&str>) -> String {
    if let Some(path) = elsewhere {
        return format!("unknown key {key:?}; did you mean {path:?}?");
    }
    let alike = |candidate: &&String| strsim::jaro_winkler(key, candidate);
    let nearest = known.iter().max_by(|a, b| alike(a).total_cmp(&alike(b)));
    match nearest {
        Some(nearest) if alike(&nearest) >= ALIKE => format!("unknown key {key:?}; did you mean {nearest:?}?"),
        _ => format!("unknown key {key:?}; known here: {}", known.join(", ")),
    }
}

/// A key as it stands in a dotted path: quoted unless it is a bare key of TOML.
pub(crate) fn quoted(key: &str) -> String {
    let bare = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    if !key.is_empty() && key.chars().all(bare) {
        key.to_owned()
    } else {
        format!("{key:?}")
    }
}

/// Characters that are kept of each end of a long text.
const KEPT: usize = 160;

/// `text` without the middle of what is too long to be read: both ends say what it is about.
pub(super) fn clipped(text: &str) -> String {
    let mut ends = text.char_indices();
    let head = ends.nth(KEPT).map(|(at, _)| at);
    let tail = ends.nth_back(KEPT - 1).map(|(at, _)| at);
    match (head, tail) {
        (Some(head), Some(tail)) => format!("{}…{}", &text[..head], &text[tail..]),
        _ => text.to_owned(),
    }
}
