//! Clients that ask for much and take little of it hold nothing that others need.

use crate::client::{PATIENCE, get};
use crate::raw::RawApp;
use crate::stage::{HOST, Stage};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinHandle;

/// So many of them are more than an app with room for one request at a time serves one after the other.
const CROWD: usize = 200;
/// Their own limits are so far away that nobody is helped by them.
const PATIENT: &str = "timeouts.idle = \"10m\"\ntimeouts.header = \"10m\"\ntimeouts.upstream_first_byte = \"10m\"\n\
    timeouts.wait_for_capacity = \"30s\"";
/// More than all buffers between an app and a client take.
const MUCH: usize = 3_000 * PIECE;
/// More than what fits into the buffers, and soon read.
const SOME: usize = 400 * PIECE;
const PIECE: usize = 0x10000;
const SLOW_READERS: &str = "miren_proxy_slow_readers_total";

/// Answers with more than anybody takes without reading; with its path, where that is none of `/much`, `/some` and `/chunks`.
async fn generous() -> RawApp {
    RawApp::start(|mut conn| async move {
        let piece = "z".repeat(PIECE);
        while let Some(request) = conn.request().await {
            let path = request.path().to_owned();
            conn.log.seen.lock().push(request);
            let (head, piece, length) = match path.as_str() {
                "/much" => (format!("Content-Length: {MUCH}"), piece.clone(), MUCH),
                "/some" => (format!("Content-Length: {SOME}"), piece.clone(), SOME),
                "/chunks" => (
                    "Transfer-Encoding: chunked".to_owned(),
                    format!("10000\r\n{piece}\r\n"),
                    MUCH,
                ),
                _ => {
                    conn.answer(&path, false).await;
                    continue;
                }
            };
            conn.say(&format!("HTTP/1.1 200 OK\r\n{head}\r\n\r\n")).await;
            for _ in 0..length / PIECE {
                if !conn.say(&piece).await {
                    return;
                }
            }
            return;
        }
    })
    .await
}

/// A client whose system has little room, after these bytes.
async fn asks(address: SocketAddr, sent: &str) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let mut stream = socket.connect(address).await.unwrap();
    stream.write_all(sent.as_bytes()).await.unwrap();
    stream
}

/// Every kind of request whose answer is much.
fn requests() -> Vec<String> {
    let mut all = Vec::new();
    for path in ["/much", "/chunks"] {
        all.push(get(HOST, path));
        all.push(format!("GET {path} HTTP/1.0\r\nHost: {HOST}\r\n\r\n"));
        all.push(format!(
            "POST {path} HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 4\r\n\r\nbody"
        ));
    }
    all
}

/// The ordinary requests of others are answered, and each of those that did not read was counted when it was cut.
async fn others_are_served(stage: &Stage) {
    for path in ["/one", "/two", "/three"] {
        let answer = tokio::time::timeout(PATIENCE, stage.get(path)).await;
        let answer = answer.expect("nobody else is served");
        assert_eq!((answer.status, answer.body.as_str()), (200, path), "{answer:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn f12_an_app_with_room_for_one_stays_reachable_beside_a_crowd_that_reads_nothing() {
    let stage = Stage::new(PATIENT).await;
    let app = generous().await;
    app.granted(&stage, 1);
    let mut crowd = Vec::new();
    for sent in requests().iter().cycle().take(CROWD) {
        crowd.push(asks(stage.address(), sent).await);
    }
    others_are_served(&stage).await;
    stage.metric_reaches(SLOW_READERS, 1.0).await;
    drop(crowd);
}

/// That it has ended its side says nothing about whether it reads.
#[tokio::test(flavor = "multi_thread")]
async fn f12_who_has_finished_sending_and_does_not_read_holds_nothing_either() {
    let stage = Stage::new(PATIENT).await;
    let app = generous().await;
    app.granted(&stage, 1);
    let mut crowd = Vec::new();
    for sent in requests().iter().cycle().take(CROWD / 4) {
        let mut client = asks(stage.address(), sent).await;
        client.shutdown().await.unwrap();
        crowd.push(client);
    }
    others_are_served(&stage).await;
    drop(crowd);
}

/// Takes a byte now and then, for as long as there is one.
fn sips(mut client: TcpStream) -> JoinHandle<u64> {
    tokio::spawn(async move {
        let mut taken = 0;
        while matches!(client.read(&mut [0]).await, Ok(1)) {
            taken += 1;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        taken
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn f12_a_byte_now_and_then_is_not_taking_an_answer() {
    let stage = Stage::new(PATIENT).await;
    let app = generous().await;
    app.granted(&stage, 1);
    let mut crowd = Vec::new();
    for sent in requests().iter().cycle().take(CROWD / 4) {
        crowd.push(sips(asks(stage.address(), sent).await));
    }
    others_are_served(&stage).await;
    for client in crowd {
        client.abort();
    }
}

/// Where nobody waits it has the time that the least rate grants, and no more.
#[tokio::test(flavor = "multi_thread")]
async fn f12_an_answer_below_the_least_rate_is_cut_and_counted() {
    // Each has a proxy of its own.
    let is_ended = |sent: String| async move {
        let stage = Stage::new(&format!("{PATIENT}\nlimits.body_rate = \"1MiB\"")).await;
        let app = generous().await;
        app.granted(&stage, 100);
        let client = sips(asks(stage.address(), &sent).await);
        stage.metric_becomes(SLOW_READERS, 1.0).await;
        stage.metric_becomes("miren_proxy_requests_in_flight", 0.0).await;
        client.abort();
    };
    crate::stage::all(
        requests()
            .into_iter()
            .map(|sent| tokio::spawn(is_ended(sent)))
            .collect(),
    )
    .await;
}

/// It is the client that is waited for, or it is not its time.
#[tokio::test(flavor = "multi_thread")]
async fn f12_an_app_that_sends_slowly_does_not_make_its_client_slow() {
    let stage = Stage::new(PATIENT).await;
    let events = RawApp::start(|mut conn| async move {
        let Some(request) = conn.request().await else { return };
        if request.path() == "/events" {
            conn.say("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n")
                .await;
            conn.wait().await;
            conn.say("4\r\nlast\r\n0\r\n\r\n").await;
        } else {
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {MUCH}\r\n\r\n");
            conn.say(&(head + &"z".repeat(MUCH))).await;
        }
    })
    .await;
    let sandbox = events.granted(&stage, 2);
    let mut listener = stage.client().await;
    listener.push(get(HOST, "/events").as_bytes()).await;
    assert!(listener.read_past("first").await);
    // One that is slow by itself, and began later, shows that the time has passed: both are in the way of the third.
    let slow = asks(stage.address(), &get(HOST, "/much")).await;
    stage.metric_becomes("miren_proxy_requests_in_flight", 2.0).await;
    let waits = asks(stage.address(), &get(HOST, "/much")).await;
    stage.metric_becomes(SLOW_READERS, 1.0).await;
    events.log.go.add_permits(1);
    assert!(listener.read_past("last").await);
    assert!(stage.runs(sandbox));
    drop((slow, waits));
}

/// A small window that opens again and again is no refusal, also while others wait.
#[tokio::test(flavor = "multi_thread")]
async fn f12_who_takes_its_answer_in_sips_as_it_comes_gets_all_of_it() {
    let stage = Stage::new(PATIENT).await;
    let app = generous().await;
    app.granted(&stage, 1);
    let mut steady = asks(stage.address(), &get(HOST, "/some")).await;
    let others: Vec<_> = ["/one", "/two", "/three"].map(|path| get(HOST, path)).into();
    let mut waiting = Vec::new();
    for sent in &others {
        waiting.push(asks(stage.address(), sent).await);
    }
    stage.metric_becomes(crate::waiting::WAITING, 3.0).await;
    let (mut taken, mut buffer) = (0, [0; 4096]);
    while taken < SOME {
        let read = tokio::time::timeout(PATIENCE, steady.read(&mut buffer)).await;
        let count = read.expect("it hangs").unwrap();
        assert!(count > 0, "it was cut after {taken} bytes");
        taken += count;
    }
    assert_eq!(stage.metric(SLOW_READERS).await, 0.0);
    drop(waiting);
}

/// What is unread when a client closes is answered with a reset: nothing else would free the place here.
#[tokio::test(flavor = "multi_thread")]
async fn g11_a_client_that_closes_with_its_window_full_is_gone() {
    let in_flight = "miren_proxy_requests_in_flight";
    for sent in requests() {
        let stage = Stage::new(&format!("{PATIENT}\nlimits.body_rate = \"0B\"")).await;
        let app = generous().await;
        app.granted(&stage, 1);
        let client = asks(stage.address(), &sent).await;
        client.readable().await.unwrap();
        stage.metric_becomes(in_flight, 1.0).await;
        drop(client);
        stage.metric_becomes(in_flight, 0.0).await;
        assert_eq!(stage.metric(SLOW_READERS).await, 0.0, "{sent:?}");
    }
}
