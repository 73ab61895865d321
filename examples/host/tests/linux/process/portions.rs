//! Two portions on two machines: one byway translates what goes to the servers, the other what comes back.
//!
//! ```text
//!                 proxy  ------->
//!   client  --->    |             a, b
//!           <---   back  <-------
//! ```

use core::net::{Ipv4Addr, SocketAddrV4};
use core::time::Duration;
use std::io::ErrorKind::ConnectionReset;
use std::io::{Read, Write};
use std::net::{TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::time::Instant;

use crate::dns::{differences, over_udp, queries, query, unbound};
use crate::network::capture::Capture;
use crate::network::traffic::*;
use crate::network::*;
use byway_host::lab::network::{A, ALTERNATIVE, B, CLIENT, Network, ORIGINAL, OWN, PROXY};
use byway_host::lab::proxy::{self, Proxy};
use byway_host::lab::space::Space;
use rustix::process::Signal;

/// The other machine.
const BACK: Ipv4Addr = Ipv4Addr::new(1, 2, 3, 2);
const BACK_OWN: Ipv4Addr = Ipv4Addr::new(10, 9, 9, 8);
const PORT: u16 = 5214;
/// Where queries that are relayed come from.
const RELAY: Ipv4Addr = Ipv4Addr::new(10, 7, 7, 7);

struct Portions {
    network: Network,
    back: Space,
    to_server: Option<Proxy>,
    to_client: Option<Proxy>,
    captures: [Capture; 2],
}

/// Cables between a second machine and all others, and the way back over it.
fn lay_cables(network: &Network) -> Space {
    let back = Space::new("back").unwrap();
    back.set(&[("ip_forward", "1"), ("conf/all/rp_filter", "0"), ("conf/default/rp_filter", "0")]).unwrap();
    back.ip("link set lo up").unwrap();
    let Network { client, proxy, a, b } = network;
    for (space, address) in [(client, CLIENT), (proxy, PROXY), (a, A), (b, B)] {
        let name = space.name();
        back.ip(&format!(
            "link add name to-{name} type veth peer name to-back netns {name}
             address add {BACK}/32 dev to-{name}
             link set to-{name} up
             route add {address}/32 dev to-{name} src {BACK}"
        ))
        .unwrap();
        space.ip(&format!("link set to-back up\nroute add {BACK}/32 dev to-back src {address}")).unwrap();
    }
    for space in [a, b] {
        space.ip(&format!("route add {ALTERNATIVE}/32 via {BACK} dev to-back")).unwrap();
    }
    back
}

/// Two configurations, each in its folder with the same key for the portions.
fn write_configs(queues: [usize; 2], nat: &str) -> [PathBuf; 2] {
    let folder = Path::new(FOLDER);
    let control = proxy::control(folder).unwrap();
    std::fs::write(folder.join("portion.key"), format!("0 {}\n", "5a".repeat(32))).unwrap();
    run(&Space::new("nowhere").unwrap(), &format!("chmod 600 {FOLDER}/portion.key"));
    let config = |own: Ipv4Addr, queues: usize, portion: &str, rest: &str| {
        format!(
            "[device]\nqueues = {queues}\nroutes = [\"{ORIGINAL}/32\", \"{RELAY}/32\"]\n[router]\naddress = \"{own}\"\n\
             [nat]\nalternatives = [\"{ALTERNATIVE}\"]\nconnections = 20000\n{nat}\n[metrics]\nlisten = \"127.0.0.1:9207\"\n\
             [portion]\n{portion}\nkey = \"portion.key\"\n{rest}"
        )
    };
    let to_server = format!("direction = \"to-server\"\nconnect = \"{BACK}:{PORT}\"");
    let to_client = format!("direction = \"to-client\"\nlisten = \"{BACK}:{PORT}\"");
    let files = ["byway.toml", "back.toml"].map(|name| folder.join(name));
    std::fs::write(&files[0], config(OWN, queues[0], &to_server, &format!("{control}{TO_A}"))).unwrap();
    std::fs::write(&files[1], config(BACK_OWN, queues[1], &to_client, "")).unwrap();
    files
}

const PROGRAM: &str = env!("CARGO_BIN_EXE_byway");

impl Portions {
    fn new(queues: [usize; 2]) -> Self {
        Self::with(queues, "")
    }

    /// The same with more of `[nat]` and behind it.
    fn with(queues: [usize; 2], nat: &str) -> Self {
        let network = Network::build().unwrap();
        let back = lay_cables(&network);
        run(&network.client, "ethtool -K eth0 tx off tso off gso off");
        run(&back, "ethtool -K to-client tx off tso off gso off");
        let captures = ["eth0", "to-back"].map(|device| Capture::start_on(&network.client, device));
        let [config, back_config] = write_configs(queues, nat);
        let to_client = Proxy::start(&back, Path::new(PROGRAM), &back_config).unwrap();
        let to_server = Proxy::start(&network.proxy, Path::new(PROGRAM), &config).unwrap();
        let mut portions = Self { network, back, to_server: Some(to_server), to_client: Some(to_client), captures };
        portions.wait_until_connected();
        portions
    }

    fn metric(&self, space: &Space, name: &str) -> u64 {
        let page = run(space, "curl -sS http://127.0.0.1:9207/metrics");
        let line = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ').map(str::to_string));
        line.map_or(0, |value| value.parse().unwrap())
    }

    #[track_caller]
    fn wait_until(&mut self, what: &str, is_so: impl Fn(&Self) -> bool) {
        let start = Instant::now();
        while !is_so(self) {
            if start.elapsed() > PATIENCE {
                let seen = |space| {
                    let page = run(space, "curl -sS http://127.0.0.1:9207/metrics");
                    let lines =
                        page.lines().filter(|l| l.starts_with("byway_connections{") || l.starts_with("byway_portion"));
                    lines.collect::<Vec<_>>().join("\n")
                };
                panic!("{what}: {}\n---\n{}", seen(&self.network.proxy), seen(&self.back));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    #[track_caller]
    fn wait_until_connected(&mut self) {
        self.wait_until("they are not connected", |p| {
            [&p.network.proxy, &p.back].iter().all(|space| p.metric(space, "byway_portion_connected") == 1)
        });
    }

    #[track_caller]
    fn ctl(&mut self, words: &str) -> String {
        self.to_server.as_mut().unwrap().ctl(words).unwrap_or_else(|said| panic!("{words}: {said}"))
    }

    /// How many connections each knows in this state.
    fn in_state(&self, state: &str) -> [u64; 2] {
        let name = format!("byway_connections{{state=\"{state}\"}}");
        [&self.network.proxy, &self.back].map(|space| self.metric(space, &name))
    }

    fn translated(&self, space: &Space, direction: &str) -> u64 {
        self.metric(space, &format!("byway_translated_packets_total{{direction=\"{direction}\"}}"))
    }

    /// Ends both, and judges what the client has seen.
    #[track_caller]
    fn end(mut self) {
        // Each has translated its own direction only.
        assert_eq!(self.translated(&self.network.proxy, "to_client"), 0);
        assert_eq!(self.translated(&self.back, "to_server"), 0);
        self.stop();
        for capture in self.captures {
            capture.end().judge();
        }
    }

    #[track_caller]
    fn stop(&mut self) {
        self.to_server.take().unwrap().stop().unwrap();
        self.to_client.take().unwrap().stop().unwrap();
    }
}

/// A UDP client of the service on port 5000; returns who answered.
fn ask(client: &UdpSocket) -> String {
    let mut answer = [0; 64];
    client.send(b"?").unwrap();
    let length = client.recv(&mut answer).expect("an answer");
    String::from_utf8_lossy(&answer[..length]).into_owned()
}

fn udp_client(space: &Space) -> UdpSocket {
    space.run(|| {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
        socket.connect(SocketAddrV4::new(ORIGINAL, 5000)).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        socket
    })
}

fn downloads_moves_and_resets(queues: [usize; 2]) {
    let file = slow_file(6_000_000);
    small_file();
    let mut portions = Portions::new(queues);
    let (client, [a, b]) = (portions.network.client.clone(), [&portions.network.a, &portions.network.b]);
    let _nginx = [nginx(a), nginx(b)];
    answer_udp(a, 5000);
    answer_udp(b, 5000);
    // A download, and many connections, each of which another port on the way back belongs to.
    run(&client, &format!("curl -sS --fail --max-time 60 -o {FOLDER}/got http://{ORIGINAL}/slow/file"));
    assert!(std::fs::read(format!("{FOLDER}/got")).unwrap() == file);
    let mut streams = connect(&client, 80, 500);
    fetch(&mut streams);
    run(&client, &format!("ping -c 20 -i 0.05 -W 2 -q {ORIGINAL}"));
    // The first answer of each is as fast as the record, and none is lost.
    let sockets: Vec<_> = (0..200).map(|_| udp_client(&client)).collect();
    for socket in &sockets {
        assert_eq!(ask(socket), "a?");
    }
    let kept = portions.metric(&portions.back, "byway_early_kept_total");
    let expired = portions.metric(&portions.back, "byway_early_expired_total");
    println!("{kept} replies were here before their record");
    assert_eq!(expired, 0);
    // Both know the same of them.
    portions.wait_until("both know of 500", |p| p.in_state("established") == [500; 2]);
    // The instruction goes to one portion; the other learns of it by the records. Open connections move.
    portions.ctl("redivert 123.45.67.89 123.45.67.90");
    for socket in &sockets {
        assert_eq!(ask(socket), "b?");
    }
    // TCP connections are reset. Each portion tells the end that it sends to, with the numbers that it has seen.
    portions.ctl("divert 100.100.100.100 123.45.67.89");
    let mut streams: Vec<TcpStream> = connect(&client, 80, 100);
    fetch(&mut streams);
    portions.ctl("redivert 123.45.67.89 123.45.67.90 --reset");
    // One whose last bytes were faster than the records may be told a wrong number. It learns when it sends something.
    let mut late = 0;
    for stream in &mut streams {
        stream.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
        let mut is_reset = || stream.read(&mut [0; 1]).is_err_and(|error| error.kind() == ConnectionReset);
        if !is_reset() {
            late += 1;
            stream.write_all(b"GET").unwrap();
            assert!(stream.read(&mut [0; 1]).is_err_and(|error| error.kind() == ConnectionReset));
        }
    }
    println!("{late} of {} were told late", streams.len());
    assert!(late <= 10, "{late}");
    portions.end();
}

#[test]
fn portions_translate_a_direction_each() {
    in_namespace(|| downloads_moves_and_resets([1, 1]));
}

#[test]
fn portions_may_have_different_numbers_of_queues() {
    in_namespace(|| downloads_moves_and_resets([2, 3]));
}

/// What ends is seen by one portion, and counts for both; nothing stays for hours that is over.
#[test]
fn what_one_portion_sees_the_other_knows() {
    in_namespace(|| {
        small_file();
        let mut portions = Portions::new([1, 1]);
        let client = portions.network.client.clone();
        let _nginx = nginx(&portions.network.a);
        let mut streams = connect(&client, 80, 30);
        fetch(&mut streams);
        portions.wait_until("both know of 30", |p| p.in_state("established") == [30; 2]);
        // Ten are closed by the client, ten reset by the client, ten closed by nginx.
        for stream in streams.drain(..10) {
            drop(stream);
        }
        for stream in streams.drain(..10) {
            rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO)).unwrap();
            drop(stream);
        }
        for mut stream in streams {
            stream.write_all(b"GET /small HTTP/1.1\r\nHost: original\r\nConnection: close\r\n\r\n").unwrap();
            stream.read_to_end(&mut Vec::new()).unwrap();
        }
        // What one knows of numbers is up to a second old at the other, so a RST may only be likely to be right.
        portions.wait_until("both know that all are over", |p| {
            p.in_state("established") == [0, p.in_state("doubtful")[0]]
                && p.in_state("time_wait")[0] + p.in_state("doubtful")[0] == 30
        });
        portions.end();
    });
}

/// Each can be restarted, and the stream between them cut, while connections are open.
#[test]
fn a_portion_that_was_away_learns_what_it_has_missed() {
    in_namespace(|| {
        small_file();
        let mut portions = Portions::new([1, 1]);
        let client = portions.network.client.clone();
        let _nginx = [nginx(&portions.network.a), nginx(&portions.network.b)];
        let mut streams = connect(&client, 80, 300);
        fetch(&mut streams);
        for _ in 0..2 {
            for which in 0..2 {
                let slot = if which == 0 { &mut portions.to_client } else { &mut portions.to_server };
                // Killed, it leaves nothing behind.
                let old = slot.take().unwrap();
                old.signal(Signal::KILL);
                let _ = old.ended();
                let (space, config) = match which {
                    0 => (portions.back.clone(), format!("{FOLDER}/back.toml")),
                    _ => (portions.network.proxy.clone(), format!("{FOLDER}/byway.toml")),
                };
                let new = Proxy::start(&space, Path::new(PROGRAM), Path::new(&config)).unwrap();
                let slot = if which == 0 { &mut portions.to_client } else { &mut portions.to_server };
                *slot = Some(new);
                portions.wait_until_connected();
                portions.wait_until("both know of 300", |p| p.in_state("established") == [300; 2]);
                fetch(&mut streams);
            }
        }
        // The stream is cut, and connections go on; new ones are learned of afterwards.
        portions.back.ip("link set to-proxy down").unwrap();
        fetch(&mut streams);
        portions.wait_until("the stream is cut", |p| p.metric(&p.network.proxy, "byway_portion_connected") == 0);
        let waiting = client.clone();
        let late = std::thread::spawn(move || connect(&waiting, 80, 1));
        std::thread::sleep(Duration::from_millis(500));
        portions.back.ip(&format!("link set to-proxy up\nroute replace {PROXY}/32 dev to-proxy src {BACK}")).unwrap();
        portions.wait_until_connected();
        // Its SYN+ACK was dropped, and comes again.
        streams.extend(late.join().unwrap());
        fetch(&mut streams);
        portions.end();
    });
}

/// What is closed while the stream is cut stays closed when it is open again, also if the other portion has not heard of it.
#[test]
fn what_was_reset_meanwhile_does_not_come_back() {
    in_namespace(|| {
        small_file();
        let mut portions = Portions::new([1, 1]);
        let client = portions.network.client.clone();
        let _nginx = nginx(&portions.network.a);
        let mut streams = connect(&client, 80, 20);
        fetch(&mut streams);
        portions.wait_until("both know of 20", |p| p.in_state("established") == [20; 2]);
        portions.back.ip("link set to-proxy down").unwrap();
        portions.wait_until("the stream is cut", |p| p.metric(&p.network.proxy, "byway_portion_connected") == 0);
        portions.ctl("redivert 123.45.67.89 123.45.67.90 --reset");
        portions.wait_until("one has reset them", |p| p.in_state("established") == [0, 20]);
        portions.back.ip(&format!("link set to-proxy up\nroute replace {PROXY}/32 dev to-proxy src {BACK}")).unwrap();
        portions.wait_until_connected();
        portions.wait_until("both have reset them", |p| p.in_state("established") == [0; 2]);
        std::thread::sleep(Duration::from_secs(3));
        assert_eq!(portions.in_state("established"), [0; 2], "none has come back");
        portions.end();
    });
}

/// What is silent ends at both after its time-out: they do not keep it alive for each other.
#[test]
fn what_is_silent_ends_at_both() {
    in_namespace(|| {
        let mut portions = Portions::with([1, 1], "short_timeouts = true\n[timeouts]\nudp = \"5s\"");
        let client = portions.network.client.clone();
        answer_udp(&portions.network.a, 5000);
        let sockets: Vec<_> = (0..10).map(|_| udp_client(&client)).collect();
        let one = udp_client(&client);
        sockets.iter().chain([&one]).for_each(|socket| drop(ask(socket)));
        portions.wait_until("both know of 11", |p| p.in_state("answered") == [11; 2]);
        // One goes on.
        for _ in 0..12 {
            std::thread::sleep(Duration::from_secs(1));
            assert_eq!(ask(&one), "a?");
        }
        assert_eq!(portions.in_state("answered"), [1; 2]);
        portions.end();
    });
}

/// What does not fit together is refused by both, in one line.
#[test]
fn portions_that_do_not_fit_say_why() {
    in_namespace(|| {
        let mut portions = Portions::new([1, 1]);
        let config = PathBuf::from(FOLDER).join("byway.toml");
        let good = std::fs::read_to_string(&config).unwrap();
        for (old, new, why) in [
            (
                "10.10.10.10",
                "10.10.10.11",
                "the other portion: its alternative addresses are 10.10.10.10-10.10.10.10:1024-65535, and here they are 10.10.10.11-10.10.10.11:1024-65535",
            ),
            ("portion.key", "other.key", "the other portion: the other portion has another key"),
        ] {
            std::fs::write(format!("{FOLDER}/other.key"), format!("0 {}\n", "a5".repeat(32))).unwrap();
            std::fs::write(&config, good.replace(old, new)).unwrap();
            portions.to_server.take().unwrap().stop().unwrap();
            let mut proxy = Proxy::start(&portions.network.proxy, Path::new(PROGRAM), &config).unwrap();
            let line = proxy.wait_for("ERROR the other portion: ").unwrap();
            // Whoever reads first says why; the other may only see that the stream has ended.
            let other = portions.to_client.as_mut().unwrap().wait_for("ERROR the other portion: ").unwrap();
            let reversed =
                why.replace("10.10.10.11", "x").replace("10.10.10.10", "10.10.10.11").replace('x', "10.10.10.10");
            assert!(line.contains(why) || other.contains(&reversed), "{line}\n{other}");
            portions.to_server = Some(proxy);
            assert_eq!(portions.metric(&portions.network.proxy, "byway_portion_connected"), 0);
        }
        // Somebody else who connects gets nothing, and is in nobody's way for long.
        let said = portions.network.proxy.run(|| {
            let mut stream = TcpStream::connect(SocketAddrV4::new(BACK, PORT)).unwrap();
            stream.write_all(b"GET / HTTP/1.1\r\n\r\n                                            ").unwrap();
            let mut said = Vec::new();
            let _ = stream.read_to_end(&mut said);
            said.len()
        });
        assert!(said <= 49, "{said} bytes");
        // Nor does one who says the right thing a byte at a time.
        let slow = portions.network.proxy.run(|| {
            let mut stream = TcpStream::connect(SocketAddrV4::new(BACK, PORT)).unwrap();
            let start = Instant::now();
            let greeting = [&b"byway portion 1\n\x01"[..], &[7; 32], &[0, 0, 0x0f, 0xff], &[0; 4096]].concat();
            for byte in greeting {
                std::thread::sleep(Duration::from_millis(200));
                if stream.write_all(&[byte]).is_err() {
                    break;
                }
            }
            start.elapsed()
        });
        // All of it would take fourteen minutes.
        assert!(slow < PATIENCE, "{slow:?}");
        std::fs::write(&config, good).unwrap();
        portions.to_server.take().unwrap().stop().unwrap();
        portions.to_server = Some(Proxy::start(&portions.network.proxy, Path::new(PROGRAM), &config).unwrap());
        portions.wait_until_connected();
    });
}

/// Clients ask one machine for names, which asks an unbound; what that answers comes to the other.
#[test]
fn what_a_dns_server_answers_comes_to_the_other_portion() {
    const SERVER: Ipv4Addr = Ipv4Addr::new(9, 9, 9, 53);
    in_namespace(|| {
        let names = format!(
            "[names]\naddress = \"{RELAY}\"\n[names.relay]\nservers = [\"{SERVER}\"]\nclients = \"1.2.3.4/32\"\npatience = \"5s\""
        );
        let mut portions = Portions::with([1, 2], &names);
        let Network { client, proxy, a, .. } = &portions.network;
        a.ip(&format!("address add {SERVER}/32 dev lo\nroute add {RELAY}/32 via {BACK} dev to-back")).unwrap();
        proxy.ip(&format!("route add {SERVER}/32 dev to-a")).unwrap();
        // The answers' source: the device's reverse path filter is loose, so there must be a route to it.
        portions.back.ip(&format!("route add {OWN}/32 via {PROXY} dev to-proxy")).unwrap();
        let _unbound = unbound(a, SERVER);
        let all: Vec<_> =
            queries(2_000).into_iter().filter(|query| query.last_chunk() != Some(&[0, 0, 0x80, 0, 0, 0])).collect();
        let (through, direct) = (all.clone(), all.clone());
        let through = client.run(move || over_udp(OWN, &through));
        let direct = proxy.run(move || over_udp(SERVER, &direct));
        assert!(through == direct, "of {} {}", all.len(), differences(&through, &direct));
        let count = |space: &Space, name: &str| {
            portions.metric(space, &format!("byway_name_relay_total{{outcome=\"{name}\"}}"))
        };
        let asked = count(proxy, "asked");
        assert!(asked >= all.len() as u64);
        assert_eq!((count(proxy, "answered"), count(&portions.back, "answered")), (asked, asked));
        assert_eq!(count(&portions.back, "imported"), asked, "each in its first attempt");
        println!("{} answers were here before their query's record", count(&portions.back, "early_kept"));
        for name in ["timed_out", "wrong_case", "unanswered"] {
            assert_eq!((count(proxy, name), count(&portions.back, name)), (0, 0), "{name}");
        }
        // A portion that was away has what is asked from now on.
        let old = portions.to_client.take().unwrap();
        old.signal(Signal::KILL);
        let _ = old.ended();
        let back = Proxy::start(&portions.back, Path::new(PROGRAM), &PathBuf::from(FOLDER).join("back.toml")).unwrap();
        portions.to_client = Some(back);
        portions.wait_until_connected();
        let client = portions.network.client.clone();
        let again = client.run(|| over_udp(OWN, &[query(7, "name.test", 16, 0)]));
        assert!(again[0].ends_with(b"\x06behind"));
        // The machine itself answers clients here, which is what the captures are judged for elsewhere.
        portions.stop();
    });
}
