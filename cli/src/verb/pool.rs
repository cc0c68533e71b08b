//! `miren pool`: the sandboxes of one app and service with one spec, in numbers.

use crate::failure::{Doing, Failure};
use crate::table::{Cell, Table, Tone, or_dash};
use crate::{Context, ago, paths};
use clap::Subcommand;
use miren_api::resource::{Pool, PoolState};

#[derive(Debug, Subcommand)]
pub enum PoolVerb {
    /// All pools
    List,
    /// One pool
    Show {
        /// Its id, or the beginning of it
        id: String,
    },
}

pub async fn run(verb: PoolVerb, context: &mut Context<'_>) -> Result<(), Failure> {
    let client = context.client()?;
    match verb {
        PoolVerb::List => {
            let pools: Vec<Pool> = client.list(paths::POOLS).await.doing(|| "listing pools".into())?;
            context.console.list(&pools, "pools", table(&pools))
        }
        PoolVerb::Show { id } => {
            let path = paths::of(paths::POOLS, &id);
            let pool: Pool = client.get(&path).await.doing(|| format!("showing pool {id}"))?;
            context.console.thing(&pool, &fields(&pool))
        }
    }
}

/// Pools in numbers, also as a part of what is told of an app.
pub fn table(pools: &[Pool]) -> Table {
    let mut table = Table::new(&[
        "id", "app", "service", "versions", "desired", "current", "ready", "state",
    ])
    .cut(&["versions"])
    .lists(&["versions"])
    .leave(&["versions", "current", "desired", "service", "app"]);
    for pool in pools {
        table.row(vec![
            pool.id.as_str().into(),
            pool.app.as_str().into(),
            pool.service.as_str().into(),
            versions(pool).into(),
            pool.desired.into(),
            pool.current.into(),
            pool.ready.into(),
            state(pool),
        ]);
    }
    table
}

fn fields(pool: &Pool) -> Vec<(&'static str, String)> {
    vec![
        ("Pool", pool.id.to_string()),
        ("App", pool.app.to_string()),
        ("Service", pool.service.clone()),
        ("Spec", pool.spec_hash.clone()),
        ("Versions", versions(pool)),
        ("State", word(pool.state).to_owned()),
        (
            "Sandboxes",
            format!(
                "{} ready, {} current, {} desired",
                pool.ready, pool.current, pool.desired
            ),
        ),
        ("Crashes in a row", pool.crash_count.to_string()),
        ("Last crash", or_dash(pool.last_crash.as_ref())),
        ("Cooldown until", or_dash(pool.cooldown_until.as_ref())),
        ("Node fault", or_dash(pool.node_fault.as_ref())),
    ]
}

fn versions(pool: &Pool) -> String {
    if pool.versions.is_empty() {
        return "-".to_owned();
    }
    pool.versions
        .iter()
        .map(|version| version.as_str())
        .collect::<Vec<_>>()
        .join(", ")
}

fn word(state: PoolState) -> &'static str {
    match state {
        PoolState::Active => "active",
        PoolState::Cooldown => "cooldown",
        PoolState::Retiring => "retiring",
    }
}

fn state(pool: &Pool) -> Cell {
    match pool.state {
        PoolState::Active if pool.node_fault.is_some() => Cell::toned("node fault", Tone::Bad),
        PoolState::Active => Cell::toned("active", Tone::Good),
        PoolState::Retiring => Cell::toned("retiring", Tone::Waiting),
        PoolState::Cooldown => {
            let crashes = format!("cooldown ({}, until {})", why_it_waits(pool), until(pool));
            Cell::toned(crashes, Tone::Bad)
        }
    }
}

/// What its sandboxes did that it is not replaced at once.
pub fn why_it_waits(pool: &Pool) -> String {
    match pool.crash_count {
        0 => "ended too often".to_owned(),
        count => format!("crashed {count}x"),
    }
}

/// When the cooldown ends, as a time of day; it is at most minutes away.
pub fn until(pool: &Pool) -> String {
    pool.cooldown_until
        .map_or_else(|| ago::since(None), |at| at.strftime("%H:%M:%S UTC").to_string())
}
