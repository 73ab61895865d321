//! byway as the proxy of the lab: this very program, as a process in the proxy's namespace.

use core::time::Duration;
use std::fs::OpenOptions;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Instant;

use rustix::process::{Pid, Signal, kill_process};

use super::network::CONTROL;
use super::space::Space;

/// How long it may take to start, and to end.
const PATIENCE: Duration = Duration::from_secs(10);

/// A running byway.
#[derive(Debug)]
pub struct Proxy {
    child: Child,
    /// What it logs.
    lines: Receiver<String>,
    /// What it has logged before the last line that was waited for.
    pub said: Vec<String>,
    space: Space,
    program: PathBuf,
    config: PathBuf,
}

/// Writes a key file, and returns the part of a configuration that opens the port for instructions.
///
/// # Errors
/// The file cannot be written.
pub fn control(folder: &Path) -> Result<String, String> {
    let key = folder.join("key");
    let mut secret = [0; 32];
    getrandom::fill(&mut secret).map_err(|error| format!("no random numbers: {error}"))?;
    let digits: String = secret.iter().map(|byte| format!("{byte:02x}")).collect();
    let mut options = OpenOptions::new();
    let file = options.write(true).create(true).truncate(true).mode(0o600).open(&key);
    file.and_then(|mut file| std::io::Write::write_all(&mut file, format!("1 {digits}\n").as_bytes()))
        .map_err(|error| format!("{}: {error}", key.display()))?;
    Ok(format!("[control]\nlisten = \"{CONTROL}\"\n\n[[control.key]]\nfile = \"key\"\n"))
}

impl Proxy {
    /// Starts a byway with this configuration, and waits until it translates.
    ///
    /// # Errors
    /// It has ended: what it said.
    pub fn start(space: &Space, program: &Path, config: &Path) -> Result<Self, String> {
        Self::start_with(space, program, config, &[])
    }

    /// The same with more arguments.
    ///
    /// # Errors
    /// It has ended: what it said.
    pub fn start_with(
        space: &Space,
        program: &Path,
        config: &Path,
        more: &'static [&'static str],
    ) -> Result<Self, String> {
        let (file, run) = (config.to_path_buf(), program.to_path_buf());
        let child = space.run(move || {
            let mut command = Command::new(run);
            command.arg("run").arg("--config").arg(file).args(["--log", "debug"]).args(more);
            command.env_remove("NOTIFY_SOCKET").stdin(Stdio::null()).stderr(Stdio::piped()).spawn()
        });
        let mut child = child.map_err(|error| format!("byway cannot be started: {error}"))?;
        let (said, lines) = channel();
        if let Some(log) = child.stderr.take() {
            std::thread::spawn(move || {
                for line in BufReader::new(log).lines().map_while(Result::ok) {
                    let _ = said.send(line);
                }
            });
        }
        let (space, program, config) = (space.clone(), program.to_path_buf(), config.to_path_buf());
        let mut proxy = Self { child, lines, said: Vec::new(), space, program, config };
        let line = proxy.wait_for(" translating").map_err(|said| format!("byway has not started: {said}"))?;
        proxy.said.push(line);
        Ok(proxy)
    }

    /// Waits for a line of the log that contains this; returns it.
    ///
    /// # Errors
    /// What it said instead.
    pub fn wait_for(&mut self, text: &str) -> Result<String, String> {
        let (start, mut said) = (Instant::now(), Vec::new());
        loop {
            match self.lines.recv_timeout(PATIENCE.saturating_sub(start.elapsed())) {
                Ok(line) if line.contains(text) => {
                    self.said = said;
                    return Ok(line);
                }
                Ok(line) => said.push(line),
                Err(RecvTimeoutError::Timeout) => return Err(format!("it does not say \"{text}\", but: {}", said.join("; "))),
                Err(RecvTimeoutError::Disconnected) => return Err(said.join("; ")),
            }
        }
    }

    /// The number of its process.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        if let Some(pid) = Pid::from_raw(self.child.id().cast_signed()) {
            let _ = kill_process(pid, signal);
        }
    }

    /// Ends it, and waits until it has ended; returns what it logged since the last line that was waited for.
    ///
    /// # Errors
    /// It has not ended well.
    pub fn stop(self) -> Result<String, String> {
        self.signal(Signal::TERM);
        self.ended()
    }

    /// Waits until it has ended by itself; returns what it logged since the last line that was waited for.
    ///
    /// # Errors
    /// It has not ended well.
    pub fn ended(mut self) -> Result<String, String> {
        let status = self.child.wait().map_err(|error| error.to_string())?;
        let said = self.lines.iter().collect::<Vec<_>>().join("\n");
        if status.success() { Ok(said) } else { Err(format!("byway has ended with {status}: {said}")) }
    }

    /// Restarts it; returns how long no byway was running.
    ///
    /// # Errors
    /// What did not work.
    pub fn restart(self) -> Result<(Self, Duration), String> {
        let (space, program, config) = (self.space.clone(), self.program.clone(), self.config.clone());
        let start = Instant::now();
        self.stop()?;
        Ok((Self::start(&space, &program, &config)?, start.elapsed()))
    }

    /// Gives it an instruction, as its operator does: `byway ctl`. Returns what that printed.
    ///
    /// # Errors
    /// What went wrong.
    pub fn ctl(&self, words: &str) -> Result<String, String> {
        let key = self.config.with_file_name("key");
        let words: Vec<String> = words.split(' ').map(String::from).collect();
        let program = self.program.clone();
        let output = self.space.run(move || {
            let mut command = Command::new(program);
            command.args(["ctl", "--agent", &CONTROL.to_string(), "--key"]).arg(key).args(words);
            command.output()
        });
        let output = output.map_err(|error| format!("byway ctl: {error}"))?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_string();
        if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
    }
}
