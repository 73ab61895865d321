//! The metrics page, in the text format that Prometheus reads. Everything is read when it is asked for; nothing is counted
//! twice, and a page holds up no shard for longer than a few hundred connections take.

use core::fmt::Write as _;
use core::net::SocketAddrV4;
use core::sync::atomic::{AtomicU64, Ordering};
use core::time::Duration;
use std::collections::BTreeMap;
use std::net::TcpListener;
use std::sync::{Arc, Mutex};

use byway::{DropReason, Match, State, Target};

use crate::control::ControlHandle;
use crate::counters::Counters;
use crate::http::{self, Limits, Request};
use crate::names::{Counts, Naming};
use crate::{listen, portion};
use crate::report::ReportHandle;
use crate::router::Router;
use crate::shard::Handle;

/// How many connections, or rules and their servers, are looked at before packets have their turn again.
const PAGE: usize = 256;
/// How often the rules are read anew because they have changed in between; after that, a page may show some of them twice or not.
const ATTEMPTS: usize = 5;
const LIMITS: Limits = Limits { at_once: 16, longest: 8192, patience: Duration::from_secs(5) };

/// The threads as they are just now.
pub type Handles = Arc<Mutex<Threaded>>;

/// The threads that can be asked for something.
#[derive(Clone, Debug, Default)]
pub struct Threaded {
    /// A thread for each queue.
    pub shards: Vec<Handle>,
    /// The port for instructions, if there is one.
    pub control: Option<ControlHandle>,
    /// The thread that reports to a collector, if there is one.
    pub report: Option<ReportHandle>,
    /// The naming server, if there is one.
    pub naming: Option<Arc<Naming>>,
    /// What is known of the other portion, if there is one.
    pub portion: Option<Arc<portion::Status>>,
}

/// The figures of one shard.
#[derive(Debug, Default)]
struct Shard {
    router: Counters,
    translator: byway::Counters,
    held: usize,
    capacity: usize,
    rules: usize,
    /// By rule and server.
    servers: Vec<(String, String, u32)>,
    states: BTreeMap<&'static str, u64>,
}

/// Opens the port.
///
/// # Errors
/// One line that says what to do.
pub fn open(listen: SocketAddrV4) -> Result<TcpListener, String> {
    TcpListener::bind(listen).map_err(|error| listen::refusal("metrics.listen", listen, &error))
}

/// Serves the page, on threads of its own.
///
/// # Errors
/// The thread cannot be started.
pub fn serve(listener: TcpListener, shards: Handles) -> Result<(), String> {
    http::serve("metrics", listener, LIMITS, move |stream, asked| {
        let threads = || shards.lock().map_or_else(|_| Threaded::default(), |threads| threads.clone());
        let is_head = asked.as_ref().is_ok_and(|asked| asked.method == "HEAD");
        let (status, body) = match asked {
            Ok(asked) => answer(&asked, threads),
            Err((status, why)) => (status, format!("{why}\n")),
        };
        let write = if is_head { http::answer_head } else { http::answer };
        let allowed = if status == 405 { "Allow: GET, HEAD\r\n" } else { "" };
        write(stream, LIMITS, status, "text/plain; version=0.0.4; charset=utf-8", allowed, body.as_bytes())
    })
}

fn answer(asked: &Request, threads: impl FnOnce() -> Threaded) -> (u16, String) {
    match (asked.method.as_str(), asked.path.as_str()) {
        ("GET" | "HEAD", "/metrics") => page(&threads()).map_or((503, "byway is ending\n".into()), |page| (200, page)),
        ("GET" | "HEAD", _) => (404, "there is /metrics\n".into()),
        _ => (405, "GET /metrics\n".into()),
    }
}

/// The whole page; `None` if a thread has ended.
fn page(threads: &Threaded) -> Option<String> {
    let all: Option<Vec<Shard>> = threads.shards.iter().map(ask).collect();
    let refused = match &threads.control {
        Some(control) => control.ask(|port| port.refused())?,
        None => Vec::new(),
    };
    let names = threads.naming.as_ref().map(|naming| naming.counts());
    let mut page = write(&all?, &refused, names.as_ref());
    if let Some(report) = &threads.report {
        page.push_str(&write_report(report));
    }
    if let Some(portion) = &threads.portion {
        page.push_str(&write_portion(portion));
    }
    Some(page)
}

fn ask(handle: &Handle) -> Option<Shard> {
    let mut shard = handle.ask(|router| summary(router))?;
    let servers = ask_rules(handle)?.into_iter();
    shard.servers = servers.map(|(matches, to, count)| (matches.to_string(), to.to_string(), count)).collect();
    let mut next = Some(0);
    while let Some(first) = next {
        let (states, behind) = handle.ask(move |router| count_states(router, first))?;
        for state in states {
            *shard.states.entry(state.name()).or_default() += 1;
        }
        next = behind;
    }
    Some(shard)
}

/// A rule's connections on one of its servers.
type Load = (Match, Target, u32);

/// The connections of all rules, by server, as they are in a shard. `None` if it has ended.
fn ask_rules(handle: &Handle) -> Option<Vec<Load>> {
    let mut attempt = 0;
    loop {
        attempt += 1;
        let (mut all, mut next, mut seen) = (Vec::new(), Some(0), None);
        while let Some(first) = next {
            let (loads, behind, generation) = handle.ask(move |router| some_rules(router, first))?;
            if attempt < ATTEMPTS && seen.replace(generation).is_some_and(|seen| seen != generation) {
                break;
            }
            all.extend(loads);
            next = behind;
        }
        if next.is_none() {
            return Some(all);
        }
    }
}

/// Some rules, where the next ones begin, and the generation of the rules. Text is made of them elsewhere, where no packet waits.
fn some_rules(router: &Router, first: usize) -> (Vec<Load>, Option<usize>, u32) {
    let (mut loads, mut place) = (Vec::new(), first);
    let mut rules = router.translator.diverts().skip(first);
    while place < first + PAGE && loads.len() < PAGE {
        let Some(rule) = rules.next() else {
            return (loads, None, router.translator.generation());
        };
        loads.extend(rule.servers().map(|(server, count)| (rule.matches(), server.target, count)));
        place += 1;
    }
    (loads, Some(place), router.translator.generation())
}

/// The states of some connections, and where the next ones begin.
fn count_states(router: &Router, first: usize) -> (Vec<State>, Option<usize>) {
    let mut connections = router.translator.connections_from(first);
    let states: Vec<_> = connections.by_ref().take(PAGE).map(|connection| connection.state).collect();
    let next = (states.len() == PAGE).then(|| connections.position());
    (states, next)
}

fn summary(router: &Router) -> Shard {
    Shard {
        router: router.counters,
        translator: *router.translator.counters(),
        held: router.held(),
        capacity: router.translator.capacity(),
        rules: router.translator.diverts().count(),
        servers: Vec::new(),
        states: BTreeMap::new(),
    }
}

/// A page in the making.
#[derive(Debug, Default)]
struct Page(String);

impl Page {
    /// Begins a metric.
    fn metric(&mut self, name: &str, kind: &str, help: &str) {
        let help = help.replace('\n', " ");
        let _ = write!(self.0, "# HELP byway_{name} {}\n# TYPE byway_{name} {kind}\n", help.trim_end_matches('.'));
    }

    /// A value of the metric that was begun last.
    fn value(&mut self, name: &str, labels: &[(&str, &str)], value: u64) {
        let _ = write!(self.0, "byway_{name}");
        for (number, (label, text)) in labels.iter().enumerate() {
            let open = if number == 0 { '{' } else { ',' };
            let text = text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            let _ = write!(self.0, "{open}{label}=\"{text}\"");
        }
        let close = if labels.is_empty() { "" } else { "}" };
        let _ = writeln!(self.0, "{close} {value}");
    }

    fn single(&mut self, name: &str, kind: &str, help: &str, value: u64) {
        self.metric(name, kind, help);
        self.value(name, &[], value);
    }
}

fn write(shards: &[Shard], refused: &[(&'static str, u64)], names: Option<&Counts>) -> String {
    let mut page = Page::default();
    let mut router = Counters::default();
    for shard in shards {
        router.add(&shard.router);
    }
    for (name, help, count) in router.named() {
        page.single(&format!("{name}_total"), "counter", help, count);
    }
    let all: byway::Counters = shards.iter().map(|shard| &shard.translator).sum();
    page.metric("translated_packets_total", "counter", "Packets translated");
    page.value("translated_packets_total", &[("direction", "to_server")], all.to_server);
    page.value("translated_packets_total", &[("direction", "to_client")], all.to_client);
    page.single("passed_packets_total", "counter", "Packets that were none of the translator's", all.passed);
    page.metric("dropped_packets_total", "counter", "Packets that the translator dropped, by reason");
    for reason in DropReason::ALL {
        page.value("dropped_packets_total", &[("reason", reason.name())], all.dropped(*reason));
    }
    page.metric("connections_total", "counter", "What has become of connections");
    for (what, count) in [
        ("opened", all.opened),
        ("imported", all.imported),
        ("moved", all.moved),
        ("closed", all.closed),
        ("reset", all.reset),
        ("expired", all.expired),
        ("evicted", all.evicted),
        ("stranded", all.stranded),
        ("forgotten", all.forgotten),
    ] {
        page.value("connections_total", &[("event", what)], count);
    }
    page.single("transmitted_packets_total", "counter", "RSTs and ICMP errors of the translator", all.transmitted);
    page.single("transmit_lost_total", "counter", "The same that the rate limit kept back", all.transmit_lost);
    page.single("events_lost_total", "counter", "Events that found their queue full", all.events_lost);

    page.metric("connections", "gauge", "Current connections, by state");
    let mut states = BTreeMap::new();
    for (state, count) in shards.iter().flat_map(|shard| &shard.states) {
        *states.entry(*state).or_default() += count;
    }
    for (state, count) in states {
        page.value("connections", &[("state", state)], count);
    }
    page.metric("rule_connections", "gauge", "Current connections, by rule and server");
    let mut servers = BTreeMap::new();
    for (rule, server, count) in shards.iter().flat_map(|shard| &shard.servers) {
        *servers.entry((rule, server)).or_default() += u64::from(*count);
    }
    for ((rule, server), count) in servers {
        page.value("rule_connections", &[("rule", rule), ("server", server)], count);
    }
    let of_each = |page: &mut Page, name, help, value: fn(&Shard) -> usize| {
        page.metric(name, "gauge", help);
        for (number, shard) in shards.iter().enumerate() {
            page.value(name, &[("shard", &number.to_string())], value(shard) as u64);
        }
    };
    of_each(&mut page, "capacity_connections", "Connections that there is room for", |shard| shard.capacity);
    of_each(&mut page, "rules", "Rules", |shard| shard.rules);
    of_each(&mut page, "held_fragments", "Fragments that wait for the first of their datagram", |shard| shard.held);
    page.metric("control_refused_total", "counter", "Datagrams at the port for instructions that got no answer, by reason");
    for (reason, count) in refused {
        page.value("control_refused_total", &[("reason", reason)], *count);
    }
    if let Some(names) = names {
        page.single("name_entries", "gauge", "Entries of the naming server", names.entries as u64);
        page.metric("name_queries_total", "counter", "Queries to the naming server, by what has become of them");
        for (outcome, count) in names.outcomes.iter().filter(|(outcome, _)| *outcome != "proven") {
            page.value("name_queries_total", &[("outcome", outcome)], *count);
        }
        let proven = names.outcomes.iter().find(|(outcome, _)| *outcome == "proven").map_or(0, |(_, count)| *count);
        page.single("name_queries_proven_total", "counter", "Queries with a valid cookie", proven);
        page.single("name_connections", "gauge", "Current TCP connections of DNS clients", names.connections as u64);
        page.metric("name_connections_total", "counter", "TCP connections of DNS clients, and the queries that were relayed");
        for (event, count) in names.relay {
            page.value("name_connections_total", &[("event", event)], count);
        }
        if let Some((waiting, outcomes)) = &names.datagrams {
            page.single("name_relay_queries", "gauge", "Relayed queries over UDP that wait for an answer", *waiting as u64);
            page.metric("name_relay_total", "counter", "Relayed queries, attempts and answers, by what has become of them");
            for (outcome, count) in outcomes {
                page.value("name_relay_total", &[("outcome", outcome)], *count);
            }
        }
    }
    page.0
}

/// What was reported to a collector.
fn write_report(report: &ReportHandle) -> String {
    let (mut page, sent) = (Page::default(), report.sent());
    let count = |number: &AtomicU64| number.load(Ordering::Relaxed);
    page.single("report_messages_total", "counter", "IPFIX messages for the collector", count(&sent.messages));
    page.single("report_records_total", "counter", "Data records in them", count(&sent.records));
    page.single("report_records_lost_total", "counter", "Records that got lost on their way", count(&sent.lost));
    page.single("report_failures_total", "counter", "Attempts to reach the collector that failed", count(&sent.failures));
    page.0
}

fn write_portion(status: &portion::Status) -> String {
    let mut page = Page::default();
    let is_connected = status.is_connected.load(Ordering::Relaxed);
    page.single("portion_connected", "gauge", "Whether the other portion is there", is_connected.into());
    page.metric("portion_records_total", "counter", "Records exchanged with the other portion");
    for (what, count) in [("sent", &status.sent), ("received", &status.received), ("refused", &status.refused)] {
        page.value("portion_records_total", &[("event", what)], count.load(Ordering::Relaxed));
    }
    page.metric("portion_queries_total", "counter", "Records and notices of relayed DNS queries");
    let queries = [
        ("sent", &status.queries_sent),
        ("received", &status.queries_received),
        ("refused", &status.queries_refused),
        ("lost", &status.queries_lost),
    ];
    for (what, count) in queries {
        page.value("portion_queries_total", &[("event", what)], count.load(Ordering::Relaxed));
    }
    let complete = status.complete.load(Ordering::Relaxed);
    page.single("portion_complete_total", "counter", "How often all connections were sent to the other portion", complete);
    page.0
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::TcpStream;

    use super::*;

    /// Clients that send nothing, or a byte at a time, or do not read, delay no other client.
    #[test]
    fn slow_clients_keep_nobody_waiting() {
        let listener = open("127.0.0.1:0".parse().unwrap()).unwrap();
        let at = listener.local_addr().unwrap();
        serve(listener, Handles::default()).unwrap();
        let slow: Vec<_> = (0..3).map(|_| TcpStream::connect(at).unwrap()).collect();
        let mut trickling = TcpStream::connect(at).unwrap();
        trickling.write_all(b"G").unwrap();
        let mut asking = TcpStream::connect(at).unwrap();
        asking.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        asking.set_read_timeout(Some(LIMITS.patience / 2)).unwrap();
        let mut said = String::new();
        asking.read_to_string(&mut said).expect("nobody has to wait for those that are slow");
        assert!(said.starts_with("HTTP/1.1 200 OK\r\n") && said.contains("byway_received_total 0\n"), "{said}");
        // The connection is closed however often the client sends a byte; it may be told why before.
        let mut said = [0; 1_024];
        trickling.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        let ended = (0..60).any(|_| {
            let _ = trickling.write_all(b"E");
            matches!(trickling.read(&mut said), Ok(0)) || trickling.write_all(b"T").is_err()
        });
        assert!(ended);
        drop(slow);
    }

    /// A HEAD is answered as a GET would be, without the body, and other methods are told which there are.
    #[test]
    fn a_head_has_no_body() {
        let listener = open("127.0.0.1:0".parse().unwrap()).unwrap();
        let at = listener.local_addr().unwrap();
        serve(listener, Handles::default()).unwrap();
        let ask = |method: &str, path: &str| {
            let mut asking = TcpStream::connect(at).unwrap();
            asking.write_all(format!("{method} {path} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes()).unwrap();
            let mut said = String::new();
            asking.read_to_string(&mut said).unwrap();
            let (head, body) = said.split_once("\r\n\r\n").unwrap();
            (head.to_string(), body.len())
        };
        for path in ["/metrics", "/"] {
            let ((got, length), (head, none)) = (ask("GET", path), ask("HEAD", path));
            assert!(length != 0 && got.contains(&format!("Content-Length: {length}")), "{got}");
            assert_eq!((head, none), (got, 0));
        }
        let (refused, _) = ask("DELETE", "/metrics");
        assert!(refused.starts_with("HTTP/1.1 405 ") && refused.contains("\r\nAllow: GET, HEAD"), "{refused}");
    }

    /// No packet waits for more than a page of them.
    #[test]
    fn many_rules_are_read_in_pages() {
        const MANY: usize = 3 * PAGE + 7;
        let config = byway::Config::new([7; 32]).alternative([10, 10, 10, 10].into(), 1024..=65535);
        let mut translator = byway::Translator::new(config, byway::Heap::new(16, 4 * MANY)).unwrap();
        let mut room = [byway::Weighted { target: Target::Same, weight: 1 }; 4];
        for number in 0..MANY {
            let more = if number % 10 == 0 { ", 20.0.0.2" } else { "" };
            let rule = format!("100.1.{}.{} to 20.0.0.1{more}", number >> 8, number & 255);
            translator.divert(byway::Divert::parse(&rule, &mut room).unwrap()).unwrap();
        }
        let mut expected: Vec<Load> = Vec::new();
        for rule in translator.diverts() {
            expected.extend(rule.servers().map(|(server, count)| (rule.matches(), server.target, count)));
        }
        let settings = crate::router::Settings {
            address: [10, 9, 9, 9].into(),
            mtu: 1500,
            errors_per_second: 10,
            held: 4,
            resumable: None,
            early: None,
        };
        let router = Router::new(translator, settings);
        let (mut all, mut next) = (Vec::new(), Some(0));
        while let Some(first) = next {
            let (loads, behind, _) = some_rules(&router, first);
            assert!(loads.len() <= PAGE + 1, "{}", loads.len());
            all.extend(loads);
            next = behind;
        }
        assert_eq!(all, expected);
        // What is asked for first does not grow with the rules.
        assert_eq!((summary(&router).servers.len(), summary(&router).rules), (0, MANY));
        let handle = Handle::new(0, Box::new(router), crate::listeners::Listeners::default()).unwrap();
        let shard = ask(&handle).unwrap();
        assert_eq!(shard.servers.len(), expected.len());
        assert_eq!(shard.servers[0].0, expected[0].0.to_string());
    }

    #[test]
    fn labels_are_quoted_and_shards_are_added_up() {
        let one = || Shard {
            router: Counters { received: 3, ..Counters::default() },
            servers: vec![("a \"b\" \\".into(), "20.0.0.1".into(), 2)],
            states: [("established", 2)].into(),
            capacity: 100,
            ..Shard::default()
        };
        let page = write(&[one(), one()], &[("stale", 3)], None);
        for line in [
            "# HELP byway_received_total Packets read from the device; a super-packet is one",
            "# TYPE byway_received_total counter",
            "byway_received_total 6",
            "byway_rule_connections{rule=\"a \\\"b\\\" \\\\\",server=\"20.0.0.1\"} 4",
            "byway_connections{state=\"established\"} 4",
            "byway_capacity_connections{shard=\"1\"} 100",
            "byway_dropped_packets_total{reason=\"table_full\"} 0",
        ] {
            assert!(page.lines().any(|found| found == line), "no {line} in:\n{page}");
        }
    }
}
