//! The kinds of values that a key can be asked for.

use super::Table;
use crate::settings::schema::Shape;
use crate::settings::value::{self, Bytes, parse_bytes, parse_duration};
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

/// Most items of a list.
const LIST_MAX: usize = 1_000;

impl Table<'_, '_, '_> {
    /// Text that `parse` accepts; `default` is in the form a user would write.
    pub fn parsed<T>(
        &mut self,
        key: &str,
        default: &str,
        doc: &'static str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> T {
        self.shaped(key, Shape::Text, (default, doc), parse)
    }

    /// The same of any shape; with its default and its meaning.
    fn shaped<T>(
        &mut self,
        key: &str,
        shape: Shape,
        (default, doc): (&str, &'static str),
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> T {
        self.declare(key, shape, format!("{default:?}"), doc);
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
        self.declare(key, Shape::Text, String::new(), doc);
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
        let shape = Shape::Word(words.iter().map(|(word, _)| (*word).to_owned()).collect());
        self.shaped(key, shape, (default, doc), |text| {
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
    pub fn integer(&mut self, key: &str, default: i64, range: RangeInclusive<i64>, doc: &'static str) -> i64 {
        self.declare(key, Shape::Integer(range.clone()), default.to_string(), doc);
        self.take(key, |value| value::integer(value, &range)).unwrap_or(default)
    }

    /// A whole number within `range`, or nothing.
    pub fn optional_integer(&mut self, key: &str, range: RangeInclusive<i64>, doc: &'static str) -> Option<i64> {
        self.declare(key, Shape::Integer(range.clone()), String::new(), doc);
        self.take(key, |value| value::integer(value, &range))
    }

    pub fn boolean(&mut self, key: &str, default: bool, doc: &'static str) -> bool {
        self.declare(key, Shape::Boolean, default.to_string(), doc);
        self.take(key, value::boolean).unwrap_or(default)
    }

    /// A number within `range`, or nothing.
    pub fn optional_number(&mut self, key: &str, range: RangeInclusive<f64>, doc: &'static str) -> Option<f64> {
        self.declare(key, Shape::Number(range.clone()), String::new(), doc);
        self.take(key, |value| value::number(value, &range))
    }

    /// A list of texts that `parse` accepts; what it does not accept is reported item by item.
    pub fn list<T>(
        &mut self,
        key: &str,
        default: &[&str],
        doc: &'static str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Vec<T> {
        self.declare(key, Shape::Texts(LIST_MAX), format!("{default:?}"), doc);
        if !self.has(key) {
            return default.iter().filter_map(|text| parse(text).ok()).collect();
        }
        let mut read = Vec::new();
        for (index, item) in self.items(key, LIST_MAX, "list of strings").iter().enumerate() {
            match value::text(item.get_ref()).and_then(&parse) {
                Ok(item) => read.push(item),
                Err(message) => {
                    let path = format!("{}[{index}]", self.full(key));
                    self.source.report(Some(item.span().start), path, message);
                }
            }
        }
        read
    }
}
