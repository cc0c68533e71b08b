//! A proxy that runs in the process of the tests.

use crate::client::PATIENCE;
use miren_proxy::{Addresses, Config, Ended, Prepared, StartError, Stop};
use std::path::Path;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;

/// A proxy that runs in this process.
pub struct Proxy {
    pub addresses: Addresses,
    pub stop: watch::Sender<Stop>,
    pub ready: oneshot::Receiver<()>,
    pub task: JoinHandle<Result<Ended, StartError>>,
}

impl Proxy {
    /// `settings` and what every proxy of a test has.
    pub fn config(folder: &Path, settings: &str) -> Config {
        let data = folder.join("data");
        std::fs::create_dir_all(&data).unwrap();
        let text = format!(
            "control = \"unix:{0}/control.sock\"\ndata_dir = \"{0}/data\"\nslots = \"file:{0}/slots\"\nthreads = 2\n\
             listen.http = [\"127.0.0.1:0\"]\nadmin.listen = \"127.0.0.1:0\"\ndrain.supervisor_timeout = \"0s\"\n{settings}\n",
            folder.display()
        );
        Config::parse(Path::new("proxy.toml"), &text).unwrap_or_else(|problems| panic!("{problems}"))
    }

    pub fn start(folder: &Path, settings: &str) -> Self {
        Self::of(Prepared::open(Self::config(folder, settings)).unwrap())
    }

    pub fn of(prepared: Prepared) -> Self {
        let addresses = prepared.addresses().unwrap();
        let (stop, order) = watch::channel(Stop::No);
        let (tell, ready) = oneshot::channel();
        let task = tokio::spawn(prepared.serve(order, move || tell.send(()).expect("the test waits for it")));
        Self {
            addresses,
            stop,
            ready,
            task,
        }
    }

    pub async fn wait_until_ready(&mut self) {
        tokio::time::timeout(PATIENCE, &mut self.ready)
            .await
            .expect("not ready in time")
            .expect("the proxy ended");
    }

    /// Waits for the end; says how it came about.
    pub async fn ended(self) -> Ended {
        tokio::time::timeout(PATIENCE, self.task)
            .await
            .expect("the proxy does not end")
            .unwrap()
            .unwrap()
    }
}
