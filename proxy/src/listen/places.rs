//! Who has a place, since when it is without a request, and who gives way to whom. Time is an argument.

use super::client::{Client, Limit};
use futures_util::task::AtomicWaker;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

#[cfg(test)]
mod tests;

/// [`Entry::since`] of a connection whose request is being served.
const BUSY: u64 = 0;
/// A mark in it: no request has come yet.
const FRESH: u64 = 1;
/// A mark in it: it was chosen to give way.
const CHOSEN: u64 = 2;
/// The time stands above the two marks.
const MARKS: u32 = 2;
/// One pass over all places chooses this part of them, so that a crowd pays for one pass together.
const PART: usize = 64;
/// So many connections hold memory that is worth giving back when they leave.
const CROWD: usize = 512;
/// How long there is no pass after one that found too little, for each place it looked at: some thirty times of what the
/// look took. Without it, who knocks at a house full of requests has it search all of them each time.
const REST: Duration = Duration::from_nanos(500);

/// One open connection.
#[derive(Debug)]
pub(super) struct Entry {
    /// [`BUSY`], or since when it is without a request, and marks. Written by its owner alone, but for [`CHOSEN`].
    since: AtomicU64,
    /// Where it stands in [`Places::open`]; written with the places locked.
    at: AtomicUsize,
    client: Option<Client>,
    /// Who waits for its next request, or for the end of its head.
    pub told: AtomicWaker,
}

/// What the owner of an entry has to see to after it wrote [`Entry::since`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Turned {
    pub was_fresh: bool,
    pub was_chosen: bool,
}

impl Entry {
    fn new(client: Option<Client>, at: usize, now: Duration) -> Self {
        Self {
            since: AtomicU64::new(idle(now) | FRESH),
            at: AtomicUsize::new(at),
            client,
            told: AtomicWaker::new(),
        }
    }

    /// A request is served from now on: it is not chosen any more. The one write of the request path at its beginning.
    pub fn begins(&self) -> Turned {
        self.turn(BUSY)
    }

    /// It is without a request since `now`. The one write of the request path at its end.
    pub fn ends(&self, now: Duration) -> Turned {
        self.turn(idle(now))
    }

    fn turn(&self, since: u64) -> Turned {
        let was = self.since.swap(since, Ordering::Relaxed);
        Turned {
            was_fresh: was & FRESH != 0,
            was_chosen: was & CHOSEN != 0,
        }
    }

    pub fn is_chosen(&self) -> bool {
        self.since.load(Ordering::Acquire) & CHOSEN != 0
    }

    pub fn is_fresh(&self) -> bool {
        self.since.load(Ordering::Relaxed) & FRESH != 0
    }

    /// Since when it is without a request, if it may be chosen.
    fn choosable(&self) -> Option<u64> {
        let since = self.since.load(Ordering::Relaxed);
        (since != BUSY && since & CHOSEN == 0).then_some(since)
    }

    /// False if it got a request meanwhile.
    fn choose(&self, seen: u64) -> bool {
        self.since
            .compare_exchange(seen, seen | CHOSEN, Ordering::AcqRel, Ordering::Relaxed)
            .is_ok()
    }
}

/// Later is more; never [`BUSY`].
fn idle(now: Duration) -> u64 {
    let nanoseconds = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX >> MARKS);
    (nanoseconds + 1) << MARKS
}

/// What became of who wants a place.
#[derive(Debug)]
pub(super) enum Entrance {
    /// It has one.
    In(Arc<Entry>),
    /// These are to be told to give way, or were before: another try when one of them has.
    Soon(Vec<Arc<Entry>>),
    /// Nobody can give way.
    Full(Cause),
}

/// Which limit is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// That of all connections.
    All,
    /// That of the client.
    Client,
}

/// All places.
#[derive(Debug)]
pub(super) struct Places {
    all: usize,
    each: Limit,
    open: Vec<Arc<Entry>>,
    clients: HashMap<Client, Tally>,
    /// Chosen, and still here.
    leaving: usize,
    /// No pass before.
    rests_until: Duration,
    /// The most that were open since a crowd has left.
    most: usize,
}

/// What the end of a connection was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Left {
    /// It was chosen for another.
    pub gave_way: bool,
    /// With it, half of a crowd has left.
    pub is_crowd: bool,
}

/// What one client has.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    open: usize,
    leaving: usize,
}

impl Places {
    pub fn new(all: usize, each: Limit) -> Self {
        Self {
            all,
            each,
            open: Vec::new(),
            clients: HashMap::new(),
            leaving: 0,
            rests_until: Duration::ZERO,
            most: 0,
        }
    }

    pub fn open(&self) -> &[Arc<Entry>] {
        &self.open
    }

    /// A place for a connection of `client`; `None` stands for many and has no limit of its own.
    pub fn enter(&mut self, client: Option<Client>, now: Duration) -> Entrance {
        let tally = client.map(|client| self.tally(client)).unwrap_or_default();
        if client.is_some() && tally.open >= self.each.most() {
            return match self.each {
                Limit::Fixed(_) => Entrance::Full(Cause::Client),
                Limit::Part(_) => self.give_way(client, tally.leaving, now),
            };
        }
        if self.open.len() >= self.all {
            return self.give_way(None, self.leaving, now);
        }
        let entry = Arc::new(Entry::new(client, self.open.len(), now));
        self.open.push(Arc::clone(&entry));
        self.most = self.most.max(self.open.len());
        if let Some(client) = client {
            self.clients.entry(client).or_default().open += 1;
        }
        Entrance::In(entry)
    }

    /// Who is to give way where descriptors or memory are short; nobody while some are on their way out.
    pub fn make_room(&mut self, now: Duration) -> Vec<Arc<Entry>> {
        if self.leaving > 0 {
            Vec::new()
        } else {
            self.choose(None, now)
        }
    }

    /// Its connection is closed. Whether it was closed for another one.
    pub fn leave(&mut self, entry: &Entry) -> Left {
        let at = entry.at.load(Ordering::Relaxed);
        self.open.swap_remove(at);
        if let Some(moved) = self.open.get(at) {
            moved.at.store(at, Ordering::Relaxed);
        }
        let was_chosen = entry.is_chosen();
        if was_chosen {
            self.stays(entry);
        }
        if let Some(client) = entry.client
            && let Some(tally) = self.clients.get_mut(&client)
        {
            tally.open -= 1;
            if tally.open == 0 {
                self.clients.remove(&client);
            }
        }
        self.give_memory_back();
        Left {
            gave_way: was_chosen,
            is_crowd: self.is_half_of_a_crowd(),
        }
    }

    /// Whether half of a crowd has left by now; once for each half.
    fn is_half_of_a_crowd(&mut self) -> bool {
        let is_half = self.most >= CROWD && 2 * self.open.len() <= self.most;
        if is_half {
            self.most = self.open.len();
        }
        is_half
    }

    /// One that was chosen does not count as such any more.
    pub fn stays(&mut self, entry: &Entry) {
        self.leaving -= 1;
        if let Some(client) = entry.client
            && let Some(tally) = self.clients.get_mut(&client)
        {
            tally.leaving -= 1;
        }
    }

    fn tally(&self, client: Client) -> Tally {
        self.clients.get(&client).copied().unwrap_or_default()
    }

    fn give_way(&mut self, of: Option<Client>, leaving: usize, now: Duration) -> Entrance {
        if leaving > 0 {
            return Entrance::Soon(Vec::new());
        }
        let chosen = self.choose(of, now);
        if chosen.is_empty() {
            Entrance::Full(of.map_or(Cause::All, |_| Cause::Client))
        } else {
            Entrance::Soon(chosen)
        }
    }

    /// Those longest without a request: of one client, or of all.
    fn choose(&mut self, of: Option<Client>, now: Duration) -> Vec<Arc<Entry>> {
        if now < self.rests_until {
            return Vec::new();
        }
        let wanted = of
            .map_or(self.open.len(), |client| self.tally(client).open)
            .div_ceil(PART);
        let asked = self.open.iter().filter(|entry| of.is_none() || entry.client == of);
        let mut idle: Vec<(u64, &Arc<Entry>)> = asked.filter_map(|entry| Some((entry.choosable()?, entry))).collect();
        if idle.len() > wanted {
            idle.select_nth_unstable_by_key(wanted, |(since, _)| *since);
            idle.truncate(wanted);
        }
        idle.retain(|(since, entry)| entry.choose(*since));
        let chosen: Vec<Arc<Entry>> = idle.into_iter().map(|(_, entry)| Arc::clone(entry)).collect();
        if chosen.len() < wanted {
            let looked_at = u32::try_from(self.open.len()).unwrap_or(u32::MAX);
            self.rests_until = now + REST * looked_at;
        }
        for entry in &chosen {
            self.leaving += 1;
            if let Some(client) = entry.client {
                self.clients.entry(client).or_default().leaving += 1;
            }
        }
        chosen
    }

    /// After a crowd has left, what its places took goes, too.
    fn give_memory_back(&mut self) {
        const SMALL: usize = 1024;
        if self.open.capacity() > SMALL.max(4 * self.open.len()) {
            self.open.shrink_to(SMALL.max(2 * self.open.len()));
        }
        if self.clients.capacity() > SMALL.max(4 * self.clients.len()) {
            self.clients.shrink_to(SMALL.max(2 * self.clients.len()));
        }
    }
}
