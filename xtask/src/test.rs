//! Runs every test there is, on the release build: unit, in process, in kernel, and the real binaries from outside.

use crate::command::{self, execute};
use crate::containerd::Containerd;
use crate::timing::Timing;
use crate::{build, ebpf, faults, setup};
use anyhow::Result;
use clap::{Args, ValueEnum};

/// Narrows a run down while working on one thing.
#[derive(Args, Default)]
pub struct Options {
    /// Only tests whose name contains this
    filter: Option<String>,
    /// Only one of the three passes
    #[arg(long)]
    pass: Option<Pass>,
}

/// What the tests stand on.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Pass {
    /// Everything, with the fast path in the kernel
    Kernel,
    /// Sandboxes that containerd runs, and the outside view of them
    Containerd,
    /// The outside view without the kernel's help
    Off,
}

impl Options {
    fn wants(&self, pass: Pass) -> bool {
        self.pass.is_none_or(|wanted| wanted == pass)
    }
}

/// The tests that drive the real binaries: one binary, so that it is linked once.
const BLACK_BOX: &str = "--test=blackbox";

pub fn run(options: &Options) -> Result<()> {
    let mut timing = Timing::default();
    let outcome = steps(options, &mut timing);
    println!("{timing}");
    outcome
}

/// Prepares, builds, and runs the tests, each booked in `timing`.
///
/// # Errors
/// When something is missing that cannot be installed, or a test fails.
pub fn steps(options: &Options, timing: &mut Timing) -> Result<()> {
    timing.step("what is missing is installed", setup::run_quietly)?;
    setup::check_kernel()?;
    timing.step("kernel programs", ebpf::run_build)?;
    timing.step("binaries and tests are built", build::with_tests)?;
    if options.wants(Pass::Kernel) {
        println!("test: everything, with the fast path in the kernel");
        timing.step("tests: everything", || cargo_test(options, "kernel", &[], None))?;
        println!("test: every interleaving of a few threads");
        timing.step("tests: interleavings", || interleavings(options))?;
        if options
            .filter
            .as_ref()
            .is_none_or(|filter| faults::WALK.contains(filter))
        {
            println!("test: every fault at every fail point");
            timing.step("fail points: daemons are built", faults::build)?;
            timing.step("tests: fail points", || faults::walk(""))?;
        }
    }
    if options.wants(Pass::Containerd) {
        println!("test: sandboxes that containerd runs, and the outside view of them");
        timing.step("tests: containerd", || {
            let of_runtime = ["--test=sandbox", BLACK_BOX];
            cargo_test(options, "kernel", &of_runtime, Some(&Containerd::start()?))
        })?;
    }
    if options.wants(Pass::Off) {
        println!("test: the same outside view without the kernel's help (K7)");
        timing.step("tests: no fast path", || cargo_test(options, "off", &[BLACK_BOX], None))?;
    }
    Ok(())
}

/// Crates whose unit tests try every interleaving where `loom` is set.
const MODELLED: &[&str] = &["miren-gate"];

/// Builds to a folder of its own: with another set of flags cargo would build the whole workspace again, there and back.
fn interleavings(options: &Options) -> Result<()> {
    let mut cargo = command::cargo();
    cargo.args(["test", "--release", "--no-fail-fast", "--lib"]);
    cargo.args(MODELLED.iter().flat_map(|name| ["--package", name]));
    let flags = std::env::var("RUSTFLAGS").unwrap_or_default();
    cargo
        .env("RUSTFLAGS", format!("{flags} --cfg loom").trim())
        .env("CARGO_TARGET_DIR", command::target_dir().join("loom"));
    if let Some(filter) = &options.filter {
        cargo.args(["--", filter]);
    }
    execute(&mut cargo)
}

/// Tests at once, however many cores there are: each node attaches its connect hook to the root cgroup, where the kernel
/// takes 64 programs of a kind.
const AT_ONCE: usize = 24;

/// A chapter of the outside view that runs in two passes: the programs that people have do not see how the ingress is told of a sandbox.
const PROGRAMS: &str = "programs::";

/// Always the whole workspace: with another selection cargo would build the dependencies with other features, and again.
fn cargo_test(options: &Options, fast_path: &str, targets: &[&str], containerd: Option<&Containerd>) -> Result<()> {
    let mut cargo = command::cargo();
    cargo
        .args(["test", "--release", "--workspace", "--no-fail-fast"])
        .args(targets)
        .env("MIREN_TEST_FAST_PATH", fast_path);
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    if cores > AT_ONCE && std::env::var_os("RUST_TEST_THREADS").is_none() {
        cargo.env("RUST_TEST_THREADS", AT_ONCE.to_string());
    }
    if let Some(containerd) = containerd {
        cargo.env("MIREN_TEST_CONTAINERD", containerd.socket());
    }
    cargo.arg("--").args(&options.filter);
    if fast_path == "off" {
        cargo.args(["--skip", PROGRAMS]);
    }
    execute(&mut cargo)
}
