//! Two of Linux's own TCP stacks around a translator. Client and servers live in network namespaces; what their kernels say
//! (`/proc/net/tcp`, which `ss` reads too) and what comes out of them is the truth.
//!
//! Each test runs itself again as root of a user namespace, so it needs no rights; it needs `unshare`, `ip` and a
//! `/dev/net/tun` that may be opened. Where that is not so it prints `SKIPPED:`.
#![cfg(target_os = "linux")]

mod linux;

use core::net::SocketAddrV4;
use core::sync::atomic::{AtomicBool, Ordering};
use core::time::Duration;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;

use byway::Direction::{ToClient, ToServer};
use byway::{InexactReset, Redivert, State};
use byway_testing::packet;
use byway_testing::truth::{ACK, End, FIN, PSH, RST, SYN, Segment};
use linux::*;

#[track_caller]
fn carry(from: &mut TcpStream, to: &mut TcpStream, data: &[u8]) {
    from.write_all(data).expect("the line is good");
    let mut read = vec![0; data.len()];
    to.read_exact(&mut read).expect("the line is good");
    assert_eq!(read, data);
}

/// Carries many bytes from one end to the other.
fn carry_much(from: &TcpStream, to: &TcpStream, length: usize) {
    let data: Vec<u8> = (0..length).map(|n| (n ^ n >> 8) as u8).collect();
    let mut read = vec![0; length];
    let (mut from, mut to) = (from, to);
    std::thread::scope(|scope| {
        scope.spawn(|| from.write_all(&data).expect("the line is good"));
        to.read_exact(&mut read).expect("the line is good");
    });
    assert!(read == data, "what arrives is what was sent");
}

/// Some bytes each way, so that the numbers are not those of the handshake.
#[track_caller]
fn talk(client: &mut TcpStream, server: &mut TcpStream) {
    carry(client, server, b"a question");
    carry(server, client, &[7; 5_000]);
}

#[track_caller]
fn is_reset(stream: &mut TcpStream) {
    let error = stream.read(&mut [0; 100]).expect_err("it was reset");
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
}

#[test]
fn from_the_handshake_to_the_end() {
    in_namespace("from_the_handshake_to_the_end", || {
        for client_first in [true, false] {
            let lab = Lab::new();
            let (mut client, mut server) = lab.connect();
            lab.agree(End::Established, End::Established);
            talk(&mut client, &mut server);
            lab.agree(End::Established, End::Established);
            let (first, second) = if client_first { (client, server) } else { (server, client) };
            let (mut first, mut second) = (first, second);
            let half = if client_first { (End::FinWait2, End::CloseWait) } else { (End::CloseWait, End::FinWait2) };
            first.shutdown(Shutdown::Write).unwrap();
            lab.agree(half.0, half.1);
            // The other goes on talking for long.
            for _ in 0..20 {
                carry(&mut second, &mut first, &[3; 3_000]);
            }
            lab.agree(half.0, half.1);
            drop(second);
            lab.settle();
            drop(first);
            lab.gone();
            assert_eq!(lab.relay().state(PORT), Some(State::TimeWait));
        }
    });
}

#[test]
fn a_refusal() {
    in_namespace("a_refusal", || {
        let lab = Lab::new();
        for _ in 0..3 {
            assert_eq!(lab.try_connect(PORT).unwrap_err().kind(), ErrorKind::ConnectionRefused);
            lab.gone();
            assert_eq!(lab.relay().state(PORT), Some(State::TimeWait));
        }
        let (mut client, mut server) = lab.connect();
        talk(&mut client, &mut server);
        lab.agree(End::Established, End::Established);
    });
}

#[test]
fn an_abort() {
    in_namespace("an_abort", || {
        for by_client in [true, false] {
            for half_closed in [None, Some(true), Some(false)] {
                let lab = Lab::new();
                let (mut client, mut server) = lab.connect();
                talk(&mut client, &mut server);
                match half_closed {
                    Some(true) => client.shutdown(Shutdown::Write).unwrap(),
                    Some(false) => server.shutdown(Shutdown::Write).unwrap(),
                    None => {}
                }
                lab.settle();
                let (one, mut other) = if by_client { (client, server) } else { (server, client) };
                abort(one);
                lab.settle();
                let _ = other.read(&mut [0; 10]);
                drop(other);
                lab.gone();
            }
        }
    });
}

/// A program that is killed, or closes, while data that it has not read waits: its kernel sends a RST. More data may be
/// in flight then, both ways.
#[test]
fn the_end_of_a_program_that_has_not_read_everything() {
    in_namespace("the_end_of_a_program_that_has_not_read_everything", || {
        for by_client in [true, false] {
            let lab = Lab::new();
            let (mut client, mut server) = lab.connect();
            talk(&mut client, &mut server);
            let (one, mut other) = if by_client { (client, server) } else { (server, client) };
            other.set_write_timeout(Some(Duration::from_millis(200))).unwrap();
            let _ = other.write_all(&[1; 3_000_000]);
            let mut last_words = one;
            let _ = last_words.write_all(&[2; 20_000]);
            drop(last_words);
            lab.settle();
            drop(other);
            lab.gone();
        }
    });
}

/// The server still holds a connection on the port that the client begins with again: it challenges the SYN, the client
/// answers with a RST, and the next SYN opens.
#[test]
fn a_client_that_has_restarted_on_its_port() {
    in_namespace("a_client_that_has_restarted_on_its_port", || {
        for policy in [InexactReset::Pass, InexactReset::Drop] {
            for forgets in [false, true] {
                let mut lab = Lab::with(|config| config.inexact_reset(policy));
                let listener = lab.server.listen(SERVER, PORT);
                let mut old_client = lab.try_connect(PORT).unwrap();
                let (mut old_server, _) = listener.accept().unwrap();
                talk(&mut old_client, &mut old_server);
                lab.agree(End::Established, End::Established);
                lab.restart_client();
                if forgets {
                    lab.relay().restart(&[]);
                }
                let mut client = lab.try_connect(PORT).unwrap_or_else(|e| panic!("{policy:?} {forgets}: {e}"));
                let (mut server, _) = listener.accept().unwrap();
                lab.agree(End::Established, End::Established);
                talk(&mut client, &mut server);
                lab.agree(End::Established, End::Established);
            }
        }
    });
}

#[test]
fn a_server_that_has_restarted() {
    in_namespace("a_server_that_has_restarted", || {
        for policy in [InexactReset::Pass, InexactReset::Drop] {
            let mut lab = Lab::with(|config| config.inexact_reset(policy));
            let (mut client, mut server) = lab.connect();
            talk(&mut client, &mut server);
            lab.settle();
            lab.restart_server();
            client.write_all(b"is anybody there?").unwrap();
            is_reset(&mut client);
            lab.gone();
            drop(client);
            let (mut client, mut server) = lab.connect();
            talk(&mut client, &mut server);
            lab.agree(End::Established, End::Established);
        }
    });
}

/// TCP Fast Open (RFC 7413), without cookies: the data in the SYN is accepted, or not, or the SYN+ACK is lost.
#[test]
fn data_in_the_syn() {
    in_namespace("data_in_the_syn", || {
        for accepts in [true, false] {
            for lossy in [false, true] {
                let lab = Lab::new();
                lab.client.sysctl("tcp_fastopen", 1 | 4);
                // Without a cookie, and on every listener.
                lab.server.sysctl("tcp_fastopen", if accepts { 2 | 0x200 | 0x400 } else { 0 });
                let listener = lab.server.listen(SERVER, PORT);
                lab.relay().loss = if lossy { [20, 20] } else { [0, 0] };
                let connect = || {
                    let fd = socket(SocketAddrV4::new(CLIENT, CLIENT_PORT));
                    fast_open(&fd, SocketAddrV4::new(ORIGINAL, PORT), b"GET / HTTP/1.1\r\n\r\n").map(|_| fd)
                };
                let mut client = TcpStream::from(lab.client.run(connect).unwrap());
                let (mut server, _) = listener.accept().unwrap();
                let mut request = [0; 18];
                server.read_exact(&mut request).unwrap();
                assert_eq!(&request, b"GET / HTTP/1.1\r\n\r\n");
                carry(&mut server, &mut client, b"HTTP/1.1 200 OK\r\n\r\n");
                if !lossy {
                    assert_eq!(lab.relay().taken, Some(if accepts { 18 } else { 0 }), "the test itself");
                }
                lab.relay().loss = [0; 2];
                talk(&mut client, &mut server);
                lab.agree(End::Established, End::Established);
            }
        }
    });
}

#[test]
fn both_close_at_once() {
    in_namespace("both_close_at_once", || {
        let lab = Lab::new();
        let (mut client, mut server) = lab.connect();
        talk(&mut client, &mut server);
        lab.settle();
        lab.relay().hold = true;
        client.shutdown(Shutdown::Write).unwrap();
        server.shutdown(Shutdown::Write).unwrap();
        lab.settle();
        assert_eq!(lab.ends(), (End::FinWait1, End::FinWait1));
        let state = lab.relay().state(PORT);
        assert!(matches!(state, Some(State::Established | State::Closing)), "no FIN is acknowledged: {state:?}");
        lab.relay().release();
        lab.settle();
        lab.gone();
        assert_eq!(lab.relay().state(PORT), Some(State::TimeWait));
    });
}

/// A FIN on its way, and one that is lost, count for nothing yet: its receiver has not seen it.
#[test]
fn a_fin_that_has_not_arrived() {
    in_namespace("a_fin_that_has_not_arrived", || {
        for by_client in [true, false] {
            let lab = Lab::new();
            let (mut client, mut server) = lab.connect();
            talk(&mut client, &mut server);
            lab.settle();
            lab.relay().hold = true;
            if by_client { &client } else { &server }.shutdown(Shutdown::Write).unwrap();
            lab.settle();
            let (waits, half) = match by_client {
                true => ((End::FinWait1, End::Established), (End::FinWait2, End::CloseWait)),
                false => ((End::Established, End::FinWait1), (End::CloseWait, End::FinWait2)),
            };
            assert_eq!(lab.ends(), waits, "the test itself");
            assert_eq!(lab.relay().state(PORT), Some(State::Established));
            lab.relay().release();
            lab.agree(half.0, half.1);
        }
    });
}

/// The server has closed first and remembers the port; the client begins again on it at once, several times.
#[test]
fn a_port_in_time_wait() {
    in_namespace("a_port_in_time_wait", || {
        let lab = Lab::new();
        let listener = lab.server.listen(SERVER, PORT);
        for _ in 0..4 {
            let mut client = lab.try_connect(PORT).unwrap();
            let (mut server, _) = listener.accept().unwrap();
            talk(&mut client, &mut server);
            lab.agree(End::Established, End::Established);
            drop(server);
            lab.settle();
            drop(client);
            lab.gone();
            assert_eq!(lab.relay().state(PORT), Some(State::TimeWait));
        }
    });
}

#[test]
fn both_open_at_once() {
    in_namespace("both_open_at_once", || {
        let lab = Lab::new();
        lab.relay().hold = true;
        let connect = |space: &Space, own, to| {
            let fd = space.run(move || socket(own));
            let stream = TcpStream::from(fd);
            stream.set_nonblocking(true).unwrap();
            let again = stream.try_clone().unwrap();
            let _ = space.run(move || rustix::net::connect(&again, &to));
            stream
        };
        let client_end = SocketAddrV4::new(CLIENT, CLIENT_PORT);
        let mut client = connect(&lab.client, client_end, SocketAddrV4::new(ORIGINAL, PORT));
        lab.settle();
        let alternative = lab.relay().connection(PORT).expect("the SYN has come").server_side.source;
        let mut server = connect(&lab.server, SocketAddrV4::new(SERVER, PORT), alternative);
        lab.settle();
        lab.relay().release();
        lab.settle();
        for stream in [&client, &server] {
            stream.set_nonblocking(false).unwrap();
        }
        lab.agree(End::Established, End::Established);
        talk(&mut client, &mut server);
        lab.agree(End::Established, End::Established);
    });
}

#[test]
fn keep_alives_while_nobody_talks() {
    in_namespace("keep_alives_while_nobody_talks", || {
        let lab = Lab::new();
        let (mut client, mut server) = lab.connect();
        talk(&mut client, &mut server);
        keep_alive(&client);
        keep_alive(&server);
        std::thread::sleep(Duration::from_millis(3_500));
        lab.agree(End::Established, End::Established);
        client.shutdown(Shutdown::Write).unwrap();
        std::thread::sleep(Duration::from_millis(1_500));
        lab.agree(End::FinWait2, End::CloseWait);
    });
}

/// A re-divert with `Reset` reaches both ends, although neither says a word; also if one cannot: its peer does not read.
#[test]
fn a_reset_while_both_are_silent() {
    in_namespace("a_reset_while_both_are_silent", || {
        for stuffed in [false, true] {
            for half_closed in [false, true] {
                let lab = Lab::new();
                let (mut client, mut server) = lab.connect();
                talk(&mut client, &mut server);
                if half_closed {
                    client.shutdown(Shutdown::Write).unwrap();
                }
                if stuffed {
                    server.set_write_timeout(Some(Duration::from_millis(200))).unwrap();
                    let _ = server.write_all(&[1; 8_000_000]);
                }
                lab.settle();
                lab.relay().redivert(OTHER, Redivert::Reset);
                std::thread::sleep(Duration::from_millis(700));
                let from = lab.client.run(|| std::fs::read_to_string("/proc/thread-self/net/tcp")).unwrap();
                let to = lab.server.run(|| std::fs::read_to_string("/proc/thread-self/net/tcp")).unwrap();
                let open =
                    |table: &str| table.lines().skip(1).filter(|l| !l.contains(" 0A ") && !l.contains(" 06 ")).count();
                assert_eq!(
                    (open(&from), open(&to)),
                    (0, 0),
                    "stuffed {stuffed}, half-closed {half_closed}\n{from}{to}"
                );
                if !stuffed {
                    is_reset(&mut client);
                }
            }
        }
    });
}

/// Thousands of packets of an attacker that sees no numbers, during a download. What no end accepts changes nothing. A RST
/// with the number of a byte on its way may be obeyed: it leaves a doubt (RFC 7857, section 2.2), until an end goes on.
#[test]
fn a_download_under_attack() {
    in_namespace("a_download_under_attack", || {
        for (policy, sides) in
            [(InexactReset::Pass, 3), (InexactReset::Drop, 3), (InexactReset::Pass, 1), (InexactReset::Pass, 2)]
        {
            let lab = Lab::with(|config| config.inexact_reset(policy));
            let (mut client, mut server) = lab.connect();
            talk(&mut client, &mut server);
            let connection = lab.relay().connection(PORT).unwrap();
            let (relay, done) = (lab.relay.clone(), Arc::new(AtomicBool::new(false)));
            let stop = done.clone();
            let attacker = std::thread::spawn(move || {
                for turn in 0..6_000_u32 {
                    let mut relay = relay.lock().unwrap();
                    let dice = relay.random();
                    let all = [FIN | ACK, FIN | ACK, SYN, RST, RST | ACK, ACK, SYN | ACK, PSH | ACK, FIN];
                    let flags = all[turn as usize % all.len()];
                    let numbers = (flags, (dice >> 32) as u32, dice as u32);
                    let data: &[u8] = if flags & PSH != 0 { b"forged" } else { b"" };
                    let side = match sides {
                        3 => relay.random() % 2,
                        one => one - 1,
                    };
                    let (direction, from, to) = match side {
                        0 => (ToServer, connection.client_side.source, connection.client_side.destination),
                        _ => (ToClient, connection.server(), connection.server_side.source),
                    };
                    let forged = packet::tcp(from, to, numbers, data);
                    let segment = Segment::read(&forged).expect("a whole one");
                    if relay.is_lucky(direction, &segment) {
                        continue;
                    }
                    let in_doubt = relay.state(PORT) == Some(State::Doubtful)
                        || segment.has(RST) && relay.is_in_flight(direction, &segment);
                    relay.packet(&forged, true);
                    match relay.state(PORT) {
                        Some(State::Established) => {}
                        Some(State::Doubtful) if in_doubt => {}
                        other => {
                            let lines: Vec<_> = relay.log.iter().cloned().collect();
                            return Err(format!("{other:?}\n{}", lines.join("\n")));
                        }
                    }
                    drop(relay);
                    if turn % 8 == 0 {
                        std::thread::sleep(Duration::from_millis(1));
                    }
                    if stop.load(Ordering::Relaxed) && turn > 3_000 {
                        break;
                    }
                }
                Ok(())
            });
            carry_much(&server, &client, 20 << 20);
            done.store(true, Ordering::Relaxed);
            if let Err(story) = attacker.join().unwrap() {
                panic!("{policy:?}, sides {sides}: both ends are established: {story}");
            }
            talk(&mut client, &mut server);
            lab.agree(End::Established, End::Established);
        }
    });
}

#[test]
fn over_lines_that_lose() {
    in_namespace("over_lines_that_lose", || {
        for loss in [[3, 0], [0, 3], [2, 2]] {
            let lab = Lab::new();
            let (client, server) = lab.connect();
            lab.relay().loss = loss;
            carry_much(&client, &server, 300_000);
            carry_much(&server, &client, 300_000);
            lab.relay().loss = [0, 0];
            let (mut client, mut server) = (client, server);
            talk(&mut client, &mut server);
            lab.agree(End::Established, End::Established);
        }
    });
}

/// More than 16 MiB after a snapshot the translator is restarted with it: nothing is lost, the numbers become certain
/// again, and then a re-divert with `Reset` is obeyed.
#[test]
fn an_old_snapshot() {
    in_namespace("an_old_snapshot", || {
        for policy in [InexactReset::Pass, InexactReset::Drop] {
            let lab = Lab::with(|config| config.inexact_reset(policy));
            let (mut client, mut server) = lab.connect();
            talk(&mut client, &mut server);
            lab.settle();
            let snapshot = lab.relay().snapshot();
            carry_much(&server, &client, 40 << 20);
            carry_much(&client, &server, 20 << 20);
            lab.settle();
            lab.relay().restart(&snapshot);
            for _ in 0..20 {
                talk(&mut client, &mut server);
            }
            lab.agree(End::Established, End::Established);
            lab.relay().redivert(OTHER, Redivert::Reset);
            std::thread::sleep(Duration::from_millis(300));
            is_reset(&mut client);
            is_reset(&mut server);
        }
    });
}
