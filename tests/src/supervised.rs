//! Daemons under a supervisor that a test plays: it starts them, holds their sockets, hears what they say, and starts them again.

mod control;
mod notified;
mod proxy;

pub use control::SupervisedControl;
pub use proxy::SupervisedProxy;
