//! JSON Schema of a settings file (draft 7, which editors know), made of what its reader asks for.

use super::report::KeyDoc;
use super::source::Declared;
use serde_json::{Map, Value, json};
use std::ops::RangeInclusive;

/// What a key or a table may hold, as far as a schema can say it.
#[derive(Clone, Debug, PartialEq)]
pub enum Shape {
    Text,
    /// One of a few words.
    Word(Vec<String>),
    Integer(RangeInclusive<i64>),
    Number(RangeInclusive<f64>),
    Boolean,
    /// At most so many texts.
    Texts(usize),
    Table,
    /// At most so many tables whose names the user chooses.
    NamedTables(usize),
    /// At most so many tables without names.
    Tables(usize),
}

impl Shape {
    /// In a word, for the reference.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Text | Self::Word(_) => "string",
            Self::Integer(_) => "integer",
            Self::Number(_) => "number",
            Self::Boolean => "boolean",
            Self::Texts(_) => "list of strings",
            Self::Table | Self::NamedTables(_) => "table",
            Self::Tables(_) => "list of tables",
        }
    }

    fn schema(&self) -> Value {
        let table = || json!({"type": "object", "properties": {}, "additionalProperties": false});
        match self {
            Self::Text => json!({"type": "string"}),
            Self::Word(words) => json!({"type": "string", "enum": words}),
            Self::Integer(range) => json!({"type": "integer", "minimum": range.start(), "maximum": range.end()}),
            Self::Number(range) => json!({"type": "number", "minimum": range.start(), "maximum": range.end()}),
            Self::Boolean => json!({"type": "boolean"}),
            Self::Texts(most) => json!({"type": "array", "maxItems": most, "items": {"type": "string"}}),
            Self::Table => table(),
            Self::NamedTables(most) => {
                json!({"type": "object", "maxProperties": most, "additionalProperties": table()})
            }
            Self::Tables(most) => json!({"type": "array", "maxItems": most, "items": table()}),
        }
    }
}

/// The schema of the file with this name, of which all this was asked.
pub(super) fn of(file: &str, declared: &Declared) -> Value {
    let mut root = Shape::Table.schema();
    for (path, shape) in &declared.tables {
        put(&mut root, path, shape.schema());
    }
    for key in &declared.keys {
        put(&mut root, &key.path, property(key));
    }
    for path in &declared.required {
        let (table, key) = path.rsplit_once('.').unwrap_or(("", path));
        if let Some(table) = node(&mut root, table).as_object_mut() {
            let required = table.entry("required").or_insert_with(|| json!([]));
            required
                .as_array_mut()
                .into_iter()
                .for_each(|keys| keys.push(json!(key)));
        }
    }
    let mut schema = Map::new();
    schema.insert("$schema".to_owned(), json!("http://json-schema.org/draft-07/schema#"));
    schema.insert("title".to_owned(), json!(file));
    schema.extend(root.as_object_mut().map(std::mem::take).unwrap_or_default());
    schema.into()
}

fn property(key: &KeyDoc) -> Value {
    let mut schema = key.shape.schema();
    if !key.doc.is_empty() {
        schema["description"] = json!(key.doc);
    }
    // A default is told as it stands in a file, which is how JSON has it too.
    if let Ok(default) = serde_json::from_str::<Value>(&key.default) {
        schema["default"] = default;
    }
    schema
}

fn put(root: &mut Value, path: &str, schema: Value) {
    *node(root, path) = schema;
}

/// What stands for a dotted path as the reference has it: `services.<service>.disks[].name`.
fn node<'r>(root: &'r mut Value, path: &str) -> &'r mut Value {
    let mut node = root;
    for step in path.split('.').filter(|step| !step.is_empty()) {
        let (name, is_list) = match step.strip_suffix("[]") {
            Some(name) => (name, true),
            None => (step, false),
        };
        node = match name.starts_with('<') {
            true => &mut node["additionalProperties"],
            false => &mut node["properties"][name],
        };
        if is_list {
            node = &mut node["items"];
        }
    }
    node
}
