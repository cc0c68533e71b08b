//! Decides when a sandbox that boots gets its disks: once nobody else has them, and before anything can write to them.

use super::boot_error::{BootError, InStep};
use super::{Sandbox, Stage};
use miren_fault::Point;

impl Sandbox {
    /// Waits for the disks and mounts them. The wait ends when the sandbox is not wanted any more; mounting does not, so
    /// that the clean-up finds all of it.
    pub(super) async fn attach_disks(&mut self) -> Result<(), Stage> {
        if let Err(fault) = miren_fault::blocking(Point::CreateVolume).step(BootError::Volume) {
            self.failed(&fault);
            return Err(Stage::Abort);
        }
        let (app, mounts) = (&self.order.app, &self.order.service.disks);
        if mounts.is_empty() {
            return Ok(());
        }
        let volumes = &self.node.volumes;
        let taken = tokio::select! {
            taken = volumes.take(self.order.id.as_str(), app, mounts) => taken,
            Some(command) = self.commands.recv() => return Err(self.retire(command)),
        };
        let attached = match taken {
            Ok(()) => volumes.attach(self.dir(), app, mounts).await,
            Err(why) => Err(why.into()),
        };
        attached.map_err(|why| {
            self.failed(&BootError::Volume(why));
            Stage::Abort
        })
    }
}
