//! The whole system with programs that nobody here wrote: byway as a process between network namespaces. Whatever a test
//! does, it captures on the client's side, and no packet there may carry a mirror's or an alternative address, not even
//! quoted in an ICMP error, or a wrong checksum.
//!
//! Each test runs itself again in namespaces of its own, without rights; it needs `unshare`, `ip` and a `/dev/net/tun` that
//! may be opened. Where that is not so it prints `SKIPPED:`.

use core::net::{Ipv4Addr, SocketAddrV4};
use core::time::Duration;
use std::io::{Read, Write};
use std::net::{TcpListener, UdpSocket};

use crate::network::traffic::*;
use crate::network::*;
use byway_host::config::Config;
use byway_host::counters::Counters;
use byway_host::lab::network::{A, ALTERNATIVE, CLIENT, ORIGINAL, OWN};
use byway_host::lab::space::Space;
use byway_host::router::Output;
use byway_host::vnet::{Super, VnetHeader};
use byway_host::{device, packet};
use rustix::net::{AddressFamily, SendFlags, SocketType, ipproto};

/// 40 files at once, of which each must come as it is.
fn download_forty(world: &World) {
    let [www, got] = ["www", "got"].map(|name| std::path::Path::new(FOLDER).join(name));
    std::fs::create_dir_all(&got).unwrap();
    let mut curl = String::from("curl -sS --fail --max-time 60 --parallel --parallel-max 40 --parallel-immediate");
    for file in 0..40 {
        curl += &format!(" -o {}/{file} http://{ORIGINAL}/{file}", got.display());
    }
    run(&world.network.client, &curl);
    for file in 0..40_usize {
        let read = |folder: &std::path::Path| std::fs::read(folder.join(file.to_string())).unwrap();
        assert!(read(&got) == read(&www), "file {file}");
    }
    std::fs::remove_dir_all(&got).unwrap();
}

fn write_forty() {
    std::fs::create_dir_all(www()).unwrap();
    for file in 0..40_usize {
        std::fs::write(www().join(file.to_string()), content(file as u64, file * 100_000 + file)).unwrap();
    }
}

#[test]
fn forty_downloads_at_once() {
    in_namespace(|| {
        write_forty();
        let world = World::new(Options::PLAIN);
        let _nginx = nginx(&world.network.a);
        download_forty(&world);
        let counted = world.end();
        assert!(count(&counted, "super_packets") > 50, "super-packets stay whole: {counted}");
        assert_eq!(count(&counted, "offload_refused"), 0);
        let mean = count(&counted, "received_bytes") / count(&counted, "received");
        println!("80 MB, with offloads: packets of {mean} bytes in the mean");
    });
}

#[test]
fn forty_downloads_at_once_without_offloads() {
    in_namespace(|| {
        write_forty();
        let world = World::new(Options { offload: false, ..Options::PLAIN });
        let _nginx = nginx(&world.network.a);
        download_forty(&world);
        let counted = world.end();
        assert_eq!(count(&counted, "super_packets"), 0, "{counted}");
    });
}

/// Two threads; the kernel gives each of them packets of both routers' connections. Over a restart as well.
#[test]
fn forty_downloads_at_once_through_two_queues() {
    in_namespace(|| {
        write_forty();
        let mut world = World::new(Options { queues: 2, ..Options::PLAIN });
        let _nginx = nginx(&world.network.a);
        download_forty(&world);
        let echo = Echo::start(&world.network.a, 7);
        let mut streams = connect(&world.network.client, 7, 200);
        exchange(&mut streams, b"before");
        world.restart();
        exchange(&mut streams, b"afterwards");
        assert_eq!(echo.accepted(), 200);
        download_forty(&world);
        let counted = world.end();
        assert!(count(&counted, "other_queue") > 0, "{counted}");
        assert_eq!(count(&counted, "owner_ended"), 0, "{counted}");
    });
}

/// The document's main job, with nginx on both mirrors and curl, which tries again as it does with any server.
#[test]
fn a_download_is_moved_by_a_reset_and_curl_retries() {
    in_namespace(|| {
        let file = slow_file(4_000_000);
        let mut world = World::new(Options::PLAIN);
        let _nginx = [nginx(&world.network.a), nginx(&world.network.b)];
        let client = world.network.client.clone();
        let download = std::thread::spawn(move || {
            let curl = "curl -sS --fail --max-time 60 --retry 3 --retry-all-errors --retry-delay 1";
            run(&client, &format!("{curl} -D {FOLDER}/head -o {FOLDER}/got http://{ORIGINAL}/slow/file"));
        });
        std::thread::sleep(Duration::from_millis(800));
        let moved = world.ctl("redivert 123.45.67.89 123.45.67.90 --reset");
        assert_eq!(moved, "re-diverted; rules' servers: 1, connections: 1; generation 2");
        download.join().unwrap();
        assert!(std::fs::read(format!("{FOLDER}/got")).unwrap() == file);
        let head = std::fs::read_to_string(format!("{FOLDER}/head")).unwrap();
        let mirrors: Vec<_> = head.lines().filter_map(|line| line.strip_prefix("X-Mirror: ")).collect();
        assert_eq!(mirrors, ["a", "b"], "{head}");
        world.end();
    });
}

/// New connections go elsewhere, while one that is kept alive stays where it is.
#[test]
fn a_connection_that_is_kept_alive_stays_while_rules_change() {
    in_namespace(|| {
        std::fs::create_dir_all(www()).unwrap();
        std::fs::write(www().join("file"), b"ten bytes\n").unwrap();
        let mut world = World::new(Options::PLAIN);
        let _nginx = [nginx(&world.network.a), nginx(&world.network.b)];
        let mut kept = connect(&world.network.client, 80, 1).remove(0);
        let mut ask = || {
            kept.write_all(b"GET /file HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
            let (mut answer, mut buffer) = (Vec::new(), [0; 1_000]);
            while !answer.ends_with(b"ten bytes\n") {
                let length = kept.read(&mut buffer).unwrap();
                assert_ne!(length, 0, "it is kept alive");
                answer.extend_from_slice(&buffer[..length]);
            }
            let text = String::from_utf8(answer).unwrap();
            text.split_once("X-Mirror: ").unwrap().1.split_once('\r').unwrap().0.to_string()
        };
        let curl = format!("curl -sS -o /dev/null -D - http://{ORIGINAL}/file");
        for n in 0..20 {
            assert_eq!(ask(), "a");
            world.ctl(&format!("divert 100.100.101.{n} 123.45.67.90"));
        }
        world.ctl("divert 100.100.100.100 123.45.67.90");
        assert_eq!(ask(), "a");
        assert!(run(&world.network.client, &curl).contains("X-Mirror: b"));
        world.ctl("redivert 123.45.67.90 123.45.67.89 --drain");
        assert!(run(&world.network.client, &curl).contains("X-Mirror: a"));
        assert_eq!(ask(), "a");
        world.end();
    });
}

/// A socket that is connected takes answers from the original only. Datagrams of every size, up to many fragments.
#[test]
fn a_connected_udp_socket_is_switched() {
    in_namespace(|| {
        let mut world = World::new(Options::PLAIN);
        answer_udp(&world.network.a, 53);
        answer_udp(&world.network.b, 53);
        let socket = world.network.client.run(|| {
            let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
            socket.connect((ORIGINAL, 53)).unwrap();
            socket.set_read_timeout(Some(Duration::from_secs(3))).unwrap();
            socket
        });
        let ask = |server: &str, length: usize| {
            let question = content(length as u64, length);
            socket.send(&question).unwrap();
            let mut answer = vec![0; 65_535];
            let got = socket.recv(&mut answer).unwrap();
            assert!(answer[..got] == [server.as_bytes(), &question].concat(), "{length} bytes, {server}");
        };
        let lengths = [0, 1, 100, 1_472, 1_473, 4_000, 9_000, 30_000, 65_000];
        lengths.iter().for_each(|length| ask("a", *length));
        assert!(world.ctl("redivert 123.45.67.89 123.45.67.90").contains("connections: 1;"));
        lengths.iter().for_each(|length| ask("b", *length));
        world.end();
    });
}

/// The router itself, its kernel, and the mirror, in the order of their distance; and a cable that takes less.
#[test]
fn ping_traceroute_and_tracepath() {
    in_namespace(|| {
        let world = World::new(Options::PLAIN);
        let _listener = world.network.a.run(|| TcpListener::bind((A, 80)).unwrap());
        let (client, proxy) = (&world.network.client, &world.network.proxy);
        for ping in ["", "-s 1472 -M do", "-s 4000", "-s 20000"] {
            let said = run(client, &format!("ping -n -c 3 -i 0.2 -W 2 {ping} {ORIGINAL}"));
            assert!(said.contains(" 3 received, 0% packet loss"), "{said}");
        }
        assert!(run(client, &format!("ping -n -c 1 {OWN}")).contains(" 1 received"));
        for probe in ["", "-I", "-T -p 80"] {
            let said = run(client, &format!("traceroute -n -q 1 -w 2 -m 8 {probe} {ORIGINAL}"));
            let hops: Vec<_> = said.lines().skip(1).map(|line| line.split_whitespace().nth(1).unwrap()).collect();
            // Before and behind byway routes the same kernel.
            assert_eq!(hops, ["1.2.3.1", "10.9.9.9", "1.2.3.1", "100.100.100.100"], "{said}");
        }
        proxy.ip("link set to-a mtu 1400").unwrap();
        let said = run(client, &format!("tracepath -n -m 8 {ORIGINAL}"));
        assert!(said.contains("pmtu 1400") && said.contains("reached"), "{said}");
        // What the client has learned counts for TCP too, and what it had not learned is told in time.
        client.ip("route flush cache").unwrap();
        let said = output(client, &format!("ping -n -c 2 -i 0.2 -W 1 -s 1472 -M do {ORIGINAL}"));
        let said = String::from_utf8(said.stdout).unwrap();
        assert!(said.contains("From 1.2.3.1") && said.contains("mtu = 1400"), "{said}");
        world.end();
    });
}

/// byway's own limit, where the path behind it takes less than its cables.
#[test]
fn byway_itself_says_what_is_too_long() {
    in_namespace(|| {
        let file = content(3, 2_000_000);
        std::fs::create_dir_all(www()).unwrap();
        std::fs::write(www().join("file"), &file).unwrap();
        let world = World::new(Options { router: "mtu = 1300", ..Options::PLAIN });
        let _nginx = nginx(&world.network.a);
        // Super-packets are judged by the packets that they become: the mirror learns of it and goes on in smaller ones.
        run(&world.network.client, &format!("curl -sS --max-time 20 -o {FOLDER}/got http://{ORIGINAL}/file"));
        assert!(std::fs::read(format!("{FOLDER}/got")).unwrap() == file);
        let said = run(&world.network.client, &format!("tracepath -n -m 8 {ORIGINAL}"));
        assert!(said.contains("pmtu 1300") && said.contains("reached"), "{said}");
        let counted = world.end();
        assert!((2..100).contains(&count(&counted, "too_long")), "{counted}");
    });
}

/// A kernel that takes no super-packet of a kind, or no unfinished checksum, says `EINVAL`: here because something is missing
/// in the header. What it would have done is done before it gets the packet again.
#[test]
fn what_a_queue_refuses_is_finished_before() {
    in_namespace(|| {
        let rule = "[nat]\nalternatives = [\"10.10.10.10\"]\n[router]\naddress = \"10.9.9.9\"\n";
        let config = Config::parse(std::path::Path::new("test"), rule.into()).unwrap();
        let (mut queues, offload) = device::open(&config.device).unwrap();
        assert!(offload.tcp, "this kernel has headers");
        run_here("ip link set lo up");
        run_here("ip address add 10.5.5.5/32 dev lo");
        device::add_routes(&config.device).unwrap();
        run_here("ip route add 1.2.3.4 dev byway0");
        let socket = UdpSocket::bind("10.5.5.5:80").unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let mut counters = Counters::default();
        let mut send = |header: VnetHeader, data: &[u8]| {
            let mut packet = vec![0x45, 0, 0, 0, 0, 1, 0, 0, 64, 17, 0, 0, 1, 2, 3, 4, 10, 5, 5, 5];
            packet.extend([0x0d, 0x80, 0, 80, 0, 0, 0, 0]);
            packet.extend_from_slice(data);
            let length = packet.len() as u16;
            packet::put(&mut packet, 2, length);
            packet::put(&mut packet, 24, length - 20);
            packet::seal(&mut packet);
            let pseudo = packet::pseudo_sum(&packet, packet.len() - 20);
            packet::put(&mut packet, 26, pseudo);
            queues[0].send(&[&header.to_bytes()[..], &packet].concat(), &mut counters);
        };
        let data = content(1, 2_500);
        // A super-packet of UDP without an unfinished checksum, which Linux refuses; and one that it takes.
        send(VnetHeader::NONE.split(Super::Udp { size: 1_000 }, 28), &data);
        send(VnetHeader::partial(20, 6).split(Super::Udp { size: 1_000 }, 28), &data);
        let mut got = [0; 4096];
        for _ in 0..2 {
            for part in data.chunks(1_000) {
                let (length, from) = socket.recv_from(&mut got).unwrap();
                assert_eq!((&got[..length], from), (part, "1.2.3.4:3456".parse().unwrap()));
            }
        }
        assert_eq!((counters.offload_refused, counters.send_failed, counters.sent), (1, 0, 4));
    });
}

/// Runs a command in the namespace of the test itself.
fn run_here(words: &str) {
    assert!(command(words).status().unwrap().success(), "{words}");
}

/// Forged segments of TCP, with numbers by chance. A last byte of the source that is 0, and a port that is 0, are by chance
/// as well.
fn forge(space: &Space, count: usize, from: (Ipv4Addr, u16), to: (Ipv4Addr, u16), flags: &'static [u8]) {
    space.run(move || {
        let socket = rustix::net::socket(AddressFamily::INET, SocketType::RAW, Some(ipproto::RAW)).unwrap();
        let bytes = content(u64::from(from.1) + 77, count * 16);
        for (number, random) in bytes.chunks(16).enumerate() {
            let word = |at: usize| u16::from_be_bytes([random[at], random[at + 1]]);
            let port = |port, at| if port == 0 { word(at) | 1024 } else { port };
            let mut packet = vec![0x45, 0, 0, 40, 0, 0, 0, 0, 64, 6, 0, 0];
            let mut source = from.0.octets();
            source[3] |= if source[3] == 0 { random[12] } else { 0 };
            packet.extend([source, to.0.octets()].concat());
            packet.extend([port(from.1, 0), port(to.1, 2)].map(u16::to_be_bytes).concat());
            packet.extend_from_slice(&random[4..12]);
            packet.extend([0x50, flags[number % flags.len()], 4, 0, 0, 0, 0, 0]);
            let sum = packet::add_sums(packet::pseudo_sum(&packet, 20), packet::sum(&packet[20..]));
            packet::put(&mut packet, 36, !sum);
            packet::seal(&mut packet);
            let _ = rustix::net::sendto(&socket, &packet, SendFlags::empty(), &SocketAddrV4::new(to.0, 0));
            if number % 100 == 0 {
                // So that no queue is too short for it.
                std::thread::sleep(Duration::from_millis(1));
            }
        }
    });
}

/// A flood of SYNs fills the table with what is half open; SYN, FIN and RST are forged from both sides into connections
/// that are there. None of those is lost.
#[test]
fn a_flood_and_forged_segments_cost_no_connection() {
    in_namespace(|| {
        const SYN: u8 = 2;
        const FIN: u8 = 0x11;
        const RST: u8 = 4;
        let file = slow_file(12_000_000);
        let mut world = World::new(Options { connections: 2_000, ..Options::PLAIN });
        let _nginx = nginx(&world.network.a);
        let echo = Echo::start(&world.network.a, 7);
        let mut streams = connect(&world.network.client, 7, 50);
        exchange(&mut streams, b"before");
        let client = world.network.client.clone();
        let curl = format!("curl -sS --fail --max-time 60 -o {FOLDER}/got http://{ORIGINAL}/slow/file");
        let download = std::thread::spawn(move || run(&client, &curl));
        std::thread::sleep(Duration::from_millis(300));
        let list = world.ctl("--json connections");
        let alternative = |original: &str| {
            let part = list.split(r#"{"protocol""#).find(|part| part.contains(original)).expect("it is there");
            let port = |name: &str| {
                let text = part.split_once(&format!("\"{name}\":\"")).unwrap().1.split('"').next().unwrap();
                text.rsplit(':').next().unwrap().parse::<u16>().unwrap()
            };
            (port("client"), port("alternative"))
        };
        let (port, behind) = alternative("100.100.100.100:80");
        forge(&world.network.client, 3_000, (CLIENT, port), (ORIGINAL, 80), &[SYN, FIN, RST]);
        forge(&world.network.a, 3_000, (A, 80), (ALTERNATIVE, behind), &[SYN, FIN, RST]);
        forge(&world.network.a, 3_000, (A, 7), (ALTERNATIVE, 0), &[SYN, FIN, RST]);
        let connections = world.ctl("connections");
        let state = connections.lines().find(|line| line.contains(&format!("{CLIENT}:{port} "))).unwrap();
        assert!(state.contains(" established "), "the download is under way: {state}");
        // From clients that are not: the mirror answers them in vain. The table has room for 2000.
        world.network.proxy.ip("route add 1.2.9.0/24 dev to-client").unwrap();
        forge(&world.network.client, 25_000, ([1, 2, 9, 0].into(), 0), (ORIGINAL, 7), &[SYN]);
        download.join().unwrap();
        assert!(std::fs::read(format!("{FOLDER}/got")).unwrap() == file);
        exchange(&mut streams, b"afterwards");
        exchange(&mut connect(&world.network.client, 7, 10), b"and new ones");
        assert_eq!(echo.accepted(), 60);
        let counters = world.ctl("counters");
        assert!(counters.contains("\nevicted "), "{counters}");
        world.end();
    });
}
