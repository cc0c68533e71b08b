//! Clients and apps that are unusual, and right or nearly so: the app gets what was sent, and the client what was said.

mod answers;
mod authorities;
mod cases;
mod halves;
mod http10;
mod lengths;
mod pipelines;
mod targets;

use crate::echo::Echo;
use crate::stage::{HOST, Stage};
use crate::wire::told;

/// Room for whatever a test sends at once.
const ROOM: u32 = 1000;

/// A request that is refused for how it is made.
const REFUSED: &str = "400";

/// A GET for a target, whatever is in it.
fn get(target: &[u8]) -> Vec<u8> {
    [b"GET ", target, b" HTTP/1.1\r\nHost: ", HOST.as_bytes(), b"\r\n\r\n"].concat()
}

/// What came before has left nothing behind: an ordinary request gets its own answer.
async fn serves_on(stage: &Stage) {
    assert_eq!(told(stage.address(), get(b"/canary")).await, "200 /canary");
}

/// Sends each request on a connection of its own, and tells what is not answered as it should be.
async fn wrong(stage: &Stage, cases: &[(&str, Vec<u8>, &str)]) -> Vec<String> {
    let mut wrong = Vec::new();
    for (what, request, wanted) in cases {
        let found = told(stage.address(), request).await;
        if found != *wanted {
            wrong.push(format!("{what}: {found}, not {wanted}"));
        }
    }
    wrong
}

/// A plain app on a stage with room for everything.
async fn plain(settings: &str) -> (Echo, Stage) {
    let app = Echo::plain().await;
    let stage = app.on_stage(settings, ROOM).await;
    (app, stage)
}
