//! byway as a process: started, reloaded, ended, killed, and followed by another. Traffic goes through meanwhile; see
//! `real_programs.rs`.

use core::net::Ipv4Addr;
use core::time::Duration;
use std::io::{Read, Write};
use std::net::TcpListener;

use crate::network::traffic::*;
use crate::network::*;
use byway_host::lab::network::{ORIGINAL, OWN, PROXY};
use byway_host::lab::proxy::Proxy;
use rustix::process::Signal;

/// How many connections outlive everything: nginx has the other ends, since a process may have 20 000 files here.
const COUNT: usize = 10_000;

/// Every connection outlives restarts, also a download that is under way, and so does what an instruction has changed.
#[test]
fn a_restart_loses_no_connection() {
    in_namespace(|| {
        let file = slow_file(6_000_000);
        small_file();
        let mut world = World::new(Options::PLAIN);
        let _nginx = [nginx(&world.network.a), nginx(&world.network.b)];
        let mut streams = connect(&world.network.client, 80, COUNT);
        fetch(&mut streams);
        let client = world.network.client.clone();
        let curl = format!("curl -sS --fail --max-time 60 -o {FOLDER}/got http://{ORIGINAL}/slow/file");
        let download = std::thread::spawn(move || run(&client, &curl));
        std::thread::sleep(Duration::from_millis(500));
        // For new connections only: the old ones stay.
        world.ctl("divert 100.100.100.100 123.45.67.90");
        for _ in 0..3 {
            world.restart();
            fetch(&mut streams);
        }
        download.join().unwrap();
        assert!(std::fs::read(format!("{FOLDER}/got")).unwrap() == file);
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
    const SOCKET: &[&str] = &["--hand-over", "/run/test/socket"];
    let file = slow_file(6_000_000);
    small_file();
    // Room for what comes while a busy machine hands over.
    let mut world = World::new(Options { queues, device: "queue_length = 20000", ..Options::PLAIN });
    let program = std::path::Path::new(env!("CARGO_BIN_EXE_byway"));
    let start = |world: &World| Proxy::start_with(&world.network.proxy, program, &world.config, SOCKET);
    world.proxy.take().unwrap().stop().unwrap();
    world.proxy = Some(start(&world).unwrap());
    let _nginx = nginx(&world.network.a);
    let mut streams = connect(&world.network.client, 80, COUNT);
    fetch(&mut streams);
    let client = world.network.client.clone();
    let curl = format!("curl -sS --fail --max-time 60 -o {FOLDER}/got http://{ORIGINAL}/slow/file");
    let download = std::thread::spawn(move || run(&client, &curl));
    let ping = format!("ping -q -n -i 0.002 -c 2000 -W 2 {ORIGINAL}");
    let client = world.network.client.clone();
    let ping = std::thread::spawn(move || run(&client, &ping));
    std::thread::sleep(Duration::from_millis(200));
    for _ in 0..3 {
        let old = world.proxy.replace(start(&world).unwrap());
        let line = world.proxy().said.pop().unwrap();
        let pause: f64 = line.split_once("pause_ms=").unwrap().1.parse().unwrap();
        println!("{COUNT} connections, {queues} queues: packets have waited for {pause:.1} ms");
        // Optimized, it has to be done in the time that is promised.
        assert!(cfg!(debug_assertions) || pause < 50.0, "{pause} ms");
        let log = old.unwrap().ended().unwrap();
        assert!(log.contains("another byway has taken over"), "{log}");
        fetch(&mut streams);
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
        fetch(&mut streams);
    }
    std::fs::write(&world.config, text).unwrap();
    download.join().unwrap();
    assert!(std::fs::read(format!("{FOLDER}/got")).unwrap() == file);
    let said = ping.join().unwrap();
    assert!(said.contains(" 2000 received, 0% packet loss"), "no packet is lost: {said}");
    world.end();
}

#[test]
fn a_new_process_takes_over_without_a_loss() {
    in_namespace(|| upgrade(1));
}

#[test]
fn a_new_process_takes_over_two_queues_without_a_loss() {
    in_namespace(|| upgrade(2));
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
    in_namespace(|| {
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
    in_namespace(|| what_does_not_work(1));
}

/// The kernel would add queues to a device that has several.
#[test]
fn what_does_not_work_with_two_queues_is_said_in_a_line() {
    in_namespace(|| what_does_not_work(2));
}

fn what_does_not_work(queues: usize) {
    let mut world = World::new(Options { queues, ..Options::PLAIN });
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
        Proxy::start(&world.network.proxy, std::path::Path::new(env!("CARGO_BIN_EXE_byway")), &world.config).unwrap()
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
}

#[test]
fn a_reload_changes_all_or_nothing() {
    in_namespace(|| {
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

/// The kernel judges what byway may read by where it lies in truth.
#[test]
fn a_file_behind_a_link_is_reloaded() {
    in_namespace(|| {
        let mut world = World::new(Options::PLAIN);
        let key = std::path::PathBuf::from(format!("{FOLDER}/key"));
        for file in [&world.config, &key] {
            let name = file.file_name().unwrap();
            for folder in ["/run/one", "/run/other"] {
                std::fs::create_dir_all(folder).unwrap();
                std::fs::copy(file, std::path::Path::new(folder).join(name)).unwrap();
            }
            std::fs::remove_file(file).unwrap();
            std::os::unix::fs::symlink(std::path::Path::new("/run/one").join(name), file).unwrap();
        }
        world.restart();
        let is_confined = world.proxy().said.iter().any(|line| line.contains("confined by landlock"));
        world.proxy().signal(Signal::HUP);
        world.proxy().wait_for(" reloaded: ").unwrap();
        // Where nothing was when it started.
        for file in [key, world.config.clone()] {
            std::fs::remove_file(&file).unwrap();
            std::os::unix::fs::symlink(std::path::Path::new("/run/other").join(file.file_name().unwrap()), file)
                .unwrap();
            world.proxy().signal(Signal::HUP);
            if is_confined {
                let line = world.proxy().wait_for("not reloaded, nothing has changed").unwrap();
                assert!(line.contains("denied") && line.contains("(privileges.confine)"), "{line}");
            } else {
                world.proxy().wait_for(" reloaded: ").unwrap();
            }
        }
        run(&world.network.client, &format!("ping -n -c 12 -i 0.01 {OWN}"));
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
    in_namespace(|| read_metrics(1));
}

#[test]
fn the_metrics_page_is_that_of_all_shards() {
    in_namespace(|| read_metrics(2));
}

/// One rule's packets, on both sides, as Wireshark's own program reads them.
#[test]
fn a_capture_shows_both_sides_and_the_verdict() {
    in_namespace(|| {
        const SOCKET: &[&str] = &["--hand-over", "/run/test/socket"];
        let mut world = World::new(Options::PLAIN);
        world.proxy.take().unwrap().stop().unwrap();
        let program = env!("CARGO_BIN_EXE_byway");
        let start = Proxy::start_with(&world.network.proxy, std::path::Path::new(program), &world.config, SOCKET);
        world.proxy = Some(start.unwrap());
        let _echo = Echo::start(&world.network.a, 7);
        let pcap = |words: &str| format!("{program} ctl pcap --socket {FOLDER}/socket {words}");
        let shell = |words: &str| {
            let mut command = std::process::Command::new("sh");
            command.args(["-c", words]);
            command
        };
        let captured = format!("{} > {FOLDER}/capture", pcap("--seconds 8 100.100.100.100:7 tcp"));
        let mut capture = shell(&captured).spawn().unwrap();
        wait("it captures", || std::fs::metadata(format!("{FOLDER}/capture")).is_ok_and(|file| file.len() > 0));
        // A second one has to wait.
        let refused = shell(&format!("{} > /dev/null", pcap("--seconds 1 100.100.100.100"))).output().unwrap();
        let said = String::from_utf8(refused.stderr).unwrap();
        assert_eq!((refused.status.code(), said.as_str()), (Some(1), "byway ctl: somebody is looking already\n"));
        exchange(&mut connect(&world.network.client, 7, 1), b"hello there");
        run(&world.network.client, &format!("ping -n -c 2 -i 0.2 {ORIGINAL}"));
        assert!(capture.wait().unwrap().success());
        let fields = "-T fields -E separator=, -e frame.interface_name -e frame.comment -e ip.src -e ip.dst -e tcp.len";
        let checks = "-o tcp.check_checksum:TRUE -o ip.check_checksum:TRUE";
        let read = |filter: &str| {
            let output =
                shell(&format!("tshark {checks} -r {FOLDER}/capture -Y '{filter}' {fields}")).output().unwrap();
            String::from_utf8(output.stdout).unwrap().lines().map(String::from).collect::<Vec<_>>()
        };
        let text = read("tcp.len == 11");
        let to_server =
            ["client side,to server,1.2.3.4,100.100.100.100,11", "server side,to server,10.10.10.10,123.45.67.89,11"];
        let to_client =
            ["server side,to client,123.45.67.89,10.10.10.10,11", "client side,to client,100.100.100.100,1.2.3.4,11"];
        assert_eq!(text, [to_server, to_client].concat(), "{:#?}", read("ip"));
        assert!(read("tcp.checksum.status == 0 or ip.checksum.status == 0").is_empty());
        assert!(read("icmp").is_empty(), "the rule is about TCP");
        // It is over, and another can begin.
        let again = shell(&format!("{} > /dev/null", pcap("--seconds 0 100.100.100.100"))).status().unwrap();
        assert!(again.success());
        world.end();
    });
}

/// Once everything is open it has no capabilities, gets no new ones, and the kernel keeps it from other files.
#[test]
fn it_keeps_no_privileges() {
    in_namespace(|| {
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
    in_namespace(|| {
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

/// Without a snapshot nobody knows the connections of rules that keep the source. What the server still sends must not show its
/// address to the client, whose RST would end a connection that its own next segment brings back.
#[test]
fn after_a_kill_a_connection_that_kept_its_source_comes_back() {
    const RULE: &str =
        "[[rule]]\ndivert = \"100.100.100.100\"\nto = \"123.45.67.89\"\nkeep_source = true\nmidstream = \"adopt\"\n";
    in_namespace(|| {
        let mut world = World::new(Options { rules: RULE, routes: ", \"1.2.3.4/32\"", ..Options::PLAIN });
        world.network.proxy.set(&[("conf/to-client/rp_filter", "2")]).unwrap();
        // A server that always has something to say.
        let listener = world.network.a.run(|| TcpListener::bind((Ipv4Addr::UNSPECIFIED, 7)).unwrap());
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            for number in 0..100_u8 {
                std::thread::sleep(Duration::from_millis(50));
                stream.write_all(&[number]).unwrap();
            }
            let mut said = Vec::new();
            stream.read_to_end(&mut said).unwrap();
            said
        });
        let mut client = connect(&world.network.client, 7, 1).remove(0);
        let mut first = [0; 10];
        client.read_exact(&mut first).unwrap();
        world.proxy().signal(Signal::KILL);
        let _ = world.proxy.take().unwrap().stop();
        std::thread::sleep(Duration::from_millis(300));
        let program = std::path::Path::new(env!("CARGO_BIN_EXE_byway"));
        world.proxy = Some(Proxy::start(&world.network.proxy, program, &world.config).unwrap());
        // Meanwhile it has sent the same again.
        std::thread::sleep(Duration::from_secs(3));
        client.write_all(b"still here").unwrap();
        let mut rest = [0; 90];
        client.read_exact(&mut rest).unwrap();
        assert!(first.into_iter().chain(rest).eq(0..100));
        drop(client);
        assert_eq!(server.join().unwrap(), b"still here");
        assert!(count(&world.end(), "strays_dropped") > 0);
    });
}
