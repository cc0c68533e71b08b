//! Which paths a `.gitignore` excludes, and which it takes back. Its rules are git's: the last pattern that matches decides, one
//! without a `/` in it stands for a name at any depth, and what is below an excluded folder is not looked at.

use super::glob::{Glob, Part, Set};
use super::rules_file::{Wrong, lines};
use std::iter::{Copied, Peekable};
use std::slice::Iter;

#[cfg(test)]
mod tests;

/// The patterns of one file, in order.
#[derive(Debug, Default)]
pub(super) struct Gitignore(Vec<Rule>);

#[derive(Debug)]
struct Rule {
    excludes: bool,
    /// It is about folders, not about files nor links to folders.
    of_folders: bool,
    /// It is about the last name of a path.
    of_names: bool,
    pattern: Glob,
}

impl Gitignore {
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, Wrong> {
        let mut rules = Self::default();
        for (line, bytes) in lines(bytes)? {
            let wrong = |why| Wrong {
                line,
                why: format!("pattern {:?} {why}", String::from_utf8_lossy(bytes)),
            };
            rules.add(bytes).map_err(wrong)?;
        }
        Ok(rules)
    }

    /// Takes one line more.
    pub(super) fn add(&mut self, line: &[u8]) -> Result<(), &'static str> {
        self.0.extend(rule(line)?);
        Ok(())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether a path, relative to the folder of these rules, is excluded (`true`) or taken back; none if nothing is said of it.
    pub(super) fn decide(&self, path: &[char], is_folder: bool) -> Option<bool> {
        let name = path.rsplit(|c| *c == '/').next().unwrap_or_default();
        let matches = |rule: &&Rule| {
            let text = if rule.of_names { name } else { path };
            (is_folder || !rule.of_folders) && rule.pattern.matches(text)
        };
        self.0.iter().rev().find(matches).map(|rule| rule.excludes)
    }
}

/// A path as git sees it: bytes, whatever they stand for.
pub(super) fn bytes_of(path: &std::path::Path) -> Vec<char> {
    path.as_os_str()
        .as_encoded_bytes()
        .iter()
        .map(|byte| char::from(*byte))
        .collect()
}

/// None for a line that says nothing.
fn rule(line: &[u8]) -> Result<Option<Rule>, &'static str> {
    let line = trim(line);
    if line.starts_with(b"#") {
        return Ok(None);
    }
    let (excludes, pattern) = match line.strip_prefix(b"!") {
        Some(pattern) => (false, pattern),
        None => (true, line),
    };
    let (of_folders, pattern) = match pattern.strip_suffix(b"/") {
        Some(pattern) => (true, pattern),
        None => (false, pattern),
    };
    if pattern.is_empty() {
        return Ok(None);
    }
    let of_names = !pattern.contains(&b'/');
    Ok(Some(Rule {
        excludes,
        of_folders,
        of_names,
        pattern: parse(pattern)?,
    }))
}

/// Without the spaces at its end, unless a `\` stands before the first of them.
fn trim(line: &[u8]) -> &[u8] {
    let mut end = 0;
    let mut at = 0;
    while at < line.len() {
        let length = if line[at] == b'\\' { 2 } else { 1 };
        if line[at] != b' ' {
            end = line.len().min(at + length);
        }
        at += length;
    }
    &line[..end]
}

type Bytes<'b> = Peekable<Copied<Iter<'b, u8>>>;

fn parse(pattern: &[u8]) -> Result<Glob, &'static str> {
    let pattern = pattern.strip_prefix(b"/").unwrap_or(pattern);
    // git compares what comes before the first special character by itself, and looks at the rest as at a pattern of its own.
    let plain = pattern.iter().take_while(|byte| !b"*?[\\".contains(byte)).count();
    let (plain, special) = pattern.split_at(plain);
    let mut parts: Vec<Part> = plain.iter().map(|byte| Part::Char(char::from(*byte))).collect();
    let mut begins = true;
    let mut rest = special.iter().copied().peekable();
    while let Some(byte) = rest.next() {
        match byte {
            b'*' => stars(&mut rest, begins, &mut parts),
            b'?' => parts.push(Part::One),
            b'[' => parts.push(Part::Set(set(&mut rest)?)),
            b'\\' => parts.push(Part::Char(char::from(rest.next().ok_or("ends with a '\\'")?))),
            byte => parts.push(Part::Char(char::from(byte))),
        }
        begins = matches!(parts.last(), Some(Part::Char('/') | Part::Folders));
    }
    Ok(Glob::new(parts))
}

/// What one or more `*` stand for: folders only where they are all of a name.
fn stars(rest: &mut Bytes<'_>, begins: bool, parts: &mut Vec<Part>) {
    let mut count = 1;
    while rest.next_if_eq(&b'*').is_some() {
        count += 1;
    }
    let mut next = rest.clone();
    match (next.next(), next.next()) {
        _ if count == 1 || !begins => parts.push(Part::Some),
        (Some(b'/'), _) => {
            rest.next();
            parts.push(Part::Folders);
        }
        (None, _) | (Some(b'\\'), Some(b'/')) => parts.push(Part::Rest),
        _ => parts.push(Part::Some),
    }
}

fn set(rest: &mut Bytes<'_>) -> Result<Set, &'static str> {
    const OPEN: &str = "has a '[' without its ']'";
    let mut set = Set {
        is_negated: rest.next_if(|byte| b"!^".contains(byte)).is_some(),
        ..Set::default()
    };
    // A range needs a character before it; a ']' is one if it comes first.
    let mut before = None;
    let mut is_first = true;
    loop {
        let byte = rest.next().ok_or(OPEN)?;
        match byte {
            b']' if !is_first => return Ok(set),
            b'-' if before.is_some() && rest.peek().is_some_and(|next| *next != b']') => {
                let last = match rest.next().ok_or(OPEN)? {
                    b'\\' => rest.next().ok_or(OPEN)?,
                    last => last,
                };
                set.ranges.extend(before.take().map(|first| (first, char::from(last))));
            }
            b'[' if rest.peek() == Some(&b':') => before = class(rest, &mut set)?,
            byte => {
                let byte = if byte == b'\\' { rest.next().ok_or(OPEN)? } else { byte };
                let c = char::from(byte);
                set.ranges.push((c, c));
                before = Some(c);
            }
        }
        is_first = false;
    }
}

/// What follows a `[` in a set before a `:`: a class such as `[:alpha:]`, or nothing but that `[`, which is the character before a range then.
fn class(rest: &mut Bytes<'_>, set: &mut Set) -> Result<Option<char>, &'static str> {
    let mut ahead = rest.clone();
    let name: Vec<u8> = ahead.by_ref().skip(1).take_while(|byte| *byte != b']').collect();
    let Some(name) = name.strip_suffix(b":") else {
        set.ranges.push(('[', '['));
        return Ok(Some('['));
    };
    let ranges: &[(char, char)] = match name {
        b"alnum" => &[('0', '9'), ('A', 'Z'), ('a', 'z')],
        b"alpha" => &[('A', 'Z'), ('a', 'z')],
        b"blank" => &[(' ', ' '), ('\t', '\t')],
        b"cntrl" => &[('\0', '\x1f'), ('\x7f', '\x7f')],
        b"digit" => &[('0', '9')],
        b"graph" => &[('!', '~')],
        b"lower" => &[('a', 'z')],
        b"print" => &[(' ', '~')],
        b"punct" => &[('!', '/'), (':', '@'), ('[', '`'), ('{', '~')],
        b"space" => &[(' ', ' '), ('\t', '\r')],
        b"upper" => &[('A', 'Z')],
        b"xdigit" => &[('0', '9'), ('A', 'F'), ('a', 'f')],
        _ => return Err("has a class of characters that there is not"),
    };
    set.ranges.extend(ranges);
    *rest = ahead;
    Ok(None)
}
