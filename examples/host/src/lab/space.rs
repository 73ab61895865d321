//! A network namespace: a thread that lives in it and does what it is told.

use std::path::Path;
use std::process::Command;
use std::sync::mpsc::{Sender, channel};

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

/// Where namespaces have their names, for `ip -n NAME` and `nsenter --net`.
const NAMES: &str = "/run/netns";

type Task = Box<dyn FnOnce() + Send>;

/// A network namespace with a name. Threads and processes that its thread starts are in it too.
#[derive(Clone, Debug)]
pub struct Space {
    name: &'static str,
    work: Sender<Task>,
}

impl Space {
    /// Makes a namespace with this name. `/run` must be this process's own.
    ///
    /// # Errors
    /// What the kernel refused.
    pub fn new(name: &'static str) -> Result<Self, String> {
        let (work, tasks) = channel::<Task>();
        let (ready, made) = channel();
        let thread = std::thread::Builder::new().name(name.into());
        let live = move || {
            let is_made = make(name);
            let failed = is_made.is_err();
            if ready.send(is_made).is_err() || failed {
                return;
            }
            for task in tasks {
                task();
            }
        };
        thread.spawn(live).map_err(|error| format!("no thread for {name}: {error}"))?;
        made.recv().map_err(|_| format!("no namespace for {name}"))??;
        Ok(Self { name, work })
    }

    /// Its name.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// Does something in the namespace.
    ///
    /// # Panics
    /// If the task has panicked.
    pub fn run<T: Send + 'static>(&self, task: impl FnOnce() -> T + Send + 'static) -> T {
        let (done, result) = channel();
        self.work.send(Box::new(move || drop(done.send(task())))).expect("the thread lives as long as the space");
        result.recv().expect("the task has not panicked")
    }

    /// Runs `ip` in the namespace, with a command in each line.
    ///
    /// # Errors
    /// What `ip` said.
    pub fn ip(&self, lines: &str) -> Result<(), String> {
        let lines: Vec<String> = lines.lines().map(|line| line.trim().into()).filter(|l: &String| !l.is_empty()).collect();
        self.run(move || {
            for line in &lines {
                let output = Command::new("ip").args(line.split_whitespace()).output();
                let output = output.map_err(|error| format!("ip: {error}: install iproute2"))?;
                if !output.status.success() {
                    return Err(format!("ip {line}: {}", String::from_utf8_lossy(&output.stderr).trim()));
                }
            }
            Ok(())
        })
    }

    /// Sets kernel settings of the namespace, below `/proc/sys/net/ipv4`.
    ///
    /// # Errors
    /// What the kernel said.
    pub fn set(&self, settings: &'static [(&'static str, &'static str)]) -> Result<(), String> {
        self.run(move || {
            settings.iter().try_for_each(|(name, value)| {
                std::fs::write(format!("/proc/sys/net/ipv4/{name}"), value).map_err(|error| format!("{name}: {error}"))
            })
        })
    }
}

fn make(name: &str) -> Result<(), String> {
    let failed = |error: &dyn core::fmt::Display| format!("no network namespace for {name}: {error}");
    unshare(CloneFlags::CLONE_NEWNET).map_err(|error| failed(&error))?;
    let at = Path::new(NAMES).join(name);
    std::fs::create_dir_all(NAMES).and_then(|()| std::fs::File::create(&at)).map_err(|error| failed(&error))?;
    let none: Option<&str> = None;
    mount(Some("/proc/thread-self/ns/net"), &at, none, MsFlags::MS_BIND, none).map_err(|error| failed(&error))
}
