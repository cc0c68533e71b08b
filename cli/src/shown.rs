//! Decides how text that strangers wrote looks on a terminal: what would move the cursor, colour, hide or turn around is spelt out.
//!
//! Apps, images and builds write what they like, into their logs as into the reasons of their ends. All that is printed goes through
//! here but what the verb was asked for as it is: the output of `miren sandbox exec`, the value of `miren env get`.

use std::borrow::Cow;
use unicode_width::UnicodeWidthChar;

#[cfg(test)]
mod tests;

/// Text of several lines: only line ends and tabs stay what they are.
pub fn text(text: &str) -> Cow<'_, str> {
    escaped(text, |character| matches!(character, '\n' | '\t'))
}

/// Text that is part of a line: a line end in it is spelt out too, so that nobody else's line seems to follow.
pub fn line(text: &str) -> Cow<'_, str> {
    escaped(text, |character| character == '\t')
}

/// A JSON document as it is valid as well: its printer leaves above ASCII what a terminal may obey.
pub fn json(document: &str) -> Cow<'_, str> {
    if !document.contains(|character| is_obeyed(character) && !character.is_ascii_whitespace()) {
        return Cow::Borrowed(document);
    }
    let mut shown = String::with_capacity(document.len());
    for character in document.chars() {
        match is_obeyed(character) && !character.is_ascii_whitespace() {
            // All of them have one code unit, and stand within strings: elsewhere JSON has no such characters.
            true => shown.push_str(&format!("\\u{:04x}", u32::from(character))),
            false => shown.push(character),
        }
    }
    Cow::Owned(shown)
}

/// Columns of a terminal that a line takes: two for a wide letter, none for a mark on another.
pub fn width(line: &str) -> usize {
    line.chars().map(columns).sum()
}

/// A line that takes at most `width` columns; `…` stands for what is cut off.
pub fn cut(line: &str, width: usize) -> Cow<'_, str> {
    let mut taken = 0;
    // Where the sign still fits.
    let mut end = 0;
    for (at, character) in line.char_indices() {
        taken += columns(character);
        if taken > width {
            let sign = if width > 0 { "…" } else { "" };
            return Cow::Owned(format!("{}{sign}", line[..end].trim_end()));
        }
        if taken < width {
            end = at + character.len_utf8();
        }
    }
    Cow::Borrowed(line)
}

/// As [`cut`], for things with `, ` between them: none is cut in two.
pub fn cut_list(line: &str, width: usize) -> Cow<'_, str> {
    if self::width(line) <= width {
        return Cow::Borrowed(line);
    }
    let ends = line.match_indices(", ").map(|(at, between)| at + between.len());
    let fits = ends.take_while(|end| self::width(&line[..*end]) < width).last();
    Cow::Owned(format!("{}…", &line[..fits.unwrap_or_default()]))
}

fn columns(character: char) -> usize {
    character.width().unwrap_or_default()
}

fn escaped(text: &str, stays: impl Fn(char) -> bool) -> Cow<'_, str> {
    let is_spelt = |character| is_obeyed(character) && !stays(character);
    if !text.contains(is_spelt) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        match character {
            character if !is_spelt(character) => shown.push(character),
            '\n' => shown.push_str("\\n"),
            '\r' => shown.push_str("\\r"),
            character if character.is_ascii() => shown.push_str(&format!("\\x{:02x}", u32::from(character))),
            character => shown.push_str(&format!("\\u{{{:x}}}", u32::from(character))),
        }
    }
    Cow::Owned(shown)
}

/// Controls of either set, line and paragraph separators, and what turns the direction of writing.
fn is_obeyed(character: char) -> bool {
    character.is_control()
        || matches!(character,
            '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}
