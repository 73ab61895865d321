//! A network of namespaces for a test, with byway as its proxy, and a capture of all that the client sees.

pub(crate) mod capture;
mod programs;
pub(crate) mod traffic;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Mutex, PoisonError};

use byway_host::lab::network::{ALTERNATIVE, Network, ORIGINAL, OWN, PROXY};
use byway_host::lab::proxy::{self, Proxy};
use byway_host::lab::space::Space;
use byway_host::lab::world;
pub(crate) use byway_testing::waiting::{PATIENCE, wait};
use byway_testing::{Dice, namespace};
use capture::{Capture, Captured};
pub(crate) use programs::{CHROMIUM, Program, Talk, nginx, wait_for_port};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Held by the one test that moves much data, while others wait for something.
static LOAD: Mutex<()> = Mutex::new(());

/// Where a test has its files: nobody else sees them, and they are gone with it.
pub(crate) const FOLDER: &str = "/run/test";

/// What the tests run, and how each says that it is there.
const PROGRAMS: [(&str, &str); 10] = [
    ("curl", "--version"),
    ("dumpcap", "--version"),
    ("ethtool", "--version"),
    ("ip", "-V"),
    ("nft", "--version"),
    ("nginx", "-v"),
    ("ping", "-V"),
    ("tracepath", "-V"),
    ("traceroute", "--version"),
    ("tshark", "--version"),
];

/// Runs a test as root of namespaces of its own, where nothing outlives it. Where the kernel refuses, it prints why.
pub(crate) fn in_namespace<F: FnOnce()>(test: F) {
    in_namespace_with(&[], test);
}

/// The same for a test that runs more programs than [`PROGRAMS`].
pub(crate) fn in_namespace_with<F: FnOnce()>(programs: &[(&str, &str)], test: F) {
    if namespace::is_inside() {
        world::settle_mounts().expect("root of its namespaces may mount");
        std::fs::create_dir_all(FOLDER).expect("an empty /run");
        let all = getrlimit(Resource::Nofile).maximum;
        setrlimit(Resource::Nofile, Rlimit { current: all, maximum: all }).expect("up to the maximum");
        return test();
    }
    for (program, version) in PROGRAMS.iter().chain(programs) {
        if let Err(error) = Command::new(program).arg(version).output() {
            return println!("SKIPPED: {program}: {error}");
        }
    }
    // The closure is named after the test that it is in: `linux::names::pool::a_test::{{closure}}`.
    let closure = core::any::type_name::<F>();
    let name = closure.split_once("::").and_then(|(_, path)| path.rsplit_once("::")).map_or(closure, |(name, _)| name);
    // What moves much data takes the processors for itself, and some of it must not wait for long.
    let _alone = name.starts_with("programs::").then(|| LOAD.lock().unwrap_or_else(PoisonError::into_inner));
    namespace::run_inside(&["--mount", "--pid", "--fork", "--kill-child"], name);
}

/// How byway is to be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Options {
    pub(crate) offload: bool,
    pub(crate) queues: usize,
    /// How many there is room for.
    pub(crate) connections: usize,
    pub(crate) rules: &'static str,
    /// What goes through byway besides the original and the alternative address, each with a comma before it.
    pub(crate) routes: &'static str,
    /// More of `[device]`.
    pub(crate) device: &'static str,
    /// More of `[router]`.
    pub(crate) router: &'static str,
    /// More of `[nat]`.
    pub(crate) nat: &'static str,
}

impl Options {
    pub(crate) const PLAIN: Self = Self {
        offload: true,
        queues: 1,
        connections: 20_000,
        rules: TO_A,
        routes: "",
        device: "",
        router: "",
        nat: "",
    };
}

/// A rule for the original with any port and protocol.
pub(crate) const TO_A: &str = "[[rule]]\ndivert = \"100.100.100.100\"\nto = \"123.45.67.89\"\n";

pub(crate) struct World {
    pub(crate) network: Network,
    pub(crate) proxy: Option<Proxy>,
    pub(crate) config: PathBuf,
    capture: Capture,
}

impl World {
    pub(crate) fn new(options: Options) -> Self {
        let network = Network::build().expect("a network");
        // Checksums are whole and packets split when the client's capture sees them, while super-packets reach byway.
        run(&network.client, "ethtool -K eth0 tx off tso off gso off");
        run(&network.proxy, "ethtool -K to-client tx off tso off gso off");
        let capture = Capture::start(&network.client);
        let config = write_config(&options);
        let proxy = Proxy::start(&network.proxy, Path::new(env!("CARGO_BIN_EXE_byway")), &config);
        Self { network, proxy: Some(proxy.expect("byway starts")), config, capture }
    }

    pub(crate) fn proxy(&mut self) -> &mut Proxy {
        self.proxy.as_mut().expect("byway runs")
    }

    #[track_caller]
    pub(crate) fn ctl(&mut self, words: &str) -> String {
        self.proxy().ctl(words).unwrap_or_else(|said| panic!("{words}: {said}"))
    }

    #[track_caller]
    pub(crate) fn restart(&mut self) {
        let (proxy, _) = self.proxy.take().expect("byway runs").restart().expect("byway restarts");
        self.proxy = Some(proxy);
    }

    /// Ends byway, and judges what the client has seen. Returns what byway counted.
    #[track_caller]
    pub(crate) fn end(self) -> String {
        let (captured, counted) = self.end_unjudged();
        captured.judge();
        counted
    }

    /// Ends byway. Returns what the client has seen, and what byway counted.
    #[track_caller]
    pub(crate) fn end_unjudged(mut self) -> (Captured, String) {
        let log = self.proxy.take().expect("byway runs").stop().expect("byway ends well");
        let counted = log.lines().find_map(|line| Some(line.split_once("counted: ")?.1.to_string()));
        (self.capture.end(), counted.unwrap_or_default())
    }
}

pub(crate) fn write_config(options: &Options) -> PathBuf {
    let folder = Path::new(FOLDER);
    let config = folder.join("byway.toml");
    let control = proxy::control(folder).expect("a key");
    let Options { offload, queues, connections, rules, routes, device, router, nat } = options;
    let text = format!(
        "[device]\noffload = {offload}\nqueues = {queues}\naddress = \"{PROXY}\"\nroutes = [\"{ORIGINAL}/32\", \"100.100.101.0/24\"{routes}]\n\
         {device}\n[router]\naddress = \"{OWN}\"\n{router}\n[nat]\nalternatives = [\"{ALTERNATIVE}\"]\nconnections = {connections}\n{nat}\
         [metrics]\nlisten = \"127.0.0.1:9207\"\n[state]\nsnapshot = \"snapshot\"\n{control}{rules}"
    );
    std::fs::write(&config, text).expect("a file");
    config
}

/// The number behind a name among what byway counted.
#[track_caller]
pub(crate) fn count(counted: &str, name: &str) -> u64 {
    let found = counted.split(' ').find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
    found.map_or(0, |number| number.parse().expect("a number"))
}

/// A command in a namespace.
pub(crate) fn command(words: &str) -> Command {
    let mut words = words.split_whitespace();
    let mut command = Command::new(words.next().expect("a program"));
    command.args(words);
    command
}

/// Starts a command; whoever waits for it can start others in the namespace meanwhile.
pub(crate) fn start(space: &Space, words: &str) -> Child {
    let mut command = command(words);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    space.run(move || command.spawn()).unwrap_or_else(|error| panic!("{words}: {error}"))
}

pub(crate) fn output(space: &Space, words: &str) -> Output {
    start(space, words).wait_with_output().unwrap_or_else(|error| panic!("{words}: {error}"))
}

/// Runs a command that must work; returns what it says.
#[track_caller]
pub(crate) fn run(space: &Space, words: &str) -> String {
    said(start(space, words), words)
}

/// What a command has said, which must have worked.
#[track_caller]
pub(crate) fn said(child: Child, words: &str) -> String {
    let output = child.wait_with_output().unwrap_or_else(|error| panic!("{words}: {error}"));
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
    let (said, error) = (text(output.stdout), text(output.stderr));
    assert!(output.status.success(), "{words}: {said}{error}");
    said
}

/// Files that a mirror's web server has.
pub(crate) fn www() -> PathBuf {
    Path::new(FOLDER).join("www")
}

/// Bytes that are unlike others, and the same each time.
pub(crate) fn content(seed: u64, length: usize) -> Vec<u8> {
    let mut dice = Dice(seed);
    (0..length.div_ceil(8)).flat_map(|_| dice.number().to_le_bytes()).take(length).collect()
}
