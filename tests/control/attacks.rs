//! What somebody without a key can do to either side: datagrams that are forged, changed, cut short, replayed,
//! reflected, or of another session. None of them is answered, changes anything, or disturbs the traffic.

use crate::support::*;
use byway::control::{Client, Code, Ignored, Incoming, Instruction, Kinds, MAX_REQUEST, Refused, Request};
use byway::{Divert, Match};
use byway_testing::*;

fn insert(port: u16) -> Request {
    Request::one(divert(core::net::SocketAddrV4::new(ip("100.1.1.1"), port), at("20.0.0.1:80")))
}

/// A session with everything that was said in it: requests, and the answers to them.
fn recorded(house: &mut House) -> (Client, Vec<Vec<u8>>, Vec<Vec<u8>>) {
    let mut client = house.client(ADMIN);
    let (mut said, mut answers) = (Vec::new(), Vec::new());
    let mut exchange = |house: &mut House, client: &mut Client| {
        let datagram = sent(client, house.now);
        let answer = house.give(peer(1), &datagram).unwrap();
        client.handle(house.now, &answer).unwrap();
        said.push(datagram);
        answers.push(answer);
    };
    exchange(house, &mut client);
    exchange(house, &mut client);
    for request in [insert(1), insert(2), Request::one(Instruction::ListRules(0)), insert(3)] {
        client.send(house.now, &request).unwrap();
        exchange(house, &mut client);
    }
    (client, said, answers)
}

/// Asserts that a datagram gets no answer, is counted under its reason, and leaves everything as it was.
#[track_caller]
fn refused(house: &mut House, from: u8, datagram: &[u8]) -> Refused {
    let (before, counted) = (house.table(), house.refused_in_all());
    let generation = house.byway.generation();
    let reason = house.give(peer(from), datagram).expect_err("it was answered");
    assert_eq!((house.table(), house.byway.generation()), (before, generation));
    assert_eq!(house.refused_in_all(), counted + 1);
    assert!(house.agent.refused(reason) > 0);
    reason
}

#[test]
fn no_bit_can_be_changed() {
    let mut house = House::new();
    let mut client = house.client(ADMIN);
    for step in 0..4 {
        if client.is_ready() {
            client.send(house.now, &insert(step)).unwrap();
        }
        let datagram = sent(&mut client, house.now);
        for bit in 0..datagram.len() * 8 {
            let mut forged = datagram.clone();
            forged[bit / 8] ^= 1 << (bit % 8);
            refused(&mut house, 1, &forged);
        }
        let answer = house.give(peer(1), &datagram).unwrap();
        for bit in 0..answer.len() * 8 {
            let mut forged = answer.clone();
            forged[bit / 8] ^= 1 << (bit % 8);
            assert!(client.handle(house.now, &forged).is_err(), "step {step}, bit {bit}");
        }
        client.handle(house.now, &answer).expect("the true one is taken all the same");
    }
    assert_eq!(house.byway.diverts().count(), 2);
}

#[test]
fn nothing_can_be_cut_off_or_put_behind() {
    let mut house = House::new();
    let mut client = house.client(ADMIN);
    for step in 0..4 {
        if client.is_ready() {
            client.send(house.now, &insert(step)).unwrap();
        }
        let datagram = sent(&mut client, house.now);
        for length in 0..datagram.len() {
            refused(&mut house, 1, &datagram[..length]);
        }
        for more in [1, 16, 300, 2000] {
            refused(&mut house, 1, &[&datagram[..], &vec![0; more]].concat());
        }
        let answer = house.give(peer(1), &datagram).unwrap();
        for length in 0..answer.len() {
            assert!(client.handle(house.now, &answer[..length]).is_err());
        }
        client.handle(house.now, &answer).unwrap();
    }
}

#[test]
fn a_key_that_is_not_known_opens_nothing() {
    let mut house = House::new();
    for (key, reason) in [((9, [9; 32]), Refused::UnknownKey), ((ADMIN.0, [9; 32]), Refused::BadTag)] {
        let mut client = house.client(key);
        let hello = sent(&mut client, house.now);
        assert_eq!(refused(&mut house, 1, &hello), reason);
    }
}

#[test]
fn a_recorded_session_is_worthless() {
    let mut house = House::new();
    let (mut client, said, answers) = recorded(&mut house);
    // In the session: all but the newest are old. HELLO gets a challenge, which leads nowhere without the key.
    let replay = |house: &mut House, from: u8| {
        let before = house.table();
        let outcomes: Vec<_> = said.iter().map(|d| house.give(peer(from), d)).collect();
        assert_eq!(house.table(), before);
        outcomes
    };
    let outcomes = replay(&mut house, 1);
    assert_eq!(outcomes[0].as_ref().map(Vec::len), Ok(said[0].len()), "never larger than the request");
    assert_eq!(outcomes[1], Err(Refused::Old));
    assert!(outcomes[2..5].iter().all(|o| *o == Err(Refused::Old)));
    assert_eq!(outcomes[5].as_ref(), Ok(&answers[5]), "the newest gets the same answer again");
    // From elsewhere it is not even answered: nobody can be flooded with our answers.
    assert_eq!(replay(&mut house, 2)[5], Err(Refused::Peer));

    // After something else happened, repeating changes nothing.
    house.byway.remove(at("100.1.1.1:3")).unwrap();
    replay(&mut house, 1);
    assert!(house.byway.find_divert(at("100.1.1.1:3")).is_none());

    // After the session was closed.
    client.send(house.now, &Request::one(Instruction::Close)).unwrap();
    house.give(peer(1), &sent(&mut client, house.now)).unwrap();
    let outcomes = replay(&mut house, 1);
    assert_eq!(outcomes[1], Err(Refused::Stale));
    assert!(outcomes[2..].iter().all(|o| *o == Err(Refused::UnknownSession)));

    // After a restart, with new entropy as the contract of `Agent::new` asks.
    let mut again = House::with(config(), [0xb1; 32]);
    let outcomes = replay(&mut again, 1);
    assert_eq!(outcomes[1], Err(Refused::Stale));
    assert!(outcomes[2..].iter().all(|o| *o == Err(Refused::UnknownSession)));
    assert_eq!(again.byway.diverts().count(), 0);
    // And of the monitor: another session's answers are none of the new one's.
    let mut restarted = again.open(ADMIN, peer(1));
    restarted.send(again.now, &insert(1)).unwrap();
    for answer in &answers {
        assert!(restarted.handle(again.now, answer).is_err());
    }
}

#[test]
fn an_idle_session_ends() {
    let mut house = House::new();
    let mut client = house.open(ADMIN, peer(1));
    house.now = s(3602);
    client.send(house.now, &insert(1)).unwrap();
    let datagram = sent(&mut client, house.now);
    assert_eq!(refused(&mut house, 1, &datagram), Refused::UnknownSession);
}

#[test]
fn nobody_takes_his_own_words_for_an_answer() {
    let mut house = House::new();
    let (mut client, said, answers) = recorded(&mut house);
    for answer in &answers {
        assert_eq!(refused(&mut house, 1, answer), Refused::Kind);
    }
    client.send(house.now, &insert(9)).unwrap();
    let newest = sent(&mut client, house.now);
    for datagram in said.iter().chain([&newest]) {
        assert_eq!(client.handle(house.now, datagram).unwrap_err(), Ignored::Foreign);
    }
}

#[test]
fn sessions_do_not_mix() {
    let mut house = House::new();
    let (mut one, mut two) = (house.open(ADMIN, peer(1)), house.open(ADMIN, peer(2)));
    one.send(house.now, &insert(1)).unwrap();
    two.send(house.now, &insert(2)).unwrap();
    let (first, second) = (sent(&mut one, house.now), sent(&mut two, house.now));
    // The number of the one and the words of the other.
    let mut mixed = first.clone();
    mixed[8..16].copy_from_slice(&second[8..16]);
    assert_eq!(refused(&mut house, 2, &mixed), Refused::BadTag);
    // The right words from the wrong place.
    assert_eq!(refused(&mut house, 2, &first), Refused::Peer);
    let answer = house.give(peer(1), &first).unwrap();
    assert_eq!(two.handle(house.now, &answer).unwrap_err(), Ignored::Foreign);
    let mut mixed = answer.clone();
    mixed[8..16].copy_from_slice(&second[8..16]);
    assert_eq!(two.handle(house.now, &mixed).unwrap_err(), Ignored::BadTag);
    assert!(matches!(one.handle(house.now, &answer), Ok(Incoming::Answer(_))));
    // The same answer once more answers nothing.
    assert_eq!(one.handle(house.now, &answer).unwrap_err(), Ignored::NotAwaited);
    // An answer to an earlier request is not taken for one to the next.
    one.send(house.now, &insert(3)).unwrap();
    assert_eq!(one.handle(house.now, &answer).unwrap_err(), Ignored::NotAwaited);
}

#[test]
fn one_number_is_one_request() {
    let mut house = House::new();
    let client = house.open(ADMIN, peer(1));
    let (mut one, mut other) = (client.clone(), client);
    one.send(house.now, &insert(1)).unwrap();
    other.send(house.now, &insert(2)).unwrap();
    house.give(peer(1), &sent(&mut one, house.now)).unwrap();
    let datagram = sent(&mut other, house.now);
    assert_eq!(refused(&mut house, 1, &datagram), Refused::Conflicting);
}

#[test]
fn each_challenge_opens_one_session() {
    let mut house = House::new();
    let (mut one, mut two) = (house.client(ADMIN), house.client(READER));
    for client in [&mut one, &mut two] {
        let challenge = house.give(peer(1), &sent(client, house.now)).unwrap();
        client.handle(house.now, &challenge).unwrap();
    }
    let opening = sent(&mut one, house.now);
    let opened = house.give(peer(1), &opening).unwrap();
    assert_eq!(house.give(peer(1), &opening).unwrap(), opened, "again, the same answer");
    assert!(matches!(one.handle(house.now, &opened), Ok(Incoming::Opened(_))));
    // The other one was slower: its challenge is used up, so it gets another by itself.
    let late = sent(&mut two, house.now);
    assert_eq!(refused(&mut house, 1, &late), Refused::Stale);
    while !two.is_ready() {
        house.now = two.poll_at().unwrap();
        if let Ok(answer) = house.give(peer(1), &sent(&mut two, house.now)) {
            two.handle(house.now, &answer).unwrap();
        }
    }
    assert_eq!(house.ask(&mut two, peer(1), &Request::one(Instruction::Counters), |a| a.refused()), None);
}

/// Monitors that begin at the same moment, as programs that are started by the clock do, get the same number, and one
/// of them uses it. The others must not stay in step.
#[test]
fn monitors_that_begin_together_all_get_a_session() {
    let mut house = House::new();
    let mut clients: Vec<_> = (0..16_u8).map(|i| house.client([ADMIN, READER][usize::from(i % 2)])).collect();
    let start = house.now;
    while let Some(next) = clients.iter().filter_map(Client::poll_at).min() {
        house.now = house.now.max(next);
        // All who want to say something say it before any of them hears an answer.
        for _ in 0..2 {
            let mut said = Vec::new();
            for (place, client) in clients.iter_mut().enumerate() {
                if let Some(datagram) = client.poll_transmit(house.now).expect("it does not give up") {
                    said.push((place, datagram.to_vec()));
                }
            }
            let answers: Vec<_> = said.iter().map(|(place, d)| (*place, house.give(peer(*place as u8), d))).collect();
            for (place, answer) in answers {
                let _ = answer.map(|answer| clients[place].handle(house.now, &answer).map(|_| ()));
            }
        }
    }
    assert!(clients.iter().all(Client::is_ready));
    assert!(house.now.duration_since(start).as_secs() < 3, "{:?}", house.now.duration_since(start));
}

#[test]
fn another_version_is_told_so() {
    let mut house = House::new();
    let (_, said, _) = recorded(&mut house);
    // A monitor of version 2 says HELLO, which looks the same in all versions.
    let mut hello = said[0].clone();
    hello[2] = 2;
    assert_eq!(refused(&mut house, 1, &hello), Refused::BadTag);
    let length = hello.len() - 16;
    let tag = tag(&ADMIN.1, &hello[..length]);
    hello[length..].copy_from_slice(&tag);
    let refusal = house.give(peer(1), &hello).unwrap();
    assert!(refusal.len() <= hello.len());
    let mut client = Client::new(house.now, ADMIN.0, ADMIN.1, [1; 16]);
    let Ok(Incoming::Refused(why)) = client.handle(house.now, &refusal) else {
        panic!("it does not understand");
    };
    assert_eq!((why.code, why.detail), (Some(Code::UnknownVersion), 0x0101));
    assert!(client.send(house.now, &insert(1)).is_err());
    // Any other datagram of another version belongs to no session that there could be.
    let mut request = said[2].clone();
    request[2] = 2;
    assert_eq!(refused(&mut house, 1, &request), Refused::Version);
}

#[test]
fn an_unknown_instruction_is_told_so() {
    let mut house = House::new();
    let mut client = house.open(ADMIN, peer(1));
    client.send(house.now, &Request::one(Instruction::SetClientLimit(5))).unwrap();
    // What a later version might say in the same session: the same datagram with another number in it.
    let mut datagram = sent(&mut client, house.now);
    let key = session_key(&ADMIN.1);
    for (at, value, code, detail) in [(24, 200, Code::UnknownInstruction, 200), (25, 1, Code::Malformed, 0)] {
        let before = datagram[at];
        datagram[at] = value;
        let length = datagram.len() - 16;
        let tag = tag(&key, &datagram[..length]);
        datagram[length..].copy_from_slice(&tag);
        let answer = house.give(peer(1), &datagram).unwrap();
        let number = u16::from_be_bytes([answer[16], answer[17]]);
        assert_eq!((number, answer[27]), (code.number(), detail));
        datagram[at] = before;
        datagram[7] += 1;
    }
    assert_eq!(house.byway.client_limit(), 0);
}

#[test]
fn a_key_that_is_removed_is_worth_nothing() {
    let mut house = House::new();
    let mut old = house.open(ADMIN, peer(1));
    // Rotation: the new key is there before the old one goes.
    house.agent.add_key(byway::control::Key::new(7, [7; 32], byway::control::Rights::All)).unwrap();
    let mut new = house.open((7, [7; 32]), peer(2));
    assert!(house.ask(&mut old, peer(1), &insert(1), |a| a.refused()).is_none());
    assert!(house.ask(&mut new, peer(2), &insert(2), |a| a.refused()).is_none());
    assert!(house.agent.remove_key(ADMIN.0) && !house.agent.remove_key(ADMIN.0));
    old.send(house.now, &insert(3)).unwrap();
    let datagram = sent(&mut old, house.now);
    assert_eq!(refused(&mut house, 1, &datagram), Refused::UnknownSession);
    let mut again = house.client(ADMIN);
    let hello = sent(&mut again, house.now);
    assert_eq!(refused(&mut house, 1, &hello), Refused::UnknownKey);
    assert!(house.ask(&mut new, peer(2), &insert(4), |a| a.refused()).is_none());
}

#[test]
fn every_key_gets_a_session() {
    let mut house = House::new();
    let mut admin = house.open(ADMIN, peer(1));
    // The reader opens one session after the other: it drives out its own.
    for _ in 0..20 {
        house.open(READER, peer(2));
    }
    assert!(house.ask(&mut admin, peer(1), &insert(1), |a| a.refused()).is_none());
    house.open(TENANT, peer(3));
    assert!(house.ask(&mut admin, peer(1), &insert(2), |a| a.refused()).is_none());
}

#[test]
fn garbage_changes_nothing() {
    let mut house = House::new();
    let (mut client, said, answers) = recorded(&mut house);
    client.send(house.now, &insert(5)).unwrap();
    house.byway.divert(Divert::new(at("100.9.9.9:80")).to(at("20.0.0.9:80"))).unwrap();
    let packet = udp(at("1.2.3.4:5"), at("100.9.9.9:80"), b"traffic");
    let translated = there(&mut house.byway, s(1), &packet);
    let (before, generation) = (house.table(), house.byway.generation());
    let mut dice = Dice(1);
    let mut random = || dice.number() as usize;
    for round in 0..20_000 {
        // Nothing but noise, or pieces of true datagrams put together.
        let mut datagram: Vec<u8> = (0..random() % (MAX_REQUEST + 40)).map(|_| random() as u8).collect();
        let all: Vec<_> = said.iter().chain(&answers).collect();
        if round % 2 == 0 {
            let (a, b) = (all[random() % all.len()], all[random() % all.len()]);
            let cut = random() % a.len().min(b.len());
            datagram = [&a[..cut], &b[cut..]].concat();
            let at = random() % datagram.len();
            datagram[at] ^= 1 + (random() % 255) as u8;
        }
        if said.contains(&datagram) {
            continue;
        }
        assert!(house.give(peer(1), &datagram).is_err());
        if let Ok(incoming) = client.handle(house.now, &datagram) {
            panic!("{incoming:?}");
        }
    }
    assert_eq!((house.table(), house.byway.generation()), (before, generation));
    assert_eq!(there(&mut house.byway, s(1), &packet), translated);
    // The true request is still welcome.
    let answer = house.give(peer(1), &sent(&mut client, house.now)).unwrap();
    assert!(matches!(client.handle(house.now, &answer), Ok(Incoming::Answer(_))));
}

#[test]
fn a_flood_does_not_disturb_those_who_have_a_session() {
    let mut house = House::new();
    house.agent = house.agent.clone().hashes_per_second(100);
    let mut open = house.open(ADMIN, peer(1));
    let mut forger = house.client((ADMIN.0, [9; 32]));
    let hello = sent(&mut forger, house.now);
    for _ in 0..10_000 {
        assert!(house.give(peer(2), &hello).is_err());
    }
    // Two were the true one's.
    assert_eq!(house.agent.refused(Refused::BadTag), 98);
    assert_eq!(house.agent.refused(Refused::Flooded), 9_902);
    assert!(house.ask(&mut open, peer(1), &insert(1), |a| a.refused()).is_none());
    let mut late = house.client(READER);
    let hello = sent(&mut late, house.now);
    assert_eq!(refused(&mut house, 3, &hello), Refused::Flooded);

    // Somebody who sees the session can fill it with rubbish, and no more than that is hashed.
    open.send(house.now, &insert(2)).unwrap();
    let datagram = sent(&mut open, house.now);
    let mut forged = datagram.clone();
    forged[30] ^= 1;
    for _ in 0..10_000 {
        assert!(house.give(peer(1), &forged).is_err());
    }
    assert_eq!(house.agent.refused(Refused::BadTag), 198);
    assert_eq!(refused(&mut house, 1, &datagram), Refused::Flooded);
    // A second later everybody is welcome again.
    house.now = house.now + core::time::Duration::from_secs(1);
    assert!(house.give(peer(1), &datagram).is_ok());
    assert!(house.give(peer(3), &hello).is_ok());
    for _ in 0..10_000 {
        let _ = house.give(peer(1), &datagram);
    }
    assert_eq!(house.byway.diverts().count(), 2);
}

#[test]
fn events_cannot_be_replayed_or_made_up() {
    let mut house = House::new();
    house.byway.divert(Divert::new(Match::from(at("100.1.1.1:80"))).to(at("20.0.0.1:80"))).unwrap();
    let mut client = house.open(READER, peer(1));
    let request = Request::one(Instruction::Subscribe { seconds: 60, kinds: Kinds::OPENED });
    house.ask(&mut client, peer(1), &request, |_| ());
    let mut datagrams = Vec::new();
    for port in 1..=3 {
        there(&mut house.byway, s(1), &udp(at(&format!("1.2.3.4:{port}")), at("100.1.1.1:80"), b""));
        let event = house.byway.poll_event().unwrap();
        house.agent.tell(s(1), &event);
        let mut buffer = [0; byway::control::MAX_ANSWER];
        let (_, length) = house.agent.poll_transmit(s(1), &mut buffer).unwrap();
        assert!(house.agent.poll_transmit(s(1), &mut buffer.clone()).is_none());
        datagrams.push(buffer[..length].to_vec());
    }
    assert!(client.handle(s(1), &datagrams[1]).is_ok());
    for late in [0, 1] {
        assert_eq!(client.handle(s(1), &datagrams[late]).unwrap_err(), Ignored::NotAwaited);
    }
    let mut forged = datagrams[2].clone();
    forged[7] += 1;
    assert_eq!(client.handle(s(1), &forged).unwrap_err(), Ignored::BadTag);
    assert!(client.handle(s(1), &datagrams[2]).is_ok());
}

/// HMAC-SHA-256, its first half, from the same crates as the library's.
fn tag(key: &[u8; 32], bytes: &[u8]) -> [u8; 16] {
    hmac(key, bytes)[..16].try_into().unwrap()
}

/// The key of the first session of a house, whose monitor is `peer(1)` and has 16 times 1 as its nonce, as the document
/// derives it.
fn session_key(secret: &[u8; 32]) -> [u8; 32] {
    let (id, number, nonce) = (1_u16.to_be_bytes(), 1_u32.to_be_bytes(), [1; 16]);
    let from = [&40_000_u16.to_be_bytes()[..], &[192, 0, 2, 1]].concat();
    let challenge = &hmac(&[0xb0; 32], &[&b"challenge"[..], &id, &number, &nonce, &from].concat())[..16];
    crate::support::session_key(secret, 1, 1, &nonce, challenge)
}
