//! Decides how a generation and a state share one atomic word, and which word may follow which.

use crate::State;

#[cfg(test)]
mod tests;

/// `generation << 8 | state`: the one word that says whether a sandbox may be used.
///
/// Every change is a compare-and-swap from one of these to what one of the functions below returns.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct Word(u64);

impl Word {
    /// Generations are 56 bits wide: one begun every microsecond lasts 2,000 years.
    pub const MAX_GENERATION: u64 = u64::MAX >> 8;

    /// Packs the two. `generation` above [`Word::MAX_GENERATION`] loses its high bits.
    #[inline(always)]
    pub const fn new(generation: u64, state: State) -> Self {
        Self(generation << 8 | state as u64)
    }

    /// The word as it is in memory.
    #[inline(always)]
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// The word as it goes to memory.
    #[inline(always)]
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// Which life of the slot this is.
    #[inline(always)]
    pub const fn generation(self) -> u64 {
        self.0 >> 8
    }

    /// Where that life is.
    #[inline(always)]
    pub const fn state(self) -> State {
        State::from_byte(self.0 as u8)
    }

    /// The state, if the word is still about `generation`.
    #[inline(always)]
    pub const fn state_of(self, generation: u64) -> Option<State> {
        if self.generation() == generation {
            Some(self.state())
        } else {
            None
        }
    }

    /// A new life in this slot: FREE, STOPPED and DEAD become PENDING of the next generation.
    pub const fn begin(self) -> Option<Self> {
        match self.state() {
            State::Free | State::Stopped | State::Dead if self.generation() < Self::MAX_GENERATION => {
                Some(Self::new(self.generation() + 1, State::Pending))
            }
            _ => None,
        }
    }

    /// Control moves `generation` down to `to`.
    pub const fn advance(self, generation: u64, to: State) -> Option<Self> {
        match self.state_of(generation) {
            Some(from) if from.may_become(to) => Some(Self::new(generation, to)),
            _ => None,
        }
    }

    /// The init process of `generation` exited.
    #[inline(always)]
    pub const fn exited(self, generation: u64) -> Option<Self> {
        match self.state_of(generation) {
            Some(from) => match from.on_exit() {
                Some(to) => Some(Self::new(generation, to)),
                None => None,
            },
            None => None,
        }
    }

    /// An ended `generation` gives its slot back; the number stays, so that the next life gets another one.
    pub const fn release(self, generation: u64) -> Option<Self> {
        match self.state_of(generation) {
            Some(state) if state.is_ended() => Some(Self::new(generation, State::Free)),
            _ => None,
        }
    }

    /// Whether a new connection to an address that belongs to `generation` is refused.
    ///
    /// An address whose generation is over says nothing about the slot's present life: it passes, as unknown ones do.
    #[inline(always)]
    pub const fn refuses_connections(self, generation: u64) -> bool {
        self.generation() == generation && self.state().refuses_connections()
    }

    /// Whether a segment to an address that belongs to `generation` is answered with RST.
    #[inline(always)]
    pub const fn resets_connections(self, generation: u64) -> bool {
        self.generation() == generation && self.state().is_ended()
    }
}

impl core::fmt::Debug for Word {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        core::fmt::Display::fmt(self, f)
    }
}

impl core::fmt::Display for Word {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{} of generation {}", self.state(), self.generation())
    }
}
