//! Many deploys in a short time, and broken ones, under requests of every kind: users see newer releases, nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::thread;
use std::time::{Duration, Instant};

use miren_api::resource::{Pool, PoolState, Sandbox, SandboxState};
use miren_blackbox::{AppFolder, Deployed, Floor, Mixed, MixedReport, Node, Output, wait_until};

const HOST: &str = "rapid.example.com";
/// Of every app and release here.
const SANDBOXES: u32 = 2;
/// Times that three deploys follow each other.
const ROUNDS: u64 = 20;
/// Deploys that are under way at once, and how often.
const OVERLAPPING: u64 = 10;
const OVERLAPS: u64 = 3;

/// Releases are numbered: the rank of `r7` is 7.
fn rank(release: &str) -> Option<u64> {
    release.strip_prefix('r')?.parse().ok()
}

fn releases_seen(report: &MixedReport) -> BTreeSet<&str> {
    report.answers.iter().map(|answer| answer.release.as_str()).collect()
}

#[test]
fn r12_three_rapid_deploys_twenty_times_under_mixed_load() {
    let node = Node::start();
    let app = AppFolder::rust("rapid").fixed(SANDBOXES).release("r0");
    let mut pools = vec![node.deploy_at(&app, HOST).pool];
    let mixed = Mixed::start(&node, HOST);
    let mut floors = Vec::new();
    for round in 0..ROUNDS {
        let first = deploy_release(&node, &app, 2 * round + 1, &mut floors);
        let same = deploy_release(&node, &app, 2 * round + 1, &mut floors);
        let changed = deploy_release(&node, &app, 2 * round + 2, &mut floors);
        // So that this is looked at all along, however slow the load is.
        mixed.wait_for(&format!("r{}", 2 * round + 2));
        assert!(!first.reused && !changed.reused, "{first:?}, {changed:?}");
        assert!(same.reused && same.pool == first.pool, "{first:?}, {same:?}");
        assert!(first.seq < same.seq && same.seq < changed.seq);
        pools.extend([first.pool, changed.pool]);
    }
    let report = mixed.stop();
    println!("{report}");
    report.assert_none_failed();
    report.assert_never_back(&floors, rank);
    let seen = releases_seen(&report);
    assert!(seen.len() as u64 >= ROUNDS, "{seen:?}");

    nothing_crashed(&node, &app.name);
    let last = pools.last().expect("it was deployed");
    only_one_pool_is_left(&node, &app.name, last);
    each_pool_started_its_sandboxes_once(&node, &app.name, &pools);
    assert_eq!(node.get(HOST, "/info").field("release"), format!("r{}", 2 * ROUNDS));
    node.stop();
}

/// Deploys a release; once the command has returned, it is the oldest that may answer.
#[track_caller]
fn deploy_release(node: &Node, app: &AppFolder, number: u64, floors: &mut Vec<Floor>) -> Deployed {
    app.set_release(&format!("r{number}"));
    let deployed = node.deploy(app);
    floors.push(Floor {
        from: Instant::now(),
        rank: number,
    });
    deployed
}

/// No sandbox ended but by request, and no pool counts a crash.
#[track_caller]
fn nothing_crashed(node: &Node, app: &str) {
    let sandboxes = node.sandboxes(app);
    let dead = sandboxes.iter().find(|sandbox| sandbox.state == SandboxState::Dead);
    assert_eq!(dead, None);
    let pools = node.pools(app);
    let crashed = |pool: &&Pool| pool.crash_count > 0 || pool.state == PoolState::Cooldown;
    assert_eq!(pools.iter().find(crashed), None);
}

/// No orphan: what lives belongs to this pool, for the control daemon and for the kernel.
#[track_caller]
fn only_one_pool_is_left(node: &Node, app: &str, pool: &str) {
    let wanted = usize::try_from(SANDBOXES).expect("a small number");
    wait_until("the replaced sandboxes to go", Duration::from_secs(60), || {
        let pools = node.pools(app);
        let kept: Vec<_> = pools.iter().filter(|pool| pool.state == PoolState::Active).collect();
        assert!(kept.len() == 1 && kept[0].id.as_str() == pool, "{pools:?}");
        let mut alive = node.sandboxes(app);
        alive.retain(|sandbox| !sandbox.state.is_terminal());
        let of_pool = alive.iter().filter(|sandbox| sandbox.pool.as_str() == pool).count();
        let counted = node.census("hello-rust");
        let extra = counted.values().any(|count| *count > wanted);
        if alive.len() == wanted && of_pool == wanted && !extra && counted["app processes"] == wanted {
            Ok(())
        } else {
            Err(format!("{alive:?}, {counted:?}"))
        }
    });
}

/// One pool per spec, and in it no sandbox that was started for nothing.
#[track_caller]
fn each_pool_started_its_sandboxes_once(node: &Node, app: &str, pools: &[String]) {
    let mut started: BTreeMap<String, u32> = BTreeMap::new();
    for sandbox in node.sandboxes(app) {
        *started.entry(sandbox.pool.to_string()).or_default() += 1;
    }
    let expected = pools.iter().map(|pool| (pool.clone(), SANDBOXES)).collect();
    assert_eq!(started, expected, "sandboxes ever started, by pool");
}

#[test]
fn r12_ten_overlapping_deploys_the_newest_accepted_wins() {
    let node = Node::start();
    let app = AppFolder::rust("rapid").fixed(SANDBOXES).release("r0");
    let first = node.deploy_at(&app, HOST);
    let mixed = Mixed::start(&node, HOST);
    mixed.wait_for("r0");
    let mut order = BTreeMap::from([("r0".to_owned(), first.seq)]);
    let (mut floors, mut superseded) = (Vec::new(), BTreeSet::new());
    for overlap in 0..OVERLAPS {
        let ended = deploy_at_once(&node, overlap);
        let newest = ended.iter().max_by_key(|one| one.seq()).expect("ten of them");
        assert_eq!(newest.output.field("/status"), "SUCCEEDED", "{}", newest.output);
        only_one_pool_is_left(&node, &app.name, &newest.output.field("/pool"));
        assert_eq!(node.get(HOST, "/info").field("release"), newest.release);
        mixed.wait_for(&newest.release);
        for one in ended {
            let seq = one.seq();
            if one.has_served() {
                let from = one.returned;
                floors.push(Floor { from, rank: seq });
            } else {
                superseded.insert(one.release.clone());
            }
            order.insert(one.release, seq);
        }
    }
    nothing_crashed(&node, &app.name);
    let numbers: BTreeSet<u64> = order.values().copied().collect();
    let expected: BTreeSet<u64> = (first.seq..=first.seq + OVERLAPS * OVERLAPPING).collect();
    assert_eq!(numbers, expected, "{order:?}");

    let report = mixed.stop();
    println!("{report}superseded: {superseded:?}");
    report.assert_none_failed();
    // One that was overtaken has no rank: it never serves.
    let rank = |release: &str| order.get(release).filter(|_| !superseded.contains(release)).copied();
    report.assert_never_back(&floors, rank);
    assert!(releases_seen(&report).len() as u64 > OVERLAPS);
    node.stop();
}

/// A deploy that has ended, well or overtaken.
struct Ended {
    release: String,
    returned: Instant,
    output: Output,
}

impl Ended {
    fn seq(&self) -> u64 {
        self.output.field("/seq").parse().expect("a number")
    }

    /// Whether it succeeded; anything else but SUPERSEDED fails the test.
    #[track_caller]
    fn has_served(&self) -> bool {
        match (self.output.field("/status").as_str(), self.output.code) {
            ("SUCCEEDED", 0) => true,
            ("SUPERSEDED", 4) => false,
            other => panic!("{other:?}: {}", self.output),
        }
    }
}

/// Ten different releases of the app, all under way at the same time.
fn deploy_at_once(node: &Node, overlap: u64) -> Vec<Ended> {
    let folders: Vec<_> = (1..=OVERLAPPING)
        .map(|number| {
            let release = format!("r{}", overlap * OVERLAPPING + number);
            let folder = AppFolder::rust("rapid").fixed(SANDBOXES).release(&release);
            (release, folder)
        })
        .collect();
    let deploy = |(release, folder): (String, AppFolder)| {
        let output = node.cli.deploy(folder.path());
        Ended {
            release,
            returned: Instant::now(),
            output,
        }
    };
    thread::scope(|scope| {
        let all: Vec<_> = folders
            .into_iter()
            .map(|folder| scope.spawn(move || deploy(folder)))
            .collect();
        all.into_iter()
            .map(|one| one.join().expect("a deploy returns"))
            .collect()
    })
}

#[test]
fn r4_a_crash_loop_beside_a_healthy_app_is_not_noticed() {
    let node = Node::start();
    let healthy = AppFolder::rust("healthy").fixed(SANDBOXES).release("r1");
    node.deploy_at(&healthy, HOST);
    let before = ids(&node.running("healthy"));
    let mixed = Mixed::start(&node, HOST);

    // It gets ready, and ends by itself a second later, each time.
    let looping = AppFolder::rust("looping").command("timeout 1 ./hello-rust");
    node.deploy(&looping.fixed(1));
    let broken = AppFolder::rust("broken").fixed(SANDBOXES).env("EXIT_AT_START", "1");
    let crashes = |least: u32| {
        wait_until("crashes", Duration::from_secs(60), || {
            let pools = node.pools("looping");
            let crashed = pools.len() == 1 && pools[0].crash_count >= least;
            if crashed {
                Ok(pools[0].crash_count)
            } else {
                Err(format!("{pools:?}"))
            }
        })
    };
    let count = crashes(1);
    let output = node.cli.deploy(broken.path());
    assert_eq!(
        (output.code, output.field("/status").as_str()),
        (1, "FAILED"),
        "{output}"
    );
    let third = AppFolder::rust("third").fixed(SANDBOXES).release("r3");
    node.deploy_at(&third, "third.example.com");
    // It went on all the while.
    crashes(count + 1);
    let status = node.cli.call_json(&["app", "status", "--app", "looping"]);
    assert!(
        status.field("/pools/0/last_crash").contains("exited with status"),
        "{status}"
    );
    assert_eq!(node.get("third.example.com", "/info").field("release"), "r3");

    let report = mixed.stop();
    println!("{report}");
    report.assert_none_failed();
    report.assert_never_back(&[], |release| (release == "r1").then_some(1));
    assert_eq!(ids(&node.running("healthy")), before);
    for app in ["healthy", "third"] {
        assert!(node.pools(app).iter().all(|pool| pool.crash_count == 0));
    }
    node.stop();
}

fn ids(sandboxes: &[Sandbox]) -> BTreeSet<String> {
    sandboxes.iter().map(|sandbox| sandbox.id.to_string()).collect()
}

#[test]
fn a_deploy_that_never_gets_ready_changes_nothing() {
    let node = Node::start();
    let good = AppFolder::rust("rapid").fixed(SANDBOXES).release("r1");
    let deployed = node.deploy_at(&good, HOST);
    let before = ids(&node.running("rapid"));
    let mixed = Mixed::start(&node, HOST);

    let hello = || AppFolder::rust("rapid").release("r2");
    let silent = hello().and("port_timeout = \"1s\"").fixed(2).env("NEVER_LISTEN", "1");
    let elsewhere = hello().command("PORT=3999 ./hello-rust");
    let cases = [
        (
            silent,
            ["port: did not listen on port 3000 within 1s", "NEVER_LISTEN is set"],
        ),
        (
            hello().fixed(2).env("EXIT_AT_START", "1"),
            ["port: exited with status 1", "EXIT_AT_START is set"],
        ),
        (
            elsewhere.and("port_timeout = \"1s\"").fixed(2),
            [
                "port: did not listen on port 3000 within 1s; it listens on 0.0.0.0:3999",
                "listening on port 3999",
            ],
        ),
        (
            hello().command("./no-such-program").fixed(2),
            ["create: command not found", "no-such-program"],
        ),
    ];
    for (bad, words) in &cases {
        let output = node.cli.deploy(bad.path());
        assert_eq!(
            (output.code, output.field("/status").as_str()),
            (1, "FAILED"),
            "{output}"
        );
        let error = output.field("/error");
        for word in words {
            assert!(error.contains(word), "{word:?} is not said in\n{output}");
        }
        assert_eq!(ids(&node.running("rapid")), before);
    }
    let report = mixed.stop();
    println!("{report}");
    report.assert_none_failed();
    report.assert_never_back(&[], |release| (release == "r1").then_some(1));
    only_one_pool_is_left(&node, "rapid", &deployed.pool);
    assert_eq!(ids(&node.running("rapid")), before);
    node.stop();
}
