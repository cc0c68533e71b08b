//! Who scrapes the metrics gets them, whoever else is connected.

use crate::node::{Node, PATIENCE};
use miren_control::server;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// More than there may be of them at once.
const CROWD: usize = 300;
const LEFT: usize = 64;
const HEAD: &str = "GET /metrics HTTP/1.1\r\nHost: node\r\n";

async fn metrics(node: &Node) -> (SocketAddr, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let serving = miren_log::spawn(
        "the metrics",
        server::serve_metrics(Arc::clone(&node.control), listener),
    );
    (address, serving)
}

/// Asks for the page, and returns when all of it is here.
async fn scrape(stream: &mut TcpStream) {
    stream.write_all(format!("{HEAD}\r\n").as_bytes()).await.unwrap();
    let mut page = Vec::new();
    let whole = async {
        let length = loop {
            assert!(stream.read_buf(&mut page).await.unwrap() > 0, "it was closed");
            let text = String::from_utf8_lossy(&page);
            let head = text.split_once("\r\n\r\n").map(|(head, _)| head.to_ascii_lowercase());
            if let Some(head) = head {
                assert!(head.starts_with("http/1.1 200"), "{head}");
                let told = head.lines().find_map(|line| line.strip_prefix("content-length: "));
                break head.len() + 4 + told.expect("a length").parse::<usize>().unwrap();
            }
        };
        while page.len() < length {
            assert!(stream.read_buf(&mut page).await.unwrap() > 0, "it was closed");
        }
    };
    timeout(PATIENCE, whole).await.expect("no metrics");
    assert!(String::from_utf8_lossy(&page).contains("miren_sandboxes"));
}

#[tokio::test]
async fn f13_silent_connections_to_the_metrics_of_control_give_way_to_who_asks() {
    let node = Node::start().await;
    let (address, serving) = metrics(&node).await;
    let mut scraper = TcpStream::connect(address).await.unwrap();
    scrape(&mut scraper).await;
    let mut crowd = Vec::new();
    for number in 0..CROWD {
        let mut silent = TcpStream::connect(address).await.unwrap();
        if number % 2 == 0 {
            silent.write_all(HEAD.as_bytes()).await.unwrap();
        }
        crowd.push(silent);
        if number % (LEFT / 2) == 0 {
            // On the connection it has had from the beginning.
            scrape(&mut scraper).await;
        }
    }
    scrape(&mut TcpStream::connect(address).await.unwrap()).await;
    // The first are those who were silent for longest.
    for silent in &mut crowd[..CROWD - LEFT] {
        let ended = timeout(PATIENCE, silent.read(&mut [0])).await;
        assert!(
            matches!(ended, Ok(Ok(0) | Err(_))),
            "a silent one keeps its place: {ended:?}"
        );
    }
    node.control.ending.cancel();
    timeout(PATIENCE, serving).await.expect("it does not end").unwrap();
}
