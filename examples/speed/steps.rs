//! The longest single call of each kind, on a large table.

use core::hint::black_box;
use core::net::{Ipv4Addr, SocketAddrV4};
use std::time::Instant as Clock;

use byway::{Divert, Heap, Instant, Match, Prefix, Redivert, Translator};

use crate::rules::{address, client, original, server, translator, udp};
use crate::rules_report::Table;

/// No call takes longer, in nanoseconds.
pub(crate) const LONGEST: f64 = 50_000.0;

/// What the longest call of each kind takes: the same calls are made three times, on fresh tables, and of each call the
/// shortest time counts, so that what the machine does meanwhile is left out.
struct Steps {
    /// For each call its kind and its shortest time so far, in nanoseconds.
    calls: Vec<(&'static str, f64)>,
    /// How many of them this run has made.
    made: usize,
}

impl Steps {
    fn call<R>(&mut self, kind: &'static str, call: impl FnOnce() -> R) -> R {
        let before = Clock::now();
        let result = black_box(call());
        let taken = before.elapsed().as_nanos() as f64;
        match self.calls.get_mut(self.made) {
            Some((of, least)) => {
                assert_eq!(*of, kind, "the runs are the same");
                *least = least.min(taken);
            }
            None => self.calls.push((kind, taken)),
        }
        self.made += 1;
        result
    }

    fn tell(&self, table: &mut Table) {
        let mut kinds: Vec<&str> = Vec::new();
        for (kind, _) in &self.calls {
            if !kinds.contains(kind) {
                kinds.push(kind);
            }
        }
        for kind in kinds {
            let times = self.calls.iter().filter(|(of, _)| *of == kind).map(|(_, time)| *time);
            let what = format!("longest of {:>6}: {kind}", times.clone().count());
            table.within(what, times.fold(0.0, f64::max), LONGEST, "");
        }
    }
}

/// Every kind of call on a table with 100 000 rules, of which 1000 are port forwards that keep the source.
pub(crate) fn measure(table: &mut Table) {
    const RULES: u32 = 100_000;
    const SERVERS: u32 = 60_000;
    const OWN: Ipv4Addr = Ipv4Addr::new(10, 10, 10, 10);
    let mut steps = Steps { calls: Vec::new(), made: 0 };
    for _ in 0..3 {
        steps.made = 0;
        let mut t = translator(RULES as usize + 1_000, 65_000);
        let mut now = Instant::from_millis(1);
        for n in 0..RULES {
            steps.call("insert", || t.divert(Divert::new(original(n)).to(server(n % SERVERS)))).expect("room");
        }
        for n in 0..1_000 {
            let clients = Prefix::new(address(0x0a00_0000 + n * 256), 24).expect("a length");
            let forward = Match::from(SocketAddrV4::new(OWN, 2_000 + n as u16)).clients(clients);
            let divert = Divert::new(forward).to(server(SERVERS + n)).keep_source();
            steps.call("insert a forward for some clients that keeps the source", || t.divert(divert)).expect("room");
        }
        for n in 0..2_000 {
            let mut packet = udp(client(n), original(n * 41));
            let _ = steps.call("new connection", || t.translate(now, &mut packet));
        }
        for n in 0..2_000 {
            let mut packet = udp(client(n), SocketAddrV4::new(address(0x6440_0003 + n * 35), 80));
            let _ = steps.call("passing packet", || t.translate(now, &mut packet));
            let mut packet = udp(server(SERVERS + n % 1_000), client(n));
            let _ = steps.call("packet from a server that a rule hides", || t.translate(now, &mut packet));
            let mut packet = udp(client(n), SocketAddrV4::new(OWN, 1_900 + n as u16));
            let _ = steps.call("packet to a port of our own", || t.translate(now, &mut packet));
        }
        for n in 0..10_000 {
            steps.call("look up", || t.find_divert(original(n)).is_some());
            steps.call("update", || t.divert(Divert::new(original(n)).to(server((n + 1) % SERVERS)))).expect("room");
        }
        for n in 0..1_000 {
            steps.call("count connections", || t.connections_on(server(n)));
        }
        for n in 0..20 {
            let how = if n % 2 == 0 { Redivert::Switch } else { Redivert::Drain };
            let kind = if n % 2 == 0 { "switch" } else { "drain" };
            steps.call(kind, || t.redivert(server(n), server(n + 1_000), how)).expect("room");
        }
        let poll = |steps: &mut Steps, t: &mut Translator<Heap>, now: &mut Instant, polls: u32| {
            for _ in 0..polls {
                let Some(due) = steps.call("ask when to poll", || t.poll_at()) else {
                    return;
                };
                *now = due.max(*now);
                steps.call("poll", || t.poll(*now));
            }
        };
        poll(&mut steps, &mut t, &mut now, 10_000);
        for n in 0..RULES / 2 {
            steps.call("remove", || t.remove(original(n)).is_some());
        }
        poll(&mut steps, &mut t, &mut now, 10_000);
        steps.call("forget", || t.forget());
        poll(&mut steps, &mut t, &mut now, 1_000);
    }
    steps.tell(table);
}
