//! Floods of the control port. Fault class: a datagram that is refused without a hash uses up what may be hashed, one that
//! costs a hash does not, or a flood of one kind keeps out those who have a session, or those who want one.

use crate::support::*;
use byway::control::{Client, Incoming, Instruction, Refused, Request};
use byway_testing::*;

/// How many datagrams of each kind come within a second, and how many of them may cost a hash.
const FLOOD: u64 = 1_000;
const LIMIT: u32 = 20;

/// What of a kind of datagram is hashed, and so who else may be kept out while it is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Budget {
    /// It costs no hash.
    Free,
    /// Those who have no session.
    Handshakes,
    /// Those who answer a challenge, beside those who have no session.
    HandshakesAndOpenings,
    /// New requests of the session that it belongs to.
    Failures,
    /// Repetitions of the session's last request.
    Repetitions,
}

struct Scene {
    house: House,
    /// The monitor whose session the flood is about, and what it would say next.
    victim: Client,
    next: Vec<u8>,
    /// A monitor that has its challenge, and what it would say next.
    opening: Client,
    open: Vec<u8>,
    floods: Vec<(&'static str, u8, Vec<u8>, Refused, Budget)>,
}

/// A house with a monitor in the midst of a session, and every kind of datagram that can be sent in vain.
fn scene() -> Scene {
    let mut house = House::new();
    let mut victim = house.client(ADMIN);
    let said = |house: &mut House, client: &mut Client| {
        let datagram = sent(client, house.now);
        let answer = house.give(peer(1), &datagram).unwrap();
        client.handle(house.now, &answer).unwrap();
        datagram
    };
    let hello = said(&mut house, &mut victim);
    let used_open = said(&mut house, &mut victim);
    let session: [u8; 8] = used_open[8..16].try_into().unwrap();
    let counters = Request::one(Instruction::Counters);
    victim.send(house.now, &counters).unwrap();
    let old = said(&mut house, &mut victim);
    victim.send(house.now, &counters).unwrap();
    let last = said(&mut house, &mut victim);
    victim.send(house.now, &counters).unwrap();
    let next = sent(&mut victim, house.now);

    // A session that is open and has had no request: its OPEN may come again.
    let mut idle = house.client(READER);
    let _ = said(&mut house, &mut idle);
    let open_again = said(&mut house, &mut idle);

    let mut opening = house.client(TENANT);
    let _ = said(&mut house, &mut opening);
    let open = sent(&mut opening, house.now);

    let changed = |datagram: &[u8], at: usize| {
        let mut datagram = datagram.to_vec();
        datagram[at] ^= 0x40;
        datagram
    };
    let mut stranger = house.client((77, [9; 32]));
    let unknown_key = sent(&mut stranger, house.now);
    let mut unknown_key_open = open.clone();
    unknown_key_open[16..18].copy_from_slice(&[0, 77]);
    let mut conflicting = last.clone();
    *conflicting.last_mut().unwrap() ^= 1;
    let mut nobodys = next.clone();
    nobodys[8..16].fill(9);
    // Authentic, and its flags make no sense.
    let mut malformed = changed(&next, 16);
    let (body, tag) = malformed.split_last_chunk_mut::<16>().unwrap();
    tag.copy_from_slice(&hmac(&session_key(&ADMIN.1, &used_open, &session), body)[..16]);

    use Budget::*;
    let floods = vec![
        ("noise", 9, vec![0x5a; 64], Refused::Foreign, Free),
        ("a HELLO that is too long", 9, [&hello[..], &[0]].concat(), Refused::Foreign, Free),
        ("another version", 9, changed(&next, 2), Refused::Version, Free),
        ("what only an agent says", 9, [&hello[..3], &[2], &hello[4..]].concat(), Refused::Kind, Free),
        ("a HELLO with a key that is not", 9, unknown_key, Refused::UnknownKey, Free),
        ("an OPEN with a key that is not", 9, unknown_key_open, Refused::UnknownKey, Free),
        ("an OPEN with another session's number", 9, changed(&open, 23), Refused::Stale, Free),
        ("an OPEN of a session that has had requests", 1, used_open, Refused::Old, Free),
        ("a request of a session that is not", 9, nobodys, Refused::UnknownSession, Free),
        ("an old request", 1, old, Refused::Old, Free),
        ("another request with the last one's number", 1, conflicting, Refused::Conflicting, Free),
        ("the next request from elsewhere", 9, next.clone(), Refused::Peer, Free),
        ("a forged request from elsewhere", 9, changed(&next, 30), Refused::Peer, Free),
        ("the last request again from elsewhere", 9, last.clone(), Refused::Peer, Free),
        ("an OPEN again from elsewhere", 9, open_again.clone(), Refused::Peer, Free),
        ("a HELLO with a wrong tag", 9, changed(&hello, 50), Refused::BadTag, Handshakes),
        ("a HELLO that was recorded", 9, hello, Refused::Flooded, Handshakes),
        ("an OPEN with another identifier", 1, changed(&open, 9), Refused::Stale, HandshakesAndOpenings),
        ("an OPEN with a wrong tag", 1, changed(&open, 50), Refused::BadTag, HandshakesAndOpenings),
        ("an OPEN from elsewhere", 9, open.clone(), Refused::Stale, HandshakesAndOpenings),
        ("a forged request", 1, changed(&next, 30), Refused::BadTag, Failures),
        ("a request without sense", 1, malformed, Refused::Malformed, Failures),
        ("the last request again", 1, last, Refused::Flooded, Repetitions),
        ("an OPEN again", 1, open_again, Refused::Flooded, Repetitions),
    ];
    house.agent = house.agent.clone().hashes_per_second(LIMIT);
    // A second in which nothing was hashed yet.
    house.now = s(3);
    Scene { house, victim, next, opening, open, floods }
}

/// The key of a session that `peer(1)` has opened, as the protocol's page derives it.
fn session_key(secret: &[u8; 32], open: &[u8], session: &[u8; 8]) -> [u8; 32] {
    let (key, number, nonce) = (&open[16..18], &open[20..24], &open[24..40]);
    let from = [&40_000_u16.to_be_bytes()[..], &[192, 0, 2, 1]].concat();
    let challenge = &hmac(&[0xb0; 32], &[&b"challenge"[..], key, number, nonce, &from].concat())[..16];
    assert_eq!(&challenge[..8], session);
    hmac(secret, &[&b"byway control 1 session"[..], key, number, nonce, challenge].concat())
}

#[test]
fn what_costs_no_hash_uses_up_nothing_and_what_costs_one_is_counted() {
    for kind in 0..scene().floods.len() {
        let Scene { mut house, floods, .. } = scene();
        let (name, from, datagram, reason, budget) = floods.into_iter().nth(kind).unwrap();
        let before = (house.agent.refused(reason), house.agent.refused(Refused::Flooded));
        let answered = (0..FLOOD).filter(|_| house.give(peer(from), &datagram).is_ok()).count() as u64;
        let flooded = house.agent.refused(Refused::Flooded) - before.1;
        let hashed = match budget {
            Budget::Free => FLOOD,
            Budget::Handshakes | Budget::Failures | Budget::Repetitions => u64::from(LIMIT),
            Budget::HandshakesAndOpenings => 2 * u64::from(LIMIT),
        };
        assert_eq!(FLOOD - flooded, hashed, "{name}");
        if reason == Refused::Flooded {
            assert_eq!(answered, hashed, "{name}");
        } else {
            assert_eq!((answered, house.agent.refused(reason) - before.0), (0, hashed), "{name}");
        }
    }
}

/// During a flood the monitor whose session it is about goes on, a monitor with a challenge opens its session, and one that
/// says HELLO gets a challenge; each unless what it sends cannot be told from the flood without a hash.
#[test]
fn a_flood_of_one_kind_keeps_out_nothing_else() {
    for kind in 0..scene().floods.len() {
        let Scene { mut house, mut victim, next, mut opening, open, floods } = scene();
        let mut other = house.client(ADMIN);
        let (name, from, datagram, _, budget) = floods.into_iter().nth(kind).unwrap();
        for _ in 0..FLOOD {
            let _ = house.give(peer(from), &datagram);
        }
        let answer = house.give(peer(1), &next);
        assert_eq!(answer.is_ok(), budget != Budget::Failures, "{name}: the victim's next request");
        if let Ok(answer) = answer {
            assert!(matches!(victim.handle(house.now, &answer), Ok(Incoming::Answer(_))), "{name}");
        }
        let answer = house.give(peer(1), &open);
        assert_eq!(answer.is_ok(), budget != Budget::HandshakesAndOpenings, "{name}: an OPEN");
        if let Ok(answer) = answer {
            assert!(matches!(opening.handle(house.now, &answer), Ok(Incoming::Opened(_))), "{name}");
            // The session that is new now is nobody's victim.
            assert_eq!(house.ask(&mut opening, peer(1), &Request::one(Instruction::Counters), |a| a.refused()), None);
        }
        let hello = sent(&mut other, house.now);
        let kept_out = matches!(budget, Budget::Handshakes | Budget::HandshakesAndOpenings);
        assert_eq!(house.give(peer(4), &hello).is_ok(), !kept_out, "{name}: a HELLO");
        // A second later everybody is welcome again.
        house.now = s(4);
        assert!(house.give(peer(4), &hello).is_ok(), "{name}");
        if budget == Budget::Failures {
            assert!(house.give(peer(1), &next).is_ok(), "{name}");
        }
    }
}

/// A flood in one session keeps nobody out of another one, whoever's.
#[test]
fn sessions_do_not_share_what_may_be_hashed() {
    let mut house = House::new();
    house.agent = house.agent.clone().hashes_per_second(LIMIT);
    let mut sessions = [ADMIN, READER, TENANT].map(|key| house.open(key, peer(1)));
    let counters = Request::one(Instruction::Counters);
    for flooded in 0..3 {
        house.now = s(10 + flooded as u64);
        sessions[flooded].send(house.now, &counters).unwrap();
        let datagram = sent(&mut sessions[flooded], house.now);
        let mut forged = datagram.clone();
        forged[30] ^= 1;
        for _ in 0..FLOOD {
            assert!(house.give(peer(1), &forged).is_err());
        }
        assert_eq!(house.give(peer(1), &datagram), Err(Refused::Flooded));
        for (place, session) in sessions.iter_mut().enumerate().filter(|(place, _)| *place != flooded) {
            assert_eq!(house.ask(session, peer(1), &counters, |a| a.refused()), None, "{flooded} floods {place}");
        }
        house.now = s(100 + flooded as u64);
        let answer = house.give(peer(1), &datagram).unwrap();
        assert!(matches!(sessions[flooded].handle(house.now, &answer), Ok(Incoming::Answer(_))));
    }
}

/// A session that was idle for too long is over, whatever a datagram's tag says.
#[test]
fn requests_of_an_idle_session_cost_no_hash() {
    let Scene { mut house, next, .. } = scene();
    house.now = s(3 + 3_601);
    let mut forged = next;
    forged[30] ^= 1;
    for _ in 0..FLOOD {
        assert_eq!(house.give(peer(1), &forged), Err(Refused::UnknownSession));
    }
    assert_eq!(house.agent.refused(Refused::Flooded), 0);
}
