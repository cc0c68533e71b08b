//! Decides what can be had happen at a point.

/// What happens once to whoever comes to a point next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// The step fails, with an error that names the point.
    Error,
    /// It does not end before the test says so, or whoever waits for it gives it up.
    Hang,
    /// Its task, or its thread, panics.
    Panic,
    /// Its process gets SIGKILL.
    Kill,
}

impl Kind {
    pub const ALL: &[Self] = &[Self::Error, Self::Hang, Self::Panic, Self::Kill];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Hang => "hang",
            Self::Panic => "panic",
            Self::Kill => "kill",
        }
    }

    /// By its name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|kind| kind.name() == name)
    }
}
