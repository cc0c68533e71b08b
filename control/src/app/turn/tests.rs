//! Whose turn it is, as text: pools on the left, one a word, and the turn of each on the right.

use super::*;
use crate::record::Reference;
use miren_api::app_file::{self, Concurrency};
use miren_api::id::{AppName, PoolId, VersionId};
use miren_sandbox::Budgets;

/// `name:seq:access:sandboxes`: the number of the newest deploy that wants it (`-` for none), `rw`, `ro` or `no` for the
/// disk `data`, and `up`, `leaving` or `none`. One that no deploy wants is retiring.
struct Seen {
    pool: PoolRecord,
    live: bool,
    leaves: bool,
}

fn seen(word: &str) -> Seen {
    let parts: Vec<&str> = word.split(':').collect();
    let [name, seq, access, sandboxes] = parts[..] else {
        panic!("{word}")
    };
    let disk = match access {
        "no" => String::new(),
        access => format!(
            "[[services.web.disks]]\nname = \"data\"\nmount_path = \"/d\"\nread_only = {}\n",
            access == "ro"
        ),
    };
    let parsed = app_file::parse(Some(&format!("[services.web]\ncommand = \"x\"\n{disk}")), None).unwrap();
    let reference = |seq: u64| Reference {
        version: VersionId::from_text(format!("shop-v{seq}")),
        seq,
        concurrency: Concurrency::Fixed { count: 1 },
    };
    Seen {
        pool: PoolRecord {
            id: PoolId::from_text(name),
            app: AppName::from_text("shop"),
            service: "web".into(),
            spec_hash: name.into(),
            spec: parsed.services["web"].clone(),
            artifact: String::new(),
            image: None,
            label: None,
            references: seq.parse().map(reference).into_iter().collect(),
            created_at: jiff::Timestamp::UNIX_EPOCH,
            desired: 1,
            low_since: None,
            crash: Default::default(),
        },
        live: sandboxes != "none",
        leaves: sandboxes == "leaving",
    }
}

fn turns(line: &str) -> String {
    let all: Vec<Seen> = line.split_whitespace().map(seen).collect();
    let turn = |one: &Seen| {
        let rivals = all.iter().map(|seen| Rival {
            pool: &seen.pool,
            live: seen.live,
        });
        format!("{}={:?}", one.pool.id, of(&one.pool, one.leaves, rivals))
    };
    all.iter().map(turn).collect::<Vec<_>>().join(" ")
}

#[test]
fn b6_the_newest_version_has_the_turn_once_the_older_sandbox_has_ended() {
    let script = "
        old:1:rw:up                                  | old=Own
        old:1:rw:up      new:2:rw:none               | old=GivesWay new=Waits
        old:1:rw:leaving new:2:rw:none               | old=GivesWay new=Waits
        old:1:rw:none    new:2:rw:none               | old=GivesWay new=Own
        old:1:rw:none    new:2:rw:up                 | old=GivesWay new=Own
        old:-:rw:none    new:2:rw:up                 | old=GivesWay new=Own
        old:1:rw:none    new:-:rw:up                 | old=Waits new=GivesWay
        old:1:rw:none    new:-:rw:leaving            | old=Waits new=GivesWay
        old:1:rw:none    new:-:rw:none               | old=Own new=GivesWay
        old:1:rw:up      mid:2:rw:none new:3:rw:none | old=GivesWay mid=GivesWay new=Waits
        one:1:rw:leaving                             | one=Waits
        old:1:ro:up      new:2:ro:up                 | old=Own new=Own
        old:1:rw:up      new:2:ro:none               | old=GivesWay new=Waits
        old:1:ro:up      new:2:rw:none               | old=GivesWay new=Waits
        one:1:ro:leaving                             | one=Own
        old:1:no:up      new:2:rw:up                 | old=Own new=Own";
    for line in script.lines().filter(|line| !line.trim().is_empty()) {
        let (pools, expected) = line.split_once('|').unwrap();
        assert_eq!(turns(pools), expected.trim(), "{line}");
    }
}

#[test]
fn a_deploy_waits_for_those_that_give_way_to_it() {
    let (mut old, new) = (seen("old:1:rw:up").pool, seen("new:2:rw:none").pool);
    old.spec.drain_timeout = Duration::from_secs(100);
    old.spec.shutdown_timeout = Duration::from_secs(20);
    let all = [old.clone(), new.clone()];
    let longest = Budgets::of(&old.spec).total();
    assert!(longest >= Duration::from_secs(120), "{longest:?}");
    assert_eq!(handover(&new, all.iter()), longest);
    assert_eq!(handover(&old, all.iter()), Duration::ZERO);
    let reader = seen("new:2:no:none").pool;
    assert_eq!(handover(&reader, all.iter()), Duration::ZERO);
}
