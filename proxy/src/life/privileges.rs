//! How the proxy becomes an ordinary user for good, once everything that needs root is open (K8).

use crate::error::StartError;
use nix::sys::prctl;
use nix::sys::signal::Signal;
use nix::unistd::{AccessFlags, Gid, Pid, Uid, User, access, geteuid, getppid, setgroups, setresgid, setresuid};
use std::io;
use std::os::unix::fs::{DirBuilderExt, lchown};
use std::path::Path;

/// Makes the data folder, and becomes `user` if this process is root. Must be called before any thread is started.
///
/// # Errors
/// When there is no such user, or when it cannot write its own data folder.
pub fn settle(user: &str, data_dir: &Path) -> Result<(), StartError> {
    let failed = |doing, source| StartError::DataDir {
        doing,
        path: data_dir.to_owned(),
        source,
    };
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o750)
        .create(data_dir)
        .map_err(|error| failed("create", error))?;
    if geteuid().is_root() {
        let account = account(user)?;
        chown_all(data_dir, account.uid, account.gid).map_err(|error| failed("hand over", error))?;
        become_user(&account).map_err(|source| StartError::Privileges {
            user: user.to_owned(),
            source,
        })?;
    } else {
        tracing::warn!("not started as root: only addresses and slot tables that this user may open can be used");
    }
    prctl::set_no_new_privs().map_err(|errno| StartError::Privileges {
        user: user.to_owned(),
        source: errno.into(),
    })?;
    access(data_dir, AccessFlags::W_OK | AccessFlags::X_OK).map_err(|errno| failed("write", errno.into()))
}

fn account(user: &str) -> Result<User, StartError> {
    let found = User::from_name(user).map_err(|errno| StartError::Privileges {
        user: user.to_owned(),
        source: errno.into(),
    })?;
    let account = found.ok_or_else(|| StartError::NoSuchUser(user.to_owned()))?;
    if account.uid.is_root() {
        Err(StartError::RootUser(user.to_owned()))
    } else {
        Ok(account)
    }
}

/// The folder and the copies in it: an earlier run may have been another user's. Links are not followed: that user could
/// have made them.
fn chown_all(folder: &Path, uid: Uid, gid: Gid) -> io::Result<()> {
    let (uid, gid) = (Some(uid.as_raw()), Some(gid.as_raw()));
    lchown(folder, uid, gid)?;
    for entry in std::fs::read_dir(folder)? {
        lchown(entry?.path(), uid, gid)?;
    }
    Ok(())
}

/// Changing all three user ids from root clears every capability; without them there is no way back.
fn become_user(account: &User) -> io::Result<()> {
    let (parent, wanted) = (getppid(), prctl::get_pdeathsig()?);
    setgroups(&[account.gid])?;
    setresgid(account.gid, account.gid, account.gid)?;
    setresuid(account.uid, account.uid, account.uid)?;
    if setresuid(Uid::from_raw(0), Uid::from_raw(0), Uid::from_raw(0)).is_ok() {
        return Err(io::Error::other("root could be regained"));
    }
    keep_parent_death_signal(parent, wanted)?;
    tracing::info!(
        user = account.name,
        uid = account.uid.as_raw(),
        "dropped all privileges"
    );
    Ok(())
}

/// The kernel forgets the signal when the user id changes; a supervisor that asked for it still counts on it.
fn keep_parent_death_signal(parent: Pid, wanted: Option<Signal>) -> io::Result<()> {
    if wanted.is_none() {
        return Ok(());
    }
    prctl::set_pdeathsig(wanted)?;
    if getppid() == parent {
        Ok(())
    } else {
        Err(io::Error::other("the process that started this one is gone"))
    }
}
