//! Decides what tells one slot table from every other, so that nobody goes by words that nobody writes any more.

use std::fmt;

/// Names one slot table as long as it exists. No other one has the same name, nor has the one that takes its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableId(String);

impl TableId {
    /// A table in the kernel, by the number of its map, which is given once in a boot.
    pub(crate) fn of_map(map: u32, boot_id: [u8; 16]) -> Self {
        Self(format!("map-{map}-{:032x}", u128::from_be_bytes(boot_id)))
    }

    /// A table in a file, by what was drawn when it was made.
    pub(crate) fn of_file(drawn: u128) -> Self {
        Self(format!("file-{drawn:032x}"))
    }

    /// A table in a file of a release that drew nothing, by the file.
    pub(crate) fn of_inode(device: u64, inode: u64) -> Self {
        Self(format!("inode-{device}-{inode}"))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TableId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}
