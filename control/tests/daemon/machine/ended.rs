//! How what runs on a simulated machine ends without being asked to.

use super::Machine;
use miren_api::id::SandboxId;
use miren_api::resource::SandboxState;
use miren_control::executor::Order;
use miren_sandbox::EndedBy;

impl Machine {
    /// A sandbox's init ends without being asked to: by this signal, or by itself.
    pub fn crash(&self, id: &SandboxId, signal: Option<i32>) {
        if let Some(running) = self.tables.lock().unwrap().running.get_mut(id) {
            running.facts.ended_by = Some(signal.map_or(EndedBy::Exit, EndedBy::Signal));
        }
        self.reach(id, SandboxState::Dead, Some("it ended".to_owned()));
    }

    /// The command of a sandbox exits with this status.
    pub fn exit(&self, id: &SandboxId, status: i32) {
        if let Some(running) = self.tables.lock().unwrap().running.get_mut(id) {
            running.facts.ended_by = Some(EndedBy::Exit);
            running.facts.exit_code = Some(status);
        }
        let reason = format!("exited with status {status}");
        self.reach(id, SandboxState::Dead, Some(reason));
    }

    /// What living sandboxes were started with that run a command once.
    pub fn one_offs(&self) -> Vec<Order> {
        let tables = self.tables.lock().unwrap();
        let orders = tables.running.values().map(|running| running.order.clone());
        orders.filter(|order| order.one_off.is_some()).collect()
    }

    /// Waits until as many run as are wanted, and returns them.
    pub async fn one_offs_settle(&self, count: usize) -> Vec<Order> {
        let mut changed = self.changed.subscribe();
        while self.one_offs().len() != count {
            let _ = changed.changed().await;
        }
        self.one_offs()
    }
}
