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
