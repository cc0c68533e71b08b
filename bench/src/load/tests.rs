//! The load generator against small servers: what counts as a failure, and from when latency counts.

use super::*;

use std::collections::BTreeMap;

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;

/// A server whose answer to its n-th request (over all connections) is up to `answer`, which may also wait.
fn server(answer: impl Fn(u64) -> Option<u16> + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let shared = Arc::new((answer, std::sync::atomic::AtomicU64::new(0)));
    thread::spawn(move || {
        for stream in listener.incoming() {
            let shared = shared.clone();
            thread::spawn(move || {
                let mut stream = stream.unwrap();
                for line in BufReader::new(stream.try_clone().unwrap()).lines() {
                    if !line.unwrap().is_empty() {
                        continue;
                    }
                    let Some(status) = shared.0(shared.1.fetch_add(1, Ordering::SeqCst)) else {
                        return;
                    };
                    let head = format!("HTTP/1.1 {status} X\r\nContent-Length: 2\r\n\r\nok");
                    stream.write_all(head.as_bytes()).unwrap();
                }
            });
        }
    });
    address
}

fn options(address: SocketAddr, rate: f64, millis: u64) -> Options {
    let mut options = Options::get(&format!("http://{address}/"), rate).unwrap();
    options.duration = Some(Duration::from_millis(millis));
    options
}

#[test]
fn every_request_of_the_timetable_is_sent_once() {
    let report = Load::start(options(server(|_| Some(200)), 1000.0, 500))
        .unwrap()
        .wait()
        .unwrap();
    assert_eq!((report.requests, report.failed), (500, 0), "{report}");
    assert_eq!(report.statuses, BTreeMap::from([(200, 500)]));
}

#[test]
fn a_stall_is_charged_to_every_request_that_was_due_meanwhile() {
    // One connection, so that a stall of 300 ms at request 10 delays the 30 requests due behind it.
    let address = server(|n| {
        if n == 10 {
            thread::sleep(Duration::from_millis(300));
        }
        Some(200)
    });
    let mut options = options(address, 100.0, 1000);
    options.connections = 1;
    let report = Load::start(options).unwrap().wait().unwrap();
    assert_eq!((report.requests, report.failed), (100, 0));
    // A closed loop would have seen one slow request in a hundred: p50 says nothing, but a tenth must be slow.
    assert!(
        report.latency_ms.p99 > 250.0 && report.latency_ms.max >= 300.0,
        "{report}"
    );
}

#[test]
fn other_statuses_and_broken_connections_fail_and_are_told_with_their_time() {
    let address = server(|n| match n {
        5 => Some(503),
        9 => None,
        _ => Some(200),
    });
    let mut options = options(address, 200.0, 200);
    options.connections = 1;
    let report = Load::start(options).unwrap().wait().unwrap();
    assert_eq!((report.requests, report.failed), (40, 2), "{report}");
    assert_eq!((report.failures[0].at_ms, report.failures[0].status), (25, Some(503)));
    let broken = &report.failures[1];
    assert!(
        broken.at_ms == 45 && broken.error.as_ref().unwrap().contains("waiting for the answer"),
        "{broken:?}"
    );
    // It was sent over a connection that earlier answers had come by.
    let causes = BTreeMap::from([(Cause::Status, 1), (Cause::ClosedKept, 1)]);
    assert_eq!(report.causes, causes, "{report}");
}

/// Accepts, and does this with what comes.
fn rude(answer: &'static [u8]) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            // All of it: what is left unread makes an end a reset.
            let head = BufReader::new(&stream).lines().map_while(Result::ok);
            head.take_while(|line| !line.is_empty()).for_each(drop);
            (&stream).write_all(answer).unwrap();
        }
    });
    address
}

#[test]
fn every_failure_is_of_the_kind_that_tells_how_it_came() {
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for (address, cause) in [
        (closed, Cause::Refused),
        (rude(b""), Cause::Cut),
        (rude(b"HTTP/1.1 200 X\r\nContent-Length: 5\r\n\r\nok"), Cause::Cut),
        (rude(b"HTTP/1.1 502 X\r\nContent-Length: 0\r\n\r\n"), Cause::Status),
    ] {
        let report = Load::start(options(address, 100.0, 30)).unwrap().wait().unwrap();
        assert_eq!(report.causes, BTreeMap::from([(cause, 3)]), "{report}");
        assert!(report.failures.iter().all(|failure| failure.cause == cause), "{report}");
    }
}

#[test]
fn an_answer_that_its_check_refuses_has_failed_for_the_reason_given() {
    let address = server(|n| Some(if n == 3 { 500 } else { 200 }));
    let count = std::sync::atomic::AtomicU64::new(0);
    let check = Check::new(move |seen| {
        assert!(seen.sent <= seen.received && seen.status == 200 && seen.body == b"ok");
        match count.fetch_add(1, Ordering::SeqCst) {
            7 => Err("the eighth is not wanted".to_owned()),
            _ => Ok(()),
        }
    });
    let mut options = options(address, 200.0, 100);
    (options.connections, options.check) = (1, Some(check));
    let report = Load::start(options).unwrap().wait().unwrap();
    assert_eq!((report.requests, report.failed), (20, 2), "{report}");
    let told = report.failures[1].to_string();
    assert!(told.ends_with("status 200, the eighth is not wanted"), "{told}");
    let causes = BTreeMap::from([(Cause::Status, 1), (Cause::Wrong, 1)]);
    assert_eq!(report.causes, causes, "{report}");
}

#[test]
fn a_request_without_an_answer_fails_when_its_time_is_up() {
    let address = server(|_| {
        thread::sleep(Duration::from_secs(5));
        None
    });
    let mut options = options(address, 100.0, 10);
    options.timeout = Duration::from_millis(100);
    let report = Load::start(options).unwrap().wait().unwrap();
    assert_eq!((report.requests, report.failed), (1, 1));
    assert_eq!(report.causes, BTreeMap::from([(Cause::TimedOut, 1)]));
    assert!(
        report.failures[0]
            .error
            .as_ref()
            .unwrap()
            .contains("no answer in 100ms"),
        "{report}"
    );
}

#[test]
fn failures_are_counted_without_end_but_told_only_a_hundred_times() {
    let report = Load::start(options(server(|_| Some(500)), 1000.0, 200))
        .unwrap()
        .wait()
        .unwrap();
    assert_eq!((report.failed, report.failures.len()), (200, 100));
    assert!(serde_json::to_value(&report).unwrap()["latency_ms"]["p999"].is_number());
}

#[test]
fn a_load_without_end_stops_when_told() {
    let load = Load::start(Options::get(&format!("http://{}/", server(|_| Some(200))), 500.0).unwrap()).unwrap();
    while load.progress().0 < 20 {
        thread::yield_now();
    }
    assert_eq!(load.stop().unwrap().failed, 0);
}

#[test]
fn bad_options_are_refused_before_anything_is_sent() {
    for (url, rate) in [
        ("http://name.example/", 1.0),
        ("https://127.0.0.1/", 1.0),
        ("http://127.0.0.1/", 0.0),
    ] {
        assert!(Load::start(Options::get(url, rate).unwrap()).is_err(), "{url} {rate}");
    }
}
