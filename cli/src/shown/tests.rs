//! What a stranger's text looks like.

use super::*;
use crate::console::Console;
use crate::failure::Failure;
use crate::options::Format;
use crate::table::Table;
use std::sync::{Arc, Mutex};

/// Clears the screen, sets the title, moves up, each in 7 bits and in 8.
const HOSTILE: &str = "\x1b[2J\x1b]0;title\x07\u{9b}1A\u{9d}0;x\u{9c}";

#[test]
fn f5_nothing_that_a_terminal_obeys_is_left() {
    for code in 0..=0x2_0000_u32 {
        let Some(character) = char::from_u32(code) else {
            continue;
        };
        let given = format!("a{character}b");
        let (whole, part) = (text(&given), line(&given));
        for shown in [&whole, &part] {
            let obeyed = shown.contains(|c: char| c.is_control() && c != '\n' && c != '\t');
            assert!(!obeyed, "{code:x}: {shown:?}");
        }
        assert!(!part.contains('\n'), "{code:x}");
    }
    assert_eq!(line(HOSTILE), r"\x1b[2J\x1b]0;title\x07\u{9b}1A\u{9d}0;x\u{9c}");
    assert_eq!(line("ok\rFAKE\x08\x7f\0"), r"ok\rFAKE\x08\x7f\x00");
}

#[test]
fn f5_the_direction_of_writing_stays() {
    let turned = "user\u{202e}txt.exe\u{2066}\u{200f}\u{2028}x";
    assert_eq!(line(turned), r"user\u{202e}txt.exe\u{2066}\u{200f}\u{2028}x");
    assert_eq!(text(turned), line(turned));
}

#[test]
fn f5_text_that_does_no_harm_is_as_it_was() {
    for plain in ["", "häuser 家 👩‍💻", "a\tb", r"C:\x1b is written"] {
        assert!(matches!(line(plain), Cow::Borrowed(same) if same == plain), "{plain:?}");
    }
    assert_eq!(text("a\nb\r\n"), "a\nb\\r\n");
    assert_eq!(line("a\nb"), r"a\nb");
}

#[test]
fn f5_json_stays_the_same_document() {
    let value = serde_json::json!({ "line": format!("{HOSTILE}\u{202e}\u{7f}\"\\\n"), "more": [1, "x"] });
    for document in [
        serde_json::to_string(&value).unwrap(),
        serde_json::to_string_pretty(&value).unwrap(),
    ] {
        let shown = json(&document);
        assert!(!shown.contains(|c: char| is_obeyed(c) && c != '\n'), "{shown:?}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&shown).unwrap(), value);
    }
}

/// What was written to either output.
#[derive(Clone, Default)]
struct Written(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Written {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn f5_whatever_way_a_reason_is_told_it_obeys_no_stranger() {
    let reason = format!("exited; last log lines:\n  {HOSTILE}\u{202e}\r");
    for format in [Format::Table, Format::Json] {
        let written = Written::default();
        let sink = || Box::new(written.clone());
        let mut console = Console::plain(sink(), sink(), format);
        console.note(&reason);
        console.notes().line(&reason);
        console.line(&reason).unwrap();
        console.done(&reason, &reason).unwrap();
        console.thing(&reason, &[("Reason", reason.clone())]).unwrap();
        let mut table = Table::new(&["reason"]);
        table.row(vec![reason.as_str().into()]);
        console.list(&[&reason], "reasons", table.clone()).unwrap();
        console.section("Reasons", table).unwrap();
        console.json_line(&reason).unwrap();
        console.conclude(Err(Failure::failed(&*reason).remedy(&*reason)));
        let text = String::from_utf8(written.0.lock().unwrap().clone()).unwrap();
        assert!(text.contains("title"), "{format:?}");
        let obeyed = text.find(|character| is_obeyed(character) && character != '\n');
        assert_eq!(obeyed.map(|at| &text[at..]), None, "{format:?}");
    }
}
