//! Each promise of docs/hardening.md and each invariant of docs/architecture.md names tests that hold it: they have to be there.

use super::Sources;
use std::collections::BTreeSet;

/// The documents, and the heading from which on their tables promise something.
pub const DOCUMENTS: &[(&str, &str)] = &[("docs/hardening.md", ""), ("docs/architecture.md", "## Invariants")];

/// `text` is that of `document` from its heading on.
pub fn check(sources: &Sources, document: &str, text: &str) -> Vec<String> {
    let functions: BTreeSet<&str> = sources.rust.iter().flat_map(|(_, text)| functions(text)).collect();
    let rows = text
        .lines()
        .filter(|line| line.starts_with("| ") && !line.starts_with("| promise") && !line.starts_with("| Invariant"));
    let mut found = Vec::new();
    for row in rows {
        let names: Vec<&str> = tests(row).collect();
        if names.is_empty() {
            found.push(format!("{document}: no test is named in {row:?}"));
        }
        let missing = names.into_iter().filter(|name| !is_there(&functions, name));
        found.extend(missing.map(|name| format!("{document}: no test is called {name}")));
    }
    found
}

fn functions(text: &str) -> impl Iterator<Item = &str> {
    let lines = text.lines().filter_map(|line| {
        let line = line.trim_start();
        line.strip_prefix("async fn ").or_else(|| line.strip_prefix("fn "))
    });
    lines.filter_map(|rest| rest.split(['(', '<']).next())
}

/// What is in backticks in a row's last cell.
fn tests(row: &str) -> impl Iterator<Item = &str> {
    let cell = row.trim_end_matches([' ', '|']).rsplit('|').next().unwrap_or_default();
    cell.split('`').skip(1).step_by(2)
}

/// A name that ends with an ellipsis is the beginning of one.
fn is_there(functions: &BTreeSet<&str>, name: &str) -> bool {
    match name.strip_suffix('…') {
        Some(beginning) => functions
            .range(beginning..)
            .next()
            .is_some_and(|found| found.starts_with(beginning)),
        None => functions.contains(name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(row: &str) -> Vec<String> {
        let code = "    #[test]\n    fn f1_a_step_is_nobody() {\n    async fn bodies_are_bounded() {\n";
        let sources = Sources {
            rust: vec![("a/src/a.rs".into(), code.into())],
            manifests: vec![],
        };
        check(
            &sources,
            "docs/x.md",
            &format!("| promise | test |\n|---|---|\n{row}\n"),
        )
    }

    #[test]
    fn a_promise_whose_tests_are_there_passes() {
        assert!(problems("| steps are nobody | `f1_a_step_…`, `bodies_are_bounded` |").is_empty());
    }

    #[test]
    fn a_promise_without_its_test_is_found() {
        assert!(problems("| steps are nobody | `f2_…` |")[0].contains("f2_…"));
        assert!(problems("| steps are nobody | `bodies_are` |")[0].contains("bodies_are"));
        assert!(problems("| steps are nobody | by design |")[0].contains("no test is named"));
    }
}
