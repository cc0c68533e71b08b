//! A table is what a plain map would be, and its copies keep what they had.

use super::*;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::collections::HashMap;

/// Short ones, which a table has within, and long ones.
fn some_host(random: &mut StdRng) -> String {
    let (number, length) = (random.random_range(0..200), random.random_range(0..2));
    format!("host-{number}.{}example.com", "a-long-name.".repeat(length))
}

fn filled(hosts: usize) -> HostTable<usize> {
    let mut table = HostTable::default();
    for number in 0..hosts {
        assert_eq!(table.insert(Hashed::new(&host(number)), number), None);
    }
    table
}

fn host(number: usize) -> String {
    format!("host-{number}.example.com")
}

fn get(table: &HostTable<usize>, host: &str) -> Option<usize> {
    table.get(Hashed::new(host)).copied()
}

/// Shards that two tables do not share.
fn apart(one: &HostTable<usize>, other: &HostTable<usize>) -> usize {
    let shards = |table: &HostTable<usize>| -> Vec<_> {
        let blocks = table.blocks.iter();
        blocks.flat_map(|block| block.iter().map(Arc::as_ptr)).collect()
    };
    let both = shards(one).into_iter().zip(shards(other));
    both.filter(|(one, other)| one != other).count()
}

/// Blocks that two tables do not share.
fn blocks_apart(one: &HostTable<usize>, other: &HostTable<usize>) -> usize {
    let both = one.blocks.iter().zip(&other.blocks);
    both.filter(|(one, other)| !Arc::ptr_eq(one, other)).count()
}

#[test]
fn it_answers_as_a_plain_map_and_each_copy_keeps_what_it_had() {
    for seed in 0..20 {
        let random = &mut StdRng::seed_from_u64(seed);
        let (mut table, mut map) = (HostTable::default(), HashMap::new());
        let mut copies = Vec::new();
        for number in 0..2_000 {
            let host = some_host(random);
            let hashed = Hashed::new(&host);
            match random.random_range(0..4) {
                0 => assert_eq!(table.remove(hashed), map.remove(&host), "seed {seed}"),
                1 => {
                    let (found, known) = (table.get_mut(hashed), map.get_mut(&host));
                    assert_eq!(found.is_some(), known.is_some(), "seed {seed}");
                    found.into_iter().chain(known).for_each(|value| *value = number);
                }
                _ => assert_eq!(table.insert(hashed, number), map.insert(host, number), "seed {seed}"),
            }
            if number % 100 == 0 {
                copies.push((table.clone(), map.clone()));
            }
        }
        copies.push((table, map));
        for (table, map) in &copies {
            let all: HashMap<String, usize> = table.iter().map(|(host, value)| (host.to_string(), *value)).collect();
            assert_eq!(&all, map, "seed {seed}");
            assert_eq!(table.iter().count(), map.len(), "seed {seed}");
            let host = some_host(random);
            assert_eq!(get(table, &host), map.get(&host).copied(), "seed {seed}: {host}");
        }
    }
}

#[test]
fn a_change_copies_one_shard_and_what_is_not_there_none() {
    let table = filled(10_000);
    let mut copy = table.clone();
    assert_eq!((blocks_apart(&table, &copy), apart(&table, &copy)), (0, 0));
    assert_eq!(copy.remove(Hashed::new("elsewhere.org")), None);
    assert!(copy.get_mut(Hashed::new("elsewhere.org")).is_none());
    assert_eq!((blocks_apart(&table, &copy), apart(&table, &copy)), (0, 0));
    assert_eq!(copy.insert(Hashed::new(&host(7)), 0), Some(7));
    assert_eq!((blocks_apart(&table, &copy), apart(&table, &copy)), (1, 1));
    *copy.get_mut(Hashed::new(&host(7))).unwrap() = 1;
    assert_eq!(copy.remove(Hashed::new(&host(7))), Some(1));
    assert_eq!(apart(&table, &copy), 1, "the same one");
    assert_eq!((get(&table, &host(7)), get(&copy, &host(7))), (Some(7), None));
}

#[test]
fn hosts_are_spread_over_all_shards() {
    let table = filled(100_000);
    let most = table
        .blocks
        .iter()
        .flat_map(|block| block.iter())
        .map(|shard| shard.len())
        .max();
    assert!(most < Some(200), "{most:?} of 100,000 hosts are in one of 1,024 shards");
}
