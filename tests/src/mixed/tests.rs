//! The mixed load notices what it is there to notice: seen against a server that does everything wrong.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;

use super::answers::too_old;
use super::*;

/// Answers every request on a connection with the same words.
fn server(answer: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("an address");
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            thread::spawn(move || {
                let mut writer = stream.try_clone()?;
                for line in BufReader::new(stream).lines() {
                    if line?.is_empty() {
                        writer.write_all(answer.as_bytes())?;
                    }
                }
                std::io::Result::Ok(())
            });
        }
    });
    address
}

fn report_of(answer: &'static str) -> MixedReport {
    let mixed = Mixed::start_at(server(answer), "x");
    crate::wait_until("some GETs and a POST", Duration::from_secs(30), || {
        match (mixed.get.progress().0, mixed.post.progress().0) {
            (50.., 1..) => Ok(()),
            (gets, posts) => Err(format!("{gets} GETs, {posts} POSTs")),
        }
    });
    mixed.stop()
}

#[test]
fn an_answer_of_200_that_says_nothing_right_fails_every_kind() {
    let report = report_of("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nwrong");
    for (kind, reason) in [
        (Kind::Get, "the answer has no release"),
        (Kind::Post, "came back"),
        (Kind::Upload, "came back"),
        (Kind::Events, "the stream ended"),
        (Kind::WebSocket, "the handshake was answered"),
    ] {
        let of_kind = report
            .kinds
            .iter()
            .find(|found| found.kind == kind)
            .expect("every kind");
        assert!(of_kind.done > 0 && of_kind.failed == of_kind.done, "{report}");
        assert!(of_kind.failures[0].contains(reason), "{report}");
    }
    assert_eq!(report.kinds[0].failures.len(), 20, "{report}");
    assert!(report.answers.is_empty());
    std::panic::catch_unwind(|| report.assert_none_failed()).expect_err("a load that failed is not accepted");
}

#[test]
fn errors_of_the_ingress_are_told_with_their_code() {
    let report = report_of("HTTP/1.1 503 X\r\nX-Miren-Error: no_sandbox\r\nContent-Length: 0\r\n\r\n");
    for kind in &report.kinds {
        assert!(kind.done > 0 && kind.failed == kind.done, "{report}");
        assert!(kind.failures[0].contains("503"), "{report}");
        assert!(kind.failures[0].contains("no_sandbox"), "{report}");
    }
}

/// An answer of `release`, asked for and received at these times in ms.
fn answer(start: Instant, sent: u64, received: u64, release: &str) -> Answer {
    Answer {
        sent: start + Duration::from_millis(sent),
        received: start + Duration::from_millis(received),
        release: release.to_owned(),
        version: String::new(),
        sandbox: String::new(),
    }
}

fn rank(release: &str) -> Option<u64> {
    release.strip_prefix('r')?.parse().ok()
}

#[test]
fn an_older_release_is_wrong_only_for_requests_sent_after_the_newer_was_there() {
    let start = Instant::now();
    // Sent before r2 was seen or promised: r1 may still answer, however late.
    let fine = [
        answer(start, 0, 9, "r1"),
        answer(start, 1, 5, "r2"),
        answer(start, 4, 20, "r1"),
    ];
    assert_eq!(too_old(&fine, &[], rank), Vec::<String>::new());

    let back = [answer(start, 1, 5, "r2"), answer(start, 6, 7, "r1")];
    let wrong = too_old(&back, &[], rank);
    assert!(
        wrong.len() == 1 && wrong[0].contains("sent 1ms after rank 2"),
        "{wrong:?}"
    );

    let promised = Floor {
        from: start + Duration::from_millis(3),
        rank: 2,
    };
    let broken = [
        answer(start, 2, 9, "r1"),
        answer(start, 4, 9, "r1"),
        answer(start, 8, 9, "r3"),
    ];
    let wrong = too_old(&broken, &[promised], rank);
    assert!(
        wrong.len() == 1 && wrong[0].contains("sent 1ms after rank 2"),
        "{wrong:?}"
    );

    let unknown = [answer(start, 0, 1, "bad")];
    assert!(too_old(&unknown, &[], rank)[0].contains("no known release"));
}
