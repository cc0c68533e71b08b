//! Decides what a log file holds after rotation and after a full disk.

use super::*;
use crate::files;

fn writer(dir: &Path, limit: u64) -> LogWriter {
    let path = dir.join("sb-1.log");
    LogWriter::open(&path, limit, 3, "web".into(), SandboxId::from_text("sb-1")).expect("a log")
}

fn lines(path: &Path) -> Vec<LogLine> {
    let text = fs::read_to_string(path).expect("a log");
    text.lines()
        .map(|line| serde_json::from_str(line).expect("a line"))
        .collect()
}

#[test]
fn lines_carry_stream_service_and_sandbox() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut log = writer(dir.path(), 1 << 20);
    log.line(LogStream::Stdout, b"hello\r");
    log.line(LogStream::Stderr, b"\xff bad");
    log.flush();
    let lines = lines(&dir.path().join("sb-1.log"));
    assert_eq!((lines[0].line.as_str(), lines[0].stream), ("hello", LogStream::Stdout));
    assert_eq!(
        (lines[1].line.as_str(), lines[1].stream),
        ("\u{fffd} bad", LogStream::Stderr)
    );
    assert_eq!((lines[0].service.as_str(), lines[0].sandbox.as_str()), ("web", "sb-1"));
}

#[test]
fn files_are_rotated_and_the_oldest_goes() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut log = writer(dir.path(), 200);
    for number in 0..10 {
        log.line(LogStream::Stdout, format!("{number} {}", "x".repeat(60)).as_bytes());
        log.flush();
    }
    let mut names = files::names_in(dir.path()).expect("names");
    names.sort();
    assert_eq!(names, ["sb-1.log", "sb-1.log.1", "sb-1.log.2"]);
    assert!(lines(&dir.path().join("sb-1.log"))[0].line.starts_with("9 "));
    assert!(lines(&dir.path().join("sb-1.log.2"))[0].line.starts_with("7 "));
}

#[test]
fn a_full_disk_drops_lines_and_says_so_later() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut log = writer(dir.path(), 1 << 20);
    let good = std::mem::replace(
        &mut log.file,
        File::options().write(true).open("/dev/full").expect("/dev/full"),
    );
    log.line(LogStream::Stdout, b"lost");
    log.line(LogStream::Stdout, b"lost too");
    log.flush();
    log.file = good;
    log.line(LogStream::Stdout, b"kept");
    log.flush();
    let lines = lines(&dir.path().join("sb-1.log"));
    assert_eq!(lines.len(), 2);
    assert_eq!(lines[0].stream, LogStream::System);
    assert!(lines[0].line.starts_with("2 lines were dropped"), "{}", lines[0].line);
    assert_eq!(lines[1].line, "kept");
}

#[test]
fn g7_a_line_is_kept_as_it_is_and_its_parts_too() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut log = writer(dir.path(), 10 << 20);
    let json = format!("{{\"text\":\"{}\"}}", "é".repeat(100 << 10));
    log.line(LogStream::Stdout, json.as_bytes());
    let parts = [(1, false, "one\r"), (2, true, "two\r")];
    for (number, last, text) in parts {
        log.piece(LogStream::Stdout, text.as_bytes(), Some(LinePart { number, last }));
    }
    log.flush();
    let lines = lines(&dir.path().join("sb-1.log"));
    assert_eq!((lines[0].line.as_str(), lines[0].part), (json.as_str(), None));
    // What ends a line for a terminal is no part of it; within one it is.
    assert_eq!(lines[1].line, "one\r");
    assert_eq!(lines[2].line, "two");
    let told = serde_json::to_value(&lines[2]).expect("JSON");
    assert_eq!(told["part"], serde_json::json!({"number": 2, "last": true}));
    let told = serde_json::to_value(&lines[0]).expect("JSON");
    assert_eq!(told.get("part"), None, "a whole line says nothing of parts");
    assert!(log.pending.capacity() <= ROOM, "{}", log.pending.capacity());
}

#[test]
fn g7_no_file_is_longer_than_its_limit_however_much_comes_at_once() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut log = writer(dir.path(), 1000);
    for number in 0..40 {
        log.line(LogStream::Stdout, format!("{number} {}", "x".repeat(60)).as_bytes());
    }
    log.flush();
    let files = ["sb-1.log.2", "sb-1.log.1", "sb-1.log"].map(|name| dir.path().join(name));
    for file in &files {
        assert!(fs::metadata(file).expect("a file").len() <= 1000, "{}", file.display());
    }
    let kept: Vec<String> = files
        .iter()
        .flat_map(|file| lines(file))
        .map(|line| line.line)
        .collect();
    let first = 40 - kept.len();
    let expected = (first..40).map(|number| format!("{number} {}", "x".repeat(60)));
    assert_eq!(kept, expected.collect::<Vec<_>>());
    // One that fits into none has one of its own.
    log.line(LogStream::Stdout, "y".repeat(2000).as_bytes());
    log.line(LogStream::Stdout, b"short");
    log.flush();
    assert_eq!(lines(&files[1]).len(), 1);
    assert_eq!(lines(&files[2])[0].line, "short");
}
