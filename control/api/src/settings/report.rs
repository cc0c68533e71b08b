//! How mistakes in settings files are told, and how the keys are listed in the reference.

use std::fmt;
use std::path::PathBuf;

/// One thing wrong with a settings file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    pub file: PathBuf,
    /// Line in the file, from 1; 0 when the problem has no place.
    pub line: usize,
    /// Dotted path of the key; empty for a syntax error.
    pub key: String,
    pub message: String,
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
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyDoc {
    pub path: String,
    pub kind: &'static str,
    pub default: String,
    pub doc: &'static str,
}

/// Less alike than this, a known key is no likely meaning of an unknown one.
const ALIKE: f64 = 0.6;

/// What is said about a key that nobody asked for.
pub(super) fn unknown_key(key: &str, known: &[String]) -> String {
    let mut ranked: Vec<(f64, &String)> = known
        .iter()
        .map(|candidate| (strsim::jaro_winkler(key, candidate), candidate))
        .collect();
    ranked.sort_by(|a, b| b.0.total_cmp(&a.0));
    match ranked.first() {
        Some((score, nearest)) if *score >= ALIKE => format!("unknown key {key:?}; did you mean {nearest:?}?"),
        _ => format!("unknown key {key:?}; known here: {}", known.join(", ")),
    }
}
