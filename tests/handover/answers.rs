//! What a new server answers before it takes over, and what `HttpGet` knows of a connection.

use core::net::SocketAddrV4;
use core::time::Duration;

use byway::{Checked, HttpGet, Kept, Pair, Position, Resumed, Resumption, Verdict};
use byway_testing::moving::witness::read;
use byway_testing::*;

use super::segments::{
    CLIENT, MINE, NEW, NEW_CLOCK, NEWS, Net, OLD, OLD_CLOCK, OLDS, ORIGINAL, REST, segment, translator,
};

const CHUNKED: &[u8] = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n";
const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";

fn net<R: Resumption>(resumption: R) -> Net<R> {
    let mover = byway::HandOvers::new(resumption, Box::leak(Box::new([0; 8_192])));
    Net { byway: translator(), mover, now: s(5), alternative: at(OLD) }
}

/// Opens a connection of this client, which asks, and gets the start of an answer. Returns what the client waits for
/// next.
fn talk<R: Resumption>(net: &mut Net<R>, client: &str, asked: &[u8], answer: &[u8]) -> u32 {
    let there = |net: &mut Net<R>, numbers, data: &[u8]| {
        let (verdict, packet) = net.carry(segment(client, at(ORIGINAL), numbers, (1, OLD_CLOCK), data));
        assert_eq!(verdict, Verdict::ToServer);
        read(&packet).source
    };
    net.alternative = there(net, (SYN, MINE, 0), b"");
    let _ = net.back(OLD, (SYN | ACK, OLDS, MINE + 1), (OLD_CLOCK, 1), b"");
    there(net, (ACK, MINE + 1, OLDS + 1), b"");
    there(net, (ACK, MINE + 1, OLDS + 1), asked);
    let next = MINE + 1 + asked.len() as u32;
    let _ = net.back(OLD, (ACK, OLDS + 1, next), (OLD_CLOCK, 1), answer);
    there(net, (ACK, next, OLDS + 1 + answer.len() as u32), b"");
    next
}

fn begin<R: Resumption>(net: &mut Net<R>, client: &str) -> Result<(), Kept> {
    let source: SocketAddrV4 = at(client);
    net.mover.begin(net.now, &mut net.byway, &Pair { source, destination: at(ORIGINAL) }, at(NEW))
}

/// A connection that `HttpGet` has no more room for, or has never seen a request of, may be in the middle of anything.
#[test]
fn a_connection_that_is_not_known_stays() {
    const OTHER: &str = "1.2.3.4:3457";
    let mut net = net(HttpGet::<1>::new(REST));
    talk(&mut net, CLIENT, GET, CHUNKED);
    net.pass(1_000);
    assert_eq!(begin(&mut net, CLIENT), Err(Kept::NotNow), "in the middle of a chunked body");
    talk(&mut net, OTHER, GET, b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    net.pass(1_000);
    assert_eq!(begin(&mut net, CLIENT), Err(Kept::NotNow), "it still is");
    // A process that takes over has not seen anything.
    let mut new = self::net(HttpGet::<1>::new(REST));
    for record in net.byway.records() {
        new.byway.import(new.now + Duration::from_secs(60), &record).expect("a good record");
    }
    new.pass(120_000);
    let next = MINE + 1 + GET.len() as u32;
    let numbers = (ACK, next, OLDS + 1 + CHUNKED.len() as u32);
    new.alternative = read(&new.carry(segment(CLIENT, at(ORIGINAL), numbers, (1, OLD_CLOCK), b"")).1).source;
    assert_eq!(new.back(OLD, (ACK, numbers.2, next), (OLD_CLOCK, 1), b"").0, Verdict::ToClient);
    new.pass(1_000);
    assert_eq!(begin(&mut new, CLIENT), Err(Kept::NotNow));
    assert_eq!(begin(&mut net, OTHER), Ok(()), "this one is known");
}

/// The first bytes of an answer that the client is to get may be lost on their way to it: until it has them, only the
/// new server can repeat them.
#[test]
fn what_the_client_needs_is_not_acknowledged_for_it() {
    let mut net = net(HttpGet::<1>::new(REST));
    let next = talk(&mut net, CLIENT, GET, b"");
    net.pass(1_000);
    assert_eq!(begin(&mut net, CLIENT), Ok(()), "nothing was answered yet");
    net.alternative = net.own().last().expect("a SYN").source;
    let _ = net.back(NEW, (SYN | ACK, NEWS, next - GET.len() as u32), (NEW_CLOCK, 1), b"");
    assert!(net.own().iter().any(|own| own.length == GET.len() as u32));
    let first = NEWS.wrapping_add(1);
    let mut acknowledged = Vec::new();
    for (place, data) in [(0, &b"HTTP/"[..]), (5, b"1.1 200 OK\r\nContent-Length: 0\r\n\r\n")] {
        let _ = net.back(NEW, (ACK, first.wrapping_add(place), next), (NEW_CLOCK, 1), data);
        for own in net.own() {
            if own.destination == at(NEW) {
                acknowledged.push(own.acknowledgment);
            } else if own.destination == at(CLIENT) {
                assert_eq!((own.sequence, own.length), (OLDS + 1, 38), "all of it");
            }
        }
    }
    assert_eq!(net.mover.moved(), 1);
    assert!(acknowledged.iter().all(|number| *number == first), "{acknowledged:?}");
    // What was sent to the client is lost, and the new server sends it again.
    let (verdict, packet) = net.back(NEW, (ACK, first, next), (NEW_CLOCK, 1), b"HTTP/1.1 200 OK");
    assert_eq!((verdict, read(&packet).sequence), (Verdict::ToClient, OLDS + 1));
}

/// Says first that nothing of an answer is for the client, and then that it is.
struct Liar;

impl Resumption for Liar {
    fn resume(&mut self, _: &Position, _: &mut [u8]) -> Resumed {
        Resumed::Write(0)
    }

    fn check(&mut self, _: &Position, received: &[u8]) -> Checked {
        if received.len() < 5 { Checked::More } else { Checked::Accept { dropped: 3 } }
    }
}

#[test]
fn what_was_acknowledged_cannot_be_for_the_client() {
    let mut net = net(Liar);
    let next = talk(&mut net, CLIENT, GET, b"answer");
    assert_eq!(begin(&mut net, CLIENT), Ok(()));
    net.alternative = net.own().last().expect("a SYN").source;
    let _ = net.back(NEW, (SYN | ACK, NEWS, next), (NEW_CLOCK, 1), b"");
    for (place, data) in [(1, &b"four"[..]), (5, b"five")] {
        let _ = net.own();
        let _ = net.back(NEW, (ACK, NEWS.wrapping_add(place), next), (NEW_CLOCK, 1), data);
    }
    assert_eq!((net.mover.moved(), net.mover.kept(Kept::WrongAnswer)), (0, 1));
}
