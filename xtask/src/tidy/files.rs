//! What a source file must look like: short, introduced by one sentence, found by its own name.

use super::Sources;

/// Longest source file, in lines.
const LONGEST_FILE: usize = 400;
/// Marks of work that is not finished. Built from parts, so that this file does not carry them.
const UNFINISHED: &[&str] = &[
    concat!("FIX", "ME"),
    concat!("XX", "X"),
    concat!("TO", "DO"),
    concat!("#[ig", "nore]"),
];
/// Endings of type names that say nothing.
const EMPTY_ENDINGS: &[&str] = &["Manager", "Helper", "Util", "Utils", "Info", "Data", "Handler"];
/// Words that the glossary has better ones for.
const OTHER_WORDS: &[&str] = &["Backend", "Replica", "Rollout"];

pub fn check(sources: &Sources) -> Vec<String> {
    let mut found = Vec::new();
    for (path, text) in &sources.rust {
        let mut say = |message: String| found.push(format!("{path}: {message}"));
        if path.ends_with("/mod.rs") {
            say("is a mod.rs; name the file after its module".to_owned());
        }
        let lines = text.lines().count();
        if lines > LONGEST_FILE {
            say(format!("has {lines} lines, more than {LONGEST_FILE}"));
        }
        if !text.starts_with("//!") {
            say("does not start with a //! sentence that says what it decides".to_owned());
        }
        for mark in UNFINISHED.iter().filter(|mark| text.contains(**mark)) {
            say(format!("has {mark}"));
        }
        for name in type_names(text).filter(|name| is_poor(name)) {
            say(format!(
                "type name {name} says too little, or has a better word in docs/glossary.md"
            ));
        }
    }
    found
}

fn is_poor(name: &str) -> bool {
    EMPTY_ENDINGS.iter().any(|ending| name.ends_with(ending)) || OTHER_WORDS.iter().any(|word| name.contains(word))
}

fn type_names(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter_map(|line| {
        let line = line.trim_start();
        let line = line
            .strip_prefix("pub ")
            .or_else(|| line.strip_prefix("pub(crate) "))
            .unwrap_or(line);
        let rest = ["struct ", "enum ", "trait "]
            .iter()
            .find_map(|keyword| line.strip_prefix(keyword))?;
        rest.split(|c: char| !c.is_alphanumeric() && c != '_').next()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(path: &str, text: &str) -> Vec<String> {
        check(&Sources {
            rust: vec![(path.into(), text.into())],
            manifests: vec![],
        })
    }

    #[test]
    fn a_file_that_follows_the_rules_passes() {
        assert!(problems("a/src/gate.rs", "//! Decides who comes in.\npub struct Gate;\n").is_empty());
    }

    #[test]
    fn each_rule_can_fail() {
        assert!(problems("a/src/gate/mod.rs", "//! x\n")[0].contains("mod.rs"));
        assert!(problems("a/src/a.rs", "use x;\n")[0].contains("//!"));
        assert!(problems("a/src/a.rs", &format!("//! x\n{}", "x\n".repeat(400)))[0].contains("401 lines"));
        assert!(problems("a/src/a.rs", "//! x\npub struct PoolManager;\n")[0].contains("PoolManager"));
        assert!(problems("a/src/a.rs", &format!("//! x\n// {}\n", UNFINISHED[0]))[0].contains(UNFINISHED[0]));
    }
}
