//! Decides who may have a disk: one sandbox that writes it, or any number that only read it.

use miren_api::id::AppName;
use miren_disk::DiskId;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// A disk that somebody wants, and how. Kept beside a sandbox for the next daemon.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Wanted {
    #[serde(flatten)]
    pub(crate) disk: DiskId,
    pub(crate) read_only: bool,
}

/// A disk that cannot be had now.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Refused {
    pub(crate) disk: DiskId,
    pub(crate) by: Vec<String>,
}

/// What it means that somebody leaves a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Leaving {
    /// It is to be unmounted.
    Last,
    /// Others have it too.
    Others,
    /// An earlier attempt has not ended.
    UnderWay,
}

/// Who has which disk.
#[derive(Debug, Default)]
pub(crate) struct Holders {
    disks: BTreeMap<DiskId, Held>,
}

#[derive(Debug)]
struct Held {
    read_only: bool,
    by: BTreeSet<String>,
    /// Its last holder is giving it back: nobody joins.
    closing: bool,
}

impl Holders {
    /// Takes all of `wanted`, or nothing: two sandboxes never wait for each other.
    pub(crate) fn take(&mut self, who: &str, wanted: &[Wanted]) -> Result<(), Refused> {
        if let Some(refused) = wanted.iter().find_map(|wanted| self.refusal(wanted)) {
            return Err(refused);
        }
        self.seize(who, wanted);
        Ok(())
    }

    fn refusal(&self, wanted: &Wanted) -> Option<Refused> {
        let held = self.disks.get(&wanted.disk)?;
        let joins = held.read_only && wanted.read_only && !held.closing;
        (!joins).then(|| Refused {
            disk: wanted.disk.clone(),
            by: held.by.iter().cloned().collect(),
        })
    }

    /// Notes what somebody has already.
    pub(crate) fn seize(&mut self, who: &str, wanted: &[Wanted]) {
        for Wanted { disk, read_only } in wanted {
            let held = self.disks.entry(disk.clone()).or_insert_with(|| Held {
                read_only: *read_only,
                by: BTreeSet::new(),
                closing: false,
            });
            held.read_only &= read_only;
            held.by.insert(who.to_owned());
        }
    }

    /// The disks somebody has.
    pub(crate) fn of(&self, who: &str) -> Vec<DiskId> {
        let held = self.disks.iter().filter(|(_, held)| held.by.contains(who));
        held.map(|(disk, _)| disk.clone()).collect()
    }

    /// Who has a disk.
    pub(crate) fn by(&self, disk: &DiskId) -> Vec<String> {
        let held = self.disks.get(disk);
        held.map(|held| held.by.iter().cloned().collect()).unwrap_or_default()
    }

    /// Whether somebody has a disk of an app.
    pub(crate) fn has_of(&self, app: &AppName) -> bool {
        self.disks.keys().any(|disk| disk.app() == app)
    }

    /// Begins to give a disk back. When it is the last holder that does, nobody joins until it has or could not.
    pub(crate) fn close(&mut self, disk: &DiskId, who: &str) -> Leaving {
        match self.disks.get_mut(disk) {
            Some(held) if held.closing => Leaving::UnderWay,
            Some(held) if held.by.contains(who) && held.by.len() == 1 => {
                held.closing = true;
                Leaving::Last
            }
            _ => Leaving::Others,
        }
    }

    /// It could not be given back: its holder has it as before.
    pub(crate) fn reopen(&mut self, disk: &DiskId) {
        if let Some(held) = self.disks.get_mut(disk) {
            held.closing = false;
        }
    }

    pub(crate) fn give_back(&mut self, disk: &DiskId, who: &str) {
        if let Some(held) = self.disks.get_mut(disk) {
            held.by.remove(who);
            if held.by.is_empty() {
                self.disks.remove(disk);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(name: &str, read_only: bool) -> Wanted {
        Wanted {
            disk: DiskId::new(&AppName::from_text("shop"), name).expect("a name"),
            read_only,
        }
    }

    #[test]
    fn b6_one_writes_or_many_read() {
        let mut holders = Holders::default();
        let (write, read) = (wanted("data", false), wanted("data", true));
        holders
            .take("sb-1", std::slice::from_ref(&write))
            .expect("nobody has it");
        for second in [&write, &read] {
            let refused = holders
                .take("sb-2", std::slice::from_ref(second))
                .expect_err("it is held");
            assert_eq!(refused.by, ["sb-1"]);
        }
        holders.give_back(&write.disk, "sb-1");
        holders.take("sb-2", std::slice::from_ref(&read)).expect("it is free");
        holders.take("sb-3", std::slice::from_ref(&read)).expect("both read");
        let refused = holders
            .take("sb-4", std::slice::from_ref(&write))
            .expect_err("it is read");
        assert_eq!(refused.by, ["sb-2", "sb-3"]);
    }

    #[test]
    fn b6_all_disks_are_taken_or_none() {
        let mut holders = Holders::default();
        let both = [wanted("a", false), wanted("b", false)];
        holders.take("sb-1", &both[1..]).expect("nobody has it");
        let refused = holders.take("sb-2", &both).expect_err("one is held");
        assert_eq!(refused.disk.name(), "b");
        assert!(holders.of("sb-2").is_empty());
        holders.take("sb-3", &both[..1]).expect("it was not kept");
    }

    #[test]
    fn nobody_joins_while_the_last_one_leaves() {
        let mut holders = Holders::default();
        let read = [wanted("data", true)];
        holders.take("sb-1", &read).expect("nobody has it");
        holders.take("sb-2", &read).expect("both read");
        assert_eq!(holders.close(&read[0].disk, "sb-1"), Leaving::Others);
        holders.give_back(&read[0].disk, "sb-1");
        assert_eq!(holders.close(&read[0].disk, "sb-2"), Leaving::Last);
        assert_eq!(holders.close(&read[0].disk, "sb-2"), Leaving::UnderWay);
        assert_eq!(
            holders.take("sb-3", &read).expect_err("it is being unmounted").by,
            ["sb-2"]
        );
        holders.give_back(&read[0].disk, "sb-2");
        holders.take("sb-3", &read).expect("it is free");
    }
}
