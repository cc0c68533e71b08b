//! Everything found out about one file while reading it, and where in the file that is.

use super::report::{KeyDoc, PROBLEMS_MAX, Problem, Problems, clipped, unknown_key};
use super::schema::Shape;
use std::path::{Path, PathBuf};

/// One file being read.
pub(crate) struct Source<'s> {
    file: PathBuf,
    text: &'s str,
    found: Vec<Found>,
    /// Problems that were counted and not kept.
    more: usize,
    declared: Declared,
    /// Dotted paths of all keys and tables that were asked for.
    paths: Vec<String>,
}

/// Everything that was asked for, by dotted paths.
#[derive(Default)]
pub(super) struct Declared {
    pub(super) keys: Vec<KeyDoc>,
    pub(super) tables: Vec<(String, Shape)>,
    /// Keys without which their table is refused.
    pub(super) required: Vec<String>,
}

struct Found {
    /// Bytes from the beginning of the file.
    offset: Option<usize>,
    key: String,
    what: What,
}

enum What {
    Wrong(String),
    /// Nobody asked for the key of this name; these were asked for beside it.
    Unknown {
        name: String,
        known: Vec<String>,
    },
}

impl<'s> Source<'s> {
    pub(crate) fn new(file: &Path, text: &'s str) -> Self {
        Self {
            file: file.to_owned(),
            text,
            found: Vec::new(),
            more: 0,
            declared: Declared::default(),
            paths: Vec::new(),
        }
    }

    /// `offset` is in bytes; `key` is a dotted path, empty where there is none.
    pub(crate) fn report(&mut self, offset: Option<usize>, key: String, message: impl Into<String>) {
        let what = What::Wrong(message.into());
        self.found.push(Found { offset, key, what });
    }

    /// Reports keys of one table that nobody asked for: offset, path and name of each.
    ///
    /// Those that [`Self::into_problems`] would drop are only counted, so that a file of nothing else costs little.
    pub(super) fn report_unknown(&mut self, mut unknown: Vec<(usize, String, String)>, known: &[String]) {
        unknown.sort_by_key(|(offset, ..)| *offset);
        self.more += unknown.len().saturating_sub(PROBLEMS_MAX);
        for (offset, key, name) in unknown.into_iter().take(PROBLEMS_MAX) {
            let known = known.to_vec();
            self.found.push(Found {
                offset: Some(offset),
                key,
                what: What::Unknown { name, known },
            });
        }
    }

    pub(super) fn declare(&mut self, key: KeyDoc) {
        self.paths.push(key.path.clone());
        self.declared.keys.push(key);
    }

    pub(super) fn declare_table(&mut self, path: &str, shape: Shape) {
        self.paths.push(path.to_owned());
        self.declared.tables.push((path.to_owned(), shape));
    }

    pub(super) fn declare_required(&mut self, path: String) {
        self.declared.required.push(path);
    }

    /// How much was reported so far.
    pub(super) fn count(&self) -> usize {
        self.found.len() + self.more
    }

    pub(crate) fn is_sound(&self) -> bool {
        self.count() == 0
    }

    pub(super) fn into_declared(self) -> Declared {
        self.declared
    }

    /// The first [`PROBLEMS_MAX`] problems in the order of the file, and how many there are beyond them.
    pub(crate) fn into_problems(mut self) -> Problems {
        let mut found = std::mem::take(&mut self.found);
        found.sort_by_key(|found| found.offset);
        let more = self.more + found.len().saturating_sub(PROBLEMS_MAX);
        let kept = found.into_iter().take(PROBLEMS_MAX);
        let mut problems: Vec<Problem> = kept.map(|found| self.problem(found)).collect();
        if more > 0 {
            problems.push(Problem::of_file(&self.file, format!("and {more} more problems")));
        }
        Problems(problems)
    }

    fn problem(&self, found: Found) -> Problem {
        let message = match found.what {
            What::Wrong(message) => message,
            What::Unknown { name, known } => unknown_key(&name, &known, self.elsewhere(&found.key, &name)),
        };
        let (line, column) = found.offset.map_or((0, 0), |offset| self.place(offset));
        Problem {
            file: self.file.clone(),
            line,
            column,
            key: clipped(&found.key),
            message: clipped(&message),
        }
    }

    /// Line and column, from 1. What is missing at the end of the text is placed on its last line.
    fn place(&self, offset: usize) -> (usize, usize) {
        let text = self.text.strip_suffix('\n').unwrap_or(self.text).as_bytes();
        let before = &text[..offset.min(text.len())];
        let line_start = before.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
        let is_character = |byte: &&u8| **byte & 0b1100_0000 != 0b1000_0000;
        (line, before[line_start..].iter().filter(is_character).count() + 1)
    }

    /// A path that was asked for and ends in `name`: the one that has most in common with `path`.
    fn elsewhere(&self, path: &str, name: &str) -> Option<&str> {
        let common = |other: &&String| {
            path.split('.')
                .zip(other.split('.'))
                .take_while(|(a, b)| a == b)
                .count()
        };
        let ends_so = |other: &&String| other.rsplit('.').next() == Some(name);
        self.paths.iter().filter(ends_so).max_by_key(common).map(String::as_str)
    }
}
