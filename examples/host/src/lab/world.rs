//! A world of its own for this program: namespaces in which it is root, and which disappear when it ends.
//!
//! All processes in it belong to one PID namespace, whose first process holds a pipe from the process that the user has started.
//! If that process ends, for whatever reason, the pipe ends, the first process ends, and the kernel ends the rest: namespaces,
//! devices, files below `/run`. Nothing has to be cleaned up.

use core::time::Duration;
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read};
use std::os::fd::{AsFd, AsRawFd};
use std::process::{Command, ExitCode};

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use rustix::io::FdFlags;
use rustix::process::{getegid, geteuid};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

/// The variable that tells the process inside that it is there, and which file descriptor is the pipe.
const INSIDE: &str = "BYWAY_INSIDE";

/// Whether this process is inside already.
#[must_use]
pub fn is_inside() -> bool {
    std::env::var_os(INSIDE).is_some()
}

/// Runs this program again with the same arguments, inside. There must be no other thread.
///
/// # Errors
/// One line that says what is missing.
pub fn enter() -> Result<ExitCode, String> {
    check_device()?;
    let (uid, gid) = (geteuid(), getegid());
    if let Err(error) = unshare(CloneFlags::CLONE_NEWUSER) {
        // Root needs no user namespace.
        if !uid.is_root() {
            return Err(format!(
                "no user namespace: {error}: as root: sysctl -w kernel.unprivileged_userns_clone=1 user.max_user_namespaces=1000 \
                 kernel.apparmor_restrict_unprivileged_userns=0 (as far as your kernel has them), or run byway as root"
            ));
        }
    } else {
        let map = |file: &str, text: String| std::fs::write(file, text).map_err(|error| format!("{file}: {error}"));
        map("/proc/self/setgroups", "deny".into())?;
        map("/proc/self/uid_map", format!("0 {} 1", uid.as_raw()))?;
        map("/proc/self/gid_map", format!("0 {} 1", gid.as_raw()))?;
    }
    let spaces = CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWPID;
    unshare(spaces).map_err(|error| format!("no namespaces: {error}"))?;

    let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).map_err(|error| error.to_string())?;
    rustix::io::fcntl_setfd(read.as_fd(), FdFlags::empty()).map_err(|error| error.to_string())?;
    let mut command = Command::new("/proc/self/exe");
    command.args(std::env::args_os().skip(1)).env(INSIDE, read.as_raw_fd().to_string());
    let mut child = command.spawn().map_err(|error| format!("byway cannot be started again: {error}"))?;
    drop(read);
    // A signal from the terminal reaches the process inside as well, which ends when it is done. Other signals reach only this
    // process.
    let mut signals = Signals::new([SIGINT, SIGTERM]).map_err(|error| error.to_string())?;
    // No thread can be started here any more: it would be of another PID namespace.
    let status = loop {
        if let Some(status) = child.try_wait().map_err(|error| error.to_string())? {
            break status;
        }
        if signals.pending().any(|signal| signal == SIGTERM) {
            std::process::exit(128 + SIGTERM);
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    drop(write);
    Ok(ExitCode::from(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1)))
}

fn check_device() -> Result<(), String> {
    const DEVICE: &str = "/dev/net/tun";
    let advice = match OpenOptions::new().read(true).write(true).open(DEVICE) {
        Ok(_) => return Ok(()),
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            "it is closed to you: as root: chmod 666 /dev/net/tun, or run byway as root".into()
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {
            "it is not there: as root: modprobe tun, or give this container the device".into()
        }
        Err(error) => error.to_string(),
    };
    Err(format!("{DEVICE}: {advice}"))
}

/// Sets up the world: the first thing that the process inside does.
///
/// # Errors
/// What the kernel refused.
pub fn settle() -> Result<(), String> {
    let pipe = std::env::var(INSIDE).unwrap_or_default();
    let mut pipe = File::open(format!("/proc/self/fd/{pipe}")).map_err(|error| format!("the pipe: {error}"))?;
    std::thread::spawn(move || {
        let _ = pipe.read(&mut [0]);
        std::process::exit(1);
    });
    settle_mounts()
}

/// The part of [`settle`] for a program that was started inside by another one, like a test.
///
/// # Errors
/// What the kernel refused.
pub fn settle_mounts() -> Result<(), String> {
    let none: Option<&str> = None;
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(none, "/", none, private, none).map_err(|error| format!("mounts: {error}"))?;
    mount(Some("byway"), "/run", Some("tmpfs"), MsFlags::empty(), none).map_err(|error| format!("/run: {error}"))?;
    // In a container this may be forbidden. Without it `ps` shows others too.
    let _ = mount(Some("proc"), "/proc", Some("proc"), MsFlags::empty(), none);
    Ok(())
}
