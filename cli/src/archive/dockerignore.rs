//! Which paths a `.dockerignore` excludes. Its rules are docker's: every pattern begins at the folder, the last one that
//! matches a path or a folder above it decides, and `!` takes an exclusion back.

use super::glob::{Glob, Part, Set};
use super::rules_file::{Wrong, lines};
use std::iter::Peekable;
use std::str::Chars;

#[cfg(test)]
mod tests;

/// The patterns of one file, in order.
#[derive(Debug, Default)]
pub(super) struct Dockerignore(Vec<Rule>);

#[derive(Debug)]
struct Rule {
    excludes: bool,
    pattern: Glob,
}

/// Which patterns match a folder or one above it.
#[derive(Clone, Debug, Default)]
pub(super) struct Above(Vec<bool>);

impl Dockerignore {
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, Wrong> {
        let mut rules = Vec::new();
        for (line, bytes) in lines(bytes)? {
            let wrong = |why: &str| Wrong {
                line,
                why: why.to_owned(),
            };
            let text = str::from_utf8(bytes).map_err(|_| wrong("is not UTF-8 text"))?;
            rules.extend(rule(text).map_err(|why| wrong(&why))?);
        }
        Ok(Self(rules))
    }

    /// Whether a path is left out, and what that means for what is below it.
    pub(super) fn decide(&self, path: &[char], above: &Above) -> (bool, Above) {
        let mut is_out = false;
        let mut here = Vec::with_capacity(self.0.len());
        for (at, rule) in self.0.iter().enumerate() {
            let matches = above.0.get(at) == Some(&true) || rule.pattern.matches(path);
            is_out = if matches { rule.excludes } else { is_out };
            here.push(matches);
        }
        (is_out, Above(here))
    }

    /// Whether something below an excluded folder can be kept.
    pub(super) fn has_exceptions(&self) -> bool {
        self.0.iter().any(|rule| !rule.excludes)
    }
}

/// None for a line that says nothing.
fn rule(line: &str) -> Result<Option<Rule>, String> {
    // Only in the first column.
    if line.starts_with('#') {
        return Ok(None);
    }
    let line = line.trim();
    let (excludes, pattern) = match line.strip_prefix('!') {
        Some(pattern) => (false, pattern.trim()),
        None => (true, line),
    };
    if line.is_empty() {
        return Ok(None);
    }
    let (excludes, pattern) = again(excludes, clean(pattern));
    match (excludes, pattern.is_empty()) {
        (false, true) => return Err("'!' stands before no pattern".to_owned()),
        (true, true) => return Ok(None),
        _ => {}
    }
    Ok(Some(Rule {
        excludes,
        pattern: parse(&pattern).map_err(|why| format!("pattern {pattern:?} {why}"))?,
    }))
}

/// docker looks at a pattern a second time: "/!x" takes back what "!x" does, and "/ x" is "x".
fn again(excludes: bool, pattern: String) -> (bool, String) {
    match (excludes, pattern.trim().strip_prefix('!')) {
        (true, Some(pattern)) => (false, clean(pattern)),
        (true, None) => (true, clean(pattern.trim())),
        (false, _) => (false, clean(pattern.trim_end())),
    }
}

/// Without what means nothing in a path, and without a `/` in front: what is left of `a/../b` is `b`. The folder itself is `.`, of
/// `/` nothing is left.
fn clean(pattern: &str) -> String {
    let is_rooted = pattern.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in pattern.split('/') {
        match (part, parts.last()) {
            ("" | ".", _) => {}
            ("..", Some(last)) if *last != ".." => drop(parts.pop()),
            ("..", _) if is_rooted => {}
            (part, _) => parts.push(part),
        }
    }
    match (parts.join("/"), is_rooted || pattern.is_empty()) {
        (clean, false) if clean.is_empty() => ".".to_owned(),
        (clean, _) => clean,
    }
}

fn parse(pattern: &str) -> Result<Glob, &'static str> {
    let mut rest = pattern.chars().peekable();
    let mut parts = Vec::new();
    // Whether it begins with "**" and has nothing else that is special; what comes after it need not begin a name then.
    let mut is_ending = pattern.starts_with("**") && !pattern.starts_with("**/");
    while let Some(c) = rest.next() {
        let is_first = parts.is_empty();
        let part = match c {
            '*' if rest.next_if_eq(&'*').is_some() => {
                let _ = rest.next_if_eq(&'/');
                is_ending &= is_first;
                match rest.peek() {
                    Some(_) => Part::Folders,
                    None => Part::Rest,
                }
            }
            '*' => special(&mut is_ending, Part::Some),
            '?' => special(&mut is_ending, Part::One),
            '[' => special(&mut is_ending, Part::Set(set(&mut rest)?)),
            '\\' => special(&mut is_ending, Part::Char(rest.next().ok_or("ends with a '\\'")?)),
            ']' => special(&mut is_ending, Part::Char(']')),
            c => Part::Char(c),
        };
        parts.push(part);
    }
    if is_ending && let Some(first) = parts.first_mut() {
        *first = Part::Rest;
    }
    Ok(Glob::new(parts))
}

fn special(is_ending: &mut bool, part: Part) -> Part {
    *is_ending = false;
    part
}

fn set(rest: &mut Peekable<Chars<'_>>) -> Result<Set, &'static str> {
    let mut set = Set {
        is_negated: rest.next_if_eq(&'^').is_some(),
        has_slash: true,
        ..Set::default()
    };
    loop {
        if !set.ranges.is_empty() && rest.next_if_eq(&']').is_some() {
            return Ok(set);
        }
        let first = member(rest)?;
        let last = match rest.next_if_eq(&'-') {
            Some(_) => member(rest)?,
            None => first,
        };
        if first > last {
            return Err("has a range that ends before it begins");
        }
        set.ranges.push((first, last));
    }
}

fn member(rest: &mut Peekable<Chars<'_>>) -> Result<char, &'static str> {
    match rest.next() {
        Some('\\') => rest.next().ok_or("has a '[' without its ']'"),
        Some('-' | ']') => Err("has a '-' or a ']' in a '[…]' where a character is meant: write '\\' before it"),
        Some(c) => Ok(c),
        None => Err("has a '[' without its ']'"),
    }
}
