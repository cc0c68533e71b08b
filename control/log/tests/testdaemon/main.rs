//! A daemon that dies in the way its first argument says, or does not; what it lived to tell it says on stdout.

use std::time::Duration;

/// More than a pipe and a buffer take together.
const MANY: usize = 50_000;

#[tokio::main]
async fn main() {
    let how = std::env::args().nth(1).unwrap_or_default();
    let log = miren_log::start("testdaemon");
    log.on_thread().unwrap();
    tracing::info!("begun");
    match how.as_str() {
        "task" => drop(miren_log::spawn("the heart", unlucky("out of luck"))),
        "thread" => drop(miren_log::thread("lungs", || panic!("out of air")).unwrap()),
        "end" => drop(miren_log::spawn_endless("the heart", async {})),
        "change" => drop(miren_log::caught("a request", async { change() }).await),
        "request" => {
            let panicked = miren_log::caught("a request", unlucky("a strange one")).await;
            let text = panicked
                .map(|()| String::new())
                .unwrap_or_else(|panicked| panicked.to_string());
            return finish(log, &format!("{text}; {} panics", miren_log::panics()));
        }
        "lines" => {
            for number in 0..MANY {
                tracing::info!(number, "a line");
            }
            return finish(log, "said them all");
        }
        "watched" => {
            miren_log::supervisor::serves("{\"it\":1}").unwrap();
            tokio::select! {
                () = miren_log::supervisor::watched() => {}
                // Whoever listens closes this.
                _ = tokio::task::spawn_blocking(|| std::io::stdin().read_line(&mut String::new())) => {}
            }
            miren_log::supervisor::ends(Some(Duration::ZERO)).await;
            return finish(log, "was watched");
        }
        _ => return finish(log, "nothing to do"),
    }
    // Whoever waits for this has waited for too long.
    tokio::time::sleep(Duration::from_secs(600)).await;
}

async fn unlucky(why: &str) {
    panic!("{why}")
}

fn change() {
    let _whole = miren_log::Whole::begin("the books");
    panic!("miscounted");
}

fn finish(log: miren_log::Log, text: &str) {
    drop(log);
    miren_log::say(&format!("{text}; {} dropped\n", miren_log::dropped())).unwrap();
}
