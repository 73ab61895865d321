//! The program on sockets of this machine: the demonstration, `byway ctl`'s protocol, and many clients at once.

#![cfg(unix)]

use core::net::SocketAddr;
use core::sync::atomic::{AtomicBool, Ordering};
use core::time::Duration;
use std::net::UdpSocket;
use std::sync::Arc;

use byway::Instant;
use byway::control::{Client, Incoming, Instruction, Request};
use byway_mediator::demo;
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
