//! Servers that report their load to a monitor, over HTTP in the Prometheus text format: what is believed changes what the monitor
//! thinks of them, and what is not is counted and told. Whoever is slow keeps nobody waiting.

use core::net::SocketAddr;
use core::sync::atomic::{AtomicU64, Ordering};
use core::time::Duration;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Instant;

use crate::watched::*;

/// What an exporter answers, and how often it was asked.
struct Exporter {
    at: SocketAddr,
    asked: Arc<AtomicU64>,
}

impl Exporter {
    /// Answers with what a report is after so many seconds; not at all if there is none.
    fn start(report: impl Fn(f64) -> Option<String> + Send + 'static) -> Self {
        let listener = TcpListener::bind(anywhere()).unwrap();
        let exporter = Self { at: listener.local_addr().unwrap(), asked: Arc::default() };
        let (asked, begun) = (exporter.asked.clone(), Instant::now());
        std::thread::spawn(move || {
            let mut kept = Vec::new();
            for mut stream in listener.incoming().flatten() {
                let _ = stream.read(&mut [0; 4_096]);
                asked.fetch_add(1, Ordering::Relaxed);
                match report(begun.elapsed().as_secs_f64()) {
                    Some(body) => {
                        let length = body.len();
                        let head = "HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4\r\n";
                        let _ = write!(stream, "{head}Content-Length: {length}\r\n\r\n{body}");
                    }
                    None => kept.push(stream),
                }
            }
        });
        exporter
    }

    fn asked(&self) -> u64 {
        self.asked.load(Ordering::Relaxed)
    }
}

/// The table of a configuration that says where one of the servers reports its load.
fn load(server: usize, at: SocketAddr, more: &str) -> String {
    format!("[[load]]\nserver = \"{}\"\nurl = \"http://{at}/metrics\"\ninterval = \"500ms\"\n{more}\n", SERVERS[server])
}

const IDLE: &str = "metric = 'node_cpu_seconds_total{mode=\"idle\"}'\nkind = \"idle-counter\"";

/// Two processors, each of which is busy for this share of the time; with or without the time of the values.
fn processors(busy: f64, with_time: bool) -> impl Fn(f64) -> Option<String> + Send + 'static {
    move |seconds| {
        // Values are of the very time that stands beside them, however late they are read.
        let millis = (seconds * 1e3).floor();
        let (seconds, time) = if with_time { (millis / 1e3, format!(" {millis}")) } else { (seconds, String::new()) };
        let (idle, user) = (1_000.0 + (1.0 - busy) * seconds, 50.0 + busy * seconds);
        let one = |cpu| {
            format!(
                "node_cpu_seconds_total{{cpu=\"{cpu}\",mode=\"idle\"}} {idle}{time}\n\
                 node_cpu_seconds_total{{cpu=\"{cpu}\",mode=\"user\"}} {user}{time}\n"
            )
        };
        Some(format!("# TYPE node_cpu_seconds_total counter\n{}{}", one(0), one(1)))
    }
}

fn state(monitor: &Monitor) -> serde_json::Value {
    serde_json::from_str(monitor.state().split_once("\r\n\r\n").unwrap().1).unwrap()
}

fn reported(monitor: &Monitor, server: usize) -> serde_json::Value {
    state(monitor)["services"][0]["servers"][server]["reported"].clone()
}

/// All three answer in the same time; the third works for its answers twice as hard.
#[test]
fn loads_change_what_is_thought_of_servers() {
    let served = translator(anywhere(), true);
    let [one, two] = [Exporter::start(processors(0.4, true)), Exporter::start(processors(0.4, false))];
    let three = Exporter::start(|_| Some("busy_share 0.8\n".into()));
    let loads = load(0, one.at, IDLE) + &load(1, two.at, IDLE) + &load(2, three.at, "metric = \"busy_share\"");
    let monitor = Monitor::with("loads", &[served.at], &loads);
    let _traffic = Traffic::start(&served, [5, 5, 5]);
    wait("it works", || monitor.says("show").contains("load of"));
    wait("the third one is thought to be weaker", || {
        let correction = |server| reported(&monitor, server)["correction"].as_f64();
        correction(2).is_some_and(|it| it < 0.95)
            && [0, 1].into_iter().all(|n| correction(n).is_some_and(|it| it > 0.95))
    });
    wait("the loads are those that were reported", || {
        let share = reported(&monitor, 0)["load"].as_f64();
        let of_three = format!("load of {} (http://{}/metrics): 80 %", SERVERS[2], three.at);
        share.is_some_and(|it| (it - 0.4).abs() < 1e-3) && monitor.says("show").contains(&of_three)
    });
}

#[test]
fn lies_are_counted_and_told_and_nobody_waits() {
    let served = translator(anywhere(), true);
    let silent = Exporter::start(|_| None);
    let huge = Exporter::start(|_| Some("busy_share 1e300\n".into()));
    let backwards =
        Exporter::start(|seconds| Some(format!("node_cpu_seconds_total{{mode=\"idle\"}} {}\n", 1_000.0 - seconds)));
    let loads = load(0, silent.at, "metric = \"busy_share\"")
        + &load(1, huge.at, "metric = \"busy_share\"")
        + &load(2, backwards.at, IDLE);
    let monitor = Monitor::with("load-lies", &[served.at], &loads);
    let traffic = Traffic::start(&served, [5, 5, 60]);
    wait("the slow server has less all the same", || {
        let all = weights(&served);
        all.len() == 3 && u32::from(all[2]) * 2 < u32::from(all[0])
    });
    wait("each lie has its reason", || {
        let show = monitor.says("show");
        let reasons = [
            "not used: it cannot be reached, or was too slow",
            "not used: the load is above what full load is said to be; now: the load is above what full load is said to be: 1",
            "not used: the counter has run backwards",
        ];
        reasons.into_iter().all(|reason| show.contains(reason)) && show.matches(": not known;").count() == 3
    });
    for server in 0..3 {
        assert!(reported(&monitor, server).is_null(), "{}", monitor.state());
    }
    // One that never answers is asked again, once at a time.
    let before = silent.asked();
    wait("it is asked again", || silent.asked() > before + 1);
    // The monitor goes on at its own pace meanwhile.
    *traffic.takes.lock().unwrap() = [5, 60, 5];
    wait("weights follow", || {
        let all = weights(&served);
        u32::from(all[1]) * 2 < u32::from(all[0])
    });
}

/// One that lied and is mended is believed again; one that stops reporting counts no more.
#[test]
fn reports_come_and_go() {
    let served = translator(anywhere(), true);
    let phase = Arc::new(AtomicU64::new(0));
    let report = |phase: Arc<AtomicU64>| {
        move |_: f64| match phase.load(Ordering::Relaxed) {
            0 => Some("busy_share NaN\n".into()),
            1 => Some("busy_share 0.5\n".into()),
            _ => None,
        }
    };
    let exporters = [0, 1].map(|_| Exporter::start(report(phase.clone())));
    let loads =
        load(0, exporters[0].at, "metric = \"busy_share\"") + &load(1, exporters[1].at, "metric = \"busy_share\"");
    let monitor = Monitor::with("loads-come-and-go", &[served.at], &loads);
    let _traffic = Traffic::start(&served, [5, 5, 5]);
    wait("they are not believed", || {
        monitor.says("show").matches("not used: the load is no finite number").count() == 2
    });
    assert!(reported(&monitor, 0).is_null());
    phase.store(1, Ordering::Relaxed);
    // Each exporter is asked by a thread of its own.
    wait("they are believed", || {
        let is_known = (0..2).all(|server| reported(&monitor, server)["load"] == 0.5);
        is_known && reported(&monitor, 2).is_null() && !monitor.says("show").contains("now: the load")
    });
    phase.store(2, Ordering::Relaxed);
    wait("they are forgotten", || reported(&monitor, 0).is_null());
    std::thread::sleep(Duration::from_millis(600));
    assert!(reported(&monitor, 0).is_null());
}

/// Whom it asks can change while it runs: all of the new tables count, or none.
#[test]
fn tables_change_with_the_configuration() {
    let served = translator(anywhere(), true);
    let exporters = [0, 1].map(|_| Exporter::start(|_| Some("busy_share 0.5\n".into())));
    let table = |server: usize, more: &str| load(server, exporters[server].at, more);
    let busy = "metric = \"busy_share\"";
    let monitor = Monitor::with("loads-change", &[served.at], &(table(0, busy) + &table(1, busy)));
    let _traffic = Traffic::start(&served, [5, 5, 5]);
    let believes = |server: usize| reported(&monitor, server)["load"] == 0.5;
    // How many reports were believed, by the table's place.
    let count = |place: usize| state(&monitor)["loads"][place]["believed"].as_u64().unwrap_or(0);
    wait("its page is there", || monitor.says("show").contains(&exporters[0].at.to_string()));
    wait("they are believed", || believes(0) && believes(1));
    let file = monitor.folder.join("monitor.toml");
    let rewrite = |old: &str, new: &str| {
        let text = std::fs::read_to_string(&file).unwrap();
        assert!(text.contains(old), "{text}");
        std::fs::write(&file, text.replace(old, new)).unwrap();
        monitor.set_rules("");
    };
    // With one wrong table nothing changes.
    rewrite(&table(1, busy), &table(1, "metric = \"busy share\""));
    wait("it is refused", || monitor.state().contains("\"refused_reloads\":1"));
    let asked = exporters[1].asked();
    wait("both are still asked", || exporters[1].asked() > asked + 1 && believes(0) && believes(1));
    // The second server is not asked any more, and the first one goes on as before.
    wait("the first one has reported for a while", || count(0) > 5);
    let before = count(0);
    rewrite(&table(1, "metric = \"busy share\""), "");
    wait("the table is gone", || !monitor.says("show").contains(&exporters[1].at.to_string()));
    assert!(count(0) >= before, "it has begun anew");
    wait("its report is forgotten", || {
        assert!(believes(0), "what has not changed goes on");
        reported(&monitor, 1).is_null()
    });
    let asked = exporters[1].asked();
    std::thread::sleep(Duration::from_millis(1_200));
    assert_eq!(exporters[1].asked(), asked);
    // It comes back beside the other.
    rewrite(&table(0, busy), &(table(0, busy) + &table(1, busy)));
    wait("both are believed", || believes(0) && believes(1));
}
