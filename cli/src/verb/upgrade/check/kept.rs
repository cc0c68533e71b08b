//! Decides whether somebody is known to start a daemon again that is to end.

use super::{CONTROL, PROXY, Wanted};
use crate::failure::Failure;
use crate::verb::upgrade::control::is_kept;
use crate::verb::upgrade::process;
use crate::verb::upgrade::record::{Phase, Record};

/// As [`check_keeper`], before an upgrade that is found goes on or back: whoever started control then need not do so now. Where none runs that could be
/// looked at, whoever starts it is waited for.
pub fn keeper_again(record: &Record) -> Result<(), Failure> {
    let asked = process::control_at(&record.control_socket).map(|listener| listener.pid);
    match asked.or_else(|| record.control.processes().first().copied()) {
        Some(pid) if record.phase > Phase::Stage => check_keeper(pid, &Wanted::again(record)).map(drop),
        _ => Ok(()),
    }
}

pub(super) fn check_keeper(pid: u32, wanted: &Wanted) -> Result<String, Failure> {
    match is_kept(pid, &wanted.socket).0.restarts(wanted.is_supervised) {
        Ok(told) => Ok(told),
        Err(_) if wanted.start_control.is_some() => Ok("started by --start-control".to_owned()),
        Err(why) => Err(not_kept(CONTROL, pid, &why)
            .remedy("--start-control COMMAND, with what starts it; or run it under systemd, with Restart=always")),
    }
}

/// Nobody may be there to start the proxy, if it is ended.
pub(super) fn check_proxy_keeper(pid: u32, wanted: &Wanted) -> Result<(), Failure> {
    match is_kept(pid, &wanted.socket).0.restarts(wanted.is_supervised) {
        Ok(_) => Ok(()),
        Err(why) => Err(not_kept(PROXY, pid, &why)
            .remedy("stop it, and start it under its supervisor, with Restart=always; or leave out --restart-proxy, where it can hand over")),
    }
}

fn not_kept(name: &str, pid: u32, why: &str) -> Failure {
    Failure::failed(format!(
        "nobody is known to start {name} (process {pid}) again when it has ended: {why}"
    ))
    .code("not_kept")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ends_a_daemon_has_somebody_who_starts_it_again() {
        let own = std::process::id();
        let folder = tempfile::tempdir().unwrap();
        let wanted = |starts_control: bool, is_supervised| Wanted {
            from: None,
            socket: folder.path().join("control.sock"),
            proxy_config: None,
            restarts_proxy: true,
            start_control: starts_control.then(|| "start".to_owned()),
            is_supervised,
        };
        // Its parent may be a shell.
        for refused in [
            check_keeper(own, &wanted(false, false)).unwrap_err(),
            check_proxy_keeper(own, &wanted(false, false)).unwrap_err(),
            check_proxy_keeper(own, &wanted(true, false)).unwrap_err(),
        ] {
            assert!(
                refused.code == "not_kept" && refused.message.contains("--supervised"),
                "{refused:?}"
            );
        }
        assert_eq!(
            check_keeper(own, &wanted(true, false)).unwrap(),
            "started by --start-control"
        );
        check_keeper(own, &wanted(false, true)).unwrap();
        check_proxy_keeper(own, &wanted(false, true)).unwrap();
    }
}
