//! `byway lab`: the document's figure 3 with real sockets and kernels, and nothing to install.

pub mod network;
pub mod proxy;
pub mod space;
mod story;
pub mod web;
pub mod world;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use network::{A, ALTERNATIVE, B, CLIENT, CONTROL, Network, ORIGINAL, OWN, PROXY};
use proxy::Proxy;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use web::Server;

/// Where the lab has its files; nobody else sees them.
const FOLDER: &str = "/run/byway";

/// Everything that takes part.
#[derive(Debug)]
struct Lab {
    network: Network,
    servers: [Server; 2],
    proxy: Proxy,
    folder: PathBuf,
}

/// Runs the lab, or with `shell` opens one in the client.
///
/// # Errors
/// One line that says what is missing, or what did not work.
pub fn run(shell: bool) -> Result<ExitCode, String> {
    if !world::is_inside() {
        return world::enter();
    }
    world::settle()?;
    if !shell {
        // The first process of a namespace is not ended by signals that it does not want.
        let mut signals = Signals::new([SIGINT, SIGTERM]).map_err(|error| error.to_string())?;
        std::thread::spawn(move || {
            if let Some(signal) = signals.forever().next() {
                eprintln!("\nended; nothing is left of the lab");
                std::process::exit(128 + signal);
            }
        });
    }
    let lab = Lab::build()?;
    if shell { lab.shell() } else { story::tell(lab).map(|()| ExitCode::SUCCESS) }
}

impl Lab {
    fn build() -> Result<Self, String> {
        let network = Network::build()?;
        let servers = [(&network.a, A), (&network.b, B)];
        let [a, b] = servers.map(|(space, address)| Server::start(space, core::net::SocketAddrV4::new(address, 80)));
        let folder = PathBuf::from(FOLDER);
        let config = write_config(&folder)?;
        let proxy = Proxy::start(&network.proxy, Path::new("/proc/self/exe"), &config)?;
        Ok(Self { network, servers: [a?, b?], proxy, folder })
    }

    fn shell(self) -> Result<ExitCode, String> {
        let program = std::env::current_exe().map_err(|error| error.to_string())?;
        let shell = std::env::var_os("SHELL").unwrap_or_else(|| "/bin/sh".into());
        let (program, folder) = (program.display().to_string(), self.folder.display().to_string());
        let ctl = format!("{program} ctl --agent {CONTROL} --key {folder}/key");
        println!(
            "This shell is in the client, {CLIENT}. Its router {PROXY} runs byway, with the alternative address {ALTERNATIVE}.\n\
             The mirrors A, {A}, and B, {B}, have a web server each. Nobody has {ORIGINAL}.\n\
             \n\
             \x20 $BYWAY divert {ORIGINAL} {A}      # byway ctl, with its port and key\n\
             \x20 curl http://{ORIGINAL}/           # or any other program\n\
             \x20 $BYWAY redivert {A} {B} --reset\n\
             \x20 $BYWAY connections\n\
             \n\
             Commands in another machine: nsenter --net=/run/netns/a (b, proxy). Leave with exit; nothing is left then.\n"
        );
        let prompt = "(byway lab) $ ";
        let run = move || Command::new(shell).env("PS1", prompt).env("BYWAY", &ctl).status();
        let status = self.network.client.run(run).map_err(|error| format!("no shell: {error}"))?;
        Ok(ExitCode::from(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1)))
    }
}

/// The proxy's configuration: an operator would write the same.
fn write_config(folder: &Path) -> Result<PathBuf, String> {
    let file = folder.join("byway.toml");
    std::fs::create_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let text = format!(
        "[device]\nroutes = [\"{ORIGINAL}/32\"]\naddress = \"{PROXY}\"\n\n[router]\naddress = \"{OWN}\"\n\n\
         [nat]\nalternatives = [\"{ALTERNATIVE}:513-1023\"]\nconnections = 1024\n\n\
         [state]\nsnapshot = \"snapshot\"\n\n{}",
        proxy::control(folder)?
    );
    std::fs::write(&file, text).map_err(|error| format!("{}: {error}", file.display()))?;
    Ok(file)
}
