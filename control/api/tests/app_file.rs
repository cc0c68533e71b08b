//! Properties of the one parser of `app.toml` and `Procfile`, over texts and apps made up at random.

#[path = "app_file/generated.rs"]
mod generated;
#[path = "app_file/hold.rs"]
mod hold;
#[path = "app_file/schema.rs"]
mod schema;

use generated::{app, expected, form, print, table};
use hold::hold;
use miren_api::app_file::{self, FILE_MAX, reference};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use std::collections::BTreeSet;
use toml::{Table, Value};

/// A value that no generated setting has, so that its line can be found.
const MARK: i64 = 918_273_645_546_372_819;

/// Pieces that settings are made of, a bar between each two.
const PIECES: &str = "|[|]|[[|]]|{|}|.|=|,|\n|\r\n| |\"|'|\"\"\"|'''|\\|\\u0000|#|:|-|\0|é|🦀|services|web|env|key|value\
                      |command|port|concurrency|mode|\"auto\"|\"x\"|= 1|= \"1s\"|true|nan|0x10|1979-05-27\
                      |[services.web]\n|[[env]]\n|command = \"x\"\n|web: x\n";

/// Pieces in any order.
fn soup() -> impl Strategy<Value = String> {
    let pieces: Vec<&str> = PIECES.split('|').collect();
    vec(select(pieces), 0..40).prop_map(|pieces| pieces.concat())
}

/// A change of a text: what stands at one place is cut, doubled or replaced.
#[derive(Clone, Debug)]
struct Edit {
    from: Index,
    length: usize,
    with: Option<String>,
}

fn edit() -> impl Strategy<Value = Edit> {
    let with = prop_oneof![Just(None), soup().prop_map(Some), "(?s).{0,3}".prop_map(Some)];
    (any::<Index>(), 0..30_usize, with).prop_map(|(from, length, with)| Edit { from, length, with })
}

fn edited(text: &str, edits: &[Edit]) -> String {
    let mut characters: Vec<char> = text.chars().collect();
    for edit in edits {
        let from = edit.from.index(characters.len() + 1);
        let range = from..(from + edit.length).min(characters.len());
        let piece: Vec<char> = match &edit.with {
            Some(with) => with.chars().collect(),
            None => characters[range.clone()].repeat(2),
        };
        characters.splice(range, piece);
    }
    characters.into_iter().collect()
}

/// Keys that the reference has directly in the table of this path, like `services.<service>.health`.
fn known(path: &str) -> BTreeSet<String> {
    let prefix = if path.is_empty() {
        String::new()
    } else {
        format!("{path}.")
    };
    let below = |key: &str| key.strip_prefix(&prefix).map(str::to_owned);
    let names = reference().into_iter().filter_map(|key| below(&key.path));
    names
        .map(|rest| rest.split(['.', '[']).next().unwrap_or_default().to_owned())
        .collect()
}

/// Every table of the app that has keys of its own, with its path in the reference.
fn visit(table: &mut Table, path: &str, see: &mut dyn FnMut(&str, &mut Table)) {
    if path != "services" {
        see(path, table);
    }
    for (key, value) in table.iter_mut() {
        let name = if path == "services" { "<service>" } else { key };
        let inner = if path.is_empty() {
            name.to_owned()
        } else {
            format!("{path}.{name}")
        };
        match value {
            Value::Table(table) => visit(table, &inner, see),
            Value::Array(items) => {
                for item in items.iter_mut().filter_map(Value::as_table_mut) {
                    visit(item, &format!("{inner}[]"), see);
                }
            }
            _ => {}
        }
    }
}

/// Puts `key`, made longer where it is known, into the table chosen by `place`; returns it as it is there.
fn put_strange(table: &mut Table, place: &Index, mut key: String) -> String {
    let mut count = 0;
    visit(table, "", &mut |_, _| count += 1);
    let chosen = place.index(count);
    let mut at = 0;
    visit(table, "", &mut |path, table| {
        if at == chosen {
            while known(path).contains(&key) {
                key.push('_');
            }
            table.insert(key.clone(), Value::Integer(MARK));
        }
        at += 1;
    });
    key
}

/// Any key, or one that is known somewhere and perhaps mistyped.
fn key() -> impl Strategy<Value = String> {
    let names = || {
        let paths = reference().into_iter().map(|key| key.path);
        select(
            paths
                .map(|path| path.rsplit('.').next().unwrap_or_default().to_owned())
                .collect::<Vec<_>>(),
        )
    };
    let mistyped = (names(), any::<Index>()).prop_map(|(mut name, at)| {
        name.remove(at.index(name.len()));
        name
    });
    prop_oneof!["(?s).{0,12}", names(), mistyped]
}

/// Nothing is kept in a file: a case that fails is printed whole.
fn config() -> ProptestConfig {
    ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn b1_any_text_is_read_or_refused_inside_its_lines(app in "(?s).{0,200}", procfile in "(?s).{0,100}") {
        hold(&app, &procfile);
    }

    #[test]
    fn b1_pieces_of_settings_in_any_order_are_read_or_refused(app in soup(), procfile in soup()) {
        hold(&app, &procfile);
    }

    #[test]
    fn b1_mistakes_anywhere_in_valid_settings_are_read_or_refused(
        app in app(), form in form(), edits in vec(edit(), 1..4), procfile in soup(),
    ) {
        hold(&edited(&print(&table(&app), form), &edits), &procfile);
    }

    #[test]
    fn b1_settings_mean_the_same_in_every_form_of_toml(app in app(), form in form()) {
        let text = print(&table(&app), form);
        let parsed = app_file::parse(Some(&text), None);
        prop_assert_eq!(parsed, Ok(expected(&app)), "{}", text);
    }

    #[test]
    fn b1_an_unknown_key_is_refused_by_name_and_line_in_every_table(
        app in app(), form in form(), place in any::<Index>(), key in key(),
    ) {
        let mut table = table(&app);
        let key = put_strange(&mut table, &place, key);
        let text = print(&table, form);
        let at = text.find(&MARK.to_string()).expect("it was put there");
        let line = text[..at].matches('\n').count() + 1;
        let problems = app_file::parse(Some(&text), None).expect_err("it was accepted");
        prop_assert_eq!(problems.0.len(), 1, "{}\n{}", problems, text);
        let problem = &problems.0[0];
        prop_assert_eq!(problem.line, line, "{}\n{}", problem, text);
        prop_assert!(problem.message.starts_with(&format!("unknown key {key:?}")), "{}", problem);
        prop_assert!(problem.key.ends_with(&key) || problem.key.ends_with(&format!("{key:?}")), "{}", problem);
    }
}

/// The largest files there may be, of what goes deep or is much: no stack is used up, and no time without end.
#[test]
fn b1_files_of_the_largest_size_are_answered() {
    let full = |piece: &str| piece.repeat((FILE_MAX - 4) / piece.len());
    let numbered = |piece: fn(usize) -> String, most: usize| (0..most).map(piece).collect::<String>();
    let texts = [
        full("a."),
        full("[a."),
        full("["),
        full("a=["),
        full("{a="),
        full("a={a=1}\n"),
        full("=\n"),
        full("[[env]]\n"),
        full("[services.web]\n"),
        format!("{}a=1", full("a.")),
        format!("[{}a]", full("a.")),
        format!("a = {}", "[".repeat(79) + &"]".repeat(79)),
        numbered(|n| format!("k{n}=1\n"), 25_000),
        numbered(|n| format!("[services.s{n}]\n"), 12_000),
        numbered(|n| format!("s{n}: x\n"), 25_000),
    ];
    for text in texts {
        assert!(text.len() <= FILE_MAX, "it is read");
        hold(&text, &text);
    }
}
