//! The crowd notices what it is there to notice: seen against a server that lets WebSockets go, or cuts them.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;

use super::streams::Streams;
use super::{Crowd, StreamCounts, Target};

/// What the server does after the first word of a WebSocket.
#[derive(Clone, Copy, Debug)]
enum After {
    GoOn,
    Goodbye,
    Cut,
}

/// Counts words, so that a test knows when it has seen enough.
#[derive(Default)]
struct Words {
    count: Mutex<u64>,
    more: Condvar,
}

impl Words {
    fn one_more(&self) {
        *self.count.lock().unwrap() += 1;
        self.more.notify_all();
    }

    fn wait_for(&self, count: u64) {
        let seen = self.count.lock().unwrap();
        drop(self.more.wait_while(seen, |seen| *seen < count).unwrap());
    }
}

fn server(after: After) -> (Target, Arc<Words>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let target = Target::of_peer(listener.local_addr().unwrap());
    let words = Arc::new(Words::default());
    let counted = words.clone();
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let words = counted.clone();
            thread::spawn(move || serve(stream, after, &words));
        }
    });
    (target, words)
}

fn serve(stream: TcpStream, after: After, words: &Words) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut writer = stream;
    let mut line = String::new();
    reader.read_line(&mut line)?;
    while line != "\r\n" {
        line.clear();
        reader.read_line(&mut line)?;
    }
    writer.write_all(b"HTTP/1.1 101 X\r\n\r\n")?;
    loop {
        let mut head = [0; 2];
        reader.read_exact(&mut head)?;
        let mut rest = vec![0; 4 + usize::from(head[1] & 127)];
        reader.read_exact(&mut rest)?;
        let (mask, payload) = rest.split_at_mut(4);
        payload
            .iter_mut()
            .zip(mask.iter().cycle())
            .for_each(|(byte, mask)| *byte ^= mask);
        words.one_more();
        match (head[0], after) {
            (0x81, After::Goodbye) => writer.write_all(&[0x88, 2, 0x03, 0xf4])?,
            (0x81, After::Cut) => return Ok(()),
            _ => {
                writer.write_all(&[head[0], payload.len() as u8])?;
                writer.write_all(payload)?;
            }
        }
    }
}

fn counts(after: After, words: u64) -> StreamCounts {
    let (target, counted) = server(after);
    let streams = Streams::open(&target, 8).unwrap();
    counted.wait_for(words);
    streams.close().unwrap()
}

#[test]
fn a_websocket_that_lives_is_neither_told_to_go_nor_cut() {
    let counts = counts(After::GoOn, 20);
    assert_eq!((counts.opened, counts.told, counts.cut), (8, 0, 0), "{counts:?}");
}

#[test]
fn a_goodbye_is_no_cut_and_the_client_comes_back() {
    let counts = counts(After::Goodbye, 33);
    // A goodbye is answered: every second word is such an answer.
    assert!(counts.told >= 16 && counts.opened > 8, "{counts:?}");
    assert_eq!(counts.cut, 0, "{counts:?}");
}

#[test]
fn an_end_without_a_word_is_a_cut_and_so_is_a_refusal() {
    let cut = counts(After::Cut, 17);
    assert!(cut.cut >= 8 && cut.opened > 8 && cut.told == 0, "{cut:?}");
    assert!(!cut.cuts.is_empty() && cut.cuts.len() <= 20, "{cut:?}");

    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let counts = Streams::open(&Target::of_peer(closed), 8).unwrap().close().unwrap();
    assert!(
        counts.opened == counts.cut && counts.cuts.iter().all(|cut| cut.contains("refused")),
        "{counts:?}"
    );
}

/// Answers everything at once, and says which paths were asked for.
fn everything() -> (SocketAddr, Arc<[AtomicU64; 4]>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let seen: Arc<[AtomicU64; 4]> = Arc::default();
    let counted = seen.clone();
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let counted = counted.clone();
            thread::spawn(move || {
                for line in BufReader::new(stream.try_clone()?).lines() {
                    let line = line?;
                    let paths = [
                        "GET /info ",
                        "GET /sleep?ms=2000 ",
                        "POST /sleep?ms=2000 ",
                        "connection: close",
                    ];
                    let at = paths.iter().position(|start| line.starts_with(start));
                    at.map(|at| counted[at].fetch_add(1, Ordering::SeqCst));
                    if line.is_empty() {
                        (&stream).write_all(b"HTTP/1.1 200 X\r\nContent-Length: 2\r\n\r\nok")?;
                    }
                }
                std::io::Result::Ok(())
            });
        }
    });
    (address, seen)
}

#[test]
fn half_of_the_short_requests_and_all_long_ones_have_a_connection_each() {
    let (address, seen) = everything();
    let crowd = Crowd::start(&Target::of_peer(address), 400.0, 0).unwrap();
    while seen[1].load(Ordering::SeqCst).min(seen[2].load(Ordering::SeqCst)) < 2 {
        thread::yield_now();
    }
    let left = crowd.leave().unwrap();
    let ([kept, fresh], [get, post]) = (&left.short, &left.long);
    let of = |index: usize| seen[index].load(Ordering::SeqCst);
    assert_eq!((kept.failed, fresh.failed, get.failed, post.failed), (0, 0, 0, 0));
    assert_eq!(of(0), kept.requests + fresh.requests);
    assert_eq!((of(1), of(2)), (get.requests, post.requests));
    assert_eq!(of(3), fresh.requests + get.requests + post.requests);
    assert_eq!(left.answers.len() as u64, of(0));
}
