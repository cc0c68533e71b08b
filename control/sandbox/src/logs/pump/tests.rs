//! How bytes become lines, and what becomes of those that are too many.

use super::*;
use miren_api::resource::LogLine;
use miren_api::settings::Bytes;
use std::io::Write;

fn cut(chunks: &[&[u8]]) -> Vec<Vec<u8>> {
    let (mut lines, mut found) = (Lines::default(), Vec::new());
    for chunk in chunks {
        lines.push(chunk, |line| found.push(line.to_vec()));
    }
    lines.finish(|line| found.push(line.to_vec()));
    found
}

#[test]
fn lines_do_not_depend_on_how_they_arrive() {
    let whole = cut(&[b"one\ntwo\n\nthree"]);
    assert_eq!(whole, [&b"one"[..], b"two", b"", b"three"]);
    assert_eq!(cut(&[b"on", b"e\ntw", b"o\n", b"\nthree"]), whole);
}

#[test]
fn a_line_without_end_is_split() {
    let exact = vec![b'x'; LINE_MAX];
    let with = |rest: &[u8]| [&exact[..], rest].concat();
    assert_eq!(cut(&[&with(b"")]), [&exact[..]]);
    assert_eq!(
        cut(&[&with(b"\n")]),
        [&exact[..]],
        "a newline right after the longest line makes no empty one"
    );
    assert_eq!(cut(&[&with(b"yy\nz")]), [&exact[..], b"yy", b"z"]);
}

#[test]
fn f4_every_line_and_byte_that_is_skipped_is_counted_once() {
    let text = b"begun\none\n\ntwo\nthe last one has no end";
    for first in 0..text.len() {
        for second in first..text.len() {
            let (mut lines, mut dropped) = (Lines::default(), Dropped::default());
            let mut kept = Vec::new();
            lines.push(&text[..first], |line| kept.push(line.to_vec()));
            dropped.add(lines.skip(&text[first..second]));
            dropped.add(lines.skip(&text[second..]));
            let bytes: usize = kept.iter().map(Vec::len).sum();
            assert_eq!(kept.len() as u64 + dropped.lines, 5, "{first} {second}");
            assert_eq!(
                bytes as u64 + dropped.bytes,
                (text.len() - 4) as u64,
                "{first} {second}"
            );
        }
    }
}

#[test]
fn f4_no_half_line_follows_what_was_dropped() {
    let (mut lines, mut kept) = (Lines::default(), Vec::new());
    lines.push(b"kept\nbeg", |line| kept.push(line.to_vec()));
    assert_eq!(lines.skip(b"un\ndropp"), Dropped { lines: 2, bytes: 10 });
    for part in [&b"ed"[..], b" too", b"\nnext\n"] {
        lines.push(part, |line| kept.push(line.to_vec()));
    }
    assert_eq!(kept, [&b"kept"[..], b"next"]);
}

/// Writes so many lines to the pump as fast as it takes them; what is in the log, and what it was told.
fn flooded(rate: LogRate, lines: u64) -> (Vec<LogLine>, Dropped) {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("sb-1.log");
    let sandbox = miren_api::id::SandboxId::from_text("sb-1");
    let mut log = LogWriter::open(&path, 1 << 30, 1, "web".into(), sandbox).expect("a log");
    let [(stdout, out), (stderr, _err)] = [(); 2].map(|()| nix::unistd::pipe().expect("a pipe"));
    let writer = std::thread::spawn(move || {
        let mut out = std::io::BufWriter::new(File::from(out));
        for number in 0..lines {
            writeln!(out, "line {number}").expect("nobody is held up for ever");
        }
    });
    let mut told = Dropped::default();
    drop(_err);
    run([stdout, stderr], None, &mut log, rate, &mut |dropped| told.add(dropped)).expect("pumped");
    writer.join().expect("all was taken");
    let text = std::fs::read_to_string(path).expect("a log");
    let lines = text.lines().map(|line| serde_json::from_str(line).expect("a line"));
    (lines.collect(), told)
}

#[test]
fn f4_a_flood_is_taken_but_not_kept_and_every_line_is_accounted_for() {
    let rate = LogRate {
        bytes: Bytes(1 << 20),
        lines: 10,
        burst: Duration::from_secs(10),
    };
    let (log, told) = flooded(rate, 500_000);
    let (about, kept): (Vec<_>, Vec<_>) = log.into_iter().partition(|line| line.stream == LogStream::System);
    assert_eq!(kept.len() as u64 + told.lines, 500_000);
    assert!(told.lines > 0, "half a million lines at ten a second");
    assert!(kept.len() >= 100, "a burst is kept");
    let said = about.iter().map(|line| {
        line.line
            .split(' ')
            .next()
            .and_then(|number| number.parse::<u64>().ok())
    });
    assert_eq!(
        said.map(|number| number.expect("a number")).sum::<u64>(),
        told.lines,
        "{about:?}"
    );
    assert!(about.len() <= 2 + kept.len() / 10, "one word a second: {}", about.len());
}

#[test]
fn f4_what_stays_within_the_limit_is_kept_whole() {
    let rate = LogRate {
        bytes: Bytes(1 << 20),
        lines: 1000,
        burst: Duration::from_secs(10),
    };
    let (log, told) = flooded(rate, 10_000);
    assert_eq!((log.len(), told), (10_000, Dropped::default()));
}
