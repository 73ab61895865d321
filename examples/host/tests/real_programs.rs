//! The whole system with programs that nobody here wrote: byway as a process between network namespaces. Whatever a test
//! does, it captures on the client's side, and no packet there may carry a mirror's or an alternative address, not even
//! quoted in an ICMP error, or a wrong checksum.
//!
//! Each test runs itself again in namespaces of its own, without rights; it needs `unshare`, `ip` and a `/dev/net/tun` that
//! may be opened. Where that is not so it prints `SKIPPED:`.
#![cfg(target_os = "linux")]

mod network;

use core::net::{Ipv4Addr, SocketAddrV4};
use core::sync::atomic::{AtomicUsize, Ordering};
use core::time::Duration;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;

use byway_host::config::Config;
use byway_host::counters::Counters;
use byway_host::lab::network::{A, ALTERNATIVE, CLIENT, ORIGINAL, OWN, PROXY};
use byway_host::lab::proxy::Proxy;
use byway_host::lab::space::Space;
use byway_host::router::Output;
use byway_host::vnet::{Super, VnetHeader};
use byway_host::{device, packet};
use network::*;
use rustix::event::epoll;
use rustix::net::{AddressFamily, SendFlags, SocketType, ipproto};
use rustix::process::Signal;

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

/// A file that takes its time.
fn slow_file(length: usize) -> Vec<u8> {
    let file = content(length as u64, length);
    std::fs::create_dir_all(www().join("slow")).unwrap();
    std::fs::write(www().join("slow/file"), &file).unwrap();
    file
}

#[test]
fn forty_downloads_at_once() {
    in_namespace("forty_downloads_at_once", || {
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
    in_namespace("forty_downloads_at_once_without_offloads", || {
        write_forty();
        let world = World::new(Options { offload: false, ..Options::PLAIN });
        let _nginx = nginx(&world.network.a);
        download_forty(&world);
        let counted = world.end();
        assert_eq!(count(&counted, "super_packets"), 0, "{counted}");
    });
}

/// Two threads; what the kernel gives to the wrong queue is handed over. Over a restart as well.
#[test]
fn forty_downloads_at_once_through_two_queues() {
    in_namespace("forty_downloads_at_once_through_two_queues", || {
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
        assert!(count(&counted, "handed_over") > 0, "{counted}");
        assert_eq!(count(&counted, "ring_full"), 0, "{counted}");
    });
}

/// The document's main job, with nginx on both mirrors and curl, which tries again as it does with any server.
#[test]
fn a_download_is_moved_by_a_reset_and_curl_retries() {
    in_namespace("a_download_is_moved_by_a_reset_and_curl_retries", || {
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
    in_namespace("a_connection_that_is_kept_alive_stays_while_rules_change", || {
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

/// Answers with its name and the question.
fn answer_udp(space: &Space) {
    let name = space.name();
    space.run(move || {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 53)).unwrap();
        std::thread::spawn(move || {
            let mut question = vec![0; 65_535];
            while let Ok((length, from)) = socket.recv_from(&mut question) {
                let answer = [name.as_bytes(), &question[..length]].concat();
                let _ = socket.send_to(&answer, from);
            }
        });
    });
}

/// A socket that is connected takes answers from the original only. Datagrams of every size, up to many fragments.
#[test]
fn a_connected_udp_socket_is_switched() {
    in_namespace("a_connected_udp_socket_is_switched", || {
        let mut world = World::new(Options::PLAIN);
        answer_udp(&world.network.a);
        answer_udp(&world.network.b);
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
    in_namespace("ping_traceroute_and_tracepath", || {
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
    in_namespace("byway_itself_says_what_is_too_long", || {
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
    in_namespace("what_a_queue_refuses_is_finished_before", || {
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

/// A server that returns what it gets, with one thread for all.
struct Echo(Arc<AtomicUsize>);

impl Echo {
    fn start(space: &Space, port: u16) -> Self {
        let accepted = Arc::new(AtomicUsize::new(0));
        let count = accepted.clone();
        space.run(move || {
            let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).unwrap();
            rustix::net::listen(&listener, 4096).unwrap();
            std::thread::spawn(move || echo(&listener, &count));
        });
        Self(accepted)
    }

    fn accepted(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

fn echo(listener: &TcpListener, accepted: &AtomicUsize) {
    const LISTENER: u64 = u64::MAX;
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).unwrap();
    epoll::add(&epoll, listener, epoll::EventData::new_u64(LISTENER), epoll::EventFlags::IN).unwrap();
    let (mut streams, mut buffer): (Vec<TcpStream>, _) = (Vec::new(), [0; 4096]);
    loop {
        let mut events = Vec::with_capacity(64);
        epoll::wait(&epoll, rustix::buffer::spare_capacity(&mut events), None).unwrap();
        for event in events {
            let number = event.data.u64();
            if number == LISTENER {
                let (stream, _) = listener.accept().unwrap();
                let data = epoll::EventData::new_u64(streams.len() as u64);
                epoll::add(&epoll, &stream, data, epoll::EventFlags::IN).unwrap();
                streams.push(stream);
                accepted.fetch_add(1, Ordering::Relaxed);
                continue;
            }
            let stream = &mut streams[number as usize];
            match stream.read(&mut buffer) {
                Ok(length @ 1..) => stream.write_all(&buffer[..length]).unwrap(),
                Ok(0) | Err(_) => epoll::delete(&epoll, &*stream).unwrap(),
            }
        }
    }
}

fn connect(space: &Space, port: u16, count: usize) -> Vec<TcpStream> {
    space.run(move || {
        let connect = || {
            let stream = TcpStream::connect_timeout(&SocketAddrV4::new(ORIGINAL, port).into(), Duration::from_secs(5));
            let stream = stream.expect("a connection");
            stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
            stream
        };
        (0..count).map(|_| connect()).collect()
    })
}

/// Each connection carries something there and back; a few at a time, so that no queue is too short for them.
fn exchange(streams: &mut [TcpStream], text: &[u8]) {
    for (part, streams) in streams.chunks_mut(100).enumerate() {
        for stream in streams.iter_mut() {
            stream.write_all(text).expect("the line is good");
        }
        for (number, stream) in streams.iter_mut().enumerate() {
            let mut answer = vec![0; text.len()];
            let read = stream.read_exact(&mut answer);
            read.unwrap_or_else(|error| panic!("connection {}: {error}", part * 100 + number));
            assert_eq!(answer, text);
        }
    }
}

/// Every connection outlives restarts, also a download that is under way, and so does what an instruction has changed.
#[test]
fn a_restart_loses_no_connection() {
    in_namespace("a_restart_loses_no_connection", || {
        const COUNT: usize = 3_000;
        let file = slow_file(6_000_000);
        let mut world = World::new(Options::PLAIN);
        let _nginx = [nginx(&world.network.a), nginx(&world.network.b)];
        let echo = Echo::start(&world.network.a, 7);
        let mut streams = connect(&world.network.client, 7, COUNT);
        exchange(&mut streams, b"before");
        let client = world.network.client.clone();
        let curl = format!("curl -sS --fail --max-time 60 -o {FOLDER}/got http://{ORIGINAL}/slow/file");
        let download = std::thread::spawn(move || run(&client, &curl));
        std::thread::sleep(Duration::from_millis(500));
        // For new connections only: the old ones stay.
        world.ctl("divert 100.100.100.100 123.45.67.90");
        for round in 0..3 {
            world.restart();
            exchange(&mut streams, format!("after restart {round}").as_bytes());
        }
        download.join().unwrap();
        assert!(std::fs::read(format!("{FOLDER}/got")).unwrap() == file);
        assert_eq!(echo.accepted(), COUNT, "nobody has connected anew");
        let answer = run(&world.network.client, &format!("curl -sS -o /dev/null -D - http://{ORIGINAL}/slow/file"));
        assert!(answer.contains("X-Mirror: b"), "the instruction holds: {answer}");
        assert!(std::fs::exists(format!("{FOLDER}/snapshot.used")).unwrap());
        assert!(!std::fs::exists(format!("{FOLDER}/snapshot")).unwrap());
        let counted = world.end();
        assert_eq!((count(&counted, "failed_closed"), count(&counted, "no_connection")), (0, 0), "{counted}");
    });
}

/// An upgrade: queues, sockets and connections go to a new process, and nobody has to wait for long.
fn upgrade(queues: usize) {
    // Optimized, it has to be done in the time that is promised. A process may have 20 000 files here.
    const COUNT: usize = if cfg!(debug_assertions) { 2_000 } else { 9_900 };
    const SOCKET: &[&str] = &["--hand-over", "/run/test/socket"];
    let file = slow_file(6_000_000);
    let mut world = World::new(Options { queues, ..Options::PLAIN });
    let program = std::path::Path::new(env!("CARGO_BIN_EXE_byway"));
    let start = |world: &World| Proxy::start_with(&world.network.proxy, program, &world.config, SOCKET);
    world.proxy.take().unwrap().stop().unwrap();
    world.proxy = Some(start(&world).unwrap());
    let _nginx = nginx(&world.network.a);
    let echo = Echo::start(&world.network.a, 7);
    let mut streams = connect(&world.network.client, 7, COUNT);
    exchange(&mut streams, b"before");
    let client = world.network.client.clone();
    let curl = format!("curl -sS --fail --max-time 60 -o {FOLDER}/got http://{ORIGINAL}/slow/file");
    let download = std::thread::spawn(move || run(&client, &curl));
    let ping = format!("ping -q -n -i 0.002 -c 2000 -W 2 {ORIGINAL}");
    let client = world.network.client.clone();
    let ping = std::thread::spawn(move || run(&client, &ping));
    std::thread::sleep(Duration::from_millis(200));
    for round in 0..3 {
        let old = world.proxy.replace(start(&world).unwrap());
        let line = world.proxy().said.pop().unwrap();
        let pause: f64 = line.split_once("pause_ms=").unwrap().1.parse().unwrap();
        println!("{COUNT} connections, {queues} queues: packets have waited for {pause:.1} ms");
        assert!(cfg!(debug_assertions) || pause < 50.0, "{pause} ms");
        let log = old.unwrap().ended().unwrap();
        assert!(log.contains("another byway has taken over"), "{log}");
        exchange(&mut streams, format!("after round {round}").as_bytes());
    }
    // One that cannot take over leaves everything as it was.
    let text = std::fs::read_to_string(&world.config).unwrap();
    for (old, new, why) in [
        ("10.10.10.10", "10.10.10.11", "and there is now the device byway0 with"),
        ("[device]", "[device]\nname = \"other0\"\nconfigure = false", "and there is now the device other0 with"),
    ] {
        std::fs::write(&world.config, text.replacen(old, new, 1)).unwrap();
        let said = start(&world).unwrap_err();
        assert!(said.contains(why), "{said}");
        let line = world.proxy().wait_for("another byway has not taken over, going on").unwrap();
        assert!(line.contains(why), "{line}");
        exchange(&mut streams, b"still the old one");
    }
    std::fs::write(&world.config, text).unwrap();
    download.join().unwrap();
    assert!(std::fs::read(format!("{FOLDER}/got")).unwrap() == file);
    assert_eq!(echo.accepted(), COUNT, "nobody has connected anew");
    let said = ping.join().unwrap();
    assert!(said.contains(" 2000 received, 0% packet loss"), "no packet is lost: {said}");
    world.end();
}

#[test]
fn a_new_process_takes_over_without_a_loss() {
    in_namespace("a_new_process_takes_over_without_a_loss", || upgrade(1));
}

#[test]
fn a_new_process_takes_over_two_queues_without_a_loss() {
    in_namespace("a_new_process_takes_over_two_queues_without_a_loss", || upgrade(2));
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
    in_namespace("a_flood_and_forged_segments_cost_no_connection", || {
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

/// What it logs when a start is refused.
fn refusal(world: &World) -> String {
    let words = format!("{} run --config {}", env!("CARGO_BIN_EXE_byway"), world.config.display());
    let output = output(&world.network.proxy, &words);
    assert_eq!(output.status.code(), Some(1));
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn a_snapshot_that_cannot_be_used_is_refused_with_the_reason() {
    in_namespace("a_snapshot_that_cannot_be_used_is_refused_with_the_reason", || {
        let mut world = World::new(Options::PLAIN);
        world.proxy.take().unwrap().stop().unwrap();
        let snapshot = format!("{FOLDER}/snapshot");
        let whole = std::fs::read(&snapshot).unwrap();
        let mut damaged = whole.clone();
        damaged[40] ^= 1;
        let advice = "move it away to start without its connections";
        for (bytes, why) in [
            (&damaged[..], "it is damaged: its checksum is not that of its contents"),
            (&whole[..100], "it is damaged: its checksum is not that of its contents"),
            (b"something else", "it is no snapshot of byway"),
            (b"", "it is no snapshot of byway"),
        ] {
            std::fs::write(&snapshot, bytes).unwrap();
            let said = refusal(&world);
            assert_eq!(said, format!("byway: snapshot {snapshot}: {why}: {advice}\n"));
        }
        std::fs::write(&snapshot, &whole).unwrap();
        let config = std::fs::read_to_string(&world.config).unwrap();
        std::fs::write(&world.config, config.replace("10.10.10.10", "10.10.10.11")).unwrap();
        let (old, new) = ("10.10.10.10-10.10.10.10:1024-65535", "10.10.10.11-10.10.10.11:1024-65535");
        let why = format!("it is for the alternative addresses {old}, and there are {new} now");
        assert_eq!(refusal(&world), format!("byway: snapshot {snapshot}: {why}: {advice}\n"));
        assert_eq!(std::fs::read(&snapshot).unwrap(), whole, "it is left as it was");
    });
}

/// One line that says what to do, and everything is as it was.
#[test]
fn what_does_not_work_is_said_in_a_line() {
    in_namespace("what_does_not_work_is_said_in_a_line", || {
        let mut world = World::new(Options::PLAIN);
        // Another byway has the ports, or without them the device.
        assert_eq!(refusal(&world), "byway: control.listen 1.2.3.1:5213: another program has this port\n");
        let whole = std::fs::read_to_string(&world.config).unwrap();
        let (text, rest) = whole.split_once("[control]").unwrap();
        let rules = rest.split_once("[[rule]]").unwrap().1;
        std::fs::write(&world.config, format!("{text}[[rule]]{rules}")).unwrap();
        assert_eq!(refusal(&world), "byway: metrics.listen 127.0.0.1:9207: another program has this port\n");
        std::fs::write(&world.config, text.replace("[metrics]\nlisten = \"127.0.0.1:9207\"\n", "")).unwrap();
        let said = refusal(&world);
        assert!(said.ends_with(": another program has it; is byway running already?\n"), "{said}");
        // A disk that is full when the snapshot is to be written.
        std::fs::write(&world.config, &whole).unwrap();
        world.proxy.take().unwrap().stop().unwrap();
        std::fs::create_dir(format!("{FOLDER}/small")).unwrap();
        run(&world.network.proxy, &format!("mount -t tmpfs -o size=64k none {FOLDER}/small"));
        std::fs::write(&world.config, whole.replace("\"snapshot\"", "\"small/snapshot\"")).unwrap();
        let start = |world: &World| {
            Proxy::start(&world.network.proxy, std::path::Path::new(env!("CARGO_BIN_EXE_byway")), &world.config)
                .unwrap()
        };
        start(&world).stop().unwrap();
        let before = std::fs::read(format!("{FOLDER}/small/snapshot")).unwrap();
        let proxy = start(&world);
        std::fs::write(format!("{FOLDER}/small/snapshot"), &before).unwrap();
        let _ = std::fs::write(format!("{FOLDER}/small/rest"), vec![0; 64 << 10]);
        let error = proxy.stop().unwrap_err();
        let why = format!("byway: snapshot {FOLDER}/small/snapshot: No space left on device (os error 28)");
        assert!(error.ends_with(&why), "{error}");
        assert_eq!(std::fs::read(format!("{FOLDER}/small/snapshot")).unwrap(), before, "the old one is whole");
        let names = run(&world.network.proxy, &format!("ls {FOLDER}/small"));
        assert_eq!(names, "rest\nsnapshot\nsnapshot.used\n", "nothing is left of the new one");
        run(&world.network.client, &format!("ping -n -c 12 -i 0.01 {PROXY}"));
        std::fs::remove_file(format!("{FOLDER}/small/rest")).unwrap();
        world.proxy = Some(start(&world));
        world.end();
    });
}

#[test]
fn a_reload_changes_all_or_nothing() {
    in_namespace("a_reload_changes_all_or_nothing", || {
        let mut world = World::new(Options::PLAIN);
        let _echo = [Echo::start(&world.network.a, 7), Echo::start(&world.network.b, 7)];
        let mut streams = connect(&world.network.client, 7, 20);
        exchange(&mut streams, b"before");
        let text = std::fs::read_to_string(&world.config).unwrap();
        let list = "100.100.100.100 -> 123.45.67.89 (20)\n1 rules, generation 1; in brackets: connections";
        for (old, new, why) in [
            (
                "connections = 20000",
                "connections = 30000",
                "nat.connections: it cannot change while byway runs (it was 20000)",
            ),
            (
                "to = \"123.45.67.89\"",
                "to = \"10.9.9.9\"",
                "rule[1].divert: target 10.9.9.9 is an address of the translator itself",
            ),
            ("to = \"123.45.67.89\"", "to = 5", "rule[1].to: integer found: expected a server"),
            ("[nat]", "[nat", "expected"),
        ] {
            std::fs::write(&world.config, text.replacen(old, new, 1)).unwrap();
            world.proxy().signal(Signal::HUP);
            let line = world.proxy().wait_for("not reloaded, nothing has changed").unwrap();
            assert!(line.contains(why) && line.contains("byway.toml:"), "{line}");
            assert_eq!(world.ctl("list"), list);
        }
        // The same in other words changes nothing, not even what an instruction has changed.
        world.ctl("redivert 123.45.67.89 123.45.67.90 --drain");
        std::fs::write(&world.config, format!("# a comment\n{text}")).unwrap();
        world.proxy().signal(Signal::HUP);
        let line = world.proxy().wait_for("reloaded: ").unwrap();
        assert!(line.ends_with("0 rules removed, 0 new or changed, 0 limits changed"), "{line}");
        let drained = world.ctl("list");
        assert!(drained.contains("123.45.67.90 (0)"), "{drained}");
        // Rules, a group, a limit and a time-out.
        let more = "[groups]\nweb = [\"123.45.67.89\", \"123.45.67.90\"]\n[[rule]]\ndivert = \"100.100.101.0/24\"\ngroup = \"web\"\n\
                    [timeouts]\nudp = \"3m\"\n";
        let text = text.replacen("connections = 20000", "connections = 20000\nclient_limit = 50", 1) + more;
        std::fs::write(&world.config, text).unwrap();
        world.proxy().signal(Signal::HUP);
        let line = world.proxy().wait_for("reloaded: ").unwrap();
        assert!(line.ends_with("0 rules removed, 1 new or changed, 2 limits changed"), "{line}");
        let settings = world.ctl("settings");
        assert!(settings.contains("180000") && settings.contains("50"), "{settings}");
        exchange(&mut streams, b"still here");
        world.end();
    });
}

/// Read while connections are there, by curl; and Prometheus's own tool has nothing to object.
fn read_metrics(queues: usize) {
    let mut world = World::new(Options { queues, ..Options::PLAIN });
    let _echo = Echo::start(&world.network.a, 7);
    let mut streams = connect(&world.network.client, 7, 600);
    exchange(&mut streams, b"hello");
    let page = run(&world.network.proxy, "curl -sS --fail http://127.0.0.1:9207/metrics");
    for line in [
        "byway_connections{state=\"established\"} 600",
        "byway_rule_connections{rule=\"100.100.100.100\",server=\"123.45.67.89\"} 600",
        "byway_connections_total{event=\"opened\"} 600",
    ] {
        assert!(page.lines().any(|found| found == line), "no {line} in:\n{page}");
    }
    std::fs::write(format!("{FOLDER}/page"), &page).unwrap();
    let check = std::fs::File::open(format!("{FOLDER}/page")).unwrap();
    match std::process::Command::new("promtool").args(["check", "metrics"]).stdin(check).output() {
        Ok(said) => assert!(said.status.success() && said.stderr.is_empty(), "{said:?}"),
        Err(error) => println!("SKIPPED: promtool: {error}"),
    }
    let missing = run(&world.network.proxy, "curl -sS -o /dev/null -w %{http_code} http://127.0.0.1:9207/");
    assert_eq!(missing, "404");
    world.restart();
    exchange(&mut streams, b"hello again");
    drop(streams);
    world.end();
}

#[test]
fn the_metrics_page_is_one() {
    in_namespace("the_metrics_page_is_one", || read_metrics(1));
}

#[test]
fn the_metrics_page_is_that_of_all_shards() {
    in_namespace("the_metrics_page_is_that_of_all_shards", || read_metrics(2));
}

/// Once everything is open it has no capabilities, gets no new ones, and the kernel keeps it from other files.
#[test]
fn it_keeps_no_privileges() {
    in_namespace("it_keeps_no_privileges", || {
        let mut world = World::new(Options::PLAIN);
        let said = world.proxy().said.iter().find(|line| line.contains(" privileges ")).cloned().unwrap();
        let lsm = std::fs::read_to_string("/sys/kernel/security/lsm").unwrap_or_else(|_| "landlock".into());
        let files = if lsm.contains("landlock") { "confined by landlock" } else { "not confined" };
        assert!(said.contains("capabilities=\"none\"") && said.contains(files), "{said}");
        let tasks = format!("/proc/{}/task", world.proxy().id());
        for task in std::fs::read_dir(tasks).unwrap() {
            let status = std::fs::read_to_string(task.unwrap().path().join("status")).unwrap();
            for line in ["CapPrm:\t0000000000000000", "CapEff:\t0000000000000000", "NoNewPrivs:\t1"] {
                assert!(status.contains(line), "{line} in {status}");
            }
        }
        world.restart();
        let _ = run(&world.network.client, &format!("ping -n -c 12 -i 0.01 {OWN}"));
        world.end();
    });
}

/// Nothing of it is left but what keeps traffic from leaving untranslated; and the next start finds its way.
#[test]
fn after_a_kill_nothing_leaves_untranslated() {
    in_namespace("after_a_kill_nothing_leaves_untranslated", || {
        let mut world = World::new(Options::PLAIN);
        let _echo = Echo::start(&world.network.a, 7);
        exchange(&mut connect(&world.network.client, 7, 3), b"hello");
        // Where it would go: to a mirror that has the original's address in truth.
        world.network.b.ip(&format!("address add {ORIGINAL}/32 dev eth0")).unwrap();
        world.network.proxy.ip(&format!("route add {ORIGINAL}/32 dev to-b")).unwrap();
        let _stranger = Echo::start(&world.network.b, 7);
        world.proxy().signal(Signal::KILL);
        let _ = world.proxy.take().unwrap().stop();
        let links = run(&world.network.proxy, "ip -o link");
        assert!(!links.contains("byway0"), "{links}");
        let folder: Vec<_> = std::fs::read_dir(FOLDER).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert!(!folder.iter().any(|name| name.to_string_lossy().starts_with("snapshot")), "{folder:?}");
        let words = format!("ping -n -c 2 -i 0.2 -W 1 {ORIGINAL}");
        let said = String::from_utf8(output(&world.network.client, &words).stdout).unwrap();
        assert!(said.contains("100% packet loss"), "{said}");
        let program = std::path::Path::new(env!("CARGO_BIN_EXE_byway"));
        world.proxy = Some(Proxy::start(&world.network.proxy, program, &world.config).unwrap());
        exchange(&mut connect(&world.network.client, 7, 3), b"hello again");
        world.end();
    });
}
