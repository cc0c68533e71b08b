//! Decides which slot, and with it which address, the next sandbox gets.

use super::Subnet;
use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::time::Instant;

/// Slots and the addresses that belong to them. Pure: time is an argument.
#[derive(Debug)]
pub(crate) struct Places {
    subnet: Subnet,
    capacity: u32,
    taken: BTreeSet<u32>,
    /// Slots whose sandbox has ended, and until when they rest.
    resting: BTreeMap<u32, Instant>,
}

/// Why there is no place for another sandbox.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NoPlace {
    #[error(
        "subnet {subnet} is full: {taken} addresses are in use and {resting} rest after use; retire sandboxes or set network.subnet to a larger network"
    )]
    Subnet {
        subnet: Subnet,
        taken: usize,
        resting: usize,
    },
    #[error(
        "the slot table is full: {taken} slots are in use and {resting} rest after use; retire sandboxes or raise fast_path.capacity"
    )]
    Slots { taken: usize, resting: usize },
}

impl Places {
    /// Places for `slots` sandboxes, or as many as the subnet has addresses for.
    pub(crate) fn new(subnet: Subnet, slots: u32) -> Self {
        Self {
            subnet,
            capacity: slots.min(subnet.sandboxes()),
            taken: BTreeSet::new(),
            resting: BTreeMap::new(),
        }
    }

    /// The lowest place that is neither in use nor resting.
    pub(crate) fn take(&mut self, now: Instant) -> Result<(u32, Ipv4Addr), NoPlace> {
        self.resting.retain(|_, until| *until > now);
        let free = (0..self.capacity).find(|slot| !self.taken.contains(slot) && !self.resting.contains_key(slot));
        let place = free.and_then(|slot| Some((slot, self.subnet.address(slot)?)));
        let (slot, address) = place.ok_or_else(|| self.none())?;
        self.taken.insert(slot);
        Ok((slot, address))
    }

    /// Marks a place as in use by a sandbox that was adopted. False if another one has it.
    pub(crate) fn occupy(&mut self, slot: u32) -> bool {
        self.resting.remove(&slot);
        self.taken.insert(slot)
    }

    /// Lets a place rest after its sandbox; it is not given out before `until`.
    pub(crate) fn rest(&mut self, slot: u32, until: Instant) {
        self.taken.remove(&slot);
        self.resting.insert(slot, until);
    }

    /// Slots in use, resting ones not counted.
    pub(crate) fn taken(&self) -> Vec<u32> {
        self.taken.iter().copied().collect()
    }

    fn none(&self) -> NoPlace {
        let (taken, resting) = (self.taken.len(), self.resting.len());
        if self.capacity == self.subnet.sandboxes() {
            let subnet = self.subnet;
            return NoPlace::Subnet { subnet, taken, resting };
        }
        NoPlace::Slots { taken, resting }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const REST: Duration = Duration::from_secs(3);

    fn places(subnet: &str, slots: u32) -> Places {
        Places::new(subnet.parse().expect("a subnet"), slots)
    }

    fn slot(places: &mut Places, now: Instant) -> u32 {
        places.take(now).expect("a free place").0
    }

    #[test]
    fn the_lowest_free_place_comes_first() {
        let now = Instant::now();
        let mut places = places("10.0.0.0/24", 100);
        assert_eq!(places.take(now), Ok((0, Ipv4Addr::new(10, 0, 0, 2))));
        assert_eq!(places.take(now), Ok((1, Ipv4Addr::new(10, 0, 0, 3))));
        places.rest(0, now);
        assert_eq!(slot(&mut places, now), 0);
        assert_eq!(slot(&mut places, now), 2);
    }

    #[test]
    fn k5_a_place_rests_after_its_sandbox() {
        let start = Instant::now();
        let mut places = places("10.0.0.0/24", 100);
        assert_eq!(slot(&mut places, start), 0);
        places.rest(0, start + REST);
        assert_eq!(slot(&mut places, start + REST - Duration::from_nanos(1)), 1);
        assert_eq!(slot(&mut places, start + REST), 0);
    }

    #[test]
    fn a_full_subnet_says_so_and_recovers() {
        let now = Instant::now();
        let mut places = places("10.0.0.0/30", 100);
        assert_eq!(slot(&mut places, now), 0);
        let full = places.take(now).expect_err("one address only").to_string();
        assert!(
            full.contains("10.0.0.0/30 is full: 1 addresses are in use and 0 rest"),
            "{full}"
        );
        places.rest(0, now + REST);
        let resting = places.take(now).expect_err("it rests").to_string();
        assert!(resting.contains("0 addresses are in use and 1 rest"), "{resting}");
        assert_eq!(slot(&mut places, now + REST), 0);
    }

    #[test]
    fn a_full_table_is_told_from_a_full_subnet() {
        let now = Instant::now();
        let mut places = places("10.0.0.0/24", 1);
        slot(&mut places, now);
        let full = places.take(now).expect_err("one slot only").to_string();
        assert!(full.contains("fast_path.capacity"), "{full}");
    }

    #[test]
    fn an_adopted_place_is_not_given_out() {
        let now = Instant::now();
        let mut places = places("10.0.0.0/24", 10);
        assert!(places.occupy(0));
        assert!(!places.occupy(0), "two sandboxes in one slot");
        assert_eq!(slot(&mut places, now), 1);
        assert_eq!(places.taken(), [0, 1]);
    }
}
