//! The proxy's one question to the slot table: is this generation RUNNING now?

use miren_api::id::NodeId;
use miren_api::lease::LeaseKey;
use miren_loader::{OpenError, ProxyEvents, SlotReader, SlotSource, State, TableId};

/// Whose table it is: a proxy of another node has to be told first.
const NODE: NodeId = NodeId::FIRST;

/// The mapped slot table, and the hints that go with it. Opened before privileges are dropped.
#[derive(Debug)]
pub struct Slots {
    reader: SlotReader,
}

impl Slots {
    /// Maps the first table there is. The second part is `None` where the kernel keeps no table.
    pub fn open(sources: &[SlotSource]) -> Result<(Self, Option<ProxyEvents>), OpenError> {
        let mut missing = None;
        for source in sources {
            match open_one(source) {
                Err(error @ OpenError::NoTable(_)) => {
                    missing.get_or_insert(error);
                }
                opened => return opened,
            }
        }
        Err(missing.unwrap_or_else(|| OpenError::NoTable("".into())))
    }

    /// Which table it is.
    pub fn table(&self) -> &TableId {
        self.reader.table()
    }

    /// Names a generation of this table.
    pub fn key(&self, slot: u32, generation: u64) -> LeaseKey {
        let node = NODE;
        LeaseKey { node, slot, generation }
    }

    /// Whether a request may be sent to this generation: one load. A slot of another node is no slot of this table.
    #[inline]
    pub fn is_running(&self, key: LeaseKey) -> bool {
        key.node == NODE && self.reader.is_running(key.slot, key.generation)
    }

    /// Where this generation is; `None` when the slot belongs to another one, or to another node.
    pub fn state(&self, key: LeaseKey) -> Option<State> {
        let own = (key.node == NODE).then_some(key)?;
        self.reader.state(own.slot, own.generation)
    }
}

fn open_one(source: &SlotSource) -> Result<(Slots, Option<ProxyEvents>), OpenError> {
    match source {
        // Whoever may not ask the kernel can still see that there is nothing to ask it for.
        SlotSource::Pinned(folder) if !folder.is_dir() => return Err(OpenError::NoTable(folder.clone())),
        SlotSource::Pinned(_) | SlotSource::File(_) => {}
    }
    let reader = SlotReader::open(source)?;
    Ok((Slots { reader }, ProxyEvents::open(source)?))
}
