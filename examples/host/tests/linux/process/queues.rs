//! Instructions to a byway with several queues: each shard takes them, or none does.

use core::net::{Ipv4Addr, SocketAddrV4};
use core::time::Duration;
use std::collections::BTreeSet;
use std::net::UdpSocket;

use crate::network::*;
use byway_host::lab::network::{A, B, ORIGINAL};
use byway_host::lab::space::Space;
use rustix::process::Signal;

const QUEUES: usize = 4;
/// Clients, each with an address of its own, since the address decides about the shard.
const CLIENTS: u8 = 64;
const FIRST: u8 = 128;
const PORTS: [u16; 2] = [5000, 6000];

/// Answers everything with its name.
fn serve(space: &Space) {
    let name = space.name();
    for port in PORTS {
        space.run(move || {
            let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port)).unwrap();
            std::thread::spawn(move || {
                let mut buffer = [0; 64];
                while let Ok((_, from)) = socket.recv_from(&mut buffer) {
                    let _ = socket.send_to(name.as_bytes(), from);
                }
            });
        });
    }
}

/// A connection of each of these clients.
fn connect(space: &Space, clients: impl Iterator<Item = u8> + Send + 'static, port: u16) -> Vec<UdpSocket> {
    space.run(move || {
        let connect = |number| {
            let socket = UdpSocket::bind((Ipv4Addr::new(1, 2, 3, number), 0)).expect("the address is there");
            socket.connect(SocketAddrV4::new(ORIGINAL, port)).unwrap();
            socket.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
            socket
        };
        clients.map(connect).collect()
    })
}

fn everybody(space: &Space, port: u16) -> Vec<UdpSocket> {
    connect(space, FIRST..FIRST + CLIENTS, port)
}

/// Which servers answer; each connection must get an answer, though a packet may be lost.
#[track_caller]
fn ask(sockets: &[UdpSocket]) -> BTreeSet<String> {
    let answer = |socket: &UdpSocket| {
        for _ in 0..10 {
            socket.send(b"who?").unwrap();
            let mut buffer = [0; 64];
            if let Ok(length) = socket.recv(&mut buffer) {
                return String::from_utf8(buffer[..length].to_vec()).unwrap();
            }
        }
        panic!("{socket:?}: no answer")
    };
    sockets.iter().map(answer).collect()
}

fn only(name: &str) -> BTreeSet<String> {
    [name.to_string()].into()
}

/// How many connections each shard has. They share the ports of one alternative address: each has a quarter of them.
fn connections(world: &mut World) -> [usize; QUEUES] {
    let list = world.ctl("--json connections");
    let mut of_shard = [0; QUEUES];
    for rest in list.split("\"alternative\":\"10.10.10.10:").skip(1) {
        let port: usize = rest.split_once('"').unwrap().0.parse().unwrap();
        of_shard[(port - 1024) * QUEUES / (65_536 - 1024)] += 1;
    }
    of_shard
}

/// How many rules each shard has.
fn rules(world: &World) -> Vec<String> {
    let page = run(&world.network.proxy, "curl -sS --fail http://127.0.0.1:9207/metrics");
    let of_shard = |shard| {
        let name = format!("byway_rules{{shard=\"{shard}\"}} ");
        page.lines()
            .find_map(|line| line.strip_prefix(&name))
            .unwrap_or_else(|| panic!("no {name} in {page}"))
            .to_string()
    };
    (0..QUEUES).map(of_shard).collect()
}

fn world(nat: &'static str) -> World {
    let rules = "[[rule]]\ndivert = \"100.100.100.100:9\"\nto = \"123.45.67.89\"\n";
    let world = World::new(Options { queues: QUEUES, rules, nat, ..Options::PLAIN });
    let addresses: String = (FIRST..FIRST + CLIENTS).map(|n| format!("address add 1.2.3.{n}/32 dev eth0\n")).collect();
    world.network.client.ip(&addresses).unwrap();
    world.network.proxy.ip(&format!("route add 1.2.3.{FIRST}/25 dev to-client")).unwrap();
    serve(&world.network.a);
    serve(&world.network.b);
    world
}

#[test]
fn an_instruction_acts_in_every_shard() {
    in_namespace(|| {
        let mut world = world("");
        assert_eq!(
            world.ctl(&format!("divert {ORIGINAL}:5000 {A} --protocol udp")),
            "inserted; generation 2",
            "answered once, for all"
        );
        assert_eq!(rules(&world), ["2"; QUEUES]);
        let client = world.network.client.clone();
        let all = everybody(&client, 5000);
        assert_eq!(ask(&all), only("a"));
        let of_shard = connections(&mut world);
        assert!(of_shard.iter().all(|count| *count > 0), "each has some: {of_shard:?}");
        assert_eq!(of_shard.iter().sum::<usize>(), usize::from(CLIENTS), "and they have all");
        let list = world.ctl("list");
        assert!(list.contains("100.100.100.100:5000 udp -> 123.45.67.89 (64)"), "{list}");
        let counters = world.ctl("counters");
        assert!(counters.lines().any(|line| line.split_whitespace().eq(["opened", "64"])), "{counters}");

        // Connections of all shards move, and go on.
        let said = world.ctl(&format!("--dry-run redivert {A} {B}"));
        assert_eq!(said, "would be re-diverted; rules' servers: 2, connections: 64; generation 2");
        assert_eq!(ask(&all), only("a"));
        let events = world.network.proxy.run({
            let (at, key) = (byway_host::lab::network::CONTROL.to_string(), format!("{FOLDER}/key"));
            move || {
                let mut command = command(&format!(
                    "{} ctl --agent {at} --key {key} events --seconds 3",
                    env!("CARGO_BIN_EXE_byway")
                ));
                command.stdout(std::process::Stdio::piped()).spawn().unwrap()
            }
        });
        std::thread::sleep(Duration::from_millis(500));
        let said = world.ctl(&format!("redivert {A} {B}"));
        assert_eq!(said, "re-diverted; rules' servers: 2, connections: 64; generation 3");
        assert_eq!(ask(&all), only("b"));
        assert_eq!(ask(&everybody(&client, 5000)), only("b"));
        let events = String::from_utf8(events.wait_with_output().unwrap().stdout).unwrap();
        for n in FIRST..FIRST + CLIENTS {
            let of_client = |word: &str| events.lines().any(|l| l.contains(word) && l.contains(&format!("1.2.3.{n}:")));
            assert!(of_client("moved") && of_client("opened"), "1.2.3.{n}: {events}");
        }

        // A reload reaches every shard too, and what instructions have changed stays.
        let text = std::fs::read_to_string(&world.config).unwrap();
        let more = "[[rule]]\ndivert = \"100.100.100.100:6000\"\nto = \"123.45.67.89\"\n";
        std::fs::write(&world.config, text + more).unwrap();
        world.proxy().signal(Signal::HUP);
        world.proxy().wait_for("reloaded: 0 rules removed, 1 new or changed").unwrap();
        assert_eq!(rules(&world), ["3"; QUEUES]);
        assert_eq!(ask(&everybody(&client, 6000)), only("a"));
        assert_eq!(ask(&all), only("b"));

        // Settings, and a restart with what was changed.
        assert_eq!(world.ctl("limit 500"), "set; generation 4");
        world.restart();
        assert!(world.ctl("settings").contains("client_limit                  500"), "{}", world.ctl("settings"));
        assert_eq!(ask(&all), only("b"));
        assert_eq!(connections(&mut world).iter().sum::<usize>(), 3 * usize::from(CLIENTS), "all are carried on");
        world.end();
    });
}

/// Each drain of a server takes another entry of the shard that has connections there. When that has no more room, the
/// others still have, but the instruction is refused, and nothing has changed in any.
#[test]
fn what_one_shard_refuses_changes_nothing_in_any() {
    in_namespace(|| {
        let mut world = world("servers = 5\n");
        let client = world.network.client.clone();
        world.ctl(&format!("divert {ORIGINAL}:5000 {A} --protocol udp"));
        let mut kept = Vec::new();
        // One entry is that of the other rule, which is for A as well and has no connections.
        for (from, to) in [(A, B), (B, A), (A, B)] {
            let one = connect(&client, FIRST..=FIRST, 5000);
            ask(&one);
            kept.extend(one);
            world.ctl(&format!("redivert {from} {to} --drain"));
        }
        let one = connect(&client, FIRST..=FIRST, 5000);
        assert_eq!(ask(&one), only("b"));
        kept.extend(one);
        let (list, settings) = (world.ctl("--json list"), world.ctl("settings"));
        let counts = connections(&mut world);
        assert_eq!(counts.iter().filter(|count| **count != 0).count(), 1, "one client, one shard: {counts:?}");
        let drain = format!("redivert {B} {A} --drain");
        let batch = format!("{FOLDER}/batch");
        std::fs::write(&batch, format!("limit 7\n{drain}\n")).unwrap();
        let with_rule = format!("{FOLDER}/with-rule");
        std::fs::write(&with_rule, format!("limit 7\ndivert {ORIGINAL}:6000 {B}\n")).unwrap();
        for words in [drain, format!("apply {batch}"), format!("apply {with_rule}"), format!("--dry-run apply {batch}")]
        {
            let said = world.proxy().ctl(&words).unwrap_err();
            assert!(said.contains("no room for another server") && said.contains('5'), "{words}: {said}");
            assert_eq!((world.ctl("--json list"), world.ctl("settings")), (list.clone(), settings.clone()), "{words}");
            assert_eq!(rules(&world), ["2"; QUEUES]);
        }
        // The shards that had room would send new connections to A by now, and forward those to port 6000.
        let all = everybody(&client, 5000);
        assert_eq!(ask(&all), only("b"));
        let of_shard = connections(&mut world);
        assert!(of_shard.iter().all(|count| *count > 0), "each has some: {of_shard:?}");
        // A switch needs no entry, and works.
        assert!(world.ctl(&format!("redivert {B} {A}")).contains("connections: 66"));
        assert_eq!(ask(&all), only("a"));
        assert_eq!(ask(&kept), only("a"));
        world.end();
    });
}

/// Instructions come one after the other while packets of all shards pass.
#[test]
fn instructions_under_traffic_reach_all_at_once() {
    in_namespace(|| {
        let mut world = world("");
        world.ctl(&format!("divert {ORIGINAL}:5000 {A} --protocol udp"));
        let client = world.network.client.clone();
        let all = everybody(&client, 5000);
        ask(&all);
        let traffic = std::thread::spawn(move || {
            let (start, mut rounds) = (std::time::Instant::now(), 0);
            all.iter().for_each(|socket| socket.set_read_timeout(Some(Duration::from_millis(5))).unwrap());
            while start.elapsed() < Duration::from_secs(5) {
                for socket in &all {
                    socket.send(b"who?").unwrap();
                }
                for socket in &all {
                    // An answer of the old server that was on its way when the connection moved is dropped.
                    let _ = socket.recv(&mut [0; 64]);
                }
                rounds += 1;
            }
            (all, rounds)
        });
        let mut generation = 2;
        while !traffic.is_finished() {
            let (from, to) = if generation % 2 == 0 { (A, B) } else { (B, A) };
            generation += 1;
            let said = world.ctl(&format!("redivert {from} {to}"));
            let expected = format!("re-diverted; rules' servers: 2, connections: 64; generation {generation}");
            assert_eq!(said, expected);
            std::thread::sleep(Duration::from_millis(20));
        }
        let (all, rounds) = traffic.join().unwrap();
        println!("{} re-diverts of 64 connections, {rounds} rounds of packets", generation - 2);
        assert!(generation > 10 && rounds > 10);
        for socket in &all {
            // Late answers.
            socket.set_nonblocking(true).unwrap();
            while socket.recv(&mut [0; 64]).is_ok() {}
            socket.set_nonblocking(false).unwrap();
            socket.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
        }
        assert_eq!(ask(&all), only(if generation % 2 == 0 { "a" } else { "b" }));
        assert_eq!(world.ctl("--json connections").matches("\"alternative\"").count(), usize::from(CLIENTS));
        world.end();
    });
}
