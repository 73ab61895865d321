//! Hand-overs segment by segment.
//!
//! The new server accepts a connection only with its first data, as Apache's listens (`TCP_DEFER_ACCEPT`). Until then Linux
//! throws away a segment that does not echo the time of one of its SYN+ACKs, whatever else is right with it, and repeats its
//! SYN+ACK before it gives up.

use core::net::SocketAddrV4;
use core::time::Duration;

use byway::{
    AtRest, ChecksumState, Config, Divert, DropReason, Fixed, Greeted, HandOvers, Instant, Kept, PacketMeta, Pair,
    Resumption, Translator, Verdict,
};
use byway_testing::moving;
use byway_testing::moving::witness::read;
use byway_testing::*;

pub(super) const CLIENT: &str = "1.2.3.4:3456";
pub(super) const ORIGINAL: &str = "100.100.100.100:80";
pub(super) const OLD: &str = "123.45.67.89:80";
pub(super) const NEW: &str = "123.45.67.90:80";
/// Where the client's numbers and the servers' start.
pub(super) const MINE: u32 = 1_000;
pub(super) const OLDS: u32 = 500_000;
pub(super) const NEWS: u32 = u32::MAX - 3;
/// The clocks of the old server and of the new one.
pub(super) const OLD_CLOCK: u32 = 70_000;
pub(super) const NEW_CLOCK: u32 = u32::MAX - 20;

/// A segment with timestamps, and with what a SYN offers if it is one. The new server counts its window in other units than the
/// rest, and the old one has a small window.
pub(super) fn segment(
    from: &str,
    to: SocketAddrV4,
    numbers: (u8, u32, u32),
    clocks: (u32, u32),
    data: &[u8],
) -> Vec<u8> {
    let mut options = Vec::new();
    if numbers.0 & SYN != 0 {
        let scale = if from == NEW { 2 } else { 7 };
        options.extend([2, 4, 5, 180, 1, 3, 3, scale, 4, 2, 1, 1]);
    } else {
        options.extend([1, 1]);
    }
    options.extend([8, 10]);
    options.extend([clocks.0.to_be_bytes(), clocks.1.to_be_bytes()].concat());
    options.resize(options.len().next_multiple_of(4), 1);
    let plain = tcp(at(from), to, numbers, b"");
    let mut packet = plain[..40].to_vec();
    packet[32] = ((20 + options.len()) as u8 / 4) << 4;
    if from == OLD && numbers.0 & SYN == 0 {
        packet[34..36].copy_from_slice(&4_u16.to_be_bytes());
    }
    packet.extend(&options);
    packet.extend(data);
    let total = packet.len() as u16;
    packet[2..4].copy_from_slice(&total.to_be_bytes());
    fill_checksums(&mut packet);
    packet
}

/// The same segment with another window.
pub(super) fn with_window(mut packet: Vec<u8>, window: u16) -> Vec<u8> {
    packet[34..36].copy_from_slice(&window.to_be_bytes());
    fill_checksums(&mut packet);
    packet
}

/// The same SYN with another window scale, or without any.
pub(super) fn with_scale(mut packet: Vec<u8>, scale: Option<u8>) -> Vec<u8> {
    assert_eq!(packet[45..47], [3, 3]);
    packet[45..48].copy_from_slice(&scale.map_or([1; 3], |scale| [3, 3, scale]));
    fill_checksums(&mut packet);
    packet
}

/// With `MEASURED` as large as the number of connections no segment takes the fast path.
pub(super) type Room<const MEASURED: usize> = Fixed<16, 4, 8, 8, MEASURED, 16>;

pub(super) struct Net<R, const MEASURED: usize = 0> {
    pub(super) byway: Translator<Room<MEASURED>>,
    pub(super) mover: HandOvers<'static, R, 2>,
    pub(super) now: Instant,
    /// What the translator's endpoint is called at each server.
    pub(super) alternative: SocketAddrV4,
}

impl<R: Resumption, const MEASURED: usize> Net<R, MEASURED> {
    pub(super) fn carry(&mut self, mut packet: Vec<u8>) -> (Verdict, Vec<u8>) {
        let verdict = self.mover.translate(self.now, &mut self.byway, &mut packet);
        assert_eq!(checksums(&packet), BOTH);
        (verdict, packet)
    }

    #[track_caller]
    pub(super) fn there(
        &mut self,
        numbers: (u8, u32, u32),
        clocks: (u32, u32),
        data: &[u8],
    ) -> moving::witness::Segment {
        let (verdict, packet) = self.carry(segment(CLIENT, at(ORIGINAL), numbers, clocks, data));
        assert_eq!(verdict, Verdict::ToServer);
        read(&packet)
    }

    pub(super) fn back(
        &mut self,
        from: &str,
        numbers: (u8, u32, u32),
        clocks: (u32, u32),
        data: &[u8],
    ) -> (Verdict, Vec<u8>) {
        self.carry(segment(from, self.alternative, numbers, clocks, data))
    }

    pub(super) fn own(&mut self) -> Vec<moving::witness::Segment> {
        let mut buffer = [0; 1_500];
        let mut all = Vec::new();
        while let Some(own) = self.mover.poll_transmit(self.now, &mut self.byway, &mut buffer) {
            assert_eq!(checksums(&buffer[..own.length]), BOTH);
            all.push(read(&buffer[..own.length]));
        }
        all
    }

    pub(super) fn pass(&mut self, time: u64) {
        self.now = self.now + Duration::from_millis(time);
    }

    /// Begins to hand the connection over to the new server.
    pub(super) fn begin(&mut self) -> Result<(), Kept> {
        self.begin_to(NEW)
    }

    pub(super) fn begin_to(&mut self, server: &str) -> Result<(), Kept> {
        let pair = Pair { source: at(CLIENT), destination: at(ORIGINAL) };
        self.mover.begin(self.now, &mut self.byway, &pair, at(server))
    }

    /// Begins, and returns the SYN.
    #[track_caller]
    pub(super) fn begun(&mut self) -> moving::witness::Segment {
        assert_eq!(self.begin(), Ok(()));
        let [syn] = self.own()[..] else { panic!("one SYN") };
        self.alternative = syn.source;
        syn
    }
}

/// A connection that has had an answer of the old server, of which the client acknowledges the first half of an older time
/// stamp: so that what it echoes is older than the latest that it was sent. Then it is handed over at rest.
fn handed_over<R: Resumption>(resumption: R) -> Net<R> {
    let mut net = begun_with(resumption);
    let _ = net.back(NEW, (SYN | ACK, NEWS, MINE + 9), (NEW_CLOCK, 60), b"");
    let own = net.own();
    let ack = own.iter().find(|s| s.destination == at(NEW)).expect("an acknowledgement");
    // The server in this test ignores it, since it has no data.
    assert_eq!((ack.flags, ack.acknowledgment, ack.clocks), (ACK, NEWS.wrapping_add(1), Some((60, NEW_CLOCK))));
    assert_eq!(net.mover.moved(), 1);
    net
}

/// The same up to the SYN to the new server, which will send so many bytes of greeting.
fn begun(greeting: usize) -> Net<Greeted> {
    begun_with(Greeted { at_rest: REST, greeting })
}

pub(super) const REST: AtRest = AtRest::after(Duration::from_millis(200));

fn begun_with<R: Resumption>(resumption: R) -> Net<R> {
    let mut net = at_rest(resumption);
    let syn = net.begun();
    assert_eq!((syn.flags, syn.sequence), (SYN, MINE + 8));
    net.pass(20);
    net
}

pub(super) fn translator<const MEASURED: usize>() -> Translator<Room<MEASURED>> {
    let config = Config::new([0x42; 32]).alternative(ip("10.10.10.10"), 1024..=65535);
    let mut byway = Translator::new(config, Room::sized()).expect("a good configuration");
    byway.divert(Divert::new(at(ORIGINAL)).to(at(OLD)).resumable()).expect("a good rule");
    byway
}

/// A connection that has had an answer of the old server, a second before.
pub(super) fn at_rest<R: Resumption, const MEASURED: usize>(resumption: R) -> Net<R, MEASURED> {
    at_rest_told(resumption, 7)
}

/// The same, where the client was told this window scale.
pub(super) fn at_rest_told<R: Resumption, const MEASURED: usize>(resumption: R, scale: u8) -> Net<R, MEASURED> {
    let byway = translator();
    let mover = HandOvers::new(resumption, Box::leak(Box::new([0; 8_192])));
    let mut net = Net { byway, mover, now: s(5), alternative: at(OLD) };
    net.alternative = net.there((SYN, MINE, 0), (1, 0), b"").source;
    let answer = segment(OLD, net.alternative, (SYN | ACK, OLDS, MINE + 1), (OLD_CLOCK, 1), b"");
    assert_eq!(net.carry(with_scale(answer, Some(scale))).0, Verdict::ToClient);
    net.there((ACK, MINE + 1, OLDS + 1), (2, OLD_CLOCK), b"question");
    net.pass(50);
    for (place, clock) in [(1, 10), (101, 30)] {
        let answer = net.back(OLD, (ACK, OLDS + place, MINE + 9), (OLD_CLOCK + clock, 2), &[7; 100]);
        assert_eq!(answer.0, Verdict::ToClient);
    }
    // One acknowledgement for both segments echoes the earlier (RFC 7323, section 4.3).
    net.there((ACK, MINE + 9, OLDS + 201), (60, OLD_CLOCK + 10), b"");
    net.pass(1_000);
    net
}

/// The numbers that the client waits for.
pub(super) const NEXT: u32 = OLDS + 201;

#[test]
fn what_the_server_must_hear_echoes_its_handshake() {
    hears_echoes(handed_over(REST));
    hears_echoes(handed_over(Greeted { at_rest: REST, greeting: 0 }));
}

fn hears_echoes(mut net: Net<impl Resumption>) {
    // A window update, with the older echo.
    let seen = net.there((ACK, MINE + 9, NEXT), (1_100, OLD_CLOCK + 10), b"");
    assert_eq!((seen.acknowledgment, seen.clocks), (NEWS.wrapping_add(1), Some((1_100, NEW_CLOCK))));
    // It says what it has got with a later clock, since it has not accepted: that is not to be echoed either, and the client
    // does not see it.
    let (verdict, packet) = net.back(NEW, (ACK, NEWS.wrapping_add(1), MINE + 9), (NEW_CLOCK.wrapping_add(40), 60), b"");
    assert_eq!((verdict, read(&packet).clocks), (Verdict::ToClient, Some((OLD_CLOCK + 30, 60))));
    let seen = net.there((ACK, MINE + 9, NEXT), (1_200, OLD_CLOCK + 70), b"next question");
    assert_eq!((seen.sequence, seen.clocks), (MINE + 9, Some((1_200, NEW_CLOCK))));
    // It answers: from here on the clocks run on.
    let later = NEW_CLOCK.wrapping_add(90);
    let (verdict, packet) = net.back(NEW, (ACK, NEWS.wrapping_add(1), MINE + 22), (later, 1_200), b"answer");
    let seen = read(&packet);
    assert_eq!((verdict, seen.sequence, seen.clocks), (Verdict::ToClient, NEXT, Some((OLD_CLOCK + 30 + 90, 1_200))));
    // 8192 units of 4 bytes are 256 of those that the client knows.
    assert_eq!(seen.window, 256);
    let seen = net.there((ACK, MINE + 22, NEXT + 6), (1_300, OLD_CLOCK + 120), b"");
    assert_eq!(seen.clocks, Some((1_300, later)));
    let seen = net.there((ACK, MINE + 22, NEXT + 6), (1_300, OLD_CLOCK + 100), b"");
    assert_eq!(seen.clocks, Some((1_300, NEW_CLOCK.wrapping_add(70))), "what it echoes is its own matter again");
}

#[test]
fn a_client_that_only_ends_is_believed_too() {
    believes_an_end(handed_over(REST));
    believes_an_end(handed_over(Greeted { at_rest: REST, greeting: 0 }));
}

fn believes_an_end(mut net: Net<impl Resumption>) {
    let seen = net.there((FIN | ACK, MINE + 9, NEXT), (1_100, OLD_CLOCK + 10), b"");
    assert_eq!((seen.sequence, seen.clocks), (MINE + 9, Some((1_100, NEW_CLOCK))));
}

/// The server repeats its SYN+ACK, and gives the connection up if nothing answers. To the client it is an old segment
/// without data, such as a keep-alive, which it answers with what it has got.
#[test]
fn a_repeated_handshake_is_answered_by_the_client() {
    repeats_its_handshake(handed_over(REST));
    repeats_its_handshake(handed_over(Greeted { at_rest: REST, greeting: 0 }));
}

fn repeats_its_handshake(mut net: Net<impl Resumption>) {
    for later in [40, 100] {
        net.pass(1_000);
        let clock = NEW_CLOCK.wrapping_add(later);
        let (verdict, packet) = net.back(NEW, (SYN | ACK, NEWS, MINE + 9), (clock, 60), b"");
        let seen = read(&packet);
        assert_eq!((verdict, seen.flags, seen.length), (Verdict::ToClient, ACK, 0));
        assert_eq!((seen.sequence, seen.acknowledgment), (NEXT - 1, MINE + 9));
        assert_eq!(seen.clocks, Some((OLD_CLOCK + 30 + later, 60)), "no step back (PAWS)");
        // 512 bytes were offered before, in units of 128: the right edge stays, whatever the window of a SYN says.
        assert_eq!(seen.window, 4, "{seen:?}");
        let seen = net.there((ACK, MINE + 9, NEXT), (2_000 + later, OLD_CLOCK + 10), b"");
        assert_eq!((seen.acknowledgment, seen.clocks), (NEWS.wrapping_add(1), Some((2_000 + later, clock))));
    }
    assert!(net.byway.connections().next().is_some_and(|c| c.server_side.destination == at(NEW)));
}

/// Somebody who does not see the client's numbers cannot end a hand-over, and the client can.
#[test]
fn only_the_exact_number_ends_a_hand_over() {
    let mut net = begun(5);
    let _ = net.back(NEW, (SYN | ACK, NEWS, MINE + 9), (NEW_CLOCK, 60), b"");
    let _ = net.own();
    for (flags, sequence) in
        [(RST, MINE + 8), (RST, MINE + 10), (RST | ACK, MINE + 5_000), (FIN | ACK, MINE), (SYN, MINE)]
    {
        let (verdict, _) = net.carry(segment(CLIENT, at(ORIGINAL), (flags, sequence, NEXT), (1_100, 0), b""));
        assert_eq!((verdict, net.mover.under_way()), (Verdict::Drop(DropReason::HandingOver), 1));
    }
    let mut damaged = segment(CLIENT, at(ORIGINAL), (RST, MINE + 9, NEXT), (1_100, 0), b"");
    damaged[36] ^= 1;
    let verdict = net.mover.translate(net.now, &mut net.byway, &mut damaged);
    assert_eq!((verdict, net.mover.under_way()), (Verdict::Drop(DropReason::HandingOver), 1));
    let seen = net.there((RST, MINE + 9, NEXT), (1_100, OLD_CLOCK), b"");
    assert_eq!((seen.destination, seen.sequence), (at(OLD), MINE + 9));
    assert_eq!(net.mover.kept(Kept::Closing), 1);
}

/// The new server never says what it should: the old one gets what the client has sent meanwhile, without a time-out.
#[test]
fn a_thaw_remembers_what_the_client_has_sent() {
    let mut net = begun(5);
    let _ = net.back(NEW, (SYN | ACK, NEWS, MINE + 9), (NEW_CLOCK, 60), b"");
    let _ = net.own();
    let request = segment(CLIENT, at(ORIGINAL), (ACK, MINE + 9, NEXT), (1_100, OLD_CLOCK + 10), b"next question");
    assert_eq!(net.carry(request).0, Verdict::Drop(DropReason::HandingOver));
    for _ in 0..40 {
        net.pass(100);
        net.mover.poll(net.now, &mut net.byway);
        let own = net.own();
        if let Some(request) = own.iter().find(|own| own.length != 0) {
            assert_eq!((request.destination, request.sequence, request.length), (at(OLD), MINE + 9, 13));
            assert_eq!((request.acknowledgment, request.clocks), (NEXT, Some((1_100, OLD_CLOCK + 10))));
            assert!(own.iter().any(|own| own.destination == at(NEW) && own.flags & RST != 0), "{own:?}");
            return;
        }
    }
    panic!("the request is lost");
}

/// What a client sends while its connection stands still comes from a stack that leaves the checksum to the hardware: it is
/// sent on with a whole one.
#[test]
fn a_request_with_an_unfinished_checksum_waits_too() {
    let mut net = begun(5);
    let _ = net.back(NEW, (SYN | ACK, NEWS, MINE + 9), (NEW_CLOCK, 60), b"");
    assert!(net.own().iter().all(|own| own.destination == at(NEW)));
    let mut request = segment(CLIENT, at(ORIGINAL), (ACK, MINE + 9, NEXT), (1_100, OLD_CLOCK + 10), b"next question");
    // The sum of the pseudo-header, not complemented (virtio's NEEDS_CSUM).
    let length = (request.len() as u16 - 20).to_be_bytes();
    let pseudo = sum(&[&request[12..20], &[0, 6], &length]);
    request[36..38].copy_from_slice(&pseudo.to_be_bytes());
    let meta = PacketMeta::new().checksum(ChecksumState::Partial);
    let verdict = net.mover.translate_with(net.now, &mut net.byway, &mut request, meta);
    assert_eq!(verdict, Verdict::Drop(DropReason::HandingOver));
    let _ = net.back(NEW, (ACK, NEWS.wrapping_add(1), MINE + 9), (NEW_CLOCK.wrapping_add(9), 60), b"hello");
    let own = net.own();
    let sent = own.iter().find(|own| own.length != 0).expect("the request");
    assert_eq!((sent.destination, sent.sequence, sent.length), (at(NEW), MINE + 9, 13));
    assert_eq!(sent.acknowledgment, NEWS.wrapping_add(6));
}
