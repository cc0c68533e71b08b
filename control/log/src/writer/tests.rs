//! Lines that cannot be written: counted, said, and no reason to wait or to fail.

use super::*;
use std::io;
use std::sync::mpsc;

/// Takes what there is room for, as a file on a disk that fills and is emptied.
#[derive(Clone, Default)]
struct Disk(Arc<Mutex<(Vec<u8>, usize)>>);

impl Disk {
    fn set_room(&self, bytes: usize) {
        self.0.lock().1 = bytes;
    }

    fn text(&self) -> String {
        String::from_utf8(self.0.lock().0.clone()).unwrap()
    }
}

impl Write for Disk {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut disk = self.0.lock();
        let count = bytes.len().min(disk.1);
        if count == 0 {
            return Err(io::ErrorKind::StorageFull.into());
        }
        disk.1 -= count;
        disk.0.extend_from_slice(&bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn on(disk: &Disk) -> Writer {
    Writer::new("test", Box::new(disk.clone()))
}

#[test]
fn f4b_lines_that_found_no_room_are_counted_and_said_to_be_missing() {
    let disk = Disk::default();
    let writer = on(&disk);
    disk.set_room(6);
    writer.line(b"first\n");
    writer.line(b"second\n");
    writer.line(b"third\n");
    assert_eq!(writer.dropped.load(Ordering::Relaxed), 2);
    disk.set_room(1000);
    writer.line(b"fourth\n");
    writer.line(b"fifth\n");
    assert_eq!(
        disk.text(),
        "first\ntest: 2 log lines could not be written\nfourth\nfifth\n"
    );
    assert_eq!(writer.dropped.load(Ordering::Relaxed), 2);
}

#[test]
fn f4b_half_a_line_does_not_spoil_the_next_one() {
    let disk = Disk::default();
    let writer = on(&disk);
    disk.set_room(3);
    writer.line(b"first\n");
    // Room for the end of that line, and for half of what is said first.
    disk.set_room(10);
    writer.line(b"second\n");
    disk.set_room(1000);
    writer.line(b"third\n");
    let expected = "fir\ntest: 1 l\ntest: 2 log lines could not be written\nthird\n";
    assert_eq!(disk.text(), expected);
}

/// Lets each write wait until somebody reads, as a pipe that is full.
struct Pipe(mpsc::Receiver<()>, Disk);

impl Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.recv().map_err(|_| io::ErrorKind::BrokenPipe)?;
        self.1.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn f4b_a_reader_that_reads_nothing_holds_nobody_up() {
    let disk = Disk::default();
    disk.set_room(usize::MAX);
    let (read, reader) = mpsc::channel();
    let writer = Arc::new(Writer::new("test", Box::new(Pipe(reader, disk.clone()))));
    writer.on_thread().unwrap();
    let line = [&[b'x'; 99][..], b"\n"].concat();
    // What the thread has taken waits in the pipe; as much again may wait for the thread, and the rest is dropped.
    let most = 2 * (WAITING_MAX / line.len()) + 2;
    for _ in 0..most {
        writer.line(&line);
    }
    let dropped = writer.dropped.load(Ordering::Relaxed);
    assert!(dropped > 0, "{most} lines found room");
    assert!(writer.lines.lock().waiting.len() <= WAITING_MAX);
    for _ in 0..3 {
        read.send(()).unwrap();
    }
    writer.line(b"last\n");
    writer.flush(Duration::from_secs(60));
    let text = disk.text();
    assert!(text.ends_with("last\n"));
    let said = text
        .lines()
        .filter_map(|line| line.strip_prefix("test: ")?.split(' ').next()?.parse::<u64>().ok());
    assert_eq!(said.sum::<u64>(), dropped);
    let whole = text.lines().filter(|line| line.len() == 99).count() as u64;
    assert_eq!(whole, most as u64 - dropped);
}

#[test]
fn f4b_lines_that_nobody_can_read_are_no_error() {
    let (_, reader) = mpsc::channel();
    let writer = Writer::new("test", Box::new(Pipe(reader, Disk::default())));
    for _ in 0..3 {
        writer.line(b"into the void\n");
    }
    assert_eq!(writer.dropped.load(Ordering::Relaxed), 3);
}
