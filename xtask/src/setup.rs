//! What a machine needs before it can build and test this repository, why, and where it comes from.

use crate::command::{self, execute, output, succeeds};
use anyhow::{Context, Result, bail};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

/// A Debian package and what breaks without it.
struct Package {
    name: &'static str,
    reason: &'static str,
}

const PACKAGES: &[Package] = &[
    Package {
        name: "gcc",
        reason: "C parts of SQLite, ring and zstd",
    },
    Package {
        name: "libc6-dev",
        reason: "C parts of SQLite, ring and zstd",
    },
    Package {
        name: "pkg-config",
        reason: "finds libseccomp",
    },
    Package {
        name: "libseccomp-dev",
        reason: "system-call filters of sandboxes",
    },
    Package {
        name: "protobuf-compiler",
        reason: "generates container protocol code",
    },
    Package {
        name: "nftables",
        reason: "decides what sandboxes reach, masquerades what they send out",
    },
    Package {
        name: "iproute2",
        reason: "network namespaces of the tests",
    },
    Package {
        name: "containerd",
        reason: "the other runtime of sandboxes, in the tests",
    },
    Package {
        name: "runc",
        reason: "the other runtime of sandboxes, in the tests",
    },
    Package {
        name: "buildah",
        reason: "builds Dockerfiles, in the tests",
    },
    Package {
        name: "e2fsprogs",
        reason: "disks with ext4",
    },
    Package {
        name: "xfsprogs",
        reason: "disks with xfs",
    },
    Package {
        name: "btrfs-progs",
        reason: "disks with btrfs",
    },
    Package {
        name: "systemd",
        reason: "checks the units that come with the daemons",
    },
    Package {
        name: "apache2-utils",
        reason: "ab, a client of HTTP/1.0 in the tests",
    },
    Package {
        name: "faketime",
        reason: "sets the wall clock of some processes, in the tests",
    },
    Package {
        name: "python3",
        reason: "a sample app of the tests",
    },
    Package {
        name: "nodejs",
        reason: "a sample app of the tests",
    },
    Package {
        name: "npm",
        reason: "an app of the tests that npm installs and starts",
    },
    Package {
        name: "python3-venv",
        reason: "apps of the tests that pip installs",
    },
    Package {
        name: "nginx-light",
        reason: "an app of the tests",
    },
    Package {
        name: "golang-go",
        reason: "builds an app of the tests",
    },
    Package {
        name: "default-jdk-headless",
        reason: "an app of the tests",
    },
    Package {
        name: "postgresql",
        reason: "an app of the tests, and its client",
    },
    Package {
        name: "curl",
        reason: "a client in the tests",
    },
    Package {
        name: "wrk",
        reason: "a client in the tests",
    },
    Package {
        name: "nghttp2-client",
        reason: "h2load, a client in the tests",
    },
    Package {
        name: "hey",
        reason: "a client in the tests",
    },
    Package {
        name: "rustc-web",
        reason: "eBPF: a compiler whose core library comes with its source",
    },
    Package {
        name: "cargo-web",
        reason: "eBPF: builds with that compiler",
    },
    Package {
        name: "rust-web-src",
        reason: "eBPF: source of the core library for the kernel's target",
    },
    Package {
        name: "llvm-22-dev",
        reason: "eBPF: bpf-linker links it",
    },
    Package {
        name: "libpolly-22-dev",
        reason: "eBPF: bpf-linker links it",
    },
    Package {
        name: "libzstd-dev",
        reason: "eBPF: bpf-linker links it",
    },
    Package {
        name: "zlib1g-dev",
        reason: "eBPF: bpf-linker links it",
    },
];

/// The linker for kernel programs, and the version whose LLVM fits the compiler above.
const BPF_LINKER: &str = "0.13.0";
const LLVM_PREFIX: &str = "/usr/lib/llvm-22";

/// Installs what is missing; says nothing but "ready" when nothing is.
pub fn run_quietly() -> Result<()> {
    let missing: Vec<&Package> = PACKAGES.iter().filter(|package| !is_there(package)).collect();
    if !missing.is_empty() {
        install(&missing)?;
    }
    if !has_bpf_linker() {
        install_bpf_linker()?;
    }
    Ok(())
}

pub fn run() -> Result<()> {
    run_quietly()?;
    println!("setup: everything is there");
    Ok(())
}

/// A package counts as there when Debian says so, or when its program was installed by other means.
fn is_there(package: &Package) -> bool {
    let program = match package.name {
        "python3" => Some("/usr/bin/python3"),
        "nodejs" => Some("/usr/bin/node"),
        "npm" => Some("/usr/bin/npm"),
        "golang-go" => Some("/usr/bin/go"),
        "default-jdk-headless" => Some("/usr/bin/javac"),
        _ => None,
    };
    if program.is_some_and(|path| Path::new(path).exists()) {
        return true;
    }
    let mut query = Command::new("dpkg-query");
    query.args(["-W", "-f", "${db:Status-Status}", package.name]);
    output(&mut query).is_ok_and(|status| status == "installed")
}

fn install(missing: &[&Package]) -> Result<()> {
    println!("setup: installing {} Debian packages:", missing.len());
    for package in missing {
        println!("  {:20} {}", package.name, package.reason);
    }
    let names: Vec<&str> = missing.iter().map(|package| package.name).collect();
    let by_hand = format!("apt-get install -y --no-install-recommends {}", names.join(" "));
    if !is_root()? {
        bail!("installing packages needs root; run: sudo {by_hand}");
    }
    execute(Command::new("apt-get").args(["update", "-q"])).context("the package lists cannot be fetched")?;
    let _none = NoServices::while_we_install()?;
    let mut apt = Command::new("apt-get");
    apt.args(["install", "-y", "-q", "--no-install-recommends"])
        .args(&names)
        .env("DEBIAN_FRONTEND", "noninteractive");
    execute(&mut apt).with_context(|| format!("on another distribution, install what these names stand for: {by_hand}"))
}

/// Where Debian asks whether a service may be started.
const SERVICE_POLICY: &str = "/usr/sbin/policy-rc.d";

/// What tells a policy of ours from the machine's.
const OURS: &str = "# no service while the tests of miren are set up";

/// No service that is installed is started: the tests start what they need, on ports of their own. A policy of the machine's stays.
struct NoServices {
    written: bool,
}

impl NoServices {
    fn while_we_install() -> Result<Self> {
        // One of ours that was interrupted is not the machine's.
        let written = fs::read_to_string(SERVICE_POLICY)
            .map_or_else(|_| !Path::new(SERVICE_POLICY).exists(), |policy| policy.contains(OURS));
        if written {
            // Without us it forbids nothing: whoever interrupts this leaves a file that does no harm.
            let text = format!(
                "#!/bin/sh\n{OURS}\nif [ \"$(cat /proc/{}/comm 2>/dev/null)\" = xtask ]; then exit 101; fi\n",
                std::process::id()
            );
            fs::write(SERVICE_POLICY, text).with_context(|| format!("writing {SERVICE_POLICY}"))?;
            fs::set_permissions(SERVICE_POLICY, fs::Permissions::from_mode(0o755))?;
        }
        Ok(Self { written })
    }
}

impl Drop for NoServices {
    fn drop(&mut self) {
        if self.written {
            // An error has nowhere to go, and what stays forbids nothing.
            let _ = fs::remove_file(SERVICE_POLICY);
        }
    }
}

/// Whether we may change the system.
pub fn is_root() -> Result<bool> {
    Ok(output(Command::new("id").arg("-u"))?.trim() == "0")
}

fn has_bpf_linker() -> bool {
    let path = linker_path();
    path.exists() && output(Command::new(path).arg("--version")).is_ok_and(|version| version.contains(BPF_LINKER))
}

/// Where `cargo install` puts the linker.
pub fn linker_path() -> std::path::PathBuf {
    let home = std::env::var_os("CARGO_HOME")
        .map(std::path::PathBuf::from)
        .or_else(|| std::env::var_os("HOME").map(|home| Path::new(&home).join(".cargo")));
    home.unwrap_or_else(|| "/root/.cargo".into()).join("bin/bpf-linker")
}

fn install_bpf_linker() -> Result<()> {
    println!("setup: installing bpf-linker {BPF_LINKER} with cargo: links the kernel programs (about 3 minutes)");
    let mut install = command::cargo();
    install.args([
        "install",
        "bpf-linker",
        "--version",
        BPF_LINKER,
        "--no-default-features",
        "--features",
        "llvm-22",
    ]);
    // Without LLVM_PREFIX its build takes the first llvm-config on PATH, often another version.
    install.args(["--locked", "--force"]).env("LLVM_PREFIX", LLVM_PREFIX);
    execute(&mut install)
}

/// Fails with the remedy unless the kernel side can be used here: root, and the kernel's own type description.
pub fn check_kernel() -> Result<()> {
    if !is_root()? {
        bail!("sandboxes and kernel programs need root; run the same command with sudo");
    }
    if !Path::new("/sys/kernel/btf/vmlinux").exists() {
        bail!(
            "this kernel has no BTF (/sys/kernel/btf/vmlinux); use one built with CONFIG_DEBUG_INFO_BTF, as Debian's"
        );
    }
    if !succeeds(Command::new("nft").args(["list", "tables"])) {
        bail!("nftables does not work here; the kernel needs nf_tables");
    }
    Ok(())
}
