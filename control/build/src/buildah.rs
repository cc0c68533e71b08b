//! Decides what buildah is told, and what each of its commands is given: a root of its own with only what that one needs.
//!
//! It has no daemon, so its whole tree of processes is ours to end. What it stands on is fetched first, with the credentials
//! of one registry at a time; the build itself, and with it every step, has none.

use crate::builds::{Build, Outside};
use crate::error::BuildError;
use crate::jail::{CONTEXT, Folder, Jail, OUT, SCRATCH, STORAGE};
use crate::limits::{self, Limits};
use crate::program::Programs;
use crate::registry::Base;
use crate::relay::Relay;
use crate::scratch::IMAGE;
use crate::storage::{self, Storage};
use crate::{job, login};
use std::path::{Path, PathBuf};

mod settings;

const PROGRAM: &str = "buildah";
/// What it runs steps with: the first that is there.
const RUNTIMES: [&str; 2] = ["runc", "crun"];
/// What buildah itself leaves to others, as a nice value.
const NICE: &str = "10";
/// What the image is called until it is taken in. No Dockerfile may name it.
const BUILT: &str = "localhost/miren-built:latest";
const AUTH_FILE: &str = "/etc/containers/auth.json";

pub(crate) fn answers(programs: &Programs) -> Result<(), String> {
    match programs.find(PROGRAM) {
        Some(_) => Ok(()),
        None => Err("buildah is not installed".to_owned()),
    }
}

pub(crate) async fn build(build: &Build<'_>) -> Result<(), BuildError> {
    let mut place = Place::make(build)?;
    if place.storage.is_littered {
        place.tidy(build).await?;
    }
    for base in &build.bases {
        pull(build, &place, base).await?;
    }
    let doing = format!("buildah build of {}", build.order.dockerfile);
    let built = run(build, &doing, place.build(build)).await;
    built.map_err(|error| place.explain(error))?;
    let mut push = place.jail(
        build,
        &["push", "--quiet", BUILT, &format!("docker-archive:{OUT}/{IMAGE}")],
    );
    push.folders.push(Folder::writable(&build.turn.scratch().out(), OUT));
    run(build, "buildah push", push).await?;
    build.turn.scratch().take()?;
    build.turn.ended_well();
    Ok(())
}

/// With its credentials and, if the operator named its registry, in a network that leads there and nowhere else.
async fn pull(build: &Build<'_>, place: &Place, base: &Base) -> Result<(), BuildError> {
    (build.tell)(format!("pulling {}", base.image));
    let auths = &build.settings().auths;
    let mut jail = place.jail(
        build,
        &["pull", "--policy=ifnewer", "--authfile", AUTH_FILE, &base.image],
    );
    let auth_file = login::file(auths, &[&base.registry]).await?;
    let doing = format!("buildah pull {}", base.image);
    if !base.is_named {
        jail.network = place.network.clone();
        jail.files.extend(settings::network(place.resolvers.as_deref(), ""));
        jail.files.push((AUTH_FILE.into(), auth_file));
        return run(build, &doing, jail).await;
    }
    let relay = Relay::open(&base.registry).await;
    let relay = relay.map_err(BuildError::io("leading a network to", &base.registry))?;
    jail.network = Some(relay.network());
    jail.files.extend(settings::network(None, &relay.hosts));
    jail.files.push((AUTH_FILE.into(), auth_file));
    // What is between this machine and the world is not between it and its own.
    jail.environment.retain(|(name, _)| !Programs::is_of_a_proxy(name));
    run(build, &doing, jail).await
}

async fn run(build: &Build<'_>, doing: &str, jail: Jail) -> Result<(), BuildError> {
    let (helper, programs) = (&build.settings().helper, &build.builds.programs);
    let command = jail
        .command(helper, programs)
        .map_err(BuildError::io("preparing", helper))?;
    job::run(doing, command, &build.turn, build.tell).await
}

/// What all commands of one build have.
struct Place {
    storage: Storage,
    groups: Vec<PathBuf>,
    network: Option<PathBuf>,
    resolvers: Option<String>,
    files: Vec<(PathBuf, String)>,
}

impl Place {
    fn make(build: &Build<'_>) -> Result<Self, BuildError> {
        let settings = build.settings();
        let limits = Limits {
            memory: settings.memory,
            processes: settings.processes,
        };
        let groups = match build.order.outside {
            Some(Outside { cgroup, .. }) => {
                limits::hold(cgroup, limits).map_err(BuildError::io("limiting", PathBuf::from(cgroup)))?
            }
            None => Vec::new(),
        };
        Ok(Self {
            storage: open(build)?,
            groups,
            network: build.order.outside.map(|outside| outside.network.clone()),
            resolvers: build.order.outside.map(|outside| outside.resolvers.clone()),
            files: settings::files(settings, &build.bases),
        })
    }

    /// Removes what a build left that did not end well. Layers that buildah cannot read any more are nobody's loss but a little time's.
    async fn tidy(&mut self, build: &Build<'_>) -> Result<(), BuildError> {
        let tidied = run(build, "buildah rm", self.jail(build, &["rm", "--all"])).await;
        let Err(error) = tidied else { return Ok(()) };
        tracing::warn!(app = build.order.app, %error, "the layers of earlier builds cannot be used: the app begins anew");
        let (settings, app) = (build.settings(), build.order.app);
        storage::discard(settings, app).map_err(BuildError::io("throwing away", &self.storage.folder))?;
        self.storage = open(build)?;
        Ok(())
    }

    /// buildah with its storage, and no network.
    fn jail(&self, build: &Build<'_>, arguments: &[&str]) -> Jail {
        let (settings, programs) = (build.settings(), &build.builds.programs);
        let mut folders = vec![
            Folder::writable(&self.storage.folder, STORAGE),
            Folder::writable(&build.turn.scratch().large(), SCRATCH),
        ];
        if let Some(own) = &settings.programs {
            folders.push(Folder {
                host: own.clone(),
                inside: own.clone(),
                writable: false,
            });
        }
        let own = [("HOME", "/tmp"), ("TMPDIR", SCRATCH), ("USER", "build")];
        let own = own.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let nice = ["nice", "-n", NICE, PROGRAM];
        Jail {
            place: settings.run_dir.clone(),
            groups: self.groups.clone(),
            first_user: settings.first_user,
            folders,
            files: self.files.clone(),
            environment: programs.environment().into_iter().chain(own).collect(),
            command: nice.iter().chain(arguments).map(|word| (*word).to_owned()).collect(),
            ..Jail::default()
        }
    }

    /// The build itself, in the network that it is given.
    fn build(&self, build: &Build<'_>) -> Jail {
        // Its network is that of buildah itself, and of nothing else; limits are set where it does not see them.
        let own = [
            "build",
            "--layers",
            "--pull=false",
            "--format=docker",
            "--isolation=rootless",
        ];
        let mut jail = self.jail(build, &own);
        let runtime = RUNTIMES.iter().find_map(|name| build.builds.programs.find(name));
        let runtime = runtime.map(|path| format!("--runtime={}", path.display()));
        let dockerfile = Path::new(CONTEXT).join(build.order.dockerfile).display().to_string();
        let rest = [
            "--network=host",
            "--authfile",
            AUTH_FILE,
            "--tag",
            BUILT,
            "--file",
            &dockerfile,
            CONTEXT,
        ];
        // Of itself it looks for fewer of them, and for others.
        let rules = build.rules.as_deref().map(|file| Path::new(CONTEXT).join(file));
        let rules = rules.map(|path| format!("--ignorefile={}", path.display()));
        let chosen = runtime.into_iter().chain(rules);
        jail.command.extend(chosen.chain(rest.map(str::to_owned)));
        jail.folders.push(Folder::read_only(build.order.folder, CONTEXT));
        jail.files.extend(settings::network(self.resolvers.as_deref(), ""));
        jail.files.push((AUTH_FILE.into(), login::NONE.to_owned()));
        jail.network.clone_from(&self.network);
        jail
    }

    /// A builder that is killed cannot say what for.
    fn explain(&self, error: BuildError) -> BuildError {
        match limits::is_out_of_memory(&self.groups) {
            true => BuildError::OutOfMemory(Box::new(error)),
            false => error,
        }
    }
}

fn open(build: &Build<'_>) -> Result<Storage, BuildError> {
    let opened = build.turn.storage(build.order.app);
    opened.map_err(BuildError::io("opening the layers in", &build.settings().folder))
}
