//! Whatever proxies, sandboxes and time do, in whatever order: the shares on a sandbox fit into it, and nothing is left.

use super::super::*;
use super::{at, held};
use miren_api::id::NodeId;
use miren_api::lease::LeaseKey;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::collections::BTreeSet;

const PROXIES: [&str; 4] = ["a", "b", "c", "d"];
const SLOTS: u32 = 3;
const RUNS: u64 = 300;
const STEPS: usize = 200;

/// The table, and what is true of the sandboxes beside it.
struct World {
    random: StdRng,
    table: LeaseTable,
    capacity: u32,
    second: i64,
    /// Generation of each slot.
    generations: [u64; SLOTS as usize],
    closed: BTreeSet<LeaseKey>,
    over: Vec<LeaseKey>,
    absent: BTreeSet<String>,
    story: Vec<String>,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        let capacity = random.random_range(1..12);
        Self {
            random,
            table: LeaseTable::default(),
            capacity,
            second: 0,
            generations: [1; SLOTS as usize],
            closed: BTreeSet::new(),
            over: Vec::new(),
            absent: BTreeSet::new(),
            story: vec![format!("seed {seed}, capacity {capacity}")],
        }
    }

    fn key(&mut self) -> LeaseKey {
        let slot = self.random.random_range(0..SLOTS);
        LeaseKey {
            node: NodeId::FIRST,
            slot,
            generation: self.generations[slot as usize],
        }
    }

    fn ask(&mut self, key: LeaseKey) -> Ask {
        Ask {
            key,
            capacity: self.capacity,
            need: self.random.random_range(0..20),
        }
    }

    fn step(&mut self) {
        let proxy = PROXIES[self.random.random_range(0..PROXIES.len())];
        let key = self.key();
        let now = at(self.second);
        let what = self.random.random_range(0..100);
        self.story.push(format!("{what} {proxy} {key:?} at {}", self.second));
        match what {
            0..40 => {
                let ask = self.ask(key);
                let granted = self.table.grant(proxy, ask, now);
                assert_eq!(granted.is_none(), self.closed.contains(&key), "{:#?}", self.story);
            }
            40..65 => {
                let ask = self.ask(key);
                let claimed = held(key, ask.need, self.random.random_range(0..12));
                let renewed = self.table.renew(proxy, claimed, ask, now);
                assert_eq!(renewed.is_none(), self.closed.contains(&key), "{:#?}", self.story);
            }
            65..73 => self.table.release(proxy, key, now),
            73..76 => self.table.hold(proxy, held(key, 1, 0), now),
            76..80 => {
                self.table.close(key);
                self.closed.insert(key);
            }
            80..84 => {
                self.table.forget(key);
                self.closed.remove(&key);
                self.over.push(key);
                self.generations[key.slot as usize] += 1;
            }
            84..87 => self.table.drop_proxy(proxy, now),
            87..90 => {
                if !self.absent.remove(proxy) {
                    self.absent.insert(proxy.to_owned());
                }
                self.table.set_absent(self.absent.clone());
            }
            _ => {
                self.second += self.random.random_range(0..8);
                self.table.expire(at(self.second));
            }
        }
        self.check();
    }

    fn check(&mut self) {
        for slot in 0..SLOTS {
            let generation = self.generations[slot as usize];
            let taken = self.table.taken(LeaseKey {
                node: NodeId::FIRST,
                slot,
                generation,
            });
            assert!(
                taken <= self.capacity,
                "{taken} of {}: {:#?}",
                self.capacity,
                self.story
            );
        }
        for key in &self.over {
            assert_eq!(
                self.table.holders(*key),
                0,
                "a lease outlived {key:?}: {:#?}",
                self.story
            );
        }
        for (key, proxy) in self.table.take_effects().told {
            assert!(
                !self.closed.contains(&key) && !self.over.contains(&key),
                "{proxy} was told of {key:?}: {:#?}",
                self.story
            );
        }
    }

    /// Everybody else is gone after a time: one that goes on renewing has all, one that does nothing has nothing.
    fn end(mut self) {
        let key = self.key();
        let mut share = None;
        for _ in 0..7 {
            self.second += 5;
            let ask = self.ask(key);
            share = self.table.renew("a", held(key, 0, 0), ask, at(self.second));
            self.table.expire(at(self.second));
        }
        let expected = (!self.closed.contains(&key)).then_some(self.capacity);
        assert_eq!(share.map(|granted| granted.share), expected, "{:#?}", self.story);
        self.table.expire(at(self.second + 30));
        assert_eq!(self.table.len(), 0, "{:#?}", self.story);
        for key in std::mem::take(&mut self.closed) {
            self.table.forget(key);
        }
        assert!(self.table.is_empty(), "{:#?}", self.story);
    }
}

#[test]
fn r6_shares_fit_into_the_sandbox_and_leases_end_with_it_whatever_happens() {
    for seed in 0..RUNS {
        let mut world = World::new(seed);
        for _ in 0..STEPS {
            world.step();
        }
        world.end();
    }
}

/// Proxies that do as they are told get all they need without anybody waiting for a timer, and then there is quiet.
#[test]
fn telling_ends_with_everybody_at_their_part() {
    for seed in 0..RUNS {
        let mut random = StdRng::seed_from_u64(seed);
        let key = LeaseKey {
            node: NodeId::FIRST,
            slot: 1,
            generation: 1,
        };
        let capacity = random.random_range(4..20);
        let needs: Vec<u32> = PROXIES.iter().map(|_| random.random_range(1..20)).collect();
        let mut table = LeaseTable::default();
        let mut to_ask: Vec<usize> = (0..PROXIES.len()).collect();
        let mut asked = 0;
        while let Some(at_front) = to_ask.pop() {
            let need = needs[at_front];
            table.grant(PROXIES[at_front], Ask { key, capacity, need }, at(0));
            let told = table.take_effects().told;
            to_ask.extend(
                told.iter()
                    .filter_map(|(_, told)| PROXIES.iter().position(|proxy| proxy == told)),
            );
            asked += 1;
            assert!(asked < 100, "seed {seed}: no end of telling");
        }
        let claims: Vec<Claim> = needs
            .iter()
            .map(|need| Claim {
                need: *need,
                present: true,
            })
            .collect();
        let parts = divide(capacity, &claims, 1);
        for (at_place, proxy) in PROXIES.iter().enumerate() {
            let ask = Ask {
                key,
                capacity,
                need: needs[at_place],
            };
            assert_eq!(
                table.grant(proxy, ask, at(0)).unwrap().share,
                parts[at_place],
                "seed {seed}"
            );
        }
    }
}
