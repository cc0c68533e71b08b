//! Decides what of a builder's output people get to see: lines of a bounded length, without anything that moves a cursor.

use std::io::Read;

/// Longest line that is passed on, in bytes; the rest of a longer one is left out, and `…` stands for it.
pub(crate) const LINE_MAX: usize = 500;

/// Reads lines to the end of `input`. A carriage return ends one as well: bars of progress are drawn with it.
pub(crate) fn each(mut input: impl Read, mut tell: impl FnMut(String)) {
    let mut line = Line::default();
    let mut buffer = [0; 4096];
    while let Ok(count @ 1..) = input.read(&mut buffer) {
        for byte in &buffer[..count] {
            match byte {
                b'\n' | b'\r' => line.end(&mut tell),
                byte => line.add(*byte),
            }
        }
    }
    line.end(&mut tell);
}

#[derive(Default)]
struct Line {
    bytes: Vec<u8>,
    is_cut: bool,
}

impl Line {
    fn add(&mut self, byte: u8) {
        match self.bytes.len() < LINE_MAX {
            true => self.bytes.push(byte),
            false => self.is_cut = true,
        }
    }

    fn end(&mut self, tell: &mut impl FnMut(String)) {
        let Self { mut bytes, is_cut } = std::mem::take(self);
        if is_cut {
            // Of a letter that is cut nothing is shown.
            let broken = bytes.utf8_chunks().last().map_or(0, |chunk| chunk.invalid().len());
            bytes.truncate(bytes.len() - broken);
        }
        let mut text = printable(&String::from_utf8_lossy(&bytes));
        text.push_str(if is_cut { "…" } else { "" });
        if !text.is_empty() {
            tell(text);
        }
    }
}

/// Without control characters and the sequences that begin with an escape: a build's output is a tenant's.
fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        match c {
            '\x1b' => skip_sequence(&mut rest),
            '\t' => shown.push(' '),
            c if c.is_control() => {}
            c => shown.push(c),
        }
    }
    shown.trim_end().to_owned()
}

/// The rest of an escape sequence (ECMA-48): one character, or parameters up to a final byte.
fn skip_sequence(rest: &mut std::str::Chars<'_>) {
    if rest.next() == Some('[') {
        let _ = rest.find(|c| ('@'..='~').contains(c));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<String> {
        let mut told = Vec::new();
        each(text.as_bytes(), |line| told.push(line));
        told
    }

    #[test]
    fn lines_and_redrawn_lines_are_told_apart() {
        assert_eq!(
            lines("one\r\ntwo\n\n10%\r20%\rlast"),
            ["one", "two", "10%", "20%", "last"]
        );
    }

    #[test]
    fn nothing_moves_the_cursor_of_whoever_reads() {
        assert_eq!(
            lines("\x1b[31mred\x1b[0m\x07 \x1bcafter\tall\x1b[2J"),
            ["red after all"]
        );
        assert_eq!(lines("\x1b["), [""; 0]);
    }

    #[test]
    fn g7_a_long_line_is_cut_between_letters_and_says_so() {
        let exact = "x".repeat(LINE_MAX);
        assert_eq!(lines(&format!("{exact}\nshort")), [&exact, "short"]);
        assert_eq!(lines(&format!("{exact}y\nshort")), [&format!("{exact}…"), "short"]);
        let odd = format!("x{}", "é".repeat(300));
        assert_eq!(lines(&odd), [format!("x{}…", "é".repeat(249))]);
    }
}
