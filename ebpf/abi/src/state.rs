//! Decides which states a sandbox has and which move between them is allowed.

#[cfg(test)]
mod tests;

/// Where one generation of a slot is in its life. States only move down this list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum State {
    /// Nobody uses the slot.
    Free = 0,
    /// The sandbox is being made; control may connect to probe it.
    Pending = 1,
    /// New requests may be sent to it.
    Running = 2,
    /// No new requests; those in flight go on.
    Draining = 3,
    /// SIGTERM was sent.
    Stopping = 4,
    /// Ended on purpose.
    Stopped = 5,
    /// Ended otherwise: boot failure, crash, killed.
    Dead = 6,
}

impl State {
    /// Every state, in order.
    pub const ALL: [Self; 7] = [
        Self::Free,
        Self::Pending,
        Self::Running,
        Self::Draining,
        Self::Stopping,
        Self::Stopped,
        Self::Dead,
    ];

    /// The state behind a byte. A byte nobody writes reads as DEAD, so that it can never be routed to.
    #[inline(always)]
    pub const fn from_byte(byte: u8) -> Self {
        match byte {
            0 => Self::Free,
            1 => Self::Pending,
            2 => Self::Running,
            3 => Self::Draining,
            4 => Self::Stopping,
            5 => Self::Stopped,
            _ => Self::Dead,
        }
    }

    /// The word the glossary uses for it, in capitals.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Free => "FREE",
            Self::Pending => "PENDING",
            Self::Running => "RUNNING",
            Self::Draining => "DRAINING",
            Self::Stopping => "STOPPING",
            Self::Stopped => "STOPPED",
            Self::Dead => "DEAD",
        }
    }

    /// STOPPED or DEAD: the generation is over and only waits to be released.
    #[inline(always)]
    pub const fn is_ended(self) -> bool {
        matches!(self, Self::Stopped | Self::Dead)
    }

    /// PENDING to STOPPING: a process belongs to it, or is about to.
    #[inline(always)]
    pub const fn is_live(self) -> bool {
        matches!(self, Self::Pending | Self::Running | Self::Draining | Self::Stopping)
    }

    /// Whether control may move a generation from here to `to`: only downwards, and never out of an end.
    #[inline(always)]
    pub const fn may_become(self, to: Self) -> bool {
        self.is_live() && (self as u8) < (to as u8)
    }

    /// Where a generation goes when its init process exits; `None` when it already ended or never began.
    #[inline(always)]
    pub const fn on_exit(self) -> Option<Self> {
        match self {
            Self::Pending | Self::Running => Some(Self::Dead),
            Self::Draining | Self::Stopping => Some(Self::Stopped),
            Self::Free | Self::Stopped | Self::Dead => None,
        }
    }

    /// Whether the connect hook refuses a new connection: DRAINING and later.
    #[inline(always)]
    pub const fn refuses_connections(self) -> bool {
        (self as u8) >= (Self::Draining as u8)
    }
}

impl core::fmt::Display for State {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.pad(self.name())
    }
}
