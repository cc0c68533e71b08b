//! Strict TOML: one declaration per key gives the parser, every error with its place, and the generated reference.

use source::Declared;
use std::path::Path;
use toml::de::DeTable;

mod report;
mod schema;
mod source;
mod table;
#[cfg(test)]
mod tests;
mod value;

pub(crate) use report::quoted;
pub use report::{KeyDoc, PROBLEMS_MAX, Problem, Problems};
pub use schema::Shape;
pub(crate) use source::Source;
pub use table::Table;
pub use value::{Bytes, parse_bytes, parse_duration, show_duration};

/// Reads `text` with `declare`, which asks for every key it knows. Keys it never asked for are errors.
///
/// Returns what `declare` built, unless anything was wrong; then every problem, in the order of the file. Text that is not
/// TOML gives every syntax error and nothing else: what its keys belong to is a guess.
///
/// # Errors
/// At most [`PROBLEMS_MAX`] problems, and one more that says how many were left out.
pub fn read<T>(file: &Path, text: &str, declare: impl FnOnce(&mut Table<'_, '_, '_>) -> T) -> Result<T, Problems> {
    let mut source = Source::new(file, text);
    let (parsed, errors) = DeTable::parse_recoverable(text);
    if !errors.is_empty() {
        for error in errors {
            let offset = error.span().map_or(text.len(), |span| span.start);
            source.report(Some(offset), String::new(), error.message());
        }
        return Err(source.into_problems());
    }
    let mut root = Table::new(&mut source, Some(parsed.get_ref()), String::new(), None);
    let built = declare(&mut root);
    root.finish();
    if source.is_sound() {
        Ok(built)
    } else {
        Err(source.into_problems())
    }
}

/// The keys that `declare` asks for, with their defaults: what the generated reference is made from.
pub fn describe<T>(declare: impl FnOnce(&mut Table<'_, '_, '_>) -> T) -> Vec<KeyDoc> {
    declared(declare).keys
}

/// The same as a JSON Schema, for editors: what the reader takes, the schema takes, and keys that nobody asks for it refuses too.
pub fn schema<T>(file: &str, declare: impl FnOnce(&mut Table<'_, '_, '_>) -> T) -> serde_json::Value {
    schema::of(file, &declared(declare))
}

fn declared<T>(declare: impl FnOnce(&mut Table<'_, '_, '_>) -> T) -> Declared {
    let mut source = Source::new(Path::new(""), "");
    let mut root = Table::new(&mut source, None, String::new(), None);
    declare(&mut root);
    drop(root);
    source.into_declared()
}
