//! PostgreSQL with its data on a disk: what it has said is kept is there, after deploys, and after its end by force.

use miren_api::resource::Sandbox;
use miren_blackbox::{AppFolder, Cli, Node, Output, process, wait_until};
use nix::sys::signal::Signal;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};

use super::{PATIENCE, ends_by_itself};

const APP: &str = "postgres";

fn psql(server: &Sandbox) -> Command {
    let mut command = Command::new("psql");
    let ip = server.ip.expect("one that runs has an address");
    command
        .args([
            "-X",
            "-A",
            "-t",
            "-v",
            "ON_ERROR_STOP=1",
            "-U",
            "postgres",
            "-h",
            &ip.to_string(),
        ])
        .env("PGCONNECT_TIMEOUT", "5");
    command
}

fn query(server: &Sandbox, text: &str) -> Output {
    Output::of(psql(server).args(["-c", text]))
}

/// A session with nothing to do, for as long as it lives.
struct Idle(Child);

impl Idle {
    #[track_caller]
    fn open(server: &Sandbox) -> Self {
        let mut idle = psql(server);
        idle.env("PGAPPNAME", "idle").stdin(Stdio::piped());
        let child = idle.spawn().expect("starting psql");
        wait_until("an idle session", PATIENCE, || {
            let seen = query(
                server,
                "select count(*) from pg_stat_activity where application_name = 'idle'",
            );
            if seen.stdout.trim() == "1" { Ok(()) } else { Err(seen) }
        });
        Self(child)
    }
}

impl Drop for Idle {
    fn drop(&mut self) {
        // It may have ended with its server.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Has one number after the other kept, and asks again for each until it was told that it is.
struct Writer {
    running: Arc<AtomicBool>,
    kept: Arc<AtomicU64>,
    thread: JoinHandle<()>,
}

impl Writer {
    fn start(cli: &Cli, server: Sandbox) -> Self {
        let (running, kept) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicU64::new(0)));
        let (cli, goes_on, count) = (cli.clone(), Arc::clone(&running), Arc::clone(&kept));
        let thread = thread::spawn(move || write(&cli, server, &goes_on, &count));
        Self { running, kept, thread }
    }

    /// Waits until so many more were kept.
    #[track_caller]
    fn wait_for_more(&self, more: u64) {
        let enough = self.kept.load(Ordering::SeqCst) + more;
        wait_until("rows to be written", PATIENCE, || {
            match self.kept.load(Ordering::SeqCst) {
                kept if kept >= enough => Ok(()),
                kept => Err(format!("{kept} of {enough}")),
            }
        });
    }

    /// How many it was told are kept.
    #[track_caller]
    fn stop(self) -> u64 {
        self.running.store(false, Ordering::SeqCst);
        self.thread.join().expect("the writer ends");
        self.kept.load(Ordering::SeqCst)
    }
}

fn write(cli: &Cli, mut server: Sandbox, running: &AtomicBool, kept: &AtomicU64) {
    while running.load(Ordering::SeqCst) {
        let number = kept.load(Ordering::SeqCst) + 1;
        let text = format!("insert into kept values ({number}) on conflict do nothing");
        if query(&server, &text).code == 0 {
            kept.store(number, Ordering::SeqCst);
        } else if let Some(other) = running_one(cli) {
            server = other;
        }
    }
}

fn running_one(cli: &Cli) -> Option<Sandbox> {
    let all: Vec<Sandbox> = cli.json(&["sandbox", "list", "-a", APP]);
    all.into_iter().find(|sandbox| sandbox.state.as_str() == "RUNNING")
}

#[test]
fn what_postgres_has_committed_outlives_deploys_and_its_own_end() {
    let app = AppFolder::sample(APP);
    app.set_release("one");
    let node = Node::start();
    node.deploy(&app);
    let [first] = node.wait_running(APP, 1).try_into().expect("one sandbox");
    // It takes connections before it answers them.
    wait_until("the database to be there", PATIENCE, || {
        let made = query(&first, "create table if not exists kept (number bigint primary key)");
        if made.code == 0 { Ok(()) } else { Err(made) }
    });
    let writer = Writer::start(&node.cli, first.clone());
    writer.wait_for_more(10);

    let idle = Idle::open(&first);
    app.set_release("two");
    node.deploy(&app);
    writer.wait_for_more(10);
    ends_by_itself(&node, &first);
    drop(idle);

    let [second] = node.wait_running(APP, 1).try_into().expect("one sandbox");
    assert_ne!(first.id, second.id);
    process::signal(second.pid.expect("one that runs has a process"), Signal::SIGKILL);
    writer.wait_for_more(10);

    let kept = writer.stop();
    let [third] = node.wait_running(APP, 1).try_into().expect("one sandbox");
    assert_ne!(second.id, third.id);
    let there = query(&third, "select count(*), min(number), max(number) from kept");
    // The last one may have been kept without that its writer was told.
    let whole = |last: u64| there.stdout.trim() == format!("{last}|1|{last}");
    assert!(whole(kept) || whole(kept + 1), "{kept} rows were kept: {there}");
    node.stop();
}
