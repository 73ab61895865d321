//! The program on sockets of this machine: the demonstration, `byway ctl`'s protocol, and many clients at once.

#![cfg(unix)]

use core::net::SocketAddr;
use core::sync::atomic::{AtomicBool, Ordering};
use core::time::Duration;
use std::io::{Read, Write};
use std::net::{TcpStream, UdpSocket};
use std::sync::{Arc, Mutex};

use byway::Instant;
use byway::control::{Client, Incoming, Instruction, Request};
use byway_mediator::counters::Reason;
use byway_mediator::demo;
use byway_mediator::server::{Resource, Server, SharedServer, serve};
use byway_mediator::service::Service;
use byway_mediator::settings::Settings;

#[test]
fn the_demonstration_moves_a_body_over_real_sockets() {
    let mut told = Vec::new();
    let report = demo::run(1 << 20, 50, &mut told).unwrap();
    assert!(report.is_intact, "{}", String::from_utf8_lossy(&told));
    assert_eq!((report.bytes, report.instructions), (1 << 20, 50));
    // The last instruction may come when the last block has been asked for.
    assert!(report.moves >= 49, "{report:?}");
    assert!(report.requests.iter().all(|requests| *requests >= 400), "{report:?}");
}

/// A monitor such as `byway monitor` decides by what is measured, which is reported to it at intervals.
#[test]
fn a_monitor_gets_reports_of_what_is_measured() {
    let folder = std::env::temp_dir().join(format!("byway-mediator-reports-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let key = folder.join("key");
    std::fs::write(&key, format!("1 {}", "42".repeat(32))).unwrap();
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let settings = Settings {
        listen: vec![any],
        origins: vec!["coap://127.0.0.9".into()],
        diverts: vec!["198.18.0.9:5683=198.18.0.1:7,198.18.0.1:8".into()],
        control: Some(any),
        keys: vec![key],
        ..Settings::default()
    };
    let mut service = Service::open(&settings).unwrap();
    std::fs::remove_dir_all(&folder).unwrap();
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.connect(service.control_address().unwrap()).unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let proxy = std::thread::spawn({
        let stop = stop.clone();
        move || service.run(&stop)
    });
    let start = std::time::Instant::now();
    let now = || Instant::ZERO + start.elapsed();
    let mut client = Client::new(now(), 1, [0x42; 32], [7; 16]);
    let (mut buffer, mut reports, mut servers) = ([0; 2048], 0, 0);
    while reports < 5 {
        assert!(start.elapsed() < Duration::from_secs(30), "{reports} reports");
        if let Some(datagram) = client.poll_transmit(now()).unwrap() {
            socket.send(datagram).unwrap();
        }
        socket.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        let Ok(length) = socket.recv(&mut buffer) else {
            continue;
        };
        match client.handle(now(), &buffer[..length]) {
            Ok(Incoming::Opened(_)) => {
                let report = Instruction::Report { seconds: 60, interval: 100 };
                client.send(now(), &Request::one(report)).unwrap();
            }
            Ok(Incoming::Answer(answer)) => assert_eq!(answer.refused(), None),
            Ok(Incoming::Report(report)) => {
                reports += 1;
                servers = servers.max(report.page().servers().count());
            }
            _ => {}
        }
    }
    assert_eq!(servers, 2);
    stop.store(true, Ordering::Relaxed);
    proxy.join().unwrap().unwrap();
}

#[test]
fn whoever_gets_no_connection_is_told_why() {
    for (connections, per_client, expected) in [(3, None, 429), (2, Some(3), 503)] {
        let settings = Settings {
            listen: vec![SocketAddr::from(([127, 0, 0, 1], 0))],
            origins: vec!["coap://127.0.0.9".into()],
            connections,
            per_client,
            ..Settings::default()
        };
        let mut service = Service::open(&settings).unwrap();
        let at = service.addresses().unwrap()[0];
        let stop = Arc::new(AtomicBool::new(false));
        let proxy = std::thread::spawn({
            let stop = stop.clone();
            move || service.run(&stop).map(|()| service.mediator().counters().clone())
        });
        // They wait for an answer that does not come.
        let ask = || {
            let mut stream = TcpStream::connect(at).unwrap();
            stream.write_all(b"GET /x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n").unwrap();
            stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
            stream
        };
        let _busy = [ask(), ask()];
        let mut refused = loop {
            let mut refused = Vec::new();
            let (mut buffer, mut stream) = ([0; 1000], ask());
            // One that came first may have been silent until now, and made room.
            while let Ok(length @ 1..) = stream.read(&mut buffer) {
                refused.extend_from_slice(&buffer[..length]);
            }
            if !refused.is_empty() {
                break String::from_utf8(refused).unwrap();
            }
        };
        refused.truncate(12);
        assert_eq!(refused, format!("HTTP/1.1 {expected}"));
        stop.store(true, Ordering::Relaxed);
        let counters = proxy.join().unwrap().unwrap();
        let reason = if expected == 429 { Reason::TooManyOfClient } else { Reason::TooMany };
        assert!(counters.of(reason) >= 1, "{counters}");
    }
}

/// What its kernel keeps for it is bounded too.
#[test]
fn a_client_that_does_not_read_has_no_further_block_asked_for() {
    let server: SharedServer = Arc::new(Mutex::new(Server::default()));
    server.lock().unwrap().resources.insert("big".into(), Resource::new(vec![7; 32 << 20], None));
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let at = socket.local_addr().unwrap().port();
    let stop = Arc::new(AtomicBool::new(false));
    let (serving, until) = (server.clone(), stop.clone());
    std::thread::spawn(move || serve(&socket, &serving, &until));
    let settings = Settings {
        listen: vec![SocketAddr::from(([127, 0, 0, 1], 0))],
        origins: vec![format!("coap://127.0.0.1:{at}")],
        ..Settings::default()
    };
    let mut service = Service::open(&settings).unwrap();
    let http = service.addresses().unwrap()[0];
    let proxy = std::thread::spawn({
        let stop = stop.clone();
        move || service.run(&stop)
    });
    let client = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    client.set_recv_buffer_size(4096).unwrap();
    client.connect(&http.into()).unwrap();
    let mut client = TcpStream::from(client);
    // It reads as fast as it can at first, so that its kernel and the proxy's believe that it can take much.
    write!(client, "GET /big HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    let mut taken = vec![0; 1 << 20];
    client.read_exact(&mut taken).unwrap();
    let asked = || server.lock().unwrap().requests;
    let (mut before, mut same) = (asked(), 0);
    while same < 20 {
        std::thread::sleep(Duration::from_millis(50));
        same = if asked() == before { same + 1 } else { 0 };
        before = asked();
    }
    let ahead = before * 1024 - taken.len() as u64;
    assert!(ahead <= 128 << 10, "{ahead} bytes wait for it");
    stop.store(true, Ordering::Relaxed);
    proxy.join().unwrap().unwrap();
}
