//! How bytes become lines, and what becomes of those that are too many.

use super::*;
use miren_api::resource::LogLine;
use miren_api::settings::Bytes;
use std::io::Write;

type Cut = (Vec<u8>, Option<LinePart>);

/// Lines as they are passed on, all of them kept.
fn pieces(chunks: &[&[u8]]) -> Vec<Cut> {
    let (mut lines, mut found) = (Lines::default(), Vec::new());
    let mut take = |piece: Piece<'_>| {
        found.push((piece.bytes.to_vec(), piece.part));
        true
    };
    for chunk in chunks {
        lines.push(chunk, &mut take);
        assert!(lines.rest.len() <= LINE_MAX, "{} bytes are held", lines.rest.len());
    }
    lines.finish(&mut take);
    found
}

fn cut(chunks: &[&[u8]]) -> Vec<Vec<u8>> {
    pieces(chunks).into_iter().map(|(bytes, _)| bytes).collect()
}

/// A line that is kept is kept; `kept` has it.
fn push(lines: &mut Lines, bytes: &[u8], kept: &mut Vec<Vec<u8>>) -> u64 {
    lines.push(bytes, |piece| {
        kept.push(piece.bytes.to_vec());
        true
    })
}

#[test]
fn lines_do_not_depend_on_how_they_arrive() {
    let whole = cut(&[b"one\ntwo\n\nthree"]);
    assert_eq!(whole, [&b"one"[..], b"two", b"", b"three"]);
    assert_eq!(cut(&[b"on", b"e\ntw", b"o\n", b"\nthree"]), whole);
}

#[test]
fn g7_a_line_is_whole_up_to_its_limit_and_in_numbered_parts_beyond() {
    let exact = vec![b'x'; LINE_MAX];
    let with = |rest: &[u8]| [&exact[..], rest].concat();
    let part = |number, last| Some(LinePart { number, last });
    assert_eq!(pieces(&[&with(b"")]), [(exact.clone(), None)]);
    assert_eq!(
        pieces(&[&with(b"\n")]),
        [(exact.clone(), None)],
        "a newline right after the longest line makes no empty one"
    );
    let expected = [
        (exact.clone(), part(1, false)),
        (b"yy".to_vec(), part(2, true)),
        (b"z".to_vec(), None),
    ];
    assert_eq!(pieces(&[&with(b"yy\nz")]), expected);
    let long = [&exact[..], &exact, &exact, b"\n"].concat();
    let expected = [part(1, false), part(2, false), part(3, true)].map(|part| (exact.clone(), part));
    for size in [1 << 20, 64 << 10, 1000] {
        let chunks: Vec<&[u8]> = long.chunks(size).collect();
        assert_eq!(pieces(&chunks), expected);
    }
}

#[test]
fn g7_parts_end_between_letters_and_are_the_line_together() {
    for letter in ["x", "é", "€", "🦀", "e\u{301}"] {
        for shift in 0..5 {
            let line = format!("{}{}", "-".repeat(shift), letter.repeat(3 * LINE_MAX / letter.len()));
            let found = cut(&[line.as_bytes(), b"\n"]);
            assert_eq!(found.concat(), line.as_bytes());
            assert!(found.len() > 2);
            for part in &found {
                assert!(
                    str::from_utf8(part).is_ok(),
                    "{letter:?} is cut with {shift} bytes before"
                );
                assert!(part.len() <= LINE_MAX);
            }
        }
    }
}

#[test]
fn g7_bytes_that_are_no_letters_neither_stall_nor_grow() {
    for byte in [0x00, 0x80, 0xbf, 0xc2, 0xe2, 0xf0, 0xff] {
        let line = vec![byte; 3 * LINE_MAX + 7];
        let chunks: Vec<&[u8]> = line.chunks(CHUNK).collect();
        let found = cut(&chunks);
        assert_eq!(found.concat(), line, "{byte:#x}");
        assert_eq!(found.len(), 4, "{byte:#x}");
    }
    assert_eq!(between_letters(b""), 0);
    for (bytes, length) in [
        (&b"a"[..], 1),
        (b"\xc3", 0),
        (b"a\xc3", 1),
        (b"\xc3\xa9", 2),
        (b"\xf0\x9f\xa6", 0),
        (b"\xf0\x9f\xa6\x80", 4),
        (b"\xf0\x9f\xa6\x80\x80", 5),
        (b"\x80\x80\x80\x80", 4),
        (b"a\xc1", 2),
    ] {
        assert_eq!(between_letters(bytes), length, "{bytes:x?}");
    }
}

#[test]
fn g7_of_a_line_whose_part_is_dropped_nothing_more_is_kept() {
    let (mut lines, mut seen) = (Lines::default(), Vec::new());
    let long = [&vec![b'x'; 2 * LINE_MAX + 5][..], b"\nnext\n"].concat();
    let left_out = lines.push(&long, |piece| {
        seen.push(piece.part);
        false
    });
    let first = LinePart { number: 1, last: false };
    assert_eq!(seen, [Some(first), None]);
    assert_eq!(left_out, LINE_MAX as u64 + 5, "what was passed on counts where it went");
}

#[test]
fn g7_room_for_a_long_line_is_given_back() {
    let mut lines = Lines::default();
    push(&mut lines, &vec![b'x'; LINE_MAX], &mut Vec::new());
    assert!(lines.rest.capacity() <= 2 * LINE_MAX);
    push(&mut lines, b"\n", &mut Vec::new());
    assert!(lines.rest.capacity() <= CHUNK, "{}", lines.rest.capacity());
}

#[test]
fn f4_every_line_and_byte_that_is_skipped_is_counted_once() {
    let text = b"begun\none\n\ntwo\nthe last one has no end";
    for first in 0..text.len() {
        for second in first..text.len() {
            let (mut lines, mut dropped) = (Lines::default(), Dropped::default());
            let mut kept = Vec::new();
            push(&mut lines, &text[..first], &mut kept);
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
    push(&mut lines, b"kept\nbeg", &mut kept);
    assert_eq!(lines.skip(b"un\ndropp"), Dropped { lines: 2, bytes: 10 });
    for part in [&b"ed"[..], b" too", b"\nnext\n"] {
        push(&mut lines, part, &mut kept);
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
