//! Reports that arrive three seconds late, a tenth of them never, while answers come at once: the monitor takes one step at a
//! time, and what fails is ejected and taken back all the same.

use core::net::SocketAddr;
use core::sync::atomic::{AtomicBool, Ordering};
use core::time::Duration;
use std::collections::VecDeque;
use std::net::UdpSocket;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use byway::{Divert, Weighted};
use byway_testing::udp::Served;

use crate::watched::*;

const LATE: Duration = Duration::from_secs(3);
/// The kind of datagram that a report is, in its fourth byte.
const REPORT: u8 = 8;

/// A network between a monitor and a translator that delays reports, and loses every tenth.
struct Slow {
    at: SocketAddr,
    stop: Arc<AtomicBool>,
    threads: Vec<std::thread::JoinHandle<()>>,
}

impl Slow {
    fn before(translator: SocketAddr) -> Self {
        let (front, back) = (UdpSocket::bind(anywhere()).unwrap(), UdpSocket::bind(anywhere()).unwrap());
        back.connect(translator).unwrap();
        let at = front.local_addr().unwrap();
        for socket in [&front, &back] {
            socket.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        }
        let (front, back, stop) = (Arc::new(front), Arc::new(back), Arc::new(AtomicBool::new(false)));
        let monitor = Arc::new(Mutex::new(None));
        let there = std::thread::spawn({
            let (front, back, monitor, stop) = (front.clone(), back.clone(), monitor.clone(), stop.clone());
            move || {
                let mut buffer = [0; 2048];
                while !stop.load(Ordering::Relaxed) {
                    if let Ok((length, from)) = front.recv_from(&mut buffer) {
                        *monitor.lock().unwrap() = Some(from);
                        let _ = back.send(&buffer[..length]);
                    }
                }
            }
        });
        let again = std::thread::spawn({
            let stop = stop.clone();
            move || {
                let (mut buffer, mut reports, mut late) = ([0; 2048], 0, VecDeque::<(Instant, Vec<u8>)>::new());
                while !stop.load(Ordering::Relaxed) {
                    let length = back.recv(&mut buffer);
                    let Some(to) = *monitor.lock().unwrap() else { continue };
                    while late.front().is_some_and(|(due, _)| *due <= Instant::now()) {
                        let _ = front.send_to(&late.pop_front().unwrap().1, to);
                    }
                    let Ok(length) = length else { continue };
                    if buffer[3] != REPORT {
                        let _ = front.send_to(&buffer[..length], to);
                        continue;
                    }
                    reports += 1;
                    if reports % 10 != 0 {
                        late.push_back((Instant::now() + LATE, buffer[..length].to_vec()));
                    }
                }
            }
        });
        Self { at, stop, threads: vec![there, again] }
    }
}

impl Drop for Slow {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// The decisions in the journal: their causes, and how many seconds after midnight they were made.
fn decisions(monitor: &Monitor) -> Vec<(String, u64)> {
    let text = std::fs::read_to_string(monitor.folder.join("decisions.jsonl")).unwrap_or_default();
    let entries = text.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let entries = entries.filter(|entry| entry["decision"].is_u64() && entry["cause"].is_string());
    entries
        .map(|entry| {
            let time: Vec<u64> =
                entry["time"].as_str().unwrap()[11..19].split(':').map(|n| n.parse().unwrap()).collect();
            (entry["cause"].as_str().unwrap().to_string(), time[0] * 3_600 + time[1] * 60 + time[2])
        })
        .collect()
}

#[test]
fn late_reports_are_waited_for() {
    late_reports("late-reports", |_| {});
}

/// An operator's own rule names two of the servers with other weights, so that each report names these twice.
#[test]
fn late_reports_are_waited_for_where_other_rules_name_the_servers() {
    late_reports("late-reports-2", |served| {
        let group = [Weighted::new(at(SERVERS[1]), 3), Weighted::new(at(SERVERS[0]), 1)];
        served.byway.lock().unwrap().divert(Divert::new(at("100.1.1.9:80")).to_group(&group)).unwrap();
    });
}

fn late_reports(name: &str, prepare: impl FnOnce(&Served)) {
    let served = translator(anywhere(), true);
    prepare(&served);
    let slow = Slow::before(served.at);
    let monitor = Monitor::start(name, &[slow.at]);
    let traffic = Traffic::start(&served, [5, 60, 60]);
    let of = |cause: &str| -> Vec<u64> {
        decisions(&monitor).into_iter().filter(|(of, _)| of.starts_with(cause)).map(|(_, at)| at).collect()
    };
    // More than one step: two thirds belong on the first one.
    wait("a second step", || of("a prediction").len() >= 2);
    for pair in of("a prediction").windows(2) {
        // The first report that was made under the step before must have arrived. Times are cut off at seconds; midnight may lie between.
        let apart = (pair[1] + 86_400 - pair[0]) % 86_400;
        assert!(apart >= LATE.as_secs(), "{:?}", decisions(&monitor));
    }
    let all = weights(&served);
    assert!(all[1] < all[0] && all[2] < all[0], "{all:?}");
    // One that stops answering is ejected; what was seen of it before its trial does not count.
    *traffic.takes.lock().unwrap() = [5, 5, 0];
    wait("it is ejected", || weights(&served)[2] == 0);
    *traffic.takes.lock().unwrap() = [5, 5, 5];
    wait("it is back", || {
        let text = monitor.says("log");
        text.contains("20.0.0.3:80 has answered well") && weights(&served)[2] > 0
    });
    assert!(monitor.says("log").contains("is not known yet"), "{}", monitor.says("log"));
}
