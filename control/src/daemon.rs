//! Decides the daemon's life: fence, recover, serve, quiesce; in that order, each step named when it fails.

use crate::artifact::Artifacts;
use crate::clock::Clock;
use crate::config::{Config, Ending};
use crate::control::{Control, Parts};
use crate::drain::Stopped;
use crate::executor::{Executor, Node};
use crate::images::Fetcher;
use crate::reserve::Reserves;
use crate::server::{self, Door, Peers, Server};
use crate::shutdown::{Plan, Shutdown};
use crate::store::{Lock, Sqlite, Store};
use anyhow::{Context, bail};
use miren_build::Builds;
use miren_image::{Auths, Images};
use miren_log::supervisor;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

type Services = JoinSet<(&'static str, std::io::Result<()>)>;

/// Runs the daemon until `shutdown`.
pub async fn run(config: Config, shutdown: Shutdown) -> anyhow::Result<()> {
    tokio::select! {
        ended = live(config, &shutdown) => ended,
        () = shutdown.insisted() => bail!("told twice to stop: what was still to be done is left to the next start"),
    }
}

async fn live(config: Config, shutdown: &Shutdown) -> anyhow::Result<()> {
    check_privileges()?;
    folder(&config.run_dir, 0o755)?;
    folder(&config.data_dir, 0o700)?;
    let _run_lock = Lock::take(&config.run_dir)?;
    let _data_lock = Lock::take(&config.data_dir)?;
    let reserves = Reserves::keep(&config.data_dir, &config.run_dir);
    let store = Sqlite::open_with_reserve(&config.store_file(), reserves.data.clone()).await?;
    tracing::info!(epoch = store.epoch(), "opened the store");
    let (news, changes) = mpsc::unbounded_channel();
    let images = open_images(&config).await?;
    let node = Arc::new(Node::open(&config, images.clone(), news).await?);
    let artifacts = config.artifact_dir();
    let parts = Parts {
        store: Arc::new(store),
        executor: Arc::clone(&node) as Arc<dyn Executor>,
        artifacts: Artifacts::open(&artifacts, config.api.artifact_limit.0)
            .with_context(|| format!("opening {}", artifacts.display()))?,
        images: Fetcher::new(
            images,
            Auths::from_file(&config.images.auth_file),
            config.images.at_once,
            open_builds(&config)?,
        ),
        clock: Clock::system(),
        node: config.name.clone(),
        policy: config.policy.clone(),
    };
    let (control, known) = Control::load(parts).await?;
    let (mut services, metrics) = serve(&config, &control).await?;
    let tending = reserves.clone().tend_for_ever(control.world.metrics.clone());
    services.spawn(miren_log::supervised("the reserves", async move {
        tending.await;
        ("the reserves", Ok(()))
    }));
    control.activate(known, changes).await;
    report_ready(&config, &node, metrics)?;
    let outcome = tokio::select! {
        () = shutdown.triggered() => Ok(()),
        // Nobody asked for an end: what runs is left to the next daemon, as after any crash.
        ended = services.join_next() => return Err(unexpected(ended)),
        // What runs is for the successor to take over: nothing is drained, and nothing can be saved.
        why = control.world.fatal.ended() => bail!(why),
    };
    let plan = shutdown.plan(&config);
    let stopped = tokio::select! {
        biased;
        stopped = stop(&config, plan.ending, &control) => stopped,
        // It is named, and the exit code tells of it: that an end was expected hides no failure.
        ended = services.join_next() => return Err(unexpected(ended)),
    };
    services.shutdown().await;
    drop((control, services));
    stopped?;
    if plan.removes {
        remove(&config, &node).await?;
        reserves.remove_run();
    }
    left_undone(plan, shutdown.plan(&config))?;
    outcome
}

/// That it was told to drain when it could not any more is said, and the exit code tells of it.
fn left_undone(done: Plan, asked: Plan) -> anyhow::Result<()> {
    if done == asked {
        return Ok(());
    }
    bail!("told to stop while it made way for another control: the sandboxes run on, and the next start has them")
}

async fn open_images(config: &Config) -> anyhow::Result<Images> {
    let (folder, limits) = (config.image_dir(), config.images.limits.clone());
    let opening = tokio::task::spawn_blocking(move || Images::open(&folder, limits)).await?;
    opening.with_context(|| format!("opening {}", config.image_dir().display()))
}

fn open_builds(config: &Config) -> anyhow::Result<Builds> {
    let images = &config.images;
    let settings = miren_build::Settings {
        folder: config.data_dir.join("builds"),
        run_dir: config.run_dir.join("builds"),
        helper: "/proc/self/exe".into(),
        auths: Auths::from_file(&images.auth_file),
        registries: images.limits.registries.clone(),
        plain_http: images.limits.plain_http.clone(),
        first_user: images.build.first_user,
        limit: images.build.limit,
        memory: images.build.memory.0,
        processes: images.build.processes,
        cache: images.build.cache.0,
        programs: images.build.programs.clone(),
    };
    Builds::open(settings).context("opening the folders of builds")
}

fn check_privileges() -> anyhow::Result<()> {
    if nix::unistd::Uid::effective().is_root() {
        return Ok(());
    }
    bail!("miren-control makes network devices, cgroups and namespaces: run it as root")
}

fn folder(path: &Path, mode: u32) -> anyhow::Result<()> {
    let make = || {
        std::fs::DirBuilder::new().recursive(true).mode(mode).create(path)?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))
    };
    make().with_context(|| format!("making {}", path.display()))
}

/// Starts everything that serves; returns it with the address of the metrics.
async fn serve(config: &Config, control: &Arc<Control>) -> anyhow::Result<(Services, std::net::SocketAddr)> {
    let socket = config.socket();
    let door =
        Door::open(&socket, control.ending.clone()).with_context(|| format!("listening on {}", socket.display()))?;
    let metrics = TcpListener::bind(config.metrics)
        .await
        .with_context(|| format!("serving metrics on {} (metrics.listen)", config.metrics))?;
    let address = metrics.local_addr()?;
    let api = Server::new(
        Arc::clone(control),
        Peers::new(&config.api.proxy_user),
        config.api.body_limit,
    );
    let mut services = Services::new();
    services.spawn(miren_log::supervised("the API", async move {
        ("the API", api.serve(door).await)
    }));
    let of_metrics = Arc::clone(control);
    let metrics = async move {
        server::serve_metrics(of_metrics, metrics).await;
        ("the metrics", Ok(()))
    };
    services.spawn(miren_log::supervised("the metrics", metrics));
    let background = Arc::clone(control).background();
    let background = async move {
        background.await;
        ("the lease sweep", Ok(()))
    };
    services.spawn(miren_log::supervised("the lease sweep", background));
    services.spawn(miren_log::supervised("the watchdog", async {
        supervisor::watched().await;
        // Nobody listens.
        std::future::pending().await
    }));
    Ok((services, address))
}

fn report_ready(config: &Config, node: &Node, metrics: std::net::SocketAddr) -> anyhow::Result<()> {
    let fast_path = node.fast_path();
    let facts = serde_json::json!({
        "server": format!("unix:{}", config.socket().display()),
        "metrics": metrics.to_string(),
        "fast_path": fast_path.mode,
        "fast_path_reason": fast_path.reason,
        "pid": std::process::id(),
    });
    tracing::info!(%facts, "ready");
    supervisor::serves(&facts.to_string()).context("telling the supervisor that control is ready ($NOTIFY_SOCKET)")
}

fn unexpected(ended: Option<Result<(&'static str, std::io::Result<()>), tokio::task::JoinError>>) -> anyhow::Error {
    match ended {
        Some(Ok((name, Ok(())))) => anyhow::anyhow!("{name} ended although nothing asked it to"),
        Some(Ok((name, Err(error)))) => anyhow::anyhow!("{name} failed: {error}"),
        Some(Err(error)) => anyhow::anyhow!("a service of the daemon died: {error}"),
        None => anyhow::anyhow!("no service of the daemon is left"),
    }
}

/// Takes nothing new; drains the node if that is how it ends; saves what is under way.
///
/// # Errors
/// What is left of a node that was to be drained.
async fn stop(config: &Config, ending: Ending, control: &Control) -> anyhow::Result<()> {
    control.quiesce();
    let ends = async {
        let drained = drain(ending, control).await;
        control.node.down();
        control.apps.close().await;
        drained
    };
    let told = async {
        supervisor::ends(ending.longest()).await;
        std::future::pending().await
    };
    let drained = tokio::select! {
        drained = ends => drained,
        never = told => never,
    };
    control.ending.cancel();
    let _ = std::fs::remove_file(config.socket());
    drained
}

/// As the settings say.
async fn drain(ending: Ending, control: &Control) -> anyhow::Result<()> {
    let Ending::Drain { limit, patient } = ending else {
        return Ok(());
    };
    let stopping = control.node.stop(limit, patient);
    match stopping.await.context("draining the node")? {
        Stopped::Empty => Ok(()),
        Stopped::Left(what) => bail!(
            "draining the node: this is left, and the next start goes on with it: {}",
            what.join("; ")
        ),
    }
}

async fn remove(config: &Config, node: &Node) -> anyhow::Result<()> {
    node.remove().await.context("removing what was made on this machine")?;
    // The lock is still held: whoever waits for it makes its own file.
    let _ = std::fs::remove_file(config.run_dir.join("control.lock"));
    Ok(())
}
