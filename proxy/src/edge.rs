//! The edge: the engines that move bytes between clients and sandboxes.

mod plain;

pub use plain::Plain;
