//! The schemas beside the readers they are made with: an editor never marks what would be taken.

use super::generated;
use boon::{Compiler, SchemaIndex, Schemas};
use miren_api::app_file;
use proptest::prelude::*;
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};

struct Schema {
    schemas: Schemas,
    root: SchemaIndex,
}

impl Schema {
    fn of(schema: Value) -> Self {
        let (mut schemas, mut compiler) = (Schemas::new(), Compiler::new());
        compiler.add_resource("settings.json", schema).unwrap();
        let root = compiler.compile("settings.json", &mut schemas).unwrap();
        Self { schemas, root }
    }

    fn takes(&self, text: &str) -> Result<(), String> {
        let table: toml::Table = text.parse().unwrap_or_else(|error| panic!("{error}: {text}"));
        let document = serde_json::to_value(table).unwrap();
        let checked = self.schemas.validate(&document, self.root);
        checked.map_err(|error| format!("{error:#}\n{text}"))
    }
}

fn app() -> Schema {
    Schema::of(app_file::schema())
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Of all three files, as the documents have them.
fn documented() -> Vec<Schema> {
    let read = |name: &str| {
        let path = root().join(format!("docs/schema/{name}.json"));
        serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
    };
    ["app", "control", "proxy"].map(|name| Schema::of(read(name))).into()
}

/// Examples of settings in a text of Markdown.
fn examples(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut open: Option<String> = None;
    for line in text.lines() {
        match (&mut open, line.trim_start()) {
            (None, "```toml") => open = Some(String::new()),
            (Some(_), "```") => found.extend(open.take()),
            (Some(example), _) => example.push_str(&format!("{line}\n")),
            (None, _) => {}
        }
    }
    found
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn g18_what_the_reader_takes_the_schema_takes(made in generated::app()) {
        let text = toml::to_string(&generated::table(&made)).unwrap();
        prop_assert_eq!(app_file::parse(Some(&text), None).map(drop), Ok(()));
        prop_assert_eq!(app().takes(&text), Ok(()));
    }
}

#[test]
fn g18_keys_and_values_that_no_reader_takes_the_schema_refuses() {
    let schema = app();
    for text in [
        "nmae = \"shop\"",
        "post_import = \"x\"",
        "[services.web]\nprot = 1",
        "[services.web]\nport = 0",
        "[services.web]\nport = \"80\"",
        "[services.web.concurrency]\nmode = \"some\"",
        "[services.web.resources]\ncpu = 2048",
        "[[services.web.disks]]\nname = \"data\"",
        "[services.web.disks]\nname = \"data\"",
        "[[env]]\nvalue = \"1\"",
        "[[env]]\nkey = \"A\"\nrequired = \"yes\"",
        "[build]\nonbuild = \"x\"",
        "include = [1]",
    ] {
        assert!(app_file::parse(Some(text), Some("web: x\n")).is_err(), "{text}");
        assert!(schema.takes(text).is_err(), "{text}");
    }
    for text in [
        "",
        "[services.web]\ncommand = \"x\"\nport = 0x50",
        "[services.web.resources]\ncpu = 2",
        "[[env]]\nkey = \"A\"\nrequired = true",
    ] {
        assert_eq!(
            app_file::parse(Some(text), Some("web: x\n")).map(drop),
            Ok(()),
            "{text}"
        );
        assert_eq!(schema.takes(text), Ok(()));
    }
}

#[test]
fn g18_every_key_of_the_reference_is_in_the_schema_with_its_meaning() {
    let schema = app_file::schema();
    for key in app_file::reference() {
        let mut node = &schema;
        for step in key.path.split('.') {
            let (name, is_list) = (step.trim_end_matches("[]"), step.ends_with("[]"));
            node = match name.starts_with('<') {
                true => &node["additionalProperties"],
                false => &node["properties"][name],
            };
            node = if is_list { &node["items"] } else { node };
        }
        assert_eq!(
            node["description"].as_str().unwrap_or_default(),
            key.doc,
            "{}",
            key.path
        );
        assert!(node["type"].is_string(), "{}", key.path);
    }
    assert_eq!(
        schema["properties"]["services"]["additionalProperties"]["additionalProperties"],
        false
    );
    assert_eq!(
        schema["properties"]["env"]["items"]["required"],
        serde_json::json!(["key"])
    );
}

#[test]
fn g18_every_example_of_the_documents_is_one_of_a_settings_file() {
    let schemas = documented();
    let mut pages = vec![root().join("README.md")];
    let docs = fs::read_dir(root().join("docs"))
        .unwrap()
        .map(|entry| entry.unwrap().path());
    pages.extend(docs.filter(|path| path.extension().is_some_and(|end| end == "md")));
    let mut count = 0;
    for page in pages {
        for example in examples(&fs::read_to_string(&page).unwrap()) {
            let refused: Vec<String> = schemas
                .iter()
                .filter_map(|schema| schema.takes(&example).err())
                .collect();
            assert!(
                refused.len() < schemas.len(),
                "{}: {}",
                page.display(),
                refused.join("\n")
            );
            count += 1;
        }
    }
    assert!(count > 3, "only {count} examples are found");
    for app in fs::read_dir(root().join("tests/apps")).unwrap() {
        if let Ok(text) = fs::read_to_string(app.unwrap().path().join(".miren/app.toml")) {
            assert_eq!(schemas[0].takes(&text), Ok(()));
        }
    }
}
