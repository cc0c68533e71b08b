//! Everything a dev node needs before its daemons start: checked, locked, bound and written.

use super::announce::ControlReady;
use super::config::{self, ControlSettings};
use super::layout::{self, Layout};
use super::lock::{self, Lock};
use super::program::Program;
use super::{DevOptions, Runtime, subnet};
use crate::console::Console;
use crate::failure::{Doing, Failure};
use nix::unistd::User;
use std::ffi::OsString;
use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// With it, the proxy serves in the place of the one that runs.
const TAKE_OVER: &str = "take-over";
/// Whom the proxy becomes: a user every Linux has.
const PROXY_USER: &str = "nobody";
/// Control of a dev that was killed cleans up on its own; a new one waits this long for it. Longer than control's own
/// bounds for draining (30 s) and stopping (10 s) sandboxes.
const CLEANING_UP: Duration = Duration::from_secs(60);

/// A dev node that can be started.
pub struct Plan {
    layout: Layout,
    listener: Arc<TcpListener>,
    http: SocketAddr,
    proxy_user: User,
    binaries: PathBuf,
    log_level: Option<&'static str>,
    _locks: [Lock; 2],
}

impl Plan {
    /// Checks what can be checked before anything is made, then makes it. A failure leaves nothing running.
    pub async fn make(options: &DevOptions, console: &Console) -> Result<Self, Failure> {
        require_root()?;
        miren_api::id::check_label(&options.name).map_err(|why| {
            Failure::usage(format!("--name {:?} {why}", options.name)).remedy("a name like \"dev-2\"")
        })?;
        let binaries = binaries()?;
        let proxy_user = User::from_name(PROXY_USER)
            .ok()
            .flatten()
            .ok_or_else(|| Failure::failed(format!("this machine has no user {PROXY_USER}")))?;
        let name_lock = lock_name(&options.name)?;
        let (listener, http) = bind(options.http)?;
        fs::create_dir_all(&options.dir).doing(|| format!("making {}", options.dir.display()))?;
        let dir = options
            .dir
            .canonicalize()
            .doing(|| format!("opening {}", options.dir.display()))?;
        let dir_lock = lock_dir(&dir)?;
        let layout = Layout::new(&options.name, &dir, layout::is_reachable(&dir));
        wait_for_predecessor(&layout, console).await?;
        layout.create(&proxy_user)?;
        let plan = Self {
            layout,
            listener: Arc::new(listener),
            http,
            proxy_user,
            binaries,
            log_level: (console.verbosity() > 0).then_some("debug"),
            _locks: [name_lock, dir_lock],
        };
        plan.write_control_settings(options)?;
        Ok(plan)
    }

    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Where requests are taken.
    pub fn http(&self) -> SocketAddr {
        self.http
    }

    pub fn control(&self) -> Program {
        self.program("control", self.layout.control_toml(), None)
    }

    pub fn proxy(&self) -> Program {
        self.program("proxy", self.layout.proxy_toml(), Some(Arc::clone(&self.listener)))
    }

    fn program(&self, daemon: &'static str, config: PathBuf, listener: Option<Arc<TcpListener>>) -> Program {
        let name = format!("miren-{daemon}");
        // What it prints goes to a file.
        let mut environment = vec![(OsString::from("NO_COLOR"), OsString::from("1"))];
        if let Some(level) = self.log_level {
            environment.push((OsString::from("RUST_LOG"), OsString::from(level)));
        }
        Program {
            path: self.binaries.join(&name),
            name,
            arguments: vec!["--config".into(), config.into()],
            environment,
            log: self.layout.log(daemon),
            notify: self.layout.run_dir.join(format!("{daemon}.notify")),
            notifier: self.proxy_user.clone(),
            cleans_up: listener.is_none(),
            takes_over: listener.is_some().then_some(TAKE_OVER),
            listener,
        }
    }

    fn write_control_settings(&self, options: &DevOptions) -> Result<(), Failure> {
        let routes = fs::read_to_string("/proc/net/route").doing(|| "reading the routing table".into())?;
        let subnet = subnet::choose(&options.name, &self.layout.bridge, &routes).ok_or_else(|| {
            Failure::failed("every subnet of 10.64.0.0/10 is routed on this machine already")
                .remedy("ip route show, and remove one that is not needed")
        })?;
        let settings = ControlSettings {
            proxy_user: PROXY_USER,
            subnet: &subnet,
            fast_path: options.fast_path.as_str(),
            runtime: match options.runtime {
                Runtime::Embedded => "embedded",
                Runtime::Containerd => "containerd",
            },
            containerd_socket: &options.containerd_socket,
            http: self.http,
            registries: &options.registries,
        };
        write(&self.layout.control_toml(), config::control(&self.layout, &settings))
    }

    /// Writes `proxy.toml`, once control has said where it listens.
    pub fn write_proxy_settings(&self, control: &ControlReady) -> Result<(), Failure> {
        let text = config::proxy(&self.layout, &control.server, PROXY_USER, self.http);
        write(&self.layout.proxy_toml(), text)
    }

    /// Removes what only a running node needs. The daemons have cleaned up after themselves.
    pub fn clean_up(self) {
        self.layout.clean_up();
    }
}

fn write(path: &Path, text: Result<String, toml::ser::Error>) -> Result<(), Failure> {
    let what = || format!("writing {}", path.display());
    let text = text.map_err(|error| Failure::failed(error.to_string()).doing(&what()))?;
    let header = "# Written by \"miren dev\" at each start: changes made here are lost.\n";
    fs::write(path, format!("{header}{text}")).doing(what)
}

fn require_root() -> Result<(), Failure> {
    if nix::unistd::geteuid().is_root() {
        return Ok(());
    }
    Err(
        Failure::failed("miren dev makes network devices, cgroups and namespaces, which only root may")
            .code("not_root")
            .remedy("sudo miren dev …"),
    )
}

/// The folder with both daemons: next to this program.
fn binaries() -> Result<PathBuf, Failure> {
    let own = std::env::current_exe().doing(|| "finding this program's own path".into())?;
    let folder = own.parent().unwrap_or(Path::new("/")).to_owned();
    for name in ["miren-control", "miren-proxy"] {
        if !folder.join(name).is_file() {
            return Err(Failure::failed(format!("there is no {name} in {}", folder.display()))
                .code("missing_binary")
                .remedy("cargo xtask build, and keep miren, miren-control and miren-proxy in one folder"));
        }
    }
    Ok(folder)
}

fn lock_name(name: &str) -> Result<Lock, Failure> {
    let path = PathBuf::from(format!("/run/miren-dev-{name}.lock"));
    Lock::take(&path)?.ok_or_else(|| {
        Failure::failed(format!(
            "a miren dev named {name:?} is running already ({})",
            lock::holder(&path)
        ))
        .code("already_running")
        .remedy("another --name, with another --dir and --http")
    })
}

fn lock_dir(dir: &Path) -> Result<Lock, Failure> {
    let path = dir.join("dev.lock");
    Lock::take(&path)?.ok_or_else(|| {
        Failure::failed(format!(
            "a miren dev is running already in {} ({})",
            dir.display(),
            lock::holder(&path)
        ))
        .code("already_running")
        .remedy("another --dir, or stop that one")
    })
}

fn bind(address: SocketAddr) -> Result<(TcpListener, SocketAddr), Failure> {
    let listener = TcpListener::bind(address).map_err(|error| {
        Failure::failed(format!("listening on {address}: {error}"))
            .code("cannot_listen")
            .remedy("--http 127.0.0.1:0 for any free port, or another address")
    })?;
    let bound = listener.local_addr()?;
    Ok((listener, bound))
}

async fn wait_for_predecessor(layout: &Layout, console: &Console) -> Result<(), Failure> {
    let path = layout.run_dir.join("control.lock");
    if !lock::is_held(&path) {
        return Ok(());
    }
    console.note("waiting for the miren-control of an earlier run to finish cleaning up");
    if lock::released(&path, CLEANING_UP).await {
        return Ok(());
    }
    Err(
        Failure::failed(format!("another miren-control still uses {}", layout.run_dir.display()))
            .code("already_running")
            .remedy(format!("stop the process that holds {}: fuser {0}", path.display())),
    )
}
