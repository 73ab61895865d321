//! TCP hand-over between programs that nobody here wrote: one connection of a client, and servers that take turns.
#![cfg(target_os = "linux")]

mod network;

use core::time::{Duration, Duration as Time};
use std::process::Child;
use std::time::Instant;

use byway_host::lab::network::{A, B, ORIGINAL};
use byway_host::lab::space::Space;
use network::*;

const RULES: &str = "[resumable]\nquiet = \"60ms\"\npatience = \"20s\"\n\
                     [[rule]]\ndivert = \"100.100.100.100 tcp\"\nto = \"123.45.67.89\"\nresumable = true\n";

/// The mirrors have different windows and clocks: Linux gives each connection's timestamps an offset of its own.
fn world(options: Options) -> World {
    let world = World::new(Options { rules: RULES, ..options });
    world.network.a.set(&[("tcp_rmem", "4096 131072 6291456")]).unwrap();
    world.network.b.set(&[("tcp_rmem", "4096 16384 400000"), ("tcp_wmem", "4096 65536 8388608")]).unwrap();
    world
}

/// The mirror that the only connection stands on.
fn stands_on(world: &mut World) -> Option<String> {
    let list = world.ctl("--json connections");
    let server = list.split_once("\"server\":\"")?.1.split_once(':')?.0;
    Some(server.to_string())
}

/// Moves everything from one mirror to the other, and waits until the connection stands there.
#[track_caller]
fn turn(world: &mut World, moves: usize) {
    let (from, to) = if moves.is_multiple_of(2) { (A, B) } else { (B, A) };
    world.ctl(&format!("redivert {from} {to} --hand-over"));
    let start = Instant::now();
    while stands_on(world).is_some_and(|server| server != to.to_string()) {
        assert!(start.elapsed() < Duration::from_secs(20), "move {moves} to {to}");
        std::thread::sleep(Time::from_millis(5));
    }
}

fn start(space: &Space, words: &str) -> Child {
    let mut command = command(words);
    command.stdout(std::process::Stdio::piped());
    space.run(move || command.spawn()).expect("it is installed")
}

#[track_caller]
fn said(child: Child) -> String {
    let output = child.wait_with_output().expect("it was started");
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).expect("text")
}

fn serve_large(length: usize) -> Vec<u8> {
    let bytes = content(1, length);
    std::fs::create_dir_all(www()).unwrap();
    std::fs::write(www().join("large"), &bytes).unwrap();
    bytes
}

/// Has the mirrors take turns while a client loads a file. How often they did.
fn take_turns(world: &mut World, client: &mut Child) -> usize {
    let mut moves = 0;
    // The first bytes of the response must be there.
    while stands_on(world).is_none() {
        std::thread::sleep(Time::from_millis(20));
    }
    while client.try_wait().expect("it was started").is_none() {
        turn(world, moves);
        moves += 1;
        std::thread::sleep(Time::from_millis(100));
    }
    moves
}

#[test]
fn a_download_changes_servers_over_and_over() {
    in_namespace("a_download_changes_servers_over_and_over", || {
        let bytes = serve_large(64 << 20);
        let mut world = world(Options::PLAIN);
        let _servers = [nginx(&world.network.a), nginx(&world.network.b)];
        let got = format!("{FOLDER}/got");
        let mut curl = start(
            &world.network.client,
            &format!("curl -sS --fail --limit-rate 8M -o {got} -w %{{num_connects}} http://{ORIGINAL}/large"),
        );
        let moves = take_turns(&mut world, &mut curl);
        assert_eq!(said(curl), "1", "connections");
        assert!(std::fs::read(&got).unwrap() == bytes, "other bytes than the server has");
        let counted = world.end();
        println!("{moves} moves of one download: {counted}");
        assert!(moves > 10 && count(&counted, "hand_overs_moved") + 1 >= moves as u64, "{moves}: {counted}");
    });
}
