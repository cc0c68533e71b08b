//! What a request costs the ingress, as far as that is a number that no machine's pace changes.

use miren_blackbox::http::Connection;
use miren_blackbox::{AppFolder, Node, process};

/// Enough for every buffer that is ever needed to be there.
const WARM_UP: u64 = 200;
const ANSWERS: u64 = 1000;

fn ask(connection: &mut Connection, times: u64) {
    for _ in 0..times {
        connection
            .request("GET", "large.example.com", "/big?bytes=65536", "")
            .expect("a request");
        let answer = connection.response().expect("an answer");
        assert_eq!((answer.status, answer.body.len()), (200, 65_536));
    }
}

#[test]
fn f20_large_answers_do_not_fault_the_same_memory_in_again() {
    let node = Node::start();
    node.deploy_at(&AppFolder::rust("crab").fixed(1), "large.example.com");
    let mut connection = Connection::open(node.http).expect("a connection");
    ask(&mut connection, WARM_UP);
    let before = process::minor_faults(node.proxy_pid());
    ask(&mut connection, ANSWERS);
    let faults = process::minor_faults(node.proxy_pid()) - before;
    // One buffer of 64 KiB that is given back and asked for anew is 16 faults.
    assert!(faults < ANSWERS, "{faults} pages were faulted in for {ANSWERS} answers");
    node.stop();
}
