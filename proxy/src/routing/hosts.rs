//! A table by host: a lookup costs one hash and a few cache lines, a change copies the shard it is in and no other.

use foldhash::quality::RandomState;
use hashbrown::HashTable;
use smol_str::SmolStr;
use std::array;
use std::hash::BuildHasher;
use std::sync::{Arc, LazyLock};

#[cfg(test)]
mod tests;

/// Blocks of a table, and shards of a block: 1,024 shards, of a hundred hosts each where there are 100,000. A copy of the whole
/// costs as many counts as there are blocks.
const FAN: usize = 32;
/// Bits of a hash that number a block or a shard; those above and below them are the shard's own.
const FAN_BITS: u32 = FAN.trailing_zeros();
const FIRST_BIT: u32 = 32;

/// One for all tables, so that a host is hashed once however many are asked. Nobody outside can know it.
static SEED: LazyLock<RandomState> = LazyLock::new(RandomState::default);

/// A host and its hash.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hashed<'h> {
    host: &'h str,
    hash: u64,
}

impl<'h> Hashed<'h> {
    pub(super) fn new(host: &'h str) -> Self {
        Self {
            host,
            hash: SEED.hash_one(host),
        }
    }

    fn place(self) -> (usize, usize) {
        let at = |bit: u32| (self.hash >> bit) as usize % FAN;
        (at(FIRST_BIT), at(FIRST_BIT + FAN_BITS))
    }

    fn is<V>(self) -> impl Fn(&(SmolStr, V)) -> bool {
        move |(host, _)| host == self.host
    }
}

type Shard<V> = HashTable<(SmolStr, V)>;
type Block<V> = [Arc<Shard<V>>; FAN];

/// Something for each of many hosts. A clone shares all of it with the original until one of them is changed.
#[derive(Clone, Debug)]
pub(super) struct HostTable<V> {
    blocks: [Arc<Block<V>>; FAN],
}

impl<V> Default for HostTable<V> {
    fn default() -> Self {
        let shard: Arc<Shard<V>> = Arc::default();
        let block = Arc::new(array::from_fn(|_| Arc::clone(&shard)));
        Self {
            blocks: array::from_fn(|_| Arc::clone(&block)),
        }
    }
}

impl<V: Clone> HostTable<V> {
    pub(super) fn get(&self, host: Hashed<'_>) -> Option<&V> {
        let (block, shard) = host.place();
        let found = self.blocks[block][shard].find(host.hash, host.is());
        found.map(|(_, value)| value)
    }

    /// To change it in place. A host that is not there costs no copy.
    pub(super) fn get_mut(&mut self, host: Hashed<'_>) -> Option<&mut V> {
        self.get(host)?;
        let found = self.shard_mut(host).find_mut(host.hash, host.is());
        found.map(|(_, value)| value)
    }

    /// Puts `value` in the place of what was there, which it returns.
    pub(super) fn insert(&mut self, host: Hashed<'_>, value: V) -> Option<V> {
        let shard = self.shard_mut(host);
        if let Some((_, before)) = shard.find_mut(host.hash, host.is()) {
            return Some(std::mem::replace(before, value));
        }
        let hash_of = |(host, _): &(SmolStr, V)| SEED.hash_one(host.as_str());
        shard.insert_unique(host.hash, (host.host.into(), value), hash_of);
        None
    }

    /// A host that is not there costs no copy.
    pub(super) fn remove(&mut self, host: Hashed<'_>) -> Option<V> {
        self.get(host)?;
        let found = self.shard_mut(host).find_entry(host.hash, host.is()).ok()?;
        let ((_, value), _) = found.remove();
        Some(value)
    }

    fn shard_mut(&mut self, host: Hashed<'_>) -> &mut Shard<V> {
        let (block, shard) = host.place();
        Arc::make_mut(&mut Arc::make_mut(&mut self.blocks[block])[shard])
    }
}

impl<V> HostTable<V> {
    /// All of it, in no order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&SmolStr, &V)> {
        let shards = self.blocks.iter().flat_map(|block| block.iter());
        shards.flat_map(|shard| shard.iter()).map(|(host, value)| (host, value))
    }
}
