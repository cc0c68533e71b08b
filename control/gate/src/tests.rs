//! What a gate lets in, counts and tells, one thing after the other; and, in `model`, every interleaving of a few threads.

use super::*;

#[cfg(loom)]
mod model;
#[cfg(not(loom))]
mod plain;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Request,
    Tunnel,
}

impl Class for Kind {
    const ALL: &'static [Self] = &[Self::Request, Self::Tunnel];

    fn index(self) -> usize {
        self as usize
    }
}
