//! Decides how text that strangers wrote looks on a terminal: what would move the cursor, colour, hide or turn around is spelt out.
//!
//! Apps, images and builds write what they like, into their logs as into the reasons of their ends. All that is printed goes through
//! here but what the verb was asked for as it is: the output of `miren sandbox exec`, the value of `miren env get`.

use std::borrow::Cow;

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
