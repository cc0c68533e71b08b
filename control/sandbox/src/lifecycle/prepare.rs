//! Decides what is on disk before a runtime makes a sandbox: its root, what is shown in it, its specification.

use super::boot_error::{BootError, InStep};
use crate::blame::{Blame, Why};
use crate::bundle::{
    self, Above, AppFiles, Asked, Etc, Inside, Job, Limits, Masks, Open, Pipes, Places, Program, SandboxDir, Shown,
    SpecInput, Upper, Writable,
};
use crate::cgroup::WriterLimits;
use crate::config::{LogRate, RuntimeConfig};
use crate::image;
use crate::logs;
use crate::node::Node;
use crate::order::{Root, StartOrder};
use crate::signal_number::SignalNumber;
use crate::volumes::VolumeMount;
use miren_api::resource::NodeFault;
use miren_api::settings::Bytes;
use miren_fault::Point;
use miren_image::Image;
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// Room for what a sandbox writes that is on no disk, where its memory has no limit. With a limit it is half of that:
/// what is written counts against it.
const SCRATCH: u64 = 256 << 20;

/// What a runtime needs, and what must stay.
pub(super) struct Prepared {
    pub(super) job: Job,
    pub(super) image: Option<Image>,
    /// Our ends of what its command is spoken with through, if anybody does.
    pub(super) pipes: Option<Pipes>,
}

/// The root of a sandbox.
struct View {
    shown: Vec<Shown>,
    program: Program,
    writable: Writable,
    /// What can be written to in it besides.
    open: Vec<Open>,
    /// None: it is the host's, where nobody has put a link.
    inside: Option<Inside>,
    image: Option<Image>,
}

/// Everything the runtime needs, on disk. Blocks.
pub(super) fn prepare(node: &Node, order: &StartOrder, address: Ipv4Addr) -> Result<Prepared, BootError> {
    let id = order.id.as_str();
    let dir = node.dir(id);
    let limits = Limits::of(order.service.resources, node.config.defaults);
    miren_fault::blocking(Point::CreateSnapshot).step(BootError::Snapshot)?;
    make_places(&dir, limits).map_err(Preparing).step(BootError::Snapshot)?;
    let made = Etc {
        host: Path::new("/"),
        sandbox: id,
        address: IpAddr::V4(address),
    };
    miren_fault::blocking(Point::CreateImage).step(BootError::Image)?;
    let mut view = view(node, order, &dir, made)?;
    if let Some(one_off) = order.one_off.as_ref().filter(|one_off| !one_off.words.is_empty()) {
        view.program.args.clone_from(&one_off.words);
    }
    let volumes = volumes(node, order, view.inside.as_ref()).step(BootError::Image)?;
    let input = SpecInput {
        sandbox: id,
        program: &view.program,
        attach: order.attach(),
        app_files: app_files(node, order, &dir)?,
        shown: view.shown,
        writable: match order.service.read_only_root {
            true => Writable::Tmp,
            false => view.writable,
        },
        open: view.open,
        volumes,
        namespace: &node.network.namespace(id),
        cgroup: node.cgroups.path(id),
        limits,
        masks: match node.config.runtime {
            RuntimeConfig::Embedded => Masks::Second,
            RuntimeConfig::Containerd { .. } => Masks::First,
        },
    };
    miren_fault::blocking(Point::CreateSpec).step(BootError::Spec)?;
    bundle::write_spec(&dir, &input)
        .map_err(Preparing)
        .step(BootError::Spec)?;
    Ok(Prepared {
        job: job(node, order, limits).map_err(Preparing).step(BootError::Spec)?,
        image: view.image,
        pipes: pipes(node, order, &dir).map_err(Preparing).step(BootError::Spec)?,
    })
}

fn pipes(node: &Node, order: &StartOrder, dir: &SandboxDir) -> io::Result<Option<Pipes>> {
    let sends = node.runtime.sends_terminals();
    let attach = order.attach();
    attach
        .map(|attach| bundle::prepare_first(dir, attach, sends))
        .transpose()
}

/// A file of control's own that could not be put in place. No app has a say in it.
#[derive(Debug, thiserror::Error)]
#[error("preparing its files: {0}")]
struct Preparing(io::Error);

impl Blame for Preparing {
    fn node_fault(&self) -> Option<NodeFault> {
        Some(self.0.node_fault().unwrap_or(NodeFault::DiskBroken))
    }
}

fn make_places(dir: &SandboxDir, limits: Limits) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir.path())?;
    let scratch = limits.memory.map_or(SCRATCH, |Bytes(memory)| memory / 2);
    bundle::prepare_scratch(dir, scratch)
}

/// Disks, where the links of an image lead them.
fn volumes(node: &Node, order: &StartOrder, inside: Option<&Inside>) -> Result<Vec<VolumeMount>, Why> {
    let mut volumes = node.volumes.mounts(&order.app, &order.service.disks);
    let Some(inside) = inside else { return Ok(volumes) };
    let is_of_app = |volume: &VolumeMount| order.app_files.is_some() && volume.inside.starts_with("/app");
    for volume in volumes.iter_mut().filter(|volume| !is_of_app(volume)) {
        volume.inside = bundle::of_disk(inside, &volume.inside)?;
    }
    Ok(volumes)
}

fn view(node: &Node, order: &StartOrder, dir: &SandboxDir, made: Etc<'_>) -> Result<View, BootError> {
    let of_folder = || Program::of_folder(&order.service.command, &order.env);
    let digest = match &order.root {
        Root::Host => {
            return Ok(View {
                shown: bundle::prepare_host(dir, made)
                    .map_err(Preparing)
                    .step(BootError::Snapshot)?,
                program: of_folder(),
                writable: Writable::TmpAndRun,
                open: Vec::new(),
                inside: None,
                image: None,
            });
        }
        Root::Scratch => {
            return Ok(View {
                inside: Some(root(order, dir, &[], made)?),
                shown: Vec::new(),
                program: of_folder(),
                writable: Writable::All,
                open: Vec::new(),
                image: None,
            });
        }
        Root::Image(digest) => digest,
    };
    let found = image::find(node, digest).step(BootError::Image)?;
    let inside = root(order, dir, &found.layers, made)?;
    let (program, open) = program(order, dir, &inside, &found).step(BootError::Image)?;
    Ok(View {
        shown: Vec::new(),
        program,
        writable: Writable::All,
        open,
        inside: Some(inside),
        image: Some(found.image),
    })
}

/// Of layers, the topmost first, and what every sandbox has.
fn root(order: &StartOrder, dir: &SandboxDir, layers: &[PathBuf], made: Etc<'_>) -> Result<Inside, BootError> {
    let inside = bundle::prepare_layers(dir, layers).step(BootError::Snapshot)?;
    let app = order.app_files.as_ref().map(|_| "app");
    let tmp = order.service.read_only_root.then_some("tmp");
    let own: Vec<&str> = app.into_iter().chain(tmp).collect();
    bundle::furnish(&inside, made, &own).step(BootError::Image)?;
    Ok(inside)
}

/// What runs of an image, and what it may write to.
fn program(
    order: &StartOrder,
    dir: &SandboxDir,
    inside: &Inside,
    found: &image::Found,
) -> Result<(Program, Vec<Open>), Why> {
    let config = &found.image.config;
    if let Some(signal) = &config.stop_signal
        && SignalNumber::parse(signal).is_none()
    {
        return Err(format!("its STOPSIGNAL {} is no signal", bundle::shown(signal)).into());
    }
    let asked = Asked {
        image: config,
        has_folder: order.app_files.is_some(),
        read_only: order.service.read_only_root,
    };
    let Places { cwd, open } = Places::make(inside, &dir.rootfs(), asked)?;
    // A path that an image names is text, and one that a link of it names need not be.
    let cwd = cwd.into_os_string().into_string();
    let cwd = cwd.map_err(|_| "its WORKDIR leads to a folder whose name is not UTF-8".to_owned())?;
    let (command, env) = (&order.service.command, &order.env);
    let program = Program::of_image(config, found.user.clone(), command, env, cwd);
    let program = program.ok_or_else(|| {
        let key = format!("services.{}.command", order.service_name);
        format!("it names no command; set {key} in app.toml")
    })?;
    match program.unusable() {
        Some(why) => Err(why.into()),
        None => Ok((program, open)),
    }
}

fn app_files<'o>(node: &Node, order: &'o StartOrder, dir: &SandboxDir) -> Result<Option<AppFiles<'o>>, BootError> {
    let Some(folder) = &order.app_files else {
        return Ok(None);
    };
    if !folder.is_dir() {
        return Err(BootError::Image(format!("{} is not a folder", folder.display()).into()));
    }
    let above = above(node, order, dir);
    let above = above.map_err(|error| {
        BootError::Snapshot(Why {
            text: format!("preparing its files: {error}"),
            ..Why::of(&error)
        })
    })?;
    Ok(Some(AppFiles { folder, above }))
}

fn above(node: &Node, order: &StartOrder, dir: &SandboxDir) -> io::Result<Above> {
    if !node.overlay {
        return Ok(Above::Nothing);
    }
    if !order.service.read_only_root {
        return Ok(Above::Upper(Upper::make(dir, "app")?));
    }
    // They cannot be made any more once it is mounted.
    let mounted = order.service.disks.iter().map(|disk| disk.mount_path.as_path());
    let points = bundle::make_points(dir, mounted)?;
    Ok(points.map_or(Above::Nothing, Above::Points))
}

fn job(node: &Node, order: &StartOrder, of_sandbox: Limits) -> io::Result<Job> {
    let log = node.log(order);
    let limits = node.config.logs;
    let LogRate { bytes, lines, burst } = limits.rate;
    if let Some(service) = log.parent() {
        // One place for the log that is about to be made.
        logs::prune(service, limits.sandboxes.saturating_sub(1), &node.registry.ids())?;
    }
    let writer = WriterLimits {
        cpu: of_sandbox.cpu,
        bytes: bytes.0,
        disk: &node.config.log_dir,
    };
    Ok(Job {
        sandbox: order.id.clone(),
        service: order.service_name.clone(),
        log,
        log_bytes: limits.file.0,
        log_files: limits.files,
        log_rate: Some((bytes.0, lines, burst)),
        groups: node.writers.make_for_writer(order.id.as_str(), writer)?,
        is_attached: order.attach().is_some(),
    })
}
