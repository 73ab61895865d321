//! Programs that speak TCP and that nobody here wrote: iperf3, which speaks UDP too, and OpenSSH.

use core::time::Duration;
use std::path::Path;

use crate::network::traffic::*;
use crate::network::*;
use byway_host::lab::network::ORIGINAL;
use byway_host::lab::space::Space;

/// A number from a part of iperf3's summary.
#[track_caller]
fn summary(report: &str, part: &str, field: &str) -> f64 {
    let end = report.split_once("\"end\":").expect("an end").1;
    let part = end.split_once(&format!("\"{part}\":")).unwrap_or_else(|| panic!("no {part} in {end}")).1;
    let value = part.split_once(&format!("\"{field}\":")).expect("the field").1;
    value.trim_start().split([',', '}', '\n']).next().unwrap().trim().parse().unwrap()
}

fn measure(options: Options) {
    const BYTES: f64 = 30e6;
    let world = World::new(options);
    let iperf = |words: &str| {
        // One for each test: between two tests it stops listening for a moment.
        let server =
            Program::start(&world.network.a, command(&format!("iperf3 --server --one-off --logfile {FOLDER}/iperf")));
        let log = || std::fs::read_to_string(format!("{FOLDER}/iperf")).unwrap_or_default();
        wait_for_port(&world.network.a, "tcp", 5201, log);
        let said =
            run(&world.network.client, &format!("iperf3 --json --client {ORIGINAL} --connect-timeout 3000 {words}"));
        assert!(!said.contains("\"error\""), "{words}: {said}{}", log());
        drop(server);
        said
    };
    let mut told = String::new();
    for words in ["", "--reverse", "--parallel 8", "--reverse --parallel 8"] {
        let said = iperf(&format!("--bytes {BYTES:.0} {words}"));
        let (sent, received) = (summary(&said, "sum_sent", "bytes"), summary(&said, "sum_received", "bytes"));
        assert!(sent >= BYTES && received > BYTES / 4.0, "{words}: {received} of {sent}");
        told += &format!("TCP {words}: {:.0} Mbit/s; ", summary(&said, "sum_received", "bits_per_second") / 1e6);
    }
    let said = iperf("--bidir --time 1 --bitrate 100M");
    assert!(summary(&said, "sum_received_bidir_reverse", "bytes") > 0.0, "{said}");
    assert!(summary(&said, "sum_received", "bytes") > 0.0, "{said}");
    // Datagrams that fit, the smallest, and those in fragments.
    for words in ["--length 1400", "--length 1400 --reverse", "--length 16", "--length 16 --reverse", "--length 20000"]
    {
        let rate = if words.contains("16") { "2M" } else { "60M" };
        let said = iperf(&format!("--udp --time 1 --bitrate {rate} {words}"));
        let (packets, lost) = (summary(&said, "sum", "packets"), summary(&said, "sum", "lost_packets"));
        // Full queues may lose some.
        assert!(packets > 0.0 && lost < packets / 2.0, "{words}: {lost} of {packets} are lost");
        told += &format!("UDP {words}: {lost} of {packets} lost; ");
    }
    let counted = world.end();
    println!("iperf3, offload {}, {} queues: {told}", options.offload, options.queues);
    for reason in ["failed_closed", "send_failed", "offload_refused"] {
        assert_eq!(count(&counted, reason), 0, "{counted}");
    }
    assert_eq!(count(&counted, "super_packets") > 0, options.offload, "{counted}");
}

const IPERF: &[(&str, &str)] = &[("iperf3", "--version")];

#[test]
fn iperf3_both_ways() {
    in_namespace_with(IPERF, || measure(Options::PLAIN));
}

#[test]
fn iperf3_both_ways_without_offloads() {
    in_namespace_with(IPERF, || {
        measure(Options { offload: false, ..Options::PLAIN });
    });
}

#[test]
fn iperf3_both_ways_through_two_queues() {
    in_namespace_with(IPERF, || {
        measure(Options { queues: 2, ..Options::PLAIN });
    });
}

/// User names for this test only: root, and one for the session.
fn users() {
    let users = Path::new(FOLDER).join("passwd");
    std::fs::write(&users, "root:x:0:0::/root:/bin/sh\ntester:x:1000:1000::/run/test:/bin/sh\n").unwrap();
    assert!(command(&format!("mount --bind {} /etc/passwd", users.display())).status().unwrap().success());
}

/// Starts OpenSSH's server. As root it would need more users than this user namespace has, so it runs as an ordinary user,
/// which can log in only itself.
fn sshd(space: &Space) -> Program {
    let folder = Path::new(FOLDER).join("ssh");
    std::fs::create_dir_all(&folder).unwrap();
    for name in ["host", "user"] {
        let mut keygen = command(&format!("ssh-keygen -q -t ed25519 -f {}/{name} -N", folder.display()));
        assert!(keygen.arg("").status().unwrap().success());
    }
    let config = format!(
        "Port 22\nHostKey {folder}/host\nAuthorizedKeysFile {folder}/user.pub\nPidFile none\nUsePAM no\nStrictModes no\n\
         PasswordAuthentication no\n",
        folder = folder.display(),
    );
    std::fs::write(folder.join("conf"), config).unwrap();
    let key = std::fs::read_to_string(folder.join("host.pub")).unwrap();
    std::fs::write(folder.join("known"), format!("{ORIGINAL} {key}")).unwrap();
    space.set(&[("ip_unprivileged_port_start", "0")]).unwrap();
    let user = "unshare --user --map-user=1000 --map-group=1000";
    let program = Program::start(space, command(&format!("{user} /usr/sbin/sshd -D -e -f {}/conf", folder.display())));
    wait_for_port(space, "tcp", 22, || "sshd".into());
    program
}

const SSH: &str = "[[rule]]\ndivert = \"100.100.100.100:22 tcp\"\nto = \"123.45.67.89:22\"\n\
                   [[rule]]\ndivert = \"100.100.100.100:7 tcp\"\nto = \"123.45.67.89:7\"\n";

/// A shell in the session; the client knows the original by its key. Rules come, other connections are moved and reset, the
/// session's own rule leads elsewhere, and byway is started again.
fn session(options: Options) {
    users();
    let mut world = World::new(options);
    let _sshd = sshd(&world.network.a);
    let _echo = [Echo::start(&world.network.a, 7), Echo::start(&world.network.b, 7)];
    let _others = connect(&world.network.client, 7, 50);
    let ssh = format!(
        "ssh -T -F none -i {FOLDER}/ssh/user -o UserKnownHostsFile={FOLDER}/ssh/known -o StrictHostKeyChecking=yes \
         -o ServerAliveInterval=1 -o ServerAliveCountMax=3 tester@{ORIGINAL} sh"
    );
    let mut session = Talk::start(&world.network.client, command(&ssh));
    assert_eq!(session.ask("x=7; echo one"), "one");
    let text = "x".repeat(100_000);
    for n in 0..20 {
        world.ctl(&format!("divert 100.100.101.{n}:22 123.45.67.90"));
        assert_eq!(session.ask(&format!("echo ${{x}}{text}")), format!("7{text}"));
    }
    let moved = world.ctl("redivert 123.45.67.89:7 123.45.67.90:7 --reset");
    assert!(moved.contains("connections: 50;"), "{moved}");
    assert_eq!(session.ask("echo $x"), "7");
    exchange(&mut connect(&world.network.client, 7, 5), b"at b");
    let moved = world.ctl("redivert 123.45.67.90:7 123.45.67.89:7");
    assert!(moved.contains("connections: 5"), "{moved}");
    assert_eq!(session.ask("echo $x"), "7");
    world.ctl("divert 100.100.100.100:22 123.45.67.90:22 --protocol tcp");
    for _ in 0..2 {
        world.restart();
        assert_eq!(session.ask("echo $x"), "7");
        // Idle except for ssh's own keep-alive messages.
        std::thread::sleep(Duration::from_millis(1200));
    }
    assert_eq!(session.ask(&format!("echo ${{x}}{text}")), format!("7{text}"));
    session.end();
    world.end();
}

const OPENSSH: &[(&str, &str)] = &[("/usr/sbin/sshd", "-V"), ("ssh", "-V")];

#[test]
fn an_ssh_session_stays_up() {
    in_namespace_with(OPENSSH, || {
        session(Options { rules: SSH, ..Options::PLAIN });
    });
}

#[test]
fn an_ssh_session_stays_up_without_offloads() {
    in_namespace_with(OPENSSH, || {
        session(Options { offload: false, rules: SSH, ..Options::PLAIN });
    });
}
