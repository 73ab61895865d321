//! Queries that come to a router: answered, relayed, passed.

use super::*;
use byway::{Config, Divert, Verdict, Weighted};

use crate::counters::Counters;
use crate::router::{Output, Router};
use crate::vnet::LENGTH;

fn syn(client: Ipv4Addr, server: Ipv4Addr) -> Vec<u8> {
    let mut packet = vec![0; 40];
    (packet[0], packet[8], packet[9]) = (0x45, 64, TCP);
    packet::put(&mut packet, 2, 40);
    packet[12..16].copy_from_slice(&client.octets());
    packet[16..20].copy_from_slice(&server.octets());
    packet::put(&mut packet, 20, 40_000);
    packet::put(&mut packet, 22, DNS);
    (packet[32], packet[33]) = (0x50, 2);
    packet::seal(&mut packet);
    let sum = packet::add_sums(packet::pseudo_sum(&packet, 20), packet::sum(&packet[20..]));
    packet::put(&mut packet, 36, !sum);
    packet
}

/// A query over TCP goes where the client's packets would have gone.
#[test]
fn rules_lead_queries_on() {
    let config = Config::new([7; 32]).alternative([10, 10, 10, 10].into(), 1024..=65535).own([10, 9, 9, 9].into());
    let mut translator = Translator::new(config, Heap::new(16, 16)).unwrap();
    let to = |translator: &Translator<Heap>, client: &str, server: &str| {
        server_of(translator, client.parse().unwrap(), server.parse().unwrap()).map(|to| to.to_string())
    };
    assert_eq!(to(&translator, "1.2.3.4", "9.9.9.53"), Some("9.9.9.53:53".into()));
    assert_eq!(to(&translator, "1.2.3.4", "10.9.9.9"), None);
    for rule in [
        "9.9.0.0/16 to 20.0.0.1",
        "9.9.9.53 udp to 20.0.0.2",
        "9.9.9.53:80 to 20.0.0.3",
        "9.9.9.53:53 from 1.0.0.0/8 to 20.0.0.4:5353*0, 20.0.0.5:5353",
        "9.9.8.1 to same",
        "10.9.9.9:53 to 20.0.0.6",
        "9.9.6.1:53 tcp to 20.0.0.7",
        "9.9.6.1:53 from 1.0.0.0/8 to 20.0.0.8",
    ] {
        let mut room = [Weighted { target: Target::Same, weight: 1 }; 4];
        translator.divert(Divert::parse(rule, &mut room).unwrap()).unwrap();
    }
    for (client, server, expected) in [
        ("1.2.3.4", "9.9.6.1", "20.0.0.7:53"),
        ("1.2.3.4", "9.9.9.53", "20.0.0.5:5353"),
        ("2.2.3.4", "9.9.9.53", "20.0.0.1:53"),
        ("1.2.3.4", "9.9.8.1", "9.9.8.1:53"),
        ("1.2.3.4", "9.8.1.1", "9.8.1.1:53"),
        ("1.2.3.4", "10.9.9.9", "20.0.0.6:53"),
    ] {
        assert_eq!(to(&translator, client, server).as_deref(), Some(expected), "{client} asks {server}");
        let mut packet = syn(client.parse().unwrap(), server.parse().unwrap());
        let verdict = translator.translate(Instant::from_secs(1), &mut packet);
        assert!(matches!(verdict, Verdict::ToServer | Verdict::Pass), "{verdict:?}");
        let led = SocketAddrV4::new(packet::destination(&packet), packet::destination_port(&packet).unwrap());
        assert_eq!(led.to_string(), expected, "where packets go");
    }
}

struct Sent(Vec<Vec<u8>>);

impl Output for Sent {
    fn send(&mut self, frame: &[u8], _: &mut Counters) {
        self.0.push(frame[LENGTH..].to_vec());
    }
}

/// A query for the address of `a`.
fn query(server: Ipv4Addr, ttl: u8) -> Vec<u8> {
    let message = b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0\x01a\0\0\x01\0\x01";
    let mut packet = syn([1, 2, 3, 4].into(), server);
    packet.truncate(28);
    packet[24..28].copy_from_slice(&[0, 8 + message.len() as u8, 0, 0]);
    packet.extend(message);
    (packet[3], packet[8], packet[9]) = (packet.len() as u8, ttl, UDP);
    packet::seal(&mut packet);
    packet
}

fn with_names() -> (crate::config::Config, Translator<Heap>, Naming) {
    let text = "[router]\naddress = \"10.9.9.9\"\n[nat]\nalternatives = [\"10.10.10.10:1024-65535\"]\n\
        [names]\n[[names.entry]]\nname = \"a\"\nto = \"203.0.113.7\"\n";
    let config = crate::config::Config::parse(std::path::Path::new("byway.toml"), text.into()).unwrap();
    let translator = Translator::new(config.nat.config([7; 32]), Heap::new(16, 16)).unwrap();
    let naming = Naming::new(config.names.as_ref().unwrap(), [[7; 32], [8; 32]], config.router.address, 1500).unwrap();
    naming.lock().names.insert(config.entries()[0].entry()).unwrap();
    (config, translator, naming)
}

/// A packet over UDP causes no work for TCP connections.
#[test]
fn a_query_over_udp_leaves_the_stack_alone() {
    let (_, translator, naming) = with_names();
    let server = Ipv4Addr::new(9, 9, 9, 53);
    let (query, syn) = (query(server, 64), syn([1, 2, 3, 4].into(), server));
    naming.lock().relay.receive(syn.clone());
    let now = Instant::from_secs(1);
    let sent = |packet: &[u8]| match naming.take(now, &VnetHeader::NONE, packet, &translator) {
        Named::Done(packets) => packets.iter().map(|packet| packet::protocol(packet)).collect::<Vec<_>>(),
        other => panic!("{other:?}"),
    };
    assert_eq!(sent(&query), [UDP]);
    assert!(sent(&syn).contains(&TCP));
}

/// A query to this machine has arrived, whatever its TTL; one to a server is on its way.
#[test]
fn a_query_that_has_arrived_is_answered() {
    let (config, translator, naming) = with_names();
    let mut router = Router::new(translator, config.router.clone());
    router.answer_names(std::sync::Arc::new(naming));
    for (server, ttl, is_answered) in
        [([10, 9, 9, 9], 1, true), ([10, 9, 9, 9], 64, true), ([9, 9, 9, 53], 1, false), ([9, 9, 9, 53], 2, true)]
    {
        let packet = query(server.into(), ttl);
        let mut sent = Sent(Vec::new());
        router.forward(Instant::from_secs(1), &mut [&VnetHeader::NONE.to_bytes(), &packet[..]].concat(), &mut sent);
        let [packet] = &sent.0[..] else { panic!("{:?}", sent.0) };
        assert_eq!(packet.ends_with(&[203, 0, 113, 7]), is_answered, "{server:?} {ttl}");
    }
}

/// A router that relays to two servers, and what it sends for a packet, or for nothing but the time.
fn relaying() -> impl FnMut(Instant, Option<Vec<u8>>) -> Vec<Vec<u8>> {
    let text = "[router]\naddress = \"10.9.9.9\"\n[nat]\nalternatives = [\"10.10.10.10:1024-65535\"]\n\
        [names]\n[names.relay]\nservers = [\"9.9.9.53\", \"9.9.9.54\"]\nclients = \"1.0.0.0/8\"\n\
        [[names.entry]]\nname = \"b\"\nto = \"203.0.113.7\"\n";
    let config = crate::config::Config::parse(std::path::Path::new("byway.toml"), text.into()).unwrap();
    let translator = Translator::new(config.nat.config([7; 32]), Heap::new(16, 16)).unwrap();
    let secrets = [[7; 32], [8; 32]];
    let naming = Naming::new(config.names.as_ref().unwrap(), secrets, config.router.address, 1500).unwrap();
    naming.lock().names.insert(config.entries()[0].entry()).unwrap();
    let mut router = Router::new(translator, config.router);
    router.answer_names(std::sync::Arc::new(naming));
    move |now, packet| {
        let mut sent = Sent(Vec::new());
        if let Some(packet) = packet {
            let mut frame = [&VnetHeader::NONE.to_bytes(), &packet[..]].concat();
            router.forward(now, &mut frame, &mut sent);
        }
        router.poll(now, &mut sent);
        sent.0
    }
}

/// The packet back, as an answer.
fn answer(query: &[u8]) -> Vec<u8> {
    let mut answer = query.to_vec();
    answer[12..20].rotate_left(4);
    answer[20..24].rotate_left(2);
    // Without a checksum, and a response.
    (answer[26], answer[27], answer[30]) = (0, 0, answer[30] | 0x80);
    packet::seal(&mut answer);
    answer
}

#[test]
fn a_query_to_this_machine_is_relayed() {
    let (mut route, mut now, own) = (relaying(), Instant::from_secs(1), Ipv4Addr::new(10, 9, 9, 9));
    let asked = query(own, 1);
    let [first] = &route(now, Some(asked.clone()))[..] else { panic!("one packet") };
    assert_eq!((packet::source(first), packet::destination(first).to_string()), (own, "9.9.9.53".into()));
    assert_eq!(packet::check(first), Ok(first.len()));
    assert_eq!(route(now, Some(asked.clone())).len(), 0, "it waits already");
    // The other server is asked, and its answer is the client's.
    now = now + core::time::Duration::from_secs(1);
    let [second] = &route(now, None)[..] else { panic!("one packet") };
    assert_eq!(packet::destination(second).to_string(), "9.9.9.54");
    assert_eq!(route(now, Some(answer(first))).len(), 0, "too late, and nobody is told");
    let [given] = &route(now, Some(answer(second)))[..] else { panic!("one packet") };
    assert_eq!((packet::source(given), packet::destination(given)), (own, Ipv4Addr::new(1, 2, 3, 4)));
    assert_eq!(given[20..24], [&asked[22..24], &asked[20..22]].concat());
    assert_eq!((&given[28..30], &given[40..]), (&asked[28..30], &asked[40..]));
    // Queries to servers elsewhere go there as they are.
    let [passed] = &route(now, Some(query([9, 9, 9, 53].into(), 64)))[..] else { panic!("one packet") };
    assert_eq!(passed[20..], query([9, 9, 9, 53].into(), 64)[20..]);
}

/// Somebody who forges a server's address does not learn from ICMP errors at which port a query waits: all ports look the same.
#[test]
fn no_error_tells_which_port_is_open() {
    let (mut route, now) = (relaying(), Instant::from_secs(1));
    let [first] = &route(now, Some(query([10, 9, 9, 9].into(), 64)))[..] else { panic!("one packet") };
    let mut forged = answer(first);
    forged[28] ^= 1;
    let open = packet::destination_port(&forged).unwrap();
    for port in (1..=u16::MAX).filter(|port| *port != DNS).step_by(101).chain([open]) {
        packet::put(&mut forged, 22, port);
        assert_eq!(route(now, Some(forged.clone())).len(), 0, "{port}");
    }
    // From elsewhere each port is closed, that one too.
    let mut stranger = forged.clone();
    stranger[12..16].copy_from_slice(&[9, 9, 9, 55]);
    packet::seal(&mut stranger);
    for port in [open, open ^ 1] {
        packet::put(&mut stranger, 22, port);
        let [error] = &route(now, Some(stranger.clone()))[..] else { panic!("one packet") };
        assert_eq!((packet::protocol(error), error[20], error[21]), (packet::ICMP, 3, 3));
    }
    assert_eq!(route(now, Some(answer(first))).len(), 1);
}
