//! Strict TOML: one declaration per key gives the parser, every error with its place, and the generated reference.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;
use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

mod report;
#[cfg(test)]
mod tests;
mod value;

pub use report::{KeyDoc, Problem, Problems};
pub use value::{Bytes, parse_bytes, parse_duration};

/// What has been found out about one file while reading it.
pub struct Source<'s> {
    file: PathBuf,
    text: &'s str,
    problems: Vec<Problem>,
    keys: Vec<KeyDoc>,
}

impl Source<'_> {
    fn report(&mut self, offset: Option<usize>, key: &str, message: String) {
        let line = offset.map_or(0, |at| self.text[..at.min(self.text.len())].matches('\n').count() + 1);
        self.problems.push(Problem {
            file: self.file.clone(),
            line,
            key: key.to_owned(),
            message,
        });
    }
}

/// Reads `text` with `declare`, which asks for every key it knows. Keys it never asked for are errors.
///
/// Returns what `declare` built, unless anything was wrong; then every problem, in the order of the file.
pub fn read<T>(file: &Path, text: &str, declare: impl FnOnce(&mut Table<'_, '_, '_>) -> T) -> Result<T, Problems> {
    let mut source = Source {
        file: file.to_owned(),
        text,
        problems: Vec::new(),
        keys: Vec::new(),
    };
    let parsed = match DeTable::parse(text) {
        Ok(parsed) => parsed,
        Err(error) => {
            source.report(error.span().map(|span| span.start), "", error.message().to_owned());
            return Err(Problems(source.problems));
        }
    };
    let mut root = Table::new(&mut source, Some(parsed.get_ref()), String::new());
    let built = declare(&mut root);
    root.finish();
    if source.problems.is_empty() {
        Ok(built)
    } else {
        source.problems.sort_by_key(|problem| problem.line);
        Err(Problems(source.problems))
    }
}

/// The keys that `declare` asks for, with their defaults: what the generated reference is made from.
pub fn describe<T>(declare: impl FnOnce(&mut Table<'_, '_, '_>) -> T) -> Vec<KeyDoc> {
    let mut source = Source {
        file: PathBuf::new(),
        text: "",
        problems: Vec::new(),
        keys: Vec::new(),
    };
    let mut root = Table::new(&mut source, None, String::new());
    declare(&mut root);
    drop(root);
    source.keys
}

/// One table of the file: asking it for a key declares the key.
pub struct Table<'a, 's, 't> {
    source: &'a mut Source<'s>,
    table: Option<&'t DeTable<'t>>,
    path: String,
    known: Vec<String>,
}

impl<'a, 's, 't> Table<'a, 's, 't> {
    fn new(source: &'a mut Source<'s>, table: Option<&'t DeTable<'t>>, path: String) -> Self {
        Self {
            source,
            table,
            path,
            known: Vec::new(),
        }
    }

    fn full(&self, key: &str) -> String {
        if self.path.is_empty() {
            key.to_owned()
        } else {
            format!("{}.{key}", self.path)
        }
    }

    /// Whether the file has this key.
    pub fn has(&self, key: &str) -> bool {
        self.entry(key).is_some()
    }

    /// Whether the table stands in the file at all.
    pub fn is_present(&self) -> bool {
        self.table.is_some()
    }

    /// Whether the file has `key` in the table `outer` of this one.
    pub fn has_in(&self, outer: &str, key: &str) -> bool {
        match self.entry(outer).map(|(_, value)| value.get_ref()) {
            Some(DeValue::Table(inner)) => inner.iter().any(|(name, _)| name.get_ref().as_ref() == key),
            _ => false,
        }
    }

    fn entry(&self, key: &str) -> Option<(&'t Spanned<DeString<'t>>, &'t Spanned<DeValue<'t>>)> {
        self.table?.iter().find(|(name, _)| name.get_ref().as_ref() == key)
    }

    /// Reports `message` about `key`, at its place in the file: for checks that span several keys.
    pub fn refuse(&mut self, key: &str, message: impl Into<String>) {
        let offset = self.entry(key).map(|(name, _)| name.span().start);
        let path = self.full(key);
        self.source.report(offset, &path, message.into());
    }

    fn declare(&mut self, key: &str, kind: &'static str, default: String, doc: &'static str) {
        self.known.push(key.to_owned());
        let path = self.full(key);
        self.source.keys.push(KeyDoc {
            path,
            kind,
            default,
            doc,
        });
    }

    fn take<T>(&mut self, key: &str, read: impl FnOnce(&DeValue<'t>) -> Result<T, String>) -> Option<T> {
        let (_, value) = self.entry(key)?;
        match read(value.get_ref()) {
            Ok(read) => Some(read),
            Err(message) => {
                let path = self.full(key);
                self.source.report(Some(value.span().start), &path, message);
                None
            }
        }
    }

    /// Text that `parse` accepts; `default` is in the form a user would write.
    pub fn parsed<T>(
        &mut self,
        key: &str,
        default: &str,
        doc: &'static str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> T {
        self.declare(key, "string", format!("{default:?}"), doc);
        let read = self.take(key, |value| parse(value::text(value)?));
        read.unwrap_or_else(|| parse(default).unwrap_or_else(|why| panic!("default of {key}: {why}")))
    }

    /// Text that `parse` accepts, or nothing.
    pub fn optional<T>(
        &mut self,
        key: &str,
        doc: &'static str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Option<T> {
        self.declare(key, "string", String::new(), doc);
        self.take(key, |value| parse(value::text(value)?))
    }

    pub fn string(&mut self, key: &str, default: &str, doc: &'static str) -> String {
        self.parsed(key, default, doc, |text| Ok(text.to_owned()))
    }

    pub fn path(&mut self, key: &str, default: &str, doc: &'static str) -> PathBuf {
        self.parsed(key, default, doc, |text| Ok(PathBuf::from(text)))
    }

    pub fn address(&mut self, key: &str, default: &str, doc: &'static str) -> SocketAddr {
        self.parsed(key, default, doc, |text| {
            text.parse().map_err(|_| format!("{text:?} is not ADDRESS:PORT"))
        })
    }

    /// A duration: `"10s"`, `"1m 30s"`, `"250ms"`.
    pub fn duration(&mut self, key: &str, default: &str, doc: &'static str) -> Duration {
        self.parsed(key, default, doc, parse_duration)
    }

    /// A size: `"64KiB"`, `"1MiB"`, `"500MB"`.
    pub fn bytes(&mut self, key: &str, default: &str, doc: &'static str) -> Bytes {
        self.parsed(key, default, doc, parse_bytes)
    }

    /// One of a few words.
    pub fn choice<T: Copy>(&mut self, key: &str, default: &str, doc: &'static str, words: &[(&str, T)]) -> T {
        self.parsed(key, default, doc, |text| {
            words
                .iter()
                .find(|(word, _)| *word == text)
                .map(|(_, meant)| *meant)
                .ok_or_else(|| {
                    let names: Vec<String> = words.iter().map(|(word, _)| format!("{word:?}")).collect();
                    format!("{text:?} is not one of {}", names.join(", "))
                })
        })
    }

    /// A whole number within `range`.
    pub fn integer(&mut self, key: &str, default: i64, range: std::ops::RangeInclusive<i64>, doc: &'static str) -> i64 {
        self.declare(key, "integer", default.to_string(), doc);
        self.take(key, |value| value::integer(value, &range)).unwrap_or(default)
    }

    /// A whole number within `range`, or nothing.
    pub fn optional_integer(
        &mut self,
        key: &str,
        range: std::ops::RangeInclusive<i64>,
        doc: &'static str,
    ) -> Option<i64> {
        self.declare(key, "integer", String::new(), doc);
        self.take(key, |value| value::integer(value, &range))
    }

    pub fn boolean(&mut self, key: &str, default: bool, doc: &'static str) -> bool {
        self.declare(key, "boolean", default.to_string(), doc);
        self.take(key, value::boolean).unwrap_or(default)
    }

    /// A decimal number greater than zero, or nothing.
    pub fn optional_positive(&mut self, key: &str, doc: &'static str) -> Option<f64> {
        self.declare(key, "number", String::new(), doc);
        self.take(key, value::positive)
    }

    /// A list of texts that `parse` accepts.
    pub fn list<T>(
        &mut self,
        key: &str,
        default: &[&str],
        doc: &'static str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Vec<T> {
        self.declare(key, "list of strings", format!("{default:?}"), doc);
        let read = self.take(key, |value| value::texts(value)?.into_iter().map(&parse).collect());
        read.unwrap_or_else(|| default.iter().filter_map(|text| parse(text).ok()).collect())
    }

    /// A table under this one; declared also when the file lacks it.
    pub fn table<T>(&mut self, key: &str, declare: impl FnOnce(&mut Table<'_, 's, 't>) -> T) -> T {
        self.known.push(key.to_owned());
        let inner = self.inner_table(key);
        let path = self.full(key);
        let mut table = Table::new(&mut *self.source, inner, path);
        let built = declare(&mut table);
        table.finish();
        built
    }

    fn inner_table(&mut self, key: &str) -> Option<&'t DeTable<'t>> {
        let (_, value) = self.entry(key)?;
        if let DeValue::Table(inner) = value.get_ref() {
            return Some(inner);
        }
        let path = self.full(key);
        self.source.report(
            Some(value.span().start),
            &path,
            format!("is {}, not a table", value::kind(value.get_ref())),
        );
        None
    }

    /// Tables under `key` whose names the user chooses (`services.web`); `declare` gets each name.
    pub fn named_tables<T>(
        &mut self,
        key: &str,
        placeholder: &str,
        mut declare: impl FnMut(&str, &mut Table<'_, 's, 't>) -> T,
    ) -> Vec<(String, T)> {
        self.known.push(key.to_owned());
        let path = self.full(key);
        let Some(outer) = self.inner_table(key) else {
            if self.table.is_none() {
                let mut table = Table::new(&mut *self.source, None, format!("{path}.{placeholder}"));
                declare(placeholder, &mut table);
            }
            return Vec::new();
        };
        let names: Vec<String> = outer.iter().map(|(name, _)| name.get_ref().to_string()).collect();
        let mut within = Table::new(&mut *self.source, Some(outer), path);
        names
            .into_iter()
            .map(|name| (name.clone(), within.table(&name, |table| declare(&name, table))))
            .collect()
    }

    /// Tables in an array (`[[env]]`).
    pub fn tables<T>(&mut self, key: &str, mut declare: impl FnMut(&mut Table<'_, 's, 't>) -> T) -> Vec<T> {
        self.known.push(key.to_owned());
        let path = self.full(key);
        let Some((_, value)) = self.entry(key) else {
            if self.table.is_none() {
                declare(&mut Table::new(&mut *self.source, None, format!("{path}[]")));
            }
            return Vec::new();
        };
        let DeValue::Array(items) = value.get_ref() else {
            self.source
                .report(Some(value.span().start), &path, "is not a list of tables".to_owned());
            return Vec::new();
        };
        let mut built = Vec::new();
        for (index, item) in items.iter().enumerate() {
            let DeValue::Table(inner) = item.get_ref() else {
                self.source.report(
                    Some(item.span().start),
                    &format!("{path}[{index}]"),
                    "is not a table".to_owned(),
                );
                continue;
            };
            let mut table = Table::new(&mut *self.source, Some(inner), format!("{path}[{index}]"));
            built.push(declare(&mut table));
            table.finish();
        }
        built
    }

    /// Reports every key nobody asked for, with the nearest known one.
    fn finish(self) {
        let Some(table) = self.table else { return };
        for (name, _) in table.iter() {
            let key = name.get_ref().as_ref();
            if self.known.iter().any(|known| known == key) {
                continue;
            }
            let path = self.full(key);
            self.source
                .report(Some(name.span().start), &path, report::unknown_key(key, &self.known));
        }
    }
}
