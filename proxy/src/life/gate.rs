//! What is still under way, so that the proxy knows when it may go: connections, requests and tunnels.

use miren_gate::Permit;
use tokio::sync::watch;

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// A client connection.
    Connection = 0,
    /// A client connection whose first request has not arrived: it is owed a moment to send it.
    Fresh = 1,
    /// A request, until its answer is complete.
    Request = 2,
    /// A connection that was upgraded.
    Tunnel = 3,
    /// The listeners: what they accept is counted in as theirs, until they stop.
    Listening = 4,
}

impl miren_gate::Class for Class {
    const ALL: &'static [Self] = &[
        Self::Connection,
        Self::Fresh,
        Self::Request,
        Self::Tunnel,
        Self::Listening,
    ];

    fn index(self) -> usize {
        self as usize
    }
}

/// One thing counted in; dropping it counts it out.
pub type Held = Permit<Class>;

/// The counts. What comes in while it is closed is still served, and counted: as coming of the listeners, which hold a permit.
#[derive(Debug)]
pub struct Gate {
    gate: miren_gate::Gate<Class>,
    listening: Held,
    /// Whether tunnels are told to go.
    goodbye: watch::Sender<bool>,
}

impl Default for Gate {
    fn default() -> Self {
        let gate = miren_gate::Gate::new(0);
        let listening = gate.enter(Class::Listening);
        let listening = listening.unwrap_or_else(|closed| unreachable!("nobody else has it: {closed}"));
        let goodbye = watch::Sender::new(false);
        Self {
            gate,
            listening,
            goodbye,
        }
    }
}

impl Gate {
    /// Counts one thing in.
    pub fn enter(&self, class: Class) -> Held {
        self.listening.also(class)
    }

    /// The proxy was told to stop.
    pub fn close(&self) {
        self.gate.close();
    }

    /// Whether connections should not be kept any more.
    pub fn is_closing(&self) -> bool {
        self.gate.is_closed()
    }

    /// Tells every tunnel there is, or will be, to go: its client gets a close frame, and a second to answer it.
    pub fn say_goodbye(&self) {
        self.goodbye.send_replace(true);
    }

    /// Waits until tunnels are told to go.
    pub async fn goodbye(&self) {
        let mut told = self.goodbye.subscribe();
        // The sender is `self`: it is there as long as this waits.
        let _ = told.wait_for(|told| *told).await;
    }

    pub fn count(&self, class: Class) -> usize {
        usize::try_from(self.gate.count(class)).unwrap_or(usize::MAX)
    }

    /// Waits until it is closed and nothing of this class is left.
    pub async fn empty(&self, class: Class) {
        self.gate.closed().await.empty(class).await;
    }
}
