//! How long a move costs over real sockets, in round trips: what is counted is requests, since a clock would measure the
//! machine's load.
//!
//! The proxy asks for the next block as soon as it has the one before. So the gap between the last block of one server and the
//! first of the next is as many round trips as there were requests for the latter, provided that no timer has sent one.

use core::net::{SocketAddr, SocketAddrV4};
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use core::time::Duration;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpStream, UdpSocket};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use byway::Redivert;
use byway::control::Instruction;
use byway_mediator::coap::block::Block;
use byway_mediator::coap::message::{Message, option};
use byway_mediator::counters::{Counters, Reason};
use byway_mediator::far::carrier::inside;
use byway_mediator::monitor::Monitor;
use byway_mediator::server::{Resource, Server};
use byway_mediator::service::Service;
use byway_mediator::settings::Settings;

/// In each direction: as long as this a move finds a request on its way.
const DELAY: Duration = Duration::from_millis(3);
const BLOCKS: u32 = 320;
const MOVES: u32 = 32;
const PATIENCE: Duration = Duration::from_secs(60);

/// Which server got a request for which block, in their order.
type Log = Arc<Mutex<Vec<(usize, u32)>>>;

/// A server behind a delay. Of the requests that it gets while it `is_dead` nothing comes.
fn serve(number: usize, body: Arc<[u8]>, log: Log, is_dead: Arc<AtomicBool>) -> SocketAddrV4 {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let SocketAddr::V4(at) = socket.local_addr().unwrap() else { panic!("no IPv4") };
    let mut server = Server::default();
    server.resources.insert("big".into(), Resource::new(body, None));
    std::thread::spawn(move || {
        let mut datagram = [0; 2048];
        while let Ok((length, SocketAddr::V4(from))) = socket.recv_from(&mut datagram) {
            std::thread::sleep(DELAY);
            let request = Message::parse(&datagram[..length]).unwrap();
            let block = request.option(option::BLOCK2).and_then(Block::parse).unwrap();
            log.lock().unwrap().push((number, block.number));
            if is_dead.load(Ordering::Relaxed) {
                continue;
            }
            let answers = server.handle(from, &datagram[..length]);
            std::thread::sleep(DELAY);
            answers.iter().for_each(|answer| drop(socket.send_to(answer, from)));
        }
    });
    SocketAddrV4::new(inside(*at.ip()), at.port())
}

/// A download that moves on the way. What was asked of whom, and what the proxy has counted.
fn download(mut on_the_way: impl FnMut(u32, &mut dyn FnMut(), &AtomicBool)) -> (Vec<(usize, u32)>, Counters) {
    let body: Arc<[u8]> = (0..BLOCKS * 1024).map(|at| (at.wrapping_mul(0x9e37_79b9) >> 24) as u8).collect();
    let log = Log::default();
    let first_is_dead = Arc::new(AtomicBool::new(false));
    let alive = Arc::new(AtomicBool::new(false));
    let servers =
        [serve(0, body.clone(), log.clone(), first_is_dead.clone()), serve(1, body.clone(), log.clone(), alive)];
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let name = format!("byway-gap-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
    let folder = std::env::temp_dir().join(name);
    std::fs::create_dir_all(&folder).unwrap();
    let key = folder.join("key");
    std::fs::write(&key, format!("1 {}", "42".repeat(32))).unwrap();
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let settings = Settings {
        listen: vec![any],
        origins: vec!["coap://192.0.2.1".into()],
        diverts: vec![format!("192.0.2.1:5683={}", servers[0])],
        control: Some(any),
        keys: vec![key],
        ..Settings::default()
    };
    let mut service = Service::open(&settings).unwrap();
    std::fs::remove_dir_all(&folder).unwrap();
    let (http, control) = (service.addresses().unwrap()[0], service.control_address().unwrap());
    let stop = Arc::new(AtomicBool::new(false));
    let proxy = std::thread::spawn({
        let stop = stop.clone();
        move || service.run(&stop).map(|()| service.mediator().counters().clone())
    });
    let mut monitor = Monitor::open(control, (1, [0x42; 32])).unwrap();
    let mut at = 0;
    let mut redivert = || {
        let (from, to) = (servers[at].into(), servers[1 - at].into());
        monitor.instruct(Instruction::Redivert { from, to, how: Redivert::Switch }).unwrap();
        at = 1 - at;
        // The proxy is ahead of this client: the next move comes after this one.
        let asked = || log.lock().unwrap().iter().filter(|(server, _)| *server == at).count();
        let (before, start) = (asked(), Instant::now());
        while asked() < before + 2 {
            assert!(start.elapsed() < PATIENCE, "it does not move");
            std::thread::sleep(Duration::from_millis(1));
        }
    };
    let mut stream = TcpStream::connect(http).unwrap();
    write!(stream, "GET /big HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    let mut stream = BufReader::new(stream);
    let (mut line, mut got) = (String::new(), Vec::new());
    while line != "\r\n" {
        line.clear();
        assert_ne!(stream.read_line(&mut line).unwrap(), 0);
    }
    loop {
        line.clear();
        stream.read_line(&mut line).unwrap();
        let size = usize::from_str_radix(line.trim(), 16).expect("a chunk");
        let mut chunk = vec![0; size + 2];
        stream.read_exact(&mut chunk).unwrap();
        if size == 0 {
            break;
        }
        got.extend_from_slice(&chunk[..size]);
        on_the_way(got.len() as u32 / 1024, &mut redivert, &first_is_dead);
    }
    assert!(got == body[..]);
    stop.store(true, Ordering::Relaxed);
    let counters = proxy.join().unwrap().unwrap();
    let log = log.lock().unwrap().clone();
    (log, counters)
}

/// One in which no timer has sent anything: the machine may stand still for seconds.
fn undisturbed(on_the_way: impl Fn(u32, &mut dyn FnMut(), &AtomicBool)) -> (Vec<(usize, u32)>, Counters) {
    for _ in 0..5 {
        let (log, counters) = download(&on_the_way);
        if counters.of(Reason::Retransmissions) == 0 {
            return (log, counters);
        }
    }
    panic!("a timer has sent something each time");
}

#[test]
fn a_move_costs_at_most_two_round_trips_over_real_sockets() {
    let (log, counters) = undisturbed(|blocks, redivert, _| {
        if blocks % 8 == 7 && blocks / 8 < MOVES {
            // At another moment of the next round trip each time.
            std::thread::sleep(2 * DELAY * (blocks / 8) / MOVES);
            redivert();
        }
    });
    let moves = counters.of(Reason::Moves);
    assert_eq!(moves, u64::from(MOVES), "{counters}");
    let mut in_vain = 0;
    for block in 0..BLOCKS {
        let asked: Vec<_> = log.iter().filter(|(_, of)| *of == block).map(|(server, _)| *server).collect();
        assert!((1..=2).contains(&asked.len()), "{block}: {asked:?}");
        assert!(asked.len() == 1 || asked[0] != asked[1], "{block}: {asked:?}");
        in_vain += asked.len() - 1;
    }
    // Some moves find a request on its way, and each costs no more than this one.
    assert!(in_vain >= 1 && in_vain as u64 <= moves, "{in_vain} of {moves}");
}

#[test]
fn a_dead_server_costs_one_round_trip_from_the_instruction_on() {
    let (log, counters) = undisturbed(|blocks, redivert, first_is_dead| {
        if blocks == 100 {
            first_is_dead.store(true, Ordering::Relaxed);
            // What is on its way is in vain.
            std::thread::sleep(4 * DELAY);
            redivert();
        }
    });
    let first: Vec<_> = log.iter().filter(|(server, _)| *server == 1).map(|(_, block)| *block).collect();
    // All from the one on that was asked for in vain, each once.
    let in_vain = log.iter().rfind(|(server, _)| *server == 0).map_or(0, |(_, block)| *block);
    assert!(in_vain >= 100, "{in_vain}");
    assert_eq!(first, (in_vain..BLOCKS).collect::<Vec<_>>());
    assert_eq!(counters.of(Reason::Moves), 1);
}
