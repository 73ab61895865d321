//! Forged and misleading numbers: what no end accepts changes nothing, and what both ends agree on becomes known.
//!
//! The ends are simulated as far as their numbers go: each knows what it has sent and what it expects, accepts what
//! RFC 9293 (section 3.10.7.4) and RFC 5961 let it accept, and answers. Fault classes: three forged packets (FIN each way,
//! then SYN) that end a download; a gap after which no RST is obeyed any more.

use core::net::SocketAddrV4;

use byway::{Divert, Fixed, Heap, InexactReset, Instant, Protocol, Record, Redivert, State, Translator, Verdict};
use byway_testing::talk::*;
use byway_testing::*;

/// A connection whose ends' numbers are known to the test.
struct Download {
    t: Translator<Heap>,
    alternative: SocketAddrV4,
    server: SocketAddrV4,
    /// The next number of the client and of the server.
    client_next: u32,
    server_next: u32,
    now: Instant,
}

impl Download {
    fn new(config: byway::Config) -> Self {
        let mut t = diverting(config);
        let (alternative, server) = connect(&mut t, s(0), at(CLIENT), at(ORIGINAL));
        Self { t, alternative, server, client_next: CLIENT_START + 1, server_next: SERVER_START + 1, now: s(0) }
    }

    fn client_says(&mut self, flags: u8, sequence: u32, acknowledgment: u32, data: &[u8]) -> Verdict {
        verdict(&mut self.t, self.now, &tcp(at(CLIENT), at(ORIGINAL), (flags, sequence, acknowledgment), data))
    }

    fn server_says(&mut self, flags: u8, sequence: u32, acknowledgment: u32, data: &[u8]) -> Verdict {
        verdict(&mut self.t, self.now, &tcp(self.server, self.alternative, (flags, sequence, acknowledgment), data))
    }

    /// The server sends data and the client acknowledges it.
    #[track_caller]
    fn go_on(&mut self, bytes: usize) {
        let data = vec![7; bytes];
        let (next, expected) = (self.server_next, self.client_next);
        assert_eq!(self.server_says(ACK, next, expected, &data), Verdict::ToClient);
        self.server_next = next.wrapping_add(bytes as u32);
        assert_eq!(self.client_says(ACK, self.client_next, self.server_next, b""), Verdict::ToServer);
    }

    /// The same past the translator.
    fn go_on_elsewhere(&mut self, bytes: u32) {
        self.server_next = self.server_next.wrapping_add(bytes);
    }

    /// What the translator knows: sent by client and server, acknowledged by client and server.
    fn numbers(&self) -> [u32; 4] {
        let record: Record = self.t.record(&connection(&self.t, Protocol::Tcp)).unwrap();
        let word = |at: usize| u32::from_be_bytes(record.as_bytes()[at..at + 4].try_into().unwrap());
        [36, 40, 44, 48].map(word)
    }

    fn truth(&self) -> [u32; 4] {
        [self.client_next, self.server_next, self.server_next, self.client_next]
    }

    #[track_caller]
    fn is_alive_after(&mut self, seconds: u64) {
        assert_eq!(tcp_state(&self.t), Some(State::Established));
        let later = Instant::from_micros(self.now.as_micros()) + core::time::Duration::from_secs(seconds);
        while self.now < later {
            self.now = self.now + core::time::Duration::from_secs(10);
            self.t.poll(self.now);
        }
        self.go_on(100);
    }
}

/// Any 32-bit number.
fn any(dice: &mut Dice) -> u32 {
    dice.below(1 << 32) as u32
}

/// The attack that was run: FIN from each side, then SYN, again and again, with numbers that the attacker cannot know,
/// while a download goes on. Besides: SYN+ACK, RST, data, and everything at once.
#[test]
fn forged_segments_of_both_sides_do_not_end_a_download() {
    for seed in 0..20 {
        let mut dice = Dice(seed);
        let mut d = Download::new(config().inexact_reset([InexactReset::Pass, InexactReset::Drop][seed as usize % 2]));
        for round in 0..3_000 {
            if round % 8 == 0 {
                d.go_on(1_000);
            }
            let kinds = [FIN | ACK, SYN, FIN, ACK, RST, RST | ACK, SYN | ACK, SYN | FIN, 0];
            let flags = if seed < 10 { [FIN | ACK, FIN | ACK, SYN][round % 3] } else { kinds[dice.below(9) as usize] };
            let (a, b) = (any(&mut dice), any(&mut dice));
            let data = vec![0; dice.below(3) as usize * 700];
            if round % 2 == 0 || flags == SYN {
                let _ = d.client_says(flags, a, b, &data);
            } else {
                let _ = d.server_says(flags, a, b, &data);
            }
            assert_eq!(tcp_state(&d.t), Some(State::Established), "seed {seed}, round {round}");
        }
        d.go_on(1_000);
        assert_eq!(d.numbers(), d.truth(), "seed {seed}");
        d.is_alive_after(3_600);
    }
}

/// The same against a connection on which nothing is said: nothing forged prolongs it either.
#[test]
fn forged_segments_neither_end_nor_prolong_a_silent_connection() {
    let mut dice = Dice(7);
    let mut d = Download::new(config());
    d.go_on(500);
    let numbers = d.numbers();
    for round in 0..7_440_u64 {
        d.now = s(round);
        let flags = [FIN | ACK, SYN, ACK, RST, SYN | ACK, FIN, 0][dice.below(7) as usize];
        let (a, b) = (any(&mut dice), any(&mut dice));
        if round % 2 == 0 {
            let _ = d.client_says(flags, a, b, b"");
        } else {
            let _ = d.server_says(flags, a, b, b"");
        }
        assert_eq!((tcp_state(&d.t), d.numbers()), (Some(State::Established), numbers), "second {round}");
    }
    d.now = s(7_442);
    d.t.poll(d.now);
    assert_eq!(tcp_state(&d.t), None, "it was silent for 2 h 4 min");
}

/// Nothing forged makes an established connection one that may be given up for a new one.
#[test]
fn forged_segments_do_not_make_it_evictable() {
    let mut dice = Dice(9);
    let mut t = Translator::new(config(), Fixed::<64, 4>::new()).unwrap();
    t.divert(Divert::new(at(ORIGINAL)).to(at(SERVER))).unwrap();
    let (alternative, server) = connect(&mut t, s(0), at(CLIENT), at(ORIGINAL));
    for number in 0..3_000_u32 {
        let flags = [FIN | ACK, SYN, FIN | ACK, RST, SYN | ACK][dice.below(5) as usize];
        let (a, b) = (any(&mut dice), any(&mut dice));
        if number % 2 == 0 {
            let _ = verdict(&mut t, s(1), &tcp(at(CLIENT), at(ORIGINAL), (flags, a, b), b""));
        } else {
            let _ = verdict(&mut t, s(1), &tcp(server, alternative, (flags, a, b), b""));
        }
        let stranger = client(1 + number);
        let _ = verdict(&mut t, s(1), &tcp(stranger, at(ORIGINAL), (SYN, a, 0), b""));
    }
    assert_eq!(tcp_state(&t), Some(State::Established));
}

/// 20 MiB and more go another way, or a snapshot is old: the numbers are known again after several segments on which
/// both ends agree, and a RST is judged by them and sent with them.
#[test]
fn a_gap_closes_when_both_ends_agree() {
    for gap in [1 << 24, 20 << 20, 1 << 30, 1 << 31, 3 << 30] {
        let mut d = Download::new(config());
        d.go_on(1_000);
        d.go_on_elsewhere(gap);
        for _ in 0..5 {
            d.go_on(1_000);
        }
        assert_eq!(d.numbers(), d.truth(), "gap {gap:#x}");
        d.is_alive_after(7_000);
        d.t.redivert(at(SERVER), at(OTHER), Redivert::Reset).unwrap();
        let said: Vec<_> = say(&mut d.t, d.now).iter().map(|p| segment(p)).collect();
        let both = [(RST | ACK, d.server_next, d.client_next), (RST | ACK, d.client_next, d.server_next)];
        assert_eq!(said, both, "gap {gap:#x}");
    }
}

/// The same for a gap in what the client sent, in both, and where one end is silent but for its acknowledgements.
#[test]
fn a_gap_on_the_clients_side_or_on_both_closes_too() {
    for (client_gap, server_gap) in [(1 << 25, 0), (1 << 25, 1 << 26), (1 << 31, 5)] {
        let mut d = Download::new(config());
        d.go_on(1_000);
        d.client_next = d.client_next.wrapping_add(client_gap);
        d.server_next = d.server_next.wrapping_add(server_gap);
        for _ in 0..6 {
            // An upload: the client's data and the server's acknowledgements.
            let (next, expected) = (d.client_next, d.server_next);
            assert_eq!(d.client_says(ACK, next, expected, &[1; 1_400]), Verdict::ToServer);
            d.client_next = next.wrapping_add(1_400);
            assert_eq!(d.server_says(ACK, d.server_next, d.client_next, b""), Verdict::ToClient);
        }
        assert_eq!(d.numbers(), d.truth(), "{client_gap:#x} {server_gap:#x}");
    }
}

/// The same where both ends talk in turn, as in an interactive session: each segment carries data and acknowledges the one
/// before it, so that none waits for the numbers of the other side to be known.
#[test]
fn a_gap_closes_while_both_ends_talk_in_turn() {
    for (client_gap, server_gap) in [(1 << 20, 0), (1 << 25, 0), (0, 1 << 25), (1 << 25, 1 << 26), (1 << 31, 5)] {
        for (question, answer) in [(1, 1), (4, 1_000), (1_400, 1_400)] {
            let mut d = Download::new(config());
            d.client_next = d.client_next.wrapping_add(client_gap);
            d.server_next = d.server_next.wrapping_add(server_gap);
            for turn in 0..20 {
                let acknowledged = d.client_next;
                let _ = d.server_says(ACK, d.server_next, acknowledged, &vec![7; answer as usize]);
                d.server_next = d.server_next.wrapping_add(answer);
                let _ = d.client_says(ACK, d.client_next, d.server_next, &vec![1; question as usize]);
                d.client_next = d.client_next.wrapping_add(question);
                let truth = [d.client_next, d.server_next, d.server_next, acknowledged];
                let case = format!("{client_gap:#x} {server_gap:#x}, {question} and {answer} bytes, turn {turn}");
                assert!(turn < 5 || d.numbers() == truth, "{case}: {:x?}, not {truth:x?}", d.numbers());
            }
            // A FIN counts again, and so does a RST.
            let _ = d.server_says(FIN | ACK, d.server_next, d.client_next, b"");
            let _ = d.client_says(ACK, d.client_next, d.server_next.wrapping_add(1), b"");
            assert_eq!(tcp_state(&d.t), Some(State::ServerClosed));
            let _ = d.client_says(RST, d.client_next, 0, b"");
            assert_eq!(tcp_state(&d.t), Some(State::TimeWait));
        }
    }
}

/// Keep-alives alone do it: a byte before the last one, and the answer to it.
#[test]
fn keep_alives_close_a_gap() {
    let mut d = Download::new(config());
    d.go_on(1_000);
    d.go_on_elsewhere(1 << 27);
    for turn in 0..6 {
        d.now = s(7_000 * (turn + 1));
        let _ = d.client_says(ACK, d.client_next - 1, d.server_next, b"");
        let _ = d.server_says(ACK, d.server_next, d.client_next, b"");
        assert_eq!(tcp_state(&d.t), Some(State::Established), "turn {turn}: both ends go on");
    }
    assert_eq!(d.numbers(), d.truth());
}

/// Who can forge the packets of one end only does not make numbers known, whatever the other end says meanwhile.
#[test]
fn one_forged_end_never_changes_what_is_known() {
    for by_client in [true, false] {
        for pattern in 0..4 {
            let mut d = Download::new(config());
            let mut dice = Dice(pattern);
            d.go_on(1_000);
            let mut forged = any(&mut dice) | 1;
            for round in 0..2_000_u32 {
                // Numbers that go on like a conversation, stand still, jump, or claim what was acknowledged elsewhere.
                let acknowledged = match pattern {
                    0 => any(&mut dice),
                    1 => forged,
                    2 => 0x5555_0000 + round,
                    _ => forged.wrapping_sub(1_000),
                };
                if by_client {
                    let _ = d.client_says(ACK, forged, acknowledged, &[0; 1_000]);
                } else {
                    let _ = d.server_says(ACK, forged, acknowledged, &[0; 1_000]);
                }
                forged = if pattern == 3 && round % 7 == 0 { any(&mut dice) } else { forged.wrapping_add(1_000) };
                if round % 3 == 0 {
                    d.go_on(700);
                }
            }
            d.go_on(700);
            assert_eq!(d.numbers(), d.truth(), "client {by_client}, pattern {pattern}");
        }
    }
}

/// A SYN+ACK, a refusal and an ACK are judged by the attempt that they belong to, also in the middle of a conversation.
#[test]
fn a_server_that_was_restarted_accepts_or_refuses() {
    let mut d = Download::new(config());
    d.go_on(1_000);
    // It refuses the new attempt: the connection is over.
    let _ = d.client_says(SYN, 0x7000_0000, 0, b"");
    assert_eq!(tcp_state(&d.t), Some(State::Established));
    let _ = d.server_says(RST | ACK, 0, 0x7000_0002, b"");
    assert_eq!(tcp_state(&d.t), Some(State::Established), "that acknowledges something else");
    let _ = d.server_says(RST | ACK, 0, 0x7000_0001, b"");
    assert_eq!(tcp_state(&d.t), Some(State::TimeWait));

    // It accepts it, and goes on with the new numbers; so do RSTs of ours.
    for (client, server) in [(0x7000_0000, 0x1111_0000), (CLIENT_START + 5_000, SERVER_START + 9_000), (7, 0)] {
        let mut d = Download::new(config());
        d.go_on(1_000);
        let _ = d.client_says(SYN, client, 0, b"");
        let _ = d.server_says(SYN | ACK, server, client + 1, b"");
        (d.client_next, d.server_next) = (client + 1, server + 1);
        let _ = d.client_says(ACK, d.client_next, d.server_next, b"");
        assert_eq!(d.numbers(), d.truth());
        d.go_on(1_000);
        assert_eq!(d.numbers(), d.truth());
        d.is_alive_after(7_000);
    }
}

/// A FIN counts once its receiver has acknowledged it; one that data follows was none.
#[test]
fn a_fin_counts_when_it_is_acknowledged() {
    // Ahead of what the server has sent, as a lucky guess may be.
    for ahead in [1, 1_000, 1 << 20, (1 << 24) - 2] {
        let mut d = Download::new(config());
        d.go_on(1_000);
        let (next, expected) = (d.server_next, d.client_next);
        let _ = d.server_says(FIN | ACK, next.wrapping_add(ahead), expected, b"");
        let _ = d.client_says(FIN | ACK, expected.wrapping_add(ahead), next, b"");
        assert_eq!(tcp_state(&d.t), Some(State::Established), "{ahead}");
        d.is_alive_after(600);
        for _ in 0..3 {
            d.go_on(1_400);
        }
        assert_eq!(tcp_state(&d.t), Some(State::Established), "{ahead}");
        // The true ones count.
        let (next, expected) = (d.server_next, d.client_next);
        let _ = d.server_says(FIN | ACK, next, expected, b"");
        let _ = d.client_says(ACK, expected, next + 1, b"");
        assert_eq!(tcp_state(&d.t), Some(State::ServerClosed), "{ahead}");
        let _ = d.client_says(FIN | ACK, expected, next + 1, b"");
        let _ = d.server_says(ACK, next + 1, expected + 1, b"");
        assert_eq!(tcp_state(&d.t), Some(State::TimeWait), "{ahead}");
    }
}

/// Random numbers from both sides, an hour and more of them, prolong no half-closed connection: two of them agree now and
/// then as if both ends went on, but not exactly.
#[test]
fn forged_numbers_that_nearly_agree_prolong_nothing() {
    for seed in sample(0..20) {
        let mut dice = Dice(seed);
        let mut d = Download::new(config());
        let _ = d.client_says(FIN | ACK, d.client_next, d.server_next, b"");
        let _ = d.server_says(ACK, d.server_next, d.client_next + 1, b"");
        assert_eq!(tcp_state(&d.t), Some(State::ClientClosed));
        for round in 0..3_700_u64 {
            d.now = s(2 * round);
            let flags = [FIN | ACK, ACK, SYN | ACK, RST][round as usize % 4];
            let (a, b) = (any(&mut dice), any(&mut dice));
            if dice.below(2) == 0 {
                let _ = d.client_says(flags, a, b, b"");
            } else {
                let _ = d.server_says(flags, a, b, b"");
            }
        }
        d.now = s(7_442);
        d.t.poll(d.now);
        assert_eq!(tcp_state(&d.t), None, "seed {seed}: it was silent for 2 h 4 min");
    }
}
