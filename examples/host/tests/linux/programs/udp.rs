//! Programs that speak UDP and that nobody here wrote: a Java client, dig and unbound, tftp and atftpd, QUIC. Most of them
//! take an answer only from the address that they have asked.

use std::path::Path;
use std::time::Instant;

use crate::network::traffic::*;
use crate::network::*;
use byway_host::lab::network::ORIGINAL;
use byway_host::lab::space::Space;

/// Sources and scripts that the tests give to other programs.
fn script(name: &str) -> String {
    format!("{}/tests/programs/{name}", env!("CARGO_MANIFEST_DIR"))
}

const JAVA: &[(&str, &str)] = &[("javac", "-version")];

/// A client with one connected socket.
fn java(world: &World) -> Talk {
    let source = script("Ask.java");
    Talk::start(
        &world.network.client,
        command(&format!("java -XX:-UsePerfData -XX:TieredStopAtLevel=1 {source} {ORIGINAL} 53")),
    )
}

fn move_a_java_client(options: Options) {
    let mut world = World::new(options);
    // With a route for the client in byway's table, the reverse path does not lead to this interface.
    world.network.proxy.set(&[("conf/to-client/rp_filter", "2")]).unwrap();
    answer_udp(&world.network.a, 53);
    answer_udp(&world.network.b, 53);
    let mut client = java(&world);
    assert_eq!(client.ask("one"), "aone");
    let moved = world.ctl("redivert 123.45.67.89 123.45.67.90");
    assert!(moved.contains("connections: 1;"), "{moved}");
    assert_eq!(client.ask("two"), "btwo");
    let moved = world.ctl("redivert 123.45.67.90 123.45.67.89");
    assert!(moved.contains("connections: 1;"), "{moved}");
    assert_eq!(client.ask("three"), "athree");
    client.end();
    world.end();
}

#[test]
fn a_java_client_is_moved_by_a_switch() {
    in_namespace_with(JAVA, || move_a_java_client(Options::PLAIN));
}

#[test]
fn a_java_client_is_moved_by_a_switch_without_offloads() {
    in_namespace_with(JAVA, || {
        move_a_java_client(Options { offload: false, ..Options::PLAIN });
    });
}

const KEEP_SOURCE: &str = "[[rule]]\ndivert = \"100.100.100.100\"\nto = \"123.45.67.89\"\nkeep_source = true\n";

/// Why the source must be replaced: the mirror's answer goes to the client directly, from an address that the client has not
/// asked. The capture finds these packets, so it would find them in the other tests too.
#[test]
fn destination_only_translation_makes_a_java_client_time_out() {
    in_namespace_with(JAVA, || {
        let world = World::new(Options { rules: KEEP_SOURCE, ..Options::PLAIN });
        answer_udp(&world.network.a, 53);
        let mut client = java(&world);
        assert_eq!(client.ask("one"), "SocketTimeoutException");
        client.end();
        let (captured, counted) = world.end_unjudged();
        assert!(captured.wrong.iter().any(|wrong| wrong.contains("the client must not see")), "{:?}", captured.wrong);
        assert_eq!(count(&counted, "to_client"), 0, "{counted}");
    });
}

/// With a route for the client, the mirrors' answers come to byway, and a rule that keeps the source works.
#[test]
fn a_java_client_is_moved_with_its_own_source() {
    in_namespace_with(JAVA, || {
        move_a_java_client(Options { rules: KEEP_SOURCE, routes: ", \"1.2.3.4/32\"", ..Options::PLAIN });
    });
}

/// Starts unbound on a mirror. It knows the mirror's name, and 3 000 bytes of text.
fn unbound(space: &Space) -> Program {
    let folder = Path::new(FOLDER).join(format!("unbound-{}", space.name()));
    std::fs::create_dir_all(&folder).unwrap();
    let text: String = (0..15).map(|n| format!("\\\"{n:x}{}\\\" ", "x".repeat(199))).collect();
    let config = format!(
        "server:\n username: \"\"\n chroot: \"\"\n directory: \"{folder}\"\n pidfile: \"\"\n use-syslog: no\n do-daemonize: no\n\
         \x20interface: 0.0.0.0\n access-control: 0.0.0.0/0 allow\n do-ip6: no\n module-config: \"iterator\"\n num-threads: 1\n\
         \x20edns-buffer-size: 4096\n max-udp-size: 4096\n\
         \x20local-zone: \"test.\" static\n local-data: \"name.test. TXT {name}\"\n local-data: 'long.test. TXT {text}'\n\
         remote-control:\n control-enable: no\n",
        folder = folder.display(),
        name = space.name(),
        text = text.replace('\\', ""),
    );
    std::fs::write(folder.join("conf"), config).unwrap();
    let program = Program::start(space, command(&format!("unbound -d -c {}/conf", folder.display())));
    wait_for_port(space, "tcp", 53, || "unbound".into());
    program
}

fn ask_unbound(options: Options) {
    let mut world = World::new(options);
    let _unbound = [unbound(&world.network.a), unbound(&world.network.b)];
    let client = world.network.client.clone();
    let dig = |words: &str| run(&client, &format!("dig @{ORIGINAL} +tries=1 +timeout=5 {words}"));
    for tcp in ["+notcp", "+tcp"] {
        assert_eq!(dig(&format!("+short {tcp} name.test TXT")), "\"a\"\n");
    }
    // In fragments, and what does not fit comes by TCP.
    let long = dig("+bufsize=4096 +ignore long.test TXT");
    assert!(long.contains("MSG SIZE  rcvd: 3") && long.contains("(UDP)") && !long.contains("Truncated"), "{long}");
    let long = dig("+bufsize=512 long.test TXT");
    assert!(long.contains("MSG SIZE  rcvd: 3") && long.contains("(TCP)") && long.contains("Truncated"), "{long}");
    // 400 questions, while rules change and the server is switched. An answer that is still on its way from the old server
    // is dropped, and dig asks again.
    std::fs::write(format!("{FOLDER}/questions"), "name.test TXT\nlong.test TXT +bufsize=4096\n".repeat(200)).unwrap();
    let words = format!("dig @{ORIGINAL} +tries=3 +timeout=1 -f {FOLDER}/questions");
    let client = world.network.client.clone();
    let digging = std::thread::spawn(move || run(&client, &words));
    for n in 0..20 {
        world.ctl(&format!("divert 100.100.101.{n}:53 123.45.67.90"));
        let (from, to) = if n % 2 == 0 { ("89", "90") } else { ("90", "89") };
        world.ctl(&format!("redivert 123.45.67.{from} 123.45.67.{to}"));
    }
    let said = digging.join().unwrap();
    let answers = |text: &str| said.matches(text).count();
    assert_eq!(answers("status: NOERROR"), 400);
    assert_eq!(answers("TXT\t\"a\"") + answers("TXT\t\"b\""), 200);
    assert!(!said.contains("unexpected source"), "{said}");
    world.ctl("divert 100.100.100.100 123.45.67.90");
    // From a port that none of the 400 has had: its connection would go on with the old server.
    assert_eq!(dig("-b 0.0.0.0#20000 +short name.test TXT"), "\"b\"\n");
    println!("dig: {} of 400 answers from b", answers("TXT\t\"b\""));
    world.end();
}

const DIG: &[(&str, &str)] = &[("dig", "-v"), ("unbound", "-V")];

#[test]
fn dig_asks_unbound() {
    in_namespace_with(DIG, || ask_unbound(Options::PLAIN));
}

#[test]
fn dig_asks_unbound_without_offloads() {
    in_namespace_with(DIG, || {
        ask_unbound(Options { offload: false, ..Options::PLAIN });
    });
}

/// Starts atftpd on a mirror, with a folder of its own, and a file in it.
fn atftpd(space: &Space, file: &[u8]) -> Program {
    let folder = format!("{FOLDER}/tftp-{}", space.name());
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(format!("{folder}/file"), file).unwrap();
    let words = "atftpd --daemon --no-fork --logfile - --verbose=3 --user root --group root";
    let program = Program::start(space, command(&format!("{words} {folder}")));
    wait_for_port(space, "udp", 69, || "atftpd".into());
    program
}

/// Its server answers each request from a port of its own.
#[test]
fn tftp_gets_and_puts() {
    const RULE: &str = "[[rule]]\ndivert = \"100.100.100.100:69 udp\"\nto = \"123.45.67.89\"\nany_port = true\n";
    in_namespace_with(&[("atftpd", "--version"), ("tftp", "-V")], || {
        let mut world = World::new(Options { rules: RULE, ..Options::PLAIN });
        let [on_a, on_b, new] = [(1, 700_001), (2, 30_000), (3, 300_000)].map(|(seed, length)| content(seed, length));
        let _atftpd = [atftpd(&world.network.a, &on_a), atftpd(&world.network.b, &on_b)];
        let (got, put) = (format!("{FOLDER}/got"), format!("{FOLDER}/put"));
        let tftp = format!("tftp -m binary {ORIGINAL} -c");
        let client = world.network.client.clone();
        let words = format!("{tftp} get file {got}");
        let getting = std::thread::spawn(move || run(&client, &words));
        for n in 0..10 {
            world.ctl(&format!("divert 100.100.101.{n}:69 123.45.67.90"));
        }
        getting.join().unwrap();
        assert!(std::fs::read(&got).unwrap() == on_a);
        std::fs::write(&put, &new).unwrap();
        run(&world.network.client, &format!("{tftp} put {put} new"));
        assert!(std::fs::read(format!("{FOLDER}/tftp-a/new")).unwrap() == new);
        let said = run(&world.network.client, &format!("{tftp} get missing {got}"));
        assert!(said.contains("File not found"), "{said}");
        world.ctl("redivert 123.45.67.89 123.45.67.90 --drain");
        run(&world.network.client, &format!("{tftp} get file {got}"));
        assert!(std::fs::read(&got).unwrap() == on_b);
        world.end();
    });
}

/// A Python that has aioquic; `scripts/aioquic.sh` makes it.
fn python() -> String {
    format!("{}/../../target/aioquic/bin/python", env!("CARGO_MANIFEST_DIR"))
}

/// The client checks the certificate of the original. Rules change, byway is started again, and its connection goes on.
fn quic(options: Options) {
    let mut world = World::new(options);
    let program = format!("{} {}", python(), script("quic.py"));
    let _servers = [&world.network.a, &world.network.b].map(|space| {
        let (name, folder) = (space.name(), format!("{FOLDER}/quic-{}", space.name()));
        std::fs::create_dir_all(&folder).unwrap();
        let mut server = Talk::start(space, command(&format!("{program} server {folder} {name}")));
        assert_eq!(server.line(), "serving");
        server
    });
    let client = world.network.client.clone();
    let connect =
        |name: &str| Talk::start(&client, command(&format!("{program} client {FOLDER}/quic-{name} {ORIGINAL}")));
    let mut first = connect("a");
    assert_eq!(first.ask("1000"), "a 1000 right");
    let rule = "100.100.100.100";
    let (mut others, start) = (0, Instant::now());
    let asking = std::thread::spawn(move || {
        for _ in 0..8 {
            assert_eq!(first.ask("400000"), "a 400000 right");
        }
        first
    });
    while !asking.is_finished() {
        world.ctl(&format!("divert 100.100.101.{}:443 123.45.67.90", others % 200));
        others += 1;
        if others == 10 {
            // New connections go elsewhere.
            world.ctl(&format!("divert {rule} 123.45.67.90"));
        }
    }
    let mut first = asking.join().unwrap();
    assert!(others > 10, "rules have changed: {others}");
    println!("QUIC: 3.2 MB in {:.1} s while {others} rules changed", start.elapsed().as_secs_f64());
    let mut second = connect("b");
    assert_eq!(second.ask("20000"), "b 20000 right");
    world.restart();
    assert_eq!(first.ask("50000"), "a 50000 right");
    assert_eq!(second.ask("50000"), "b 50000 right");
    first.end();
    second.end();
    world.end();
}

#[test]
fn quic_goes_on_while_rules_change() {
    in_namespace_with(&[(&python(), "--version")], || quic(Options::PLAIN));
}

#[test]
fn quic_goes_on_while_rules_change_without_offloads() {
    in_namespace_with(&[(&python(), "--version")], || {
        quic(Options { offload: false, ..Options::PLAIN });
    });
}
