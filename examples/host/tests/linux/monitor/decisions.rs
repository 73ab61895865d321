//! `byway monitor` with real sockets: clients, two servers with workers whose service time is known, byway between them, and
//! the monitor beside it. The servers know nothing of the monitor's formula.

use core::net::Ipv4Addr;
use core::sync::atomic::Ordering;
use core::time::Duration;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::Instant;

use super::traffic::{Clients, Server};
use crate::network::*;
use byway_host::lab::network::{A, B, CONTROL};
use byway_host::lab::space::Space;

/// These tests measure times: none runs beside another.
static ALONE: Mutex<()> = Mutex::new(());

const RULE: &str = "[[rule]]\ndivert = \"100.100.100.100:80 tcp\"\nto = [\"123.45.67.89:80\", \"123.45.67.90:80\"]\n";
const PAGE: &str = "127.0.0.1:8213";

/// A running monitor.
struct Monitor(Child);

impl Monitor {
    fn start(space: &Space, arguments: &'static [&'static str]) -> Self {
        let child = space.run(move || {
            let mut command = Command::new(env!("CARGO_BIN_EXE_byway"));
            command.args(["monitor", "--config", "/run/test/monitor.toml"]).args(arguments).stdin(Stdio::null());
            command.spawn().unwrap()
        });
        Self(child)
    }

    fn kill(mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn configure(more: &str) {
    let text = format!(
        "[monitor]\npage = \"{PAGE}\"\n\n[[translator]]\nname = \"edge\"\nat = \"{CONTROL}\"\nkey = \"key\"\n\n[[service]]\nname = \"web\"\n\
         divert = \"100.100.100.100:80 tcp\"\nservers = [\"{A}:80\", \"{B}:80\"]\n{more}"
    );
    std::fs::write(format!("{FOLDER}/monitor.toml"), text).unwrap();
}

/// What `byway monitor` says to these words, asked beside the monitor.
#[track_caller]
fn monitor(world: &World, words: &str) -> String {
    run(
        &world.network.proxy,
        &format!("{} monitor {words} --config {FOLDER}/monitor.toml", env!("CARGO_BIN_EXE_byway")),
    )
}

/// The same, where it may be refused.
fn try_monitor(world: &World, words: &str) -> (bool, String) {
    let words = format!("{} monitor {words} --config {FOLDER}/monitor.toml", env!("CARGO_BIN_EXE_byway"));
    let output = output(&world.network.proxy, &words);
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(said).unwrap())
}

/// The weights that byway's rule has: of the first server and of the second one.
fn weights(world: &mut World) -> [f64; 2] {
    let said = world.ctl("list");
    let weight = |server: Ipv4Addr| {
        let (_, rest) = said.split_once(&format!("{server}:80*")).unwrap_or_else(|| panic!("{said}"));
        rest.split(|c: char| !c.is_ascii_digit()).next().unwrap().parse::<f64>().unwrap()
    };
    [weight(A), weight(B)]
}

/// The first server's share of new connections in the next seconds.
fn share(servers: &[Server; 2], seconds: u64) -> f64 {
    let before = servers.each_ref().map(Server::accepted);
    std::thread::sleep(Duration::from_secs(seconds));
    let [a, b] = [0, 1].map(|n| (servers[n].accepted() - before[n]) as f64);
    a / (a + b)
}

/// One of two equal servers becomes much slower: its weight sinks, with a reason that can be asked for. When the monitor is
/// killed everything goes on as it is.
#[test]
fn the_share_of_a_slow_server_shrinks() {
    let _alone = ALONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    in_namespace(|| {
        let mut world = World::new(Options { rules: RULE, ..Options::PLAIN });
        let servers = [Server::start(&world.network.a, 10), Server::start(&world.network.b, 10)];
        configure("");
        let running = Monitor::start(&world.network.proxy, &[]);
        let clients = Clients::start(&world.network.client, 24);
        wait("the monitor has heard the translator", || monitor(&world, "log").contains("the fewest for its weight"));
        std::thread::sleep(Duration::from_secs(4));
        let [a, b] = weights(&mut world);
        assert!((0.5..2.0).contains(&(a / b)), "equal servers: {a} {b}");
        let before = share(&servers, 2);
        assert!((0.3..0.7).contains(&before), "{before}");

        servers[0].takes(80);
        let took = wait("the weight of the slow server sinks", || {
            let [a, b] = weights(&mut world);
            a / (a + b) < 0.3
        });
        let after = share(&servers, 3);
        let (count, failed, p90) = clients.lately(3);
        println!(
            "share of the slow server: {before:.2}, {after:.2} after {took:?}; {count} requests, 90 % below {p90:?}"
        );
        assert!(after < 0.3 && failed == 0 && count > 300, "{after} {failed} {count}");

        // Which decision it was, why, and from what.
        let why = || {
            let log = monitor(&world, "log");
            let decision = log.lines().find(|line| line.contains("the model expects requests to take")).unwrap();
            let number = decision.split(' ').next().unwrap();
            monitor(&world, &format!("why {number}"))
        };
        let parts = [
            "because of: a prediction of the model",
            "promised: ",
            "seen of 123.45.67.89:80",
            "sent to: edge: updated",
        ];
        // One that was made this moment has no answer yet.
        wait("it says why", || {
            let said = why();
            parts.iter().all(|part| said.contains(part))
        });
        let log = monitor(&world, "log");
        let shown = monitor(&world, "show");
        assert!(shown.contains("translator edge (1.2.3.1:5213): open, 0 reports lost\n"), "{shown}");

        // Without a monitor.
        running.kill();
        let kept = weights(&mut world);
        let share = share(&servers, 3);
        let (count, failed, _) = clients.lately(3);
        assert!(share < 0.3 && failed == 0 && count > 300, "{share} {failed} {count}");
        assert_eq!(weights(&mut world), kept);
        // Another one goes on where it stood: not from the beginning.
        let _again = Monitor::start(&world.network.proxy, &[]);
        std::thread::sleep(Duration::from_secs(3));
        let [a, b] = weights(&mut world);
        assert!(a / (a + b) < 0.35, "{a} {b}");
        assert!(monitor(&world, "log").lines().count() >= log.lines().count());
        drop(clients);
        world.end_unjudged();
    });
}

/// Connections of this rule can be handed over.
const RESUMABLE: &str = "[resumable]\nquiet = \"30ms\"\n[[rule]]\ndivert = \"100.100.100.100:80 tcp\"\nresumable = true\n\
                         least_loaded = true\nto = [\"123.45.67.89:80\", \"123.45.67.90:80\"]\n";

/// Forty clients that keep their connections, on two servers, about half on each; and the monitor, which may hand them over.
fn forty_that_stay(settings: &str) -> (World, [Server; 2], Monitor, Clients) {
    let mut world = World::new(Options { rules: RESUMABLE, ..Options::PLAIN });
    let servers = [Server::start(&world.network.a, 10), Server::start(&world.network.b, 10)];
    configure(&format!("open_connections = \"hand-over\"\n{settings}"));
    let running = Monitor::start(&world.network.proxy, &[]);
    let clients = Clients::keep(&world.network.client, 40);
    wait("the monitor has heard the translator", || try_monitor(&world, "show").1.contains("open, 0 reports lost"));
    std::thread::sleep(Duration::from_secs(6));
    // A machine that stood still may have had one of them ejected.
    wait("both have about half of the connections", || (13..=27).contains(&on_the_first(&mut world)));
    (world, servers, running, clients)
}

/// How many connections are open on the first of them.
fn on_the_first(world: &mut World) -> usize {
    world.ctl("connections").matches(" 123.45.67.89:80 ").count()
}

/// Clients that keep their connections: when one of two servers becomes slower, some of those that are open go to the other one
/// with its share, by hand-over, and no client notices more than that its requests are fast again.
#[test]
fn open_connections_leave_a_slow_server_with_its_share() {
    let _alone = ALONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    in_namespace(|| {
        let (mut world, servers, _running, clients) = forty_that_stay("slow = 0\n");
        let before = on_the_first(&mut world);

        // Not so slow that it seems to hang while all of its workers are busy.
        servers[0].takes(150);
        let slow = Instant::now();
        let took = wait("connections have left the slow server", || on_the_first(&mut world) <= before / 2);
        println!("{before} connections became {} after {took:?}", on_the_first(&mut world));
        wait("nine requests of ten are fast again", || {
            let (count, failed, p90) = clients.lately(1);
            assert_eq!(failed, 0, "of {count}");
            slow.elapsed() > Duration::from_secs(1) && count > 60 && p90 < Duration::from_millis(100)
        });
        println!("nine requests of ten are fast again after {:?}", slow.elapsed());
        let log = monitor(&world, "log");
        assert!(log.contains("; open connections of 123.45.67.89:80 are handed over until all are as loaded"), "{log}");
        // Both have as many as their weights say.
        std::thread::sleep(Duration::from_secs(2));
        let [a, b] = weights(&mut world);
        let (share, has) = (a / (a + b), on_the_first(&mut world) as f64 / 40.0);
        println!("weights {a} {b}: {share:.2} of the connections, {has:.2} are there\n{log}");
        assert!(share < 0.2 && (share - has).abs() < 0.1, "{share} {has}\n{}", monitor(&world, "log"));
        drop(clients);
        world.end_unjudged();
    });
}

/// A server that has become much slower than the other one has no connection left soon, and those who had theirs there are
/// fast again. It is tried with few of them, and when it is well again it comes back: slowly, since the other one
/// can do without it.
#[test]
fn open_connections_all_leave_a_server_that_is_much_slower() {
    let _alone = ALONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    in_namespace(|| {
        let (mut world, servers, _running, clients) = forty_that_stay("");
        let (count, _, steady) = clients.between(Instant::now() - Duration::from_secs(4), Instant::now(), 99);

        // Not so slow that it seems to hang while all of its workers are busy.
        const SLOW: Duration = Duration::from_millis(150);
        servers[0].takes(150);
        let took = wait("no connection is left on the slow server", || on_the_first(&mut world) == 0);
        let left = Instant::now();
        std::thread::sleep(Duration::from_secs(5));
        let second = left + Duration::from_secs(1);
        let (later, failed, p99) = clients.between(second, Instant::now(), 99);
        let log = monitor(&world, "log");
        println!("p99 {steady:?} of {count}; all had left after {took:?}, then {p99:?} of {later}\n{log}");
        let said = ", and they can do without it; open connections of 123.45.67.89:80 are handed over";
        assert!(log.contains(said), "{log}");
        assert!(count > 400 && later > 400 && failed == 0, "{failed} of {later}, {count}");
        // It is tried meanwhile, but few requests come back from it.
        let (.., p95) = clients.between(second, Instant::now(), 95);
        assert!(p95 < SLOW, "{p95:?} {p99:?} {steady:?}\n{log}");

        servers[0].takes(10);
        let took = wait("it is well again", || monitor(&world, "log").contains("123.45.67.89:80 has answered well"));
        assert!(weights(&mut world)[0] > 0.0);
        println!("well again after {took:?}\n{}", monitor(&world, "log"));
        let (count, failed, p95) = clients.between(second, Instant::now(), 95);
        assert!(failed == 0 && p95 < SLOW, "{failed} of {count}: {p95:?} {steady:?}");
        drop(clients);
        world.end_unjudged();
    });
}

/// A server that hangs gets nothing new within a second or two, and its open connections are reset, so that clients that
/// wait ask anew. When it is well again it comes back.
#[test]
fn a_server_that_hangs_is_ejected_and_comes_back() {
    let _alone = ALONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    in_namespace(|| {
        let mut world = World::new(Options { rules: RULE, ..Options::PLAIN });
        let servers = [Server::start(&world.network.a, 10), Server::start(&world.network.b, 10)];
        configure("open_connections = \"reset\"\n");
        let _running = Monitor::start(&world.network.proxy, &[]);
        let clients = Clients::start(&world.network.client, 40);
        wait("the monitor has heard the translator", || monitor(&world, "log").contains("the fewest for its weight"));
        std::thread::sleep(Duration::from_secs(3));
        servers[1].hangs.store(true, Ordering::Relaxed);
        let took = wait("the server is ejected", || weights(&mut world)[1] == 0.0);
        println!("ejected after {took:?}");
        let log = monitor(&world, "log");
        assert!(log.contains("requests wait for 123.45.67.90:80, and it has answered none for"), "{log}");
        assert!(log.contains("open connections of 123.45.67.90:80 go to 123.45.67.89:80"), "{log}");
        // Both servers are still in the rule.
        assert!(weights(&mut world)[0] > 0.0);
        servers[1].hangs.store(false, Ordering::Relaxed);
        wait("it comes back", || monitor(&world, "log").contains("123.45.67.90:80 has answered well"));
        wait("it is used again", || weights(&mut world)[1] > 0.0);
        std::thread::sleep(Duration::from_secs(3));
        let (count, failed, _) = clients.lately(2);
        assert!(failed == 0 && count > 200, "{failed} of {count}");
        drop(clients);
        world.end_unjudged();
    });
}

/// The operator: a preview changes nothing, pins hold also in a monitor that is started anew, undo takes them back, rules are
/// read anew as a whole, and a dry run sends nothing.
#[test]
fn an_operator_has_the_last_word() {
    let _alone = ALONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    in_namespace(|| {
        let mut world = World::new(Options { rules: RULE, ..Options::PLAIN });
        let _servers = [Server::start(&world.network.a, 5), Server::start(&world.network.b, 5)];
        configure("");
        let running = Monitor::start(&world.network.proxy, &[]);
        wait("the monitor has heard the translator", || monitor(&world, "log").contains("the fewest for its weight"));
        let before = weights(&mut world);
        let said = monitor(&world, "drain web 123.45.67.89:80 --dry-run");
        assert!(said.starts_with("would be: the operator has drained 123.45.67.89:80\n"), "{said}");
        assert!(said.contains("weights after: 123.45.67.89:80 0, ") && said.contains("edge: updated"), "{said}");
        assert_eq!(weights(&mut world), before);

        let said = monitor(&world, "drain web 123.45.67.89:80");
        let number = said.strip_prefix("decision ").and_then(|rest| rest.split(':').next()).unwrap().to_string();
        wait("it is drained", || weights(&mut world)[0] == 0.0);
        let (done, said) = try_monitor(&world, "drain web 123.45.67.90:80");
        assert!(!done && said.contains("\"web\" would have no server left"), "{said}");
        let (done, said) = try_monitor(&world, "drain web 1.1.1.1:80");
        assert!(!done && said.contains("1.1.1.1:80 is no server of \"web\""), "{said}");
        // Somebody who restarts the monitor does not undo it.
        running.kill();
        let mut running = Monitor::start(&world.network.proxy, &[]);
        // The lease of the one that was killed ends first.
        let acts = |(done, said): (bool, String)| done && said.contains("): open, ") && !said.contains("watching");
        wait("another monitor", || acts(try_monitor(&world, "show")));
        std::thread::sleep(Duration::from_secs(2));
        assert_eq!(weights(&mut world)[0], 0.0);
        assert!(monitor(&world, "show").contains("nothing because of the operator"));
        let (done, said) = try_monitor(&world, &format!("undo {number}"));
        assert!(!done && said.contains("it was not made since the monitor was started"), "{said}");
        monitor(&world, "restore web 123.45.67.89:80");
        wait("it is back", || weights(&mut world)[0] > 0.0);

        let said = monitor(&world, "pin web 123.45.67.89:80 10");
        let number = said.strip_prefix("decision ").and_then(|rest| rest.split(':').next()).unwrap().to_string();
        wait("a tenth", || {
            let [a, b] = weights(&mut world);
            (a / (a + b) - 0.1).abs() < 0.01
        });
        monitor(&world, &format!("undo {number}"));
        wait("undone", || {
            let [a, b] = weights(&mut world);
            a / (a + b) > 0.2
        });

        // A rule holds from the moment when the file is read anew; a wrong file changes nothing.
        let pid = running.0.id();
        let hup = || run(&world.network.proxy, &format!("kill -HUP {pid}"));
        configure("[[rule]]\nname = \"repair\"\nservers = \"123.45.67.90:80\"\nmaintenance = true\n");
        hup();
        wait("maintenance", || weights_of(&world, 1) == 0.0);
        configure("[[rule]]\nservers = \"123.45.67.90:80\"\nmaximum = \"much\"\n");
        hup();
        std::thread::sleep(Duration::from_secs(1));
        assert_eq!(weights_of(&world, 1), 0.0);
        let log = monitor_log(&world);
        assert!(log.contains("rule \"repair\" (line"), "{log}");
        configure("");
        hup();
        wait("the rule has ended", || weights_of(&world, 1) > 0.0);
        running.0.kill().unwrap();
        running.0.wait().unwrap();

        // A dry run stores what it would do.
        let kept = weights(&mut world);
        configure("[[rule]]\nname = \"repair\"\nservers = \"123.45.67.90:80\"\nmaintenance = true\n");
        let dry = Monitor::start(&world.network.proxy, &["--dry-run"]);
        wait("it says what it would do", || {
            try_monitor(&world, "log").1.lines().next().is_some_and(|line| line.contains("rule \"repair\""))
        });
        // It stays one when the file is read again, which says nothing of that.
        run(&world.network.proxy, &format!("kill -HUP {}", dry.0.id()));
        std::thread::sleep(Duration::from_secs(3));
        assert_eq!(weights(&mut world), kept);
        let newest = monitor(&world, "log");
        let number = newest.split(' ').next().unwrap();
        assert!(monitor(&world, &format!("why {number}")).contains("dry run: nothing was sent"));
        // Once, not at each report.
        assert_eq!(newest.lines().take(2).filter(|line| line.contains("rule \"repair\"")).count(), 1, "{newest}");
        world.end_unjudged();
    });
}

fn weights_of(world: &World, server: usize) -> f64 {
    let said = world.proxy.as_ref().unwrap().ctl("list").unwrap();
    let (_, rest) = said.split_once(&format!("{}:80*", [A, B][server])).unwrap();
    rest.split(|c: char| !c.is_ascii_digit()).next().unwrap().parse().unwrap()
}

fn monitor_log(world: &World) -> String {
    // The configuration is wrong just now, so the file itself is read.
    let _ = world;
    std::fs::read_to_string(format!("{FOLDER}/decisions.jsonl")).unwrap().replace("\\\"", "\"")
}
