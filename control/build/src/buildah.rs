//! Decides what buildah is told and where it runs: in process, mount and network namespaces that end with it.
//!
//! It has no daemon, so its whole tree of processes is ours to end. What it stands on is fetched first, from the host's
//! network; the build itself, and with it every `RUN` and `ADD`, only has the network it is given.

use crate::base;
use crate::builds::{Build, Outside, Settings};
use crate::error::BuildError;
use crate::job;
use crate::program::Programs;
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const PROGRAM: &str = "buildah";
/// Shares of the processor next to the 1024 of anything else: a build takes what is left over.
const CPU_SHARES: &str = "128";
/// The same for what buildah does itself, as a nice value.
const NICE: &str = "10";
/// Puts name servers in the place of the host's, in this mount namespace only.
const WITH_RESOLVERS: &str = "mount --bind \"$0\" /etc/resolv.conf && exec \"$@\"";

pub(crate) fn answers(programs: &Programs) -> Result<(), String> {
    match programs.find(PROGRAM) {
        Some(_) => Ok(()),
        None => Err("buildah is not installed".to_owned()),
    }
}

pub(crate) async fn build(build: &Build<'_>) -> Result<(), BuildError> {
    let bases = base::of(&build.text);
    let place = Place::write(build.settings(), &bases)?;
    // Of a build that was killed.
    run(build, "buildah rm", place.local(build, &["rm", "--all"])).await?;
    for image in bases {
        let mut pull = place.local(build, &["pull", "--policy=ifnewer"]);
        place.trust(&mut pull, build.settings());
        pull.arg(&image);
        (build.tell)(format!("pulling {image}"));
        run(build, &format!("buildah pull {image}"), pull).await?;
    }
    let doing = format!("buildah build of {}", build.order.dockerfile);
    run(build, &doing, place.build(build)?).await?;
    let mut push = place.local(build, &["push", "--quiet"]);
    push.arg("--signature-policy").arg(&place.policy).arg(build.built()?);
    push.arg(format!("docker-archive:{}", build.archive.path().display()));
    run(build, "buildah push", push).await?;
    if let Err(error) = bound_cache(build, &place).await {
        tracing::warn!(%error, "the layers of earlier builds stay");
    }
    Ok(())
}

async fn run(build: &Build<'_>, doing: &str, command: Command) -> Result<(), BuildError> {
    job::run(doing, command, &build.turn, build.tell).await
}

/// Its files.
struct Place {
    storage: PathBuf,
    registries: PathBuf,
    policy: PathBuf,
    resolvers: PathBuf,
}

impl Place {
    /// Settings of its own: those of the host's administrator are for other uses.
    ///
    /// Registries on loopback are spoken to without TLS, as in a pull.
    fn write(settings: &Settings, bases: &[String]) -> Result<Self, BuildError> {
        let place = Self {
            storage: settings.folder.join("buildah"),
            registries: settings.folder.join("registries.conf"),
            policy: settings.folder.join("policy.json"),
            resolvers: settings.under_way().join("resolv.conf"),
        };
        let mut registries =
            "unqualified-search-registries = [\"docker.io\"]\nshort-name-mode = \"disabled\"\n".to_owned();
        let on_loopback: BTreeSet<&str> = bases
            .iter()
            .filter_map(|image| base::loopback_registry(image))
            .collect();
        let plain = settings.plain_http.iter().map(String::as_str);
        for registry in on_loopback.into_iter().chain(plain) {
            // Debug quotes as TOML does what a registry's name can have.
            let _ = write!(registries, "[[registry]]\nlocation = {registry:?}\ninsecure = true\n");
        }
        let files = [
            (&place.registries, registries.as_str()),
            (&place.policy, r#"{"default":[{"type":"insecureAcceptAnything"}]}"#),
        ];
        for (path, text) in files {
            fs::write(path, text).map_err(BuildError::io("writing", path))?;
        }
        Ok(place)
    }

    /// buildah in namespaces of its own, but in the host's network.
    fn local(&self, build: &Build<'_>, arguments: &[&str]) -> Command {
        let mut command = build.builds.programs.command("setpriv");
        command.args(["--pdeathsig", "SIGKILL", "--"]);
        isolate(&mut command);
        self.buildah(&mut command, build, arguments);
        command
    }

    /// The build itself, in the network that it is given.
    fn build(&self, build: &Build<'_>) -> Result<Command, BuildError> {
        let programs = &build.builds.programs;
        let mut command = match build.order.outside {
            None => programs.command("setpriv"),
            Some(outside) => {
                let mut command = programs.command("nsenter");
                command
                    .arg(format!("--net={}", outside.network.display()))
                    .args(["--", "setpriv"]);
                command
            }
        };
        command.args(["--pdeathsig", "SIGKILL", "--"]);
        isolate(&mut command);
        if let Some(Outside { resolvers, .. }) = build.order.outside.filter(|outside| !outside.resolvers.is_empty()) {
            fs::write(&self.resolvers, resolvers).map_err(BuildError::io("writing", &self.resolvers))?;
            command.args(["sh", "-c", WITH_RESOLVERS]).arg(&self.resolvers);
        }
        // Its network is that of buildah itself, and of nothing else.
        let own = [
            "build",
            "--layers",
            "--pull=false",
            "--format=docker",
            "--isolation=oci",
            "--network=host",
        ];
        self.buildah(&mut command, build, &own);
        self.trust(&mut command, build.settings());
        command
            .arg(format!("--memory={}", build.settings().memory))
            .arg(format!("--cpu-shares={CPU_SHARES}"));
        if let Some(outside) = build.order.outside {
            command.arg(format!("--cgroup-parent={}", outside.cgroup));
        }
        command
            .arg("--iidfile")
            .arg(build.id_file.path())
            .arg("--file")
            .arg(build.dockerfile())
            .arg(build.order.folder);
        Ok(command)
    }

    fn buildah(&self, command: &mut Command, build: &Build<'_>, arguments: &[&str]) {
        let settings = build.settings();
        command
            .args(["nice", "-n", NICE, PROGRAM, "--storage-driver=overlay", "--root"])
            .arg(&self.storage)
            .arg("--runroot")
            .arg(&settings.run_dir)
            .args(arguments)
            .env("HOME", &settings.folder)
            .env("TMPDIR", settings.under_way())
            .env("CONTAINERS_REGISTRIES_CONF", &self.registries);
    }

    /// How it meets registries.
    fn trust(&self, command: &mut Command, settings: &Settings) {
        command.arg("--signature-policy").arg(&self.policy);
        if settings.auth_file.is_file() {
            command.arg("--authfile").arg(&settings.auth_file);
        }
    }
}

/// Everything that is started from here on ends with its first process, and its mounts with it.
fn isolate(command: &mut Command) {
    command.args([
        "unshare",
        "--mount",
        "--propagation=private",
        "--pid",
        "--fork",
        "--kill-child=SIGKILL",
        "--mount-proc",
        "--",
    ]);
}

/// Layers are kept for the next build, up to a size; beyond that all are thrown away, and the next build starts anew.
async fn bound_cache(build: &Build<'_>, place: &Place) -> Result<(), BuildError> {
    let storage = place.storage.clone();
    let measuring = tokio::task::spawn_blocking(move || size(&storage)).await;
    if measuring.unwrap_or(u64::MAX) <= build.settings().cache {
        return Ok(());
    }
    tracing::info!("throwing away the layers of earlier builds");
    let remove = place.local(build, &["rmi", "--all", "--force"]);
    job::run("buildah rmi", remove, &build.turn, &|_| ()).await
}

/// Bytes below a folder. What vanishes meanwhile does not count.
fn size(folder: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(folder) else { return 0 };
    entries
        .flatten()
        .map(|entry| match entry.metadata() {
            Ok(found) if found.is_dir() => size(&entry.path()),
            Ok(found) => found.len(),
            Err(_) => 0,
        })
        .sum()
}
