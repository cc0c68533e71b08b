//! Decides how a node comes to run nothing: what it lets in, in which order it closes, and what is done about what stays.

pub mod admission;
mod keeper;
pub mod phase;
pub mod plan;
mod seen;

pub use admission::{Admission, Changes, Start, Work};
pub use keeper::{NodeDrain, Stopped};
pub use phase::FORCED;

/// Which boot of the machine this is, if the kernel says so.
pub fn boot() -> Option<String> {
    let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    Some(id.trim().to_owned()).filter(|id| !id.is_empty())
}
