//! `docs/control-vectors.txt`: one conversation, byte by byte. Both sides must say exactly that.
//!
//! What they say now is left in the target folder's `tmp/control-vectors.txt` when it differs.

use core::time::Duration;

use crate::support::*;
use byway::control::{Client, Instruction, Kinds, MAX_ANSWER, Note, Request, Rule};
use byway::{Divert, Match, Midstream, Prefix, Protocol, Redivert, Timeouts, Weighted};
use byway_testing::*;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|o| format!("{o:02x}")).collect()
}

struct Vectors(String);

impl Vectors {
    fn line(&mut self, words: &str, name: &str, value: &str) {
        self.0 += &format!("\n# {words}\n{name} = {value}\n");
    }
}

fn conversation() -> String {
    let mut v = Vectors(
        "# Test vectors for docs/control-protocol.md: the bytes of one conversation, in hexadecimal.\n\
         # A line is a name, an equals sign and a value; lines that begin with # say what the next one is.\n"
            .to_string(),
    );
    let secret: [u8; 32] = core::array::from_fn(|i| i as u8);
    let nonce: [u8; 16] = core::array::from_fn(|i| 0xa0 + i as u8);
    let config = byway::Config::new([7; 32]).alternative(ip("10.10.10.10"), 513..=513).own(ip("10.0.0.1"));
    let mut house = House::with(config, [0xb0; 32]);
    house.agent.remove_key(1);
    house.agent.add_key(byway::control::Key::new(1, secret, byway::control::Rights::All)).unwrap();
    let mut client = Client::new(house.now, 1, secret, nonce);

    v.line("The key's number and its secret.", "key.id", "1");
    v.line("", "key.secret", &hex(&secret));
    let hello = sent(&mut client, house.now);
    let challenge = house.give(peer(1), &hello).unwrap();
    client.handle(house.now, &challenge).unwrap();
    let open = sent(&mut client, house.now);
    let opened = house.give(peer(1), &open).unwrap();
    client.handle(house.now, &opened).unwrap();
    v.line("The monitor's nonce, the translator's nonce, and the session's number.", "nonce.monitor", &hex(&nonce));
    v.line("", "nonce.translator", &hex(&challenge[24..40]));
    v.line("", "session.number", "1");
    let derived = session_key(&secret, 1, 1, &nonce, &challenge[24..40]);
    v.line("The key of the session, made of all these.", "session.key", &hex(&derived));
    v.line("Opening the session.", "hello", &hex(&hello));
    v.line("", "challenge", &hex(&challenge));
    v.line("", "open", &hex(&open));
    v.line("", "answer.0", &hex(&opened));

    let group = [Weighted::new(ip("20.0.0.1"), 1), Weighted::new(at("20.0.0.2:5353"), 3)];
    let network = Prefix::new(ip("100.2.0.0"), 16).unwrap();
    let matches = Match::from((network, 53)).protocol(Protocol::Udp).clients(Prefix::host(ip("1.2.3.4")));
    let rule = Rule::new(&Divert::new(matches).to_group(&group).replies_from_any_port()).unwrap();
    let private = Prefix::new(ip("192.168.0.0"), 16).unwrap();
    let masquerade = Divert::new(Prefix::ALL).clients(private).midstream(Midstream::Drop);
    let original = at("100.100.100.100:80");
    let server = at("123.45.67.89:80");
    let other = at("123.45.67.90:80");
    let move_it = |how| Instruction::Redivert { from: server.into(), to: other.into(), how };
    let requests = [
        ("Divert 100.100.100.100:80 to 123.45.67.89:80.", Request::one(divert(original, server))),
        (
            "If the generation is 1, all of this: divert 100.2.0.0/16:53 udp from 1.2.3.4 to a group, taking replies \
             from any port; allow each client 500 connections; drain 123.45.67.89:80 to 123.45.67.90:80.",
            Request::one(Instruction::Divert(rule))
                .and(Instruction::SetClientLimit(500))
                .unwrap()
                .and(move_it(Redivert::Drain))
                .unwrap()
                .only_if(1),
        ),
        ("Divert back (another server in the rule again).", Request::one(divert(original, server))),
        (
            "What would a switch affect? (One connection was opened in the meantime.)",
            Request::one(move_it(Redivert::Switch)).dry_run(),
        ),
        ("List the rules from 0.", Request::one(Instruction::ListRules(0))),
        ("List the connections from 0: one, measured.", Request::one(Instruction::ListConnections(0))),
        ("Read the settings.", Request::one(Instruction::Settings)),
        ("A loop: divert 123.45.67.89:80 to 100.100.100.100:80. Refused.", Request::one(divert(server, original))),
        ("Subscribe to all events for 60 s.", Request::one(Instruction::Subscribe { seconds: 60, kinds: Kinds::ALL })),
        ("Remove the first rule.", Request::one(Instruction::Remove(original.into()))),
        (
            "Time-outs: the recommended ones, but 6 minutes for UDP.",
            Request::one(Instruction::SetTimeouts(Timeouts { udp: Duration::from_secs(360), ..Timeouts::RECOMMENDED })),
        ),
        ("Read the counters.", Request::one(Instruction::Counters)),
        (
            "What would masquerading for 192.168.0.0/16 do that drops segments from the middle of connections?",
            Request::one(Instruction::Divert(Rule::new(&masquerade).unwrap())).dry_run(),
        ),
    ];
    for (number, (words, request)) in (1..).zip(requests) {
        if number == 4 {
            let packet = udp(at("1.2.3.4:3456"), original, b"question");
            let (source, to) = ends(&there(&mut house.byway, s(2), &packet));
            back(&mut house.byway, s(3), &udp(to, source, b"the answer"));
        }
        client.send(house.now, &request).unwrap();
        let datagram = sent(&mut client, house.now);
        let answer = house.give(peer(1), &datagram).unwrap();
        client.handle(house.now, &answer).unwrap();
        v.line(words, &format!("request.{number}"), &hex(&datagram));
        v.line("", &format!("answer.{number}"), &hex(&answer));
    }
    while let Some(event) = house.byway.poll_event() {
        house.agent.tell(house.now, &event);
    }
    let mut buffer = [0; MAX_ANSWER];
    let (_, length) = house.agent.poll_transmit(house.now, &mut buffer).unwrap();
    v.line("The connection was opened: the datagram that the subscriber gets.", "events.1", &hex(&buffer[..length]));
    let stand = |number| Instruction::Lead { number, lease: 5_000, note: Note::new(b"a note").unwrap() };
    let after = [
        (14, "Forget every connection.", Instruction::Forget),
        (15, "Read what was measured of servers: one answer, after 20 ms.", Instruction::Measurements(0)),
        (16, "Report that every 250 ms, for 60 s.", Instruction::Report { seconds: 60, interval: 250 }),
        (17, "Stand for the lead as monitor 258 for 5 s, with a note: granted.", stand(258)),
        (
            18,
            "The same as monitor 3, which is another one from now on: granted at once, since no other stands.",
            stand(3),
        ),
        (
            19,
            "Divert 100.3.0.1 to the least loaded of two servers, and eject what fails.",
            Instruction::Divert("100.3.0.1 to 20.0.0.1*2, 20.0.0.2 least-loaded eject".parse().unwrap()),
        ),
        (20, "Close the session.", Instruction::Close),
    ];
    for (number, words, instruction) in after {
        if number == 15 {
            let packet = udp(at("1.2.3.4:3456"), at("100.2.0.1:53"), b"question");
            let (source, to) = ends(&there(&mut house.byway, s(4), &packet));
            back(&mut house.byway, s(4) + Duration::from_millis(20), &udp(to, source, b"the answer"));
        } else if number == 17 {
            let (_, length) = house.agent.poll_report(house.now, &mut house.byway, &mut buffer).unwrap();
            v.line("The first report, which is one datagram.", "report.1", &hex(&buffer[..length]));
        }
        client.send(house.now, &Request::one(instruction)).unwrap();
        let datagram = sent(&mut client, house.now);
        let answer = house.give(peer(1), &datagram).unwrap();
        client.handle(house.now, &answer).unwrap();
        assert_eq!(house.byway.diverts().any(|rule| rule.is_ejecting()), number >= 19);
        v.line(words, &format!("request.{number}"), &hex(&datagram));
        v.line("", &format!("answer.{number}"), &hex(&answer));
    }

    let mut newer = hello.clone();
    newer[2] = 9;
    let tag = hmac(&secret, &newer[..48]);
    newer[48..].copy_from_slice(&tag[..16]);
    v.line("A HELLO of version 9, and its refusal.", "hello.9", &hex(&newer));
    let refusal = house.give(peer(1), &newer).unwrap();
    v.line("", "refusal", &hex(&refusal));
    v.0.replace("\n\n# \n", "\n")
}

/// Where the second conversation begins, with an agent that speaks for names.
const WITH_NAMES: &str = "\n# A second conversation, with an agent that speaks for a naming server as well. ";

#[cfg(feature = "naming")]
fn conversation_about_names() -> String {
    use byway::control::{NamedEntry, WithNames};
    use byway::naming::{FixedNames, NameEntry, Names, NamesConfig, Pattern, WeightedAddress};

    let secret: [u8; 32] = core::array::from_fn(|i| i as u8);
    let nonce: [u8; 16] = core::array::from_fn(|i| 0xa0 + i as u8);
    let config = byway::Config::new([7; 32]).alternative(ip("10.10.10.10"), 513..=513).own(ip("10.0.0.1"));
    let House { mut agent, mut byway, now, .. } = House::with(config, [0xb0; 32]);
    agent.remove_key(1);
    agent.add_key(byway::control::Key::new(1, secret, byway::control::Rights::All)).unwrap();
    let mut names = Names::new(NamesConfig::new([7; 32]), FixedNames::<8, 1>::new());
    let mut client = Client::new(now, 1, secret, nonce);
    let mut v = Vectors(format!(
        "{WITH_NAMES}Keys, nonces and\n# the datagrams that open the session are the same as above; then:\n"
    ));
    let mut say = |client: &mut Client| {
        let datagram = sent(client, now);
        let mut buffer = [0; MAX_ANSWER];
        let mut both = WithNames::new(&mut byway, &mut names);
        let length = agent.handle(now, &mut both, peer(1), &datagram, &mut buffer).unwrap();
        client.handle(now, &buffer[..length]).unwrap();
        (datagram, buffer[..length].to_vec())
    };
    say(&mut client);
    say(&mut client);

    let www: Pattern = "www.bt.com".parse().unwrap();
    let below: Pattern = "*.xyz.com".parse().unwrap();
    let original = Match::from(ip("100.100.100.100"));
    let rule = Rule::new(&Divert::new(original).to(ip("123.45.67.89"))).unwrap();
    let group = [(1, 3), (2, 1)].map(|(n, weight)| WeightedAddress { address: [203, 0, 113, n].into(), weight });
    let shared = NameEntry::new(below).clients(Prefix::new(ip("192.168.0.0"), 16).unwrap()).to_group(&group).ttl(20);
    let gone = Request::one(Instruction::Remove(original));
    let requests = [
        (
            "Divert 100.100.100.100 to 123.45.67.89, and answer www.bt.com with 100.100.100.100 for a day: tied to the rule.",
            Request::one(Instruction::Divert(rule))
                .and(Instruction::Name(NamedEntry::tied(www, original).ttl(86_400)))
                .unwrap(),
        ),
        (
            "If the generation is 2: names below xyz.com, for clients in 192.168.0.0/16, get one of two addresses.",
            Request::one(Instruction::Name(NamedEntry::new(&shared).unwrap())).only_if(2),
        ),
        ("Remove the rule. Refused: an entry is tied to it.", gone),
        ("List the names from 0.", Request::one(Instruction::ListNames(0))),
        ("Read the counters.", Request::one(Instruction::Counters)),
        (
            "Remove the entry, and its rule.",
            gone.and(Instruction::RemoveName { pattern: www, clients: Prefix::ALL }).unwrap(),
        ),
    ];
    for (number, (words, request)) in (1..).zip(requests) {
        client.send(now, &request).unwrap();
        let (datagram, answer) = say(&mut client);
        v.line(words, &format!("names.request.{number}"), &hex(&datagram));
        v.line("", &format!("names.answer.{number}"), &hex(&answer));
    }
    v.0.replace("\n\n# \n", "\n")
}

#[test]
fn both_sides_say_what_the_vectors_say() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/control-vectors.txt");
    let expected = std::fs::read_to_string(file).unwrap_or_default();
    let said = conversation();
    #[cfg(feature = "naming")]
    let said = said + &conversation_about_names();
    #[cfg(not(feature = "naming"))]
    let expected = expected.split(WITH_NAMES).next().unwrap_or_default();
    if said != expected {
        let left = concat!(env!("CARGO_TARGET_TMPDIR"), "/control-vectors.txt");
        std::fs::write(left, &said).unwrap();
        for (line, (said, expected)) in said.lines().zip(expected.lines()).enumerate() {
            assert_eq!(said, expected, "line {}; all that is said now lies in {left}", line + 1);
        }
        panic!("the vectors are longer or shorter than what is said now, which lies in {left}");
    }
}
