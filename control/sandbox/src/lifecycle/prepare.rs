//! Decides what is on disk before a runtime makes a sandbox: its root, what is shown in it, its specification.

use super::boot_error::{BootError, InStep};
use crate::blame::{Blame, Why};
use crate::bundle::{
    self, Above, AppFiles, Etc, Job, Limits, Masks, Program, SandboxDir, Shown, SpecInput, Upper, Writable,
};
use crate::cgroup::WriterLimits;
use crate::config::{LogRate, RuntimeConfig};
use crate::image;
use crate::init::{self, Gate};
use crate::logs;
use crate::node::Node;
use crate::order::{Root, StartOrder};
use miren_api::resource::NodeFault;
use miren_api::settings::Bytes;
use miren_fault::Point;
use miren_image::Image;
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

/// Room for what a sandbox writes that is on no disk, where its memory has no limit. With a limit it is half of that:
/// what is written counts against it.
const SCRATCH: u64 = 256 << 20;

/// What a runtime needs, and what must stay.
pub(super) struct Prepared {
    pub(super) job: Job,
    pub(super) image: Option<Image>,
    /// Where the app comes to before it runs.
    pub(super) gate: Gate,
    /// What it runs, for error texts.
    pub(super) command: String,
}

/// The root of a sandbox.
struct View {
    shown: Vec<Shown>,
    program: Program,
    writable: Writable,
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
    let groups = node.view.make(&node.cgroups, id, &dir.scratch().join("sys"));
    view.shown.extend(groups.map_err(Preparing).step(BootError::Spec)?);
    let gate = Gate::make(&dir.scratch().join("init"));
    let (gate, init) = gate.map_err(Preparing).step(BootError::Spec)?;
    let command = view.program.args.first().cloned().unwrap_or_default();
    view.program.args = init::words(&view.program.args, !order.service.init);
    let input = SpecInput {
        sandbox: id,
        program: &view.program,
        app_files: app_files(node, order, &dir)?,
        shown: view.shown,
        init,
        writable: match order.service.read_only_root {
            true => Writable::Tmp,
            false => view.writable,
        },
        volumes: node.volumes.mounts(&order.app, &order.service.disks),
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
        gate,
        command,
    })
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
    bundle::prepare_scratch(dir, scratch + init::ROOM)
}

fn view(node: &Node, order: &StartOrder, dir: &SandboxDir, made: Etc<'_>) -> Result<View, BootError> {
    let command = &order.service.command;
    let of_folder = || Program::of_folder(command, &order.env);
    let digest = match &order.root {
        Root::Host => {
            return Ok(View {
                shown: bundle::prepare_host(dir, made)
                    .map_err(Preparing)
                    .step(BootError::Snapshot)?,
                program: of_folder(),
                writable: Writable::TmpAndRun,
                image: None,
            });
        }
        Root::Scratch => {
            return Ok(View {
                shown: bundle::prepare_layers(dir, &[], made).step(BootError::Snapshot)?,
                program: of_folder(),
                writable: Writable::All,
                image: None,
            });
        }
        Root::Image(digest) => digest,
    };
    let found = image::find(node, digest).step(BootError::Image)?;
    let has_folder = order.app_files.is_some();
    let program = Program::of_image(&found.image.config, found.user, command, &order.env, has_folder);
    let program = program.ok_or_else(|| {
        let key = format!("services.{}.command", order.service_name);
        BootError::Image(format!("it names no command; set {key} in app.toml").into())
    })?;
    Ok(View {
        shown: bundle::prepare_layers(dir, &found.layers, made).step(BootError::Snapshot)?,
        program,
        writable: Writable::All,
        image: Some(found.image),
    })
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
    })
}
