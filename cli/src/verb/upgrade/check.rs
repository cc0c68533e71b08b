//! Whether another build can serve in the place of what runs: all that can be asked is asked before anything is touched.

use super::process::{self, Role, file_id, image};
use super::program;
use super::record::{Phase, Record};
use super::room;
use crate::failure::{Doing, Exit, Failure};
use kept::{check_keeper, check_proxy_keeper};
use miren_api::upgrade::{ControlFacts, ProxyFacts};
use std::fs;
use std::io::{self, Read};
use std::iter;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tokio::time::sleep;

mod kept;
pub use kept::keeper_again;

const CONTROL: &str = "miren-control";
pub const PROXY: &str = "miren-proxy";
const PROGRAMS: [&str; 3] = ["miren", CONTROL, PROXY];
/// Where control reads its settings unless told otherwise.
pub const CONTROL_CONFIG: &str = "/etc/miren/control.toml";
/// The same of the proxy; only its name counts where control's are elsewhere.
pub const PROXY_CONFIG: &str = "/etc/miren/proxy.toml";
/// For a control that is just being started again.
const LISTENS: Duration = Duration::from_secs(20);
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// What is to be checked.
pub struct Wanted {
    pub from: Option<PathBuf>,
    pub socket: PathBuf,
    pub proxy_config: Option<PathBuf>,
    /// The operator takes a gap of the proxy.
    pub restarts_proxy: bool,
    /// What starts control, where the operator says so.
    pub start_control: Option<String>,
    /// The operator says that the parents of the daemons start them again.
    pub is_supervised: bool,
}

impl Wanted {
    /// What was wanted of an upgrade that is found.
    pub fn again(record: &Record) -> Self {
        Self {
            from: record.from.clone(),
            socket: record.control_socket.clone(),
            proxy_config: record.proxy.as_ref().map(|proxy| proxy.config.clone()),
            restarts_proxy: record.restarts_proxy,
            start_control: record.start_control.clone(),
            is_supervised: record.is_supervised,
        }
    }
}

/// What was found.
pub struct Checked {
    pub record: Record,
    /// Nothing would change.
    pub is_same: bool,
    /// For people, a line for each check.
    pub told: Vec<String>,
}

/// The control that runs, and how.
pub async fn control(socket: &Path) -> Result<(u32, Role), Failure> {
    let begun = Instant::now();
    loop {
        let found = process::control_at(socket).filter(|listener| listener.is_ready);
        if let Some(listener) = found
            && let Some(role) = Role::of(listener.pid, Path::new(CONTROL_CONFIG))
        {
            return Ok((listener.pid, role));
        }
        if begun.elapsed() > LISTENS {
            let why = format!("no control at {} is ready", socket.display());
            let mut failure = Failure::failed(why).code("unreachable");
            failure.exit = Exit::Unreachable;
            return Err(failure.remedy("start it, or name the right one with --server or MIREN_SERVER; where an upgrade was interrupted, --data-dir finds it"));
        }
        sleep(LOOK_AGAIN).await;
    }
}

/// Checks everything. Nothing is changed.
pub async fn check(wanted: &Wanted) -> Result<Checked, Failure> {
    let (pid, role) = control(&wanted.socket).await?;
    let mut told = Vec::new();
    let folder = match &wanted.from {
        Some(folder) => folder.clone(),
        None => role.program.parent().unwrap_or(Path::new("/")).to_owned(),
    };
    if wanted.from.is_some() && file_id(&folder.join(CONTROL)) == file_id(&role.program) {
        return Err(
            Failure::usage(format!("{} is where the programs run from", folder.display()))
                .remedy("\"miren upgrade\" without --from has what is there serve"),
        );
    }
    let new_version = versions(&folder).await?;
    let old_version = program::version(&image(pid)).await?;
    told.push(format!("{old_version} runs, {new_version} is in {}", folder.display()));
    let kept = check_keeper(pid, wanted)?;
    let new = folder.join(CONTROL);
    let facts = check_control(&new, (pid, &role), wanted).await?;
    told.push(format!("{CONTROL} takes {}, and is {kept}", role.config.display()));
    told.push(match facts.schema_on_disk {
        Some(schema) if schema == facts.schema => format!("the store has schema {schema}, and keeps it"),
        Some(schema) => format!("the store has schema {schema}, and becomes one of {}", facts.schema),
        None => "there is no store yet".to_owned(),
    });
    let proxy = check_proxy(&folder, &role, wanted).await?;
    told.push(proxy.told);
    let mut is_same = same(&new, &image(pid))? && proxy.is_same;
    let command = role.program.with_file_name("miren");
    is_same &= !command.exists() || same(&folder.join("miren"), &command)?;
    let record = Record {
        from: wanted.from.clone(),
        old_version,
        new_version,
        phase: Phase::Stage,
        back: None,
        control: role,
        proxy: proxy.role,
        control_socket: wanted.socket.clone(),
        proxy_socket: proxy.socket,
        data_dir: facts.data_dir,
        store: facts.store,
        old_schema: facts.schema_on_disk,
        new_schema: facts.schema,
        copied: false,
        restoring: false,
        served: false,
        restarts_proxy: wanted.restarts_proxy,
        start_control: wanted.start_control.clone(),
        is_supervised: wanted.is_supervised,
    };
    room::check(&folder, &record.programs(), &record.store)?;
    Ok(Checked { record, is_same, told })
}

/// All are there, can be run, and are of one release.
async fn versions(folder: &Path) -> Result<String, Failure> {
    let mut found: Vec<(&str, String)> = Vec::new();
    for name in PROGRAMS {
        let path = folder.join(name);
        let facts = fs::metadata(&path).doing(|| format!("looking at {}", path.display()))?;
        if !facts.is_file() || facts.permissions().mode() & 0o111 == 0 {
            return Err(Failure::failed(format!("{} is no program", path.display()))
                .remedy("a folder as \"cargo xtask dist\" makes it"));
        }
        found.push((name, program::version(&path).await?));
    }
    let all_agree = found.iter().all(|(_, version)| *version == found[0].1);
    if all_agree {
        return Ok(found.swap_remove(0).1);
    }
    let listed: Vec<String> = found
        .iter()
        .map(|(name, version)| format!("{name} {version}"))
        .collect();
    let why = format!(
        "the programs in {} are of several releases: {}",
        folder.display(),
        listed.join(", ")
    );
    Err(Failure::failed(why).remedy("three programs of one build"))
}

/// That the new control takes the settings and the store of the one that runs, and listens where that does.
async fn check_control(new: &Path, (pid, role): (u32, &Role), wanted: &Wanted) -> Result<ControlFacts, Failure> {
    program::check_settings(new, &role.config).await?;
    let facts: ControlFacts = program::facts(new, &role.config).await.map_err(too_old)?;
    // Whatever they are called: /var/run is /run.
    if file_id(&facts.socket) != file_id(&wanted.socket) {
        let [settings, there, here] = [&role.config, &facts.socket, &wanted.socket].map(|path| path.display());
        let why = format!("with {settings} control listens at {there}, and not at {here} as now");
        return Err(Failure::failed(why).remedy("restart it with its new settings first"));
    }
    let old = program::facts::<ControlFacts>(&image(pid), &role.config).await;
    if old.is_ok_and(|old| old.slots != facts.slots) && !wanted.restarts_proxy {
        return Err(restart_needed("the slot table has another layout in this release"));
    }
    Ok(facts)
}

struct Proxy {
    role: Option<Role>,
    socket: Option<PathBuf>,
    is_same: bool,
    told: String,
}

async fn check_proxy(folder: &Path, control: &Role, wanted: &Wanted) -> Result<Proxy, Failure> {
    let beside = || control.config.with_file_name("proxy.toml");
    let config = wanted.proxy_config.clone().unwrap_or_else(beside);
    if wanted.proxy_config.is_none() && !config.exists() {
        return Ok(Proxy {
            role: None,
            socket: None,
            is_same: true,
            told: format!("no proxy runs here: there is no {}", config.display()),
        });
    }
    let new = folder.join(PROXY);
    program::check_settings(&new, &config).await?;
    let facts: ProxyFacts = program::facts(&new, &config).await.map_err(too_old)?;
    let default = Path::new(PROXY_CONFIG);
    let usual = control.program.with_file_name(PROXY);
    let asked = process::proxy_at(&facts.socket);
    let users: Vec<u32> = iter::once(0)
        .chain(fs::metadata(&facts.data_dir).map(|facts| facts.uid()))
        .collect();
    let running = asked.or_else(|| process::find(&usual, &config, default, &users));
    let role = running.and_then(|pid| Role::of(pid, default)).unwrap_or(Role {
        program: usual,
        arguments: Vec::new(),
        parent: 1,
        user: None,
        config: config.clone(),
    });
    match running {
        Some(pid) if wanted.restarts_proxy => check_proxy_keeper(pid, wanted)?,
        Some(pid) => {
            let old = program::facts::<ProxyFacts>(&image(pid), &config).await.ok();
            check_hand_over(asked.is_some(), old.as_ref(), &facts)?;
        }
        None => {}
    }
    let is_same = running.map_or_else(|| same(&new, &role.program), |pid| same(&new, &image(pid)))?;
    let told = match (running, wanted.restarts_proxy) {
        (None, _) => format!("{PROXY} takes {}, and does not run", config.display()),
        (Some(pid), false) => format!("{PROXY} takes {}, and process {pid} hands over", config.display()),
        (Some(pid), true) => format!("{PROXY} takes {}, and process {pid} is restarted", config.display()),
    };
    Ok(Proxy {
        role: Some(role),
        socket: Some(facts.socket),
        is_same,
        told,
    })
}

/// Whether the proxy that runs can give its sockets to the new one. `old`: what it says, if its release can.
fn check_hand_over(can_be_asked: bool, old: Option<&ProxyFacts>, new: &ProxyFacts) -> Result<(), Failure> {
    match old {
        _ if !can_be_asked => Err(restart_needed("the proxy that runs does not hand over its sockets")),
        Some(old) if old.hand_over != new.hand_over => Err(restart_needed(&format!(
            "the proxy that runs speaks protocol {} of upgrades, the new one {}",
            old.hand_over, new.hand_over
        ))),
        Some(old) if old.slots != new.slots => Err(restart_needed("the slot table has another layout in this release")),
        _ => Ok(()),
    }
}

fn restart_needed(why: &str) -> Failure {
    Failure::failed(format!("{why}: it has to be restarted"))
        .code("restart_needed")
        .remedy("--restart-proxy: connections wait meanwhile where a supervisor has the socket, WebSockets are cut")
}

fn too_old(failure: Failure) -> Failure {
    match failure.message.contains("unrecognized subcommand") {
        true => {
            failure.remedy("a release that \"miren upgrade\" can ask: this one is older, and cannot say what it needs")
        }
        false => failure,
    }
}

/// Whether two files have the same content.
fn same(one: &Path, other: &Path) -> Result<bool, Failure> {
    let differ = || {
        let mut files = [fs::File::open(one)?, fs::File::open(other)?];
        if file_id(one) == file_id(other) {
            return Ok(false);
        }
        if files[0].metadata()?.len() != files[1].metadata()?.len() {
            return Ok(true);
        }
        let mut buffers = [vec![0; 1 << 16], vec![0; 1 << 16]];
        loop {
            let length = files[0].read(&mut buffers[0])?;
            if length == 0 {
                return Ok(false);
            }
            files[1].read_exact(&mut buffers[1][..length])?;
            if buffers[0][..length] != buffers[1][..length] {
                return Ok::<bool, io::Error>(true);
            }
        }
    };
    differ()
        .map(|differ| !differ)
        .doing(|| format!("comparing {} with {}", one.display(), other.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(hand_over: u32, slots: u32) -> ProxyFacts {
        ProxyFacts {
            version: "1".into(),
            data_dir: "/d".into(),
            socket: "/d/s".into(),
            hand_over,
            slots,
        }
    }

    #[test]
    fn a_proxy_that_cannot_hand_over_is_restarted_only_if_that_was_asked_for() {
        let new = facts(1, 1);
        assert_eq!(check_hand_over(true, Some(&facts(1, 1)), &new), Ok(()));
        assert_eq!(check_hand_over(true, None, &new), Ok(()), "it says so when it is asked");
        for (can_be_asked, old, says) in [
            (false, None, "does not hand over"),
            (true, Some(facts(2, 1)), "protocol 2"),
            (true, Some(facts(1, 2)), "another layout"),
        ] {
            let refused = check_hand_over(can_be_asked, old.as_ref(), &new).unwrap_err();
            assert!(refused.message.contains(says), "{}", refused.message);
            assert!(refused.remedy.starts_with("--restart-proxy"));
        }
    }

    #[test]
    fn builds_differ_by_their_bytes() {
        let folder = tempfile::tempdir().unwrap();
        let [a, b, c] = ["a", "b", "c"].map(|name| folder.path().join(name));
        fs::write(&a, vec![7; 100_000]).unwrap();
        fs::write(&b, vec![7; 100_000]).unwrap();
        let mut other = vec![7; 100_000];
        other[99_999] = 8;
        fs::write(&c, other).unwrap();
        assert!(same(&a, &b).unwrap() && same(&a, &a).unwrap());
        assert!(!same(&a, &c).unwrap());
        fs::write(&c, "longer or shorter").unwrap();
        assert!(!same(&a, &c).unwrap());
    }
}
