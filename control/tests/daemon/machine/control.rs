//! A control that works on a simulated machine.

use super::Machine;
use crate::memory::Memory;
use jiff::Timestamp;
use miren_build::{Builds, Settings};
use miren_control::artifact::Artifacts;
use miren_control::clock::Clock;
use miren_control::control::{Control, Parts};
use miren_control::images::Fetcher;
use miren_control::policy::Policy;
use miren_control::store::Store;
use miren_image::{Auths, Images, Limits, Registries};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// A store of images in a folder of its own below `folder`: what an earlier control had open is not waited for.
pub fn images(folder: &Path) -> Fetcher {
    let own = tempfile::tempdir_in(folder).unwrap().keep();
    let builds = Builds::open(Settings {
        folder: own.join("builds"),
        run_dir: own.join("run"),
        helper: "/nonexistent".into(),
        auths: Auths::none(),
        registries: Registries::default(),
        plain_http: Vec::new(),
        first_user: 1_900_000_000,
        processes: 1000,
        limit: Duration::from_secs(600),
        memory: 1 << 30,
        cache: 1 << 30,
        programs: Some(folder.join("programs")),
    });
    let limits = Limits {
        registries: Registries::new(vec!["127.0.0.1".into()]),
        ..Limits::default()
    };
    let store = Images::open(&own.join("images"), limits).unwrap();
    Fetcher::new(store, Auths::none(), 1, builds.unwrap())
}

/// A control that works, on a machine and a clock of the runtime's own; what it keeps is in memory and below `folder`.
pub async fn control_of_runtime(folder: &Path) -> (Machine, Arc<Control>) {
    let machine = Machine::new(Clock::of_runtime(Timestamp::from_second(1_000_000).unwrap()));
    let control = control_on(&machine, Arc::new(Memory::new(1000)), Policy::default(), folder).await;
    (machine, control)
}

/// A control that works, on a machine that may have had one before.
pub async fn control_on(machine: &Machine, store: Arc<dyn Store>, policy: Policy, folder: &Path) -> Arc<Control> {
    let parts = Parts {
        store,
        executor: Arc::new(machine.clone()),
        artifacts: Artifacts::open(&folder.join("artifacts"), 1 << 20).unwrap(),
        images: images(folder),
        clock: machine.clock.clone(),
        node: "test".into(),
        policy,
    };
    let news = machine.attach();
    let (control, known) = Control::load(parts).await.unwrap();
    control.activate(known, news).await;
    control
}
