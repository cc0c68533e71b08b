//! Tables of a settings file: asking one for a key declares the key, and keys nobody asked for are reported.

use super::report::{KeyDoc, quoted};
use super::schema::Shape;
use super::source::Source;
use super::value;
use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

mod keys;

/// One table of the file: asking it for a key declares the key.
pub struct Table<'a, 's, 't> {
    source: &'a mut Source<'s>,
    table: Option<&'t DeTable<'t>>,
    path: String,
    /// Where it begins, in bytes from the beginning of the file; nothing for the root.
    begins: Option<usize>,
    known: Vec<String>,
    /// How much had been reported before anything of this table was read.
    reported: usize,
}

impl<'a, 's, 't> Table<'a, 's, 't> {
    pub(super) fn new(
        source: &'a mut Source<'s>,
        table: Option<&'t DeTable<'t>>,
        path: String,
        begins: Option<usize>,
    ) -> Self {
        let reported = source.count();
        Self {
            source,
            table,
            path,
            begins,
            known: Vec::new(),
            reported,
        }
    }

    fn full(&self, key: &str) -> String {
        if self.path.is_empty() {
            quoted(key)
        } else {
            format!("{}.{}", self.path, quoted(key))
        }
    }

    /// Whether the file has this key.
    pub fn has(&self, key: &str) -> bool {
        self.entry(key).is_some()
    }

    /// Whether the file has this key, and it is a table.
    pub fn has_table(&self, key: &str) -> bool {
        matches!(self.entry(key), Some((_, value)) if matches!(value.get_ref(), DeValue::Table(_)))
    }

    /// Whether the table stands in the file at all.
    pub fn is_present(&self) -> bool {
        self.table.is_some()
    }

    /// Whether nothing was wrong with what has been asked for so far: what follows from a mistake is not another one.
    pub fn is_sound(&self) -> bool {
        self.source.count() == self.reported
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

    fn begin_of(&self, key: &str) -> Option<usize> {
        self.entry(key).map(|(name, _)| name.span().start)
    }

    /// Reports `message` about `key`, at its place in the file or that of the table: for checks that span several keys.
    pub fn refuse(&mut self, key: &str, message: impl Into<String>) {
        let offset = self.begin_of(key).or(self.begins);
        let path = self.full(key);
        self.source.report(offset, path, message);
    }

    /// A key of another system's files that does nothing here: `why` is said of it in place of "unknown".
    pub fn foreign(&mut self, key: &str, why: &str) {
        if self.has(key) {
            self.known.push(key.to_owned());
            self.refuse(key, why);
        }
    }

    /// Reports `message` about the table itself.
    pub fn refuse_table(&mut self, message: impl Into<String>) {
        self.source.report(self.begins, self.path.clone(), message);
    }

    /// Refuses a table of the file that lacks `key`.
    pub fn require(&mut self, key: &str) {
        self.source.declare_required(self.full(key));
        if self.is_present() && !self.has(key) {
            self.refuse(key, "is missing");
        }
    }

    fn declare(&mut self, key: &str, shape: Shape, default: String, doc: &'static str) {
        self.known.push(key.to_owned());
        let path = self.full(key);
        self.source.declare(KeyDoc {
            path,
            kind: shape.kind(),
            shape,
            default,
            doc,
        });
    }

    fn declare_table(&mut self, key: &str, shape: Shape) -> String {
        self.known.push(key.to_owned());
        let path = self.full(key);
        self.source.declare_table(&path, shape);
        path
    }

    fn take<T>(&mut self, key: &str, read: impl FnOnce(&DeValue<'t>) -> Result<T, String>) -> Option<T> {
        let (_, value) = self.entry(key)?;
        match read(value.get_ref()) {
            Ok(read) => Some(read),
            Err(message) => {
                let path = self.full(key);
                self.source.report(Some(value.span().start), path, message);
                None
            }
        }
    }

    /// A table under this one; declared also when the file lacks it.
    pub fn table<T>(&mut self, key: &str, declare: impl FnOnce(&mut Table<'_, 's, 't>) -> T) -> T {
        let path = self.declare_table(key, Shape::Table);
        let inner = self.inner_table(key);
        let begins = self.begin_of(key);
        let mut table = Table::new(&mut *self.source, inner, path, begins);
        let built = declare(&mut table);
        table.finish();
        built
    }

    fn inner_table(&mut self, key: &str) -> Option<&'t DeTable<'t>> {
        self.take(key, |value| match value {
            DeValue::Table(_) => Ok(()),
            other => Err(format!("is {}, not a table", value::kind(other))),
        })?;
        match self.entry(key)?.1.get_ref() {
            DeValue::Table(inner) => Some(inner),
            _ => None,
        }
    }

    /// At most `most` tables under `key` whose names the user chooses (`services.web`); `declare` gets each name.
    pub fn named_tables<T>(
        &mut self,
        key: &str,
        placeholder: &str,
        most: usize,
        mut declare: impl FnMut(&str, &mut Table<'_, 's, 't>) -> T,
    ) -> Vec<(String, T)> {
        let path = self.declare_table(key, Shape::NamedTables(most));
        let Some(outer) = self.inner_table(key) else {
            if self.table.is_none() {
                let path = format!("{path}.{placeholder}");
                declare(placeholder, &mut Table::new(&mut *self.source, None, path, None));
            }
            return Vec::new();
        };
        if outer.len() > most {
            self.refuse(key, format!("has {} tables, more than {most}", outer.len()));
        }
        let begins = self.begin_of(key);
        let mut within = Table::new(&mut *self.source, Some(outer), path, begins);
        let names = outer.iter().take(most).map(|(name, _)| name.get_ref().to_string());
        names
            .map(|name| {
                let built = within.table(&name, |table| declare(&name, table));
                (name, built)
            })
            .collect()
    }

    /// At most `most` tables in an array (`[[env]]`).
    pub fn tables<T>(
        &mut self,
        key: &str,
        most: usize,
        mut declare: impl FnMut(&mut Table<'_, 's, 't>) -> T,
    ) -> Vec<T> {
        let path = self.declare_table(key, Shape::Tables(most));
        if self.table.is_none() {
            declare(&mut Table::new(&mut *self.source, None, format!("{path}[]"), None));
            return Vec::new();
        }
        let items = self.items(key, most, "list of tables, each under its own [[…]]");
        let mut built = Vec::new();
        for (index, item) in items.iter().enumerate() {
            let (path, begins) = (format!("{path}[{index}]"), item.span().start);
            let DeValue::Table(inner) = item.get_ref() else {
                let message = format!("is {}, not a table", value::kind(item.get_ref()));
                self.source.report(Some(begins), path, message);
                continue;
            };
            let mut table = Table::new(&mut *self.source, Some(inner), path, Some(begins));
            built.push(declare(&mut table));
            table.finish();
        }
        built
    }

    /// What stands in the list of `key`: nothing when there is none, or something else, or more than `most`.
    fn items(&mut self, key: &str, most: usize, wanted: &str) -> &'t [Spanned<DeValue<'t>>] {
        let checked = self.take(key, |value| match value {
            DeValue::Array(items) if items.len() > most => Err(format!("has {} items, more than {most}", items.len())),
            DeValue::Array(_) => Ok(()),
            other => Err(format!("is {}, not a {wanted}", value::kind(other))),
        });
        match (checked, self.entry(key).map(|(_, value)| value.get_ref())) {
            (Some(()), Some(DeValue::Array(items))) => items,
            _ => &[],
        }
    }

    /// Reports every key nobody asked for, with the nearest known one.
    pub(super) fn finish(self) {
        let Some(table) = self.table else { return };
        let stranger = |name: &str| !self.known.iter().any(|known| known == name);
        let names = table.keys().filter(|name| stranger(name.get_ref()));
        let unknown = names.map(|name| {
            let key = name.get_ref().as_ref();
            (name.span().start, self.full(key), key.to_owned())
        });
        let unknown = unknown.collect();
        self.source.report_unknown(unknown, &self.known);
    }
}
