//! Giving up what is not needed any more, once everything is open: the user, capabilities, files.
//!
//! Capabilities and confinement belong to a thread, and are inherited by the threads that it starts: so this comes before any is
//! started.

use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, NetPort, PathBeneath, PathFd, Ruleset, RulesetAttr,
    RulesetCreatedAttr, RulesetStatus,
};
use nix::unistd::{User, setgroups, setresgid, setresuid};
use rustix::process::{Gid, Uid};
use rustix::thread::{
    CapabilitySet, CapabilitySets, set_capabilities, set_no_new_privs, set_thread_groups, set_thread_res_gid, set_thread_res_uid,
};
use tracing::{info, warn};

use crate::config::{Config, Privileges, Transport};
use crate::portion::End;
use crate::{snapshot, thread};

/// The newest ABI of landlock that is used; an older kernel enforces the part that it knows.
const KNOWN: ABI = ABI::V6;

/// Gives up everything that is not needed to translate, to reload and to write the snapshot.
///
/// # Errors
/// One line, if the process cannot become the user that the configuration names.
pub fn drop(config: &Config) -> Result<(), String> {
    let Privileges { user, confine } = &config.privileges;
    if let Some(user) = user {
        become_user(user)?;
    }
    let none = CapabilitySet::empty();
    let sets = CapabilitySets { effective: none, permitted: none, inheritable: none };
    let capabilities = set_capabilities(None, sets).map_or_else(|error| format!("kept: {error}"), |()| "none".into());
    let privileges = set_no_new_privs(true).map_or_else(|error| format!("possible: {error}"), |()| "none".into());
    let files = if *confine { confine_files(config) } else { "not confined: privileges.confine is false".into() };
    let user = user.as_deref().unwrap_or("as it was");
    info!(user, capabilities, new_privileges = privileges, files, "privileges");
    Ok(())
}

/// The user that the process becomes.
///
/// # Errors
/// One line, if there is no such user.
pub fn user(name: &str) -> Result<User, String> {
    let failed = |error: &dyn core::fmt::Display| format!("privileges.user {name}: {error}");
    let user = User::from_name(name).map_err(|error| failed(&error))?;
    user.ok_or_else(|| failed(&"there is no such user: create it, or name another"))
}

/// Whether the process will be able to become its user, and that user to write the snapshot. So this is known before anything
/// has to wait for it, or is taken from another process.
///
/// # Errors
/// One line that says what to do.
pub fn check(config: &Config) -> Result<(), String> {
    let snapshot = config.snapshot.clone();
    let check_folder = move || snapshot.as_deref().map_or(Ok(()), snapshot::check_folder);
    let Some(name) = config.privileges.user.as_deref() else {
        return check_folder();
    };
    let failed = format!("privileges.user {name}");
    let user = user(name)?;
    // A thread of the kernel has credentials of its own, and this one ends.
    let tried = thread::start("user", move || {
        let (uid, gid) = (Uid::from_raw(user.uid.as_raw()), Gid::from_raw(user.gid.as_raw()));
        set_thread_groups(&[])
            .and_then(|()| set_thread_res_gid(gid, gid, gid))
            .and_then(|()| set_thread_res_uid(uid, uid, uid))
            .map_err(|error| format!("{failed}: {error}"))?;
        check_folder()
    });
    tried?.join().unwrap_or_else(|_| Err("a thread has panicked: please report what it printed".into()))
}

fn become_user(name: &str) -> Result<(), String> {
    let failed = |error: &dyn core::fmt::Display| format!("privileges.user {name}: {error}");
    let user = user(name)?;
    setgroups(&[]).map_err(|error| failed(&error))?;
    setresgid(user.gid, user.gid, user.gid).map_err(|error| failed(&error))?;
    setresuid(user.uid, user.uid, user.uid).map_err(|error| failed(&error))
}

/// Keeps access to the folders of the configuration, the keys and the snapshot, and allows no new sockets but those to the other
/// portion and to a collector. Returns the result in words.
fn confine_files(config: &Config) -> String {
    let (reads, writes) = folders(config);
    match restrict(&reads, &writes, &peers(config)) {
        Ok(RulesetStatus::FullyEnforced) => "confined by landlock".into(),
        Ok(RulesetStatus::PartiallyEnforced) => "confined by landlock, as far as this kernel can".into(),
        Ok(RulesetStatus::NotEnforced) => "not confined: this kernel has no landlock".into(),
        Err(error) => {
            warn!("landlock: {error}");
            format!("not confined: {error}")
        }
    }
}

/// The folders that a reload reads, those of links and those of what they lead to, and the folder that the snapshot is written to.
fn folders(config: &Config) -> (Vec<PathBuf>, Vec<PathBuf>) {
    let folder = |file: &Path| match file.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.to_path_buf(),
        _ => PathBuf::from("."),
    };
    let mut files = vec![config.file()];
    files.extend(config.control.iter().flat_map(|control| control.keys.iter().map(|key| &*key.file)));
    files.extend(config.portion.iter().map(|portion| &*portion.key));
    // The kernel judges by where a file lies in truth, which may be behind a link.
    let links = files.iter().filter_map(|file| std::fs::canonicalize(file).ok());
    let mut reads: Vec<_> = files.iter().map(|file| folder(file)).chain(links.map(|file| folder(&file))).collect();
    reads.sort();
    reads.dedup();
    (reads, config.snapshot.iter().map(|file| folder(file)).collect())
}

/// The ports that connections are made to: those of the other portion and of a collector.
fn peers(config: &Config) -> Vec<u16> {
    let portion = config.portion.as_ref().and_then(|portion| match portion.end {
        End::Connect(to) => Some(to.port()),
        End::Listen(_) => None,
    });
    let collector = config.report.filter(|report| report.transport == Transport::Tcp).map(|report| report.collector.port());
    portion.into_iter().chain(collector).collect()
}

fn restrict(reads: &[PathBuf], writes: &[PathBuf], peers: &[u16]) -> Result<RulesetStatus, landlock::RulesetError> {
    let write: BitFlags<AccessFs> = AccessFs::from_read(KNOWN)
        | AccessFs::WriteFile
        | AccessFs::Truncate
        | AccessFs::MakeReg
        | AccessFs::RemoveFile
        | AccessFs::Refer;
    let mut rules = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(KNOWN))?
        .handle_access(AccessNet::from_all(KNOWN))?
        .create()?;
    for (folders, access) in [(reads, AccessFs::from_read(KNOWN)), (writes, write)] {
        for folder in folders {
            // A folder that is not there is not read either.
            if let Ok(folder) = PathFd::new(folder) {
                rules = rules.add_rule(PathBeneath::new(folder, access))?;
            }
        }
    }
    for port in peers {
        rules = rules.add_rule(NetPort::new(*port, AccessNet::ConnectTcp))?;
    }
    rules.restrict_self().map(|status| status.ruleset)
}
