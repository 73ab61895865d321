//! Hand-overs that fail: whatever goes wrong, and however late, one process goes on, and lacks nothing.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

use super::routes::without_list;
use crate::network::traffic::*;
use crate::network::*;
use byway_host::lab::proxy::Proxy;
use rustix::process::{Pid, Resource, Rlimit, prlimit};

const SOCKET: &[&str] = &["--hand-over", "/run/test/socket"];

fn start(world: &World) -> Result<Proxy, String> {
    Proxy::start_with(&world.network.proxy, Path::new(env!("CARGO_BIN_EXE_byway")), &world.config, SOCKET)
}

/// A byway that waits to hand over, with this configuration.
fn waiting(text: impl FnOnce(&str) -> String) -> World {
    let mut world = World::new(Options::PLAIN);
    world.proxy.take().unwrap().stop().unwrap();
    let listed = std::fs::read_to_string(&world.config).unwrap();
    std::fs::write(&world.config, text(&listed)).unwrap();
    world.proxy = Some(start(&world).unwrap());
    world
}

fn routes(world: &World) -> Vec<String> {
    let shown = run(&world.network.proxy, "ip route show table 7207");
    let mut routes: Vec<_> = shown.lines().map(|line| line.trim().to_string()).collect();
    routes.sort();
    routes
}

#[test]
fn a_new_process_that_fails_leaves_everything_to_the_old_one() {
    in_namespace(|| {
        let dropped = "[[rule]]\ndivert = \"100.100.102.1\"\nto = \"123.45.67.89\"\n";
        let mut world = waiting(|text| without_list(text) + dropped);
        let _echo = Echo::start(&world.network.a, 7);
        let mut streams = connect(&world.network.client, 7, 5);
        let text = std::fs::read_to_string(&world.config).unwrap().replace(dropped, "");
        let before = routes(&world);
        assert!(before.iter().filter(|line| line.contains("100.100.102.1")).count() == 2, "{before:?}");
        let taken = world.network.proxy.run(|| std::net::TcpListener::bind("127.0.0.1:9300")).unwrap();
        for (old, new, why) in [
            (
                "[metrics]",
                "[privileges]\nuser = \"nosuch\"\n[metrics]",
                "privileges.user nosuch: there is no such user",
            ),
            ("\"snapshot\"", "\"nowhere/snapshot\"", "state.snapshot: the folder /run/test/nowhere: No such file"),
            // This is noticed when the new one has everything.
            ("127.0.0.1:9207", "127.0.0.1:9300", "metrics.listen 127.0.0.1:9300: another program has this port"),
        ] {
            std::fs::write(&world.config, text.replacen(old, new, 1)).unwrap();
            let said = start(&world).unwrap_err();
            assert!(said.contains(why), "{said}");
            exchange(&mut streams, b"still here");
            assert_eq!(routes(&world), before, "{why}");
            // The socket is that of the process that is there.
            let pcap = format!("{} ctl pcap --socket {FOLDER}/socket --seconds 1 1.1.1.1", env!("CARGO_BIN_EXE_byway"));
            assert!(output(&world.network.proxy, &pcap).status.success());
        }
        drop(taken);
        std::fs::write(&world.config, text).unwrap();
        for _ in 0..2 {
            let old = world.proxy.replace(start(&world).unwrap());
            let line = world.proxy().said.pop().unwrap();
            assert!(line.contains("translating, taken over"), "{line}");
            assert!(old.unwrap().ended().unwrap().contains("another byway has taken over"));
            exchange(&mut streams, b"with the new one");
        }
        let after = routes(&world);
        assert!(
            !after.iter().any(|line| line.contains("100.100.102.1")) && after.len() + 2 == before.len(),
            "{after:?}"
        );
        drop(streams);
        world.end();
    });
}

/// It has stopped its threads for another process, which does not want them, and cannot start them again.
#[test]
fn a_process_that_cannot_go_on_writes_the_snapshot() {
    in_namespace(|| {
        let mut world = waiting(str::to_string);
        let _echo = Echo::start(&world.network.a, 7);
        let mut streams = connect(&world.network.client, 7, 5);
        exchange(&mut streams, b"before");
        let stream = UnixStream::connect(format!("{FOLDER}/socket")).unwrap();
        let (mut said, mut line) = (BufReader::new(&stream), String::new());
        (&stream).write_all(b"byway hand-over 1\n").unwrap();
        said.read_line(&mut line).unwrap();
        (&stream).write_all(b"go\n").unwrap();
        line.clear();
        said.read_line(&mut line).unwrap();
        let length = line.split_once(" bytes ").unwrap().1.split(' ').next().unwrap().trim().parse().unwrap();
        said.read_exact(&mut vec![0; length]).unwrap();
        // No further file descriptor.
        let pid = world.proxy().id();
        let open: Vec<u64> = std::fs::read_dir(format!("/proc/{pid}/fd"))
            .unwrap()
            .map(|fd| fd.unwrap().file_name().to_str().unwrap().parse().unwrap())
            .collect();
        let lowest = (0..).find(|number| !open.contains(number));
        let limit = Rlimit { current: lowest, maximum: lowest };
        prlimit(Pid::from_raw(pid.cast_signed()), Resource::Nofile, limit).unwrap();
        (&stream).write_all(b"no, thanks\n").unwrap();
        let said = world.proxy.take().unwrap().ended().unwrap_err();
        assert!(
            said.contains("has not taken over, going on: no, thanks") && said.contains("Too many open files"),
            "{said}"
        );
        assert!(said.contains("snapshot written connections=5"), "{said}");
        world.proxy = Some(start(&world).unwrap());
        exchange(&mut streams, b"after");
        drop(streams);
        world.end();
    });
}
