//! Clients ask byway's machine itself as their DNS server, and two unbounds elsewhere are asked: by dig, kdig and thousands of
//! queries, whose answers are compared with those that the servers give directly.

use core::net::{Ipv4Addr, SocketAddrV4};
use core::time::Duration;
use std::net::UdpSocket;

use crate::dns::*;
use crate::network::*;
use byway_host::lab::network::{Network, ORIGINAL, OWN};
use byway_host::lab::space::Space;

/// The DNS servers: on the machine of the first mirror, and on that of the second.
const FIRST: Ipv4Addr = Ipv4Addr::new(9, 9, 9, 53);
const SECOND: Ipv4Addr = Ipv4Addr::new(9, 9, 9, 54);

/// `www.bt.com` is answered by byway, all else by the servers; only the client may ask.
const RELAY: &str = "[[rule]]\ndivert = \"100.100.100.100\"\nto = \"123.45.67.89\"\n\
    [names]\nanswers_per_second = 0\n\
    [names.relay]\nservers = [\"9.9.9.53\", \"9.9.9.54:53\"]\nclients = \"1.2.3.4/32\"\n\
    [[names.entry]]\nname = \"www.bt.com\"\nrule = \"100.100.100.100\"\nttl = \"24h\"\n";

const PROGRAMS: &[(&str, &str)] = &[("dig", "-v"), ("unbound", "-V")];

/// The network, with the addresses of both servers.
fn world(options: Options) -> World {
    with_servers(Options { rules: RELAY, ..options })
}

fn with_servers(options: Options) -> World {
    let world = World::new(options);
    let Network { a, b, proxy, .. } = &world.network;
    for (space, address) in [(a, FIRST), (b, SECOND)] {
        space.ip(&format!("address add {address}/32 dev lo")).unwrap();
        proxy.ip(&format!("route add {address}/32 dev to-{}", space.name())).unwrap();
    }
    world
}

/// The same, with a relay that waits for long: where no query may count as timed out, however slow the machine is.
fn patient_world() -> World {
    let (before, after) = RELAY.split_once("servers = ").unwrap();
    let rules: &'static str = Box::leak(format!("{before}patience = \"30s\"\nservers = {after}").into_boxed_str());
    with_servers(Options { rules, ..Options::PLAIN })
}

/// What dig says, without its comments.
#[track_caller]
fn dig(space: &Space, words: &str) -> String {
    run(space, &format!("dig @{OWN} +tries=1 +timeout=60 {words}"))
}

/// The same queries of clients that take no answers above 1232 bytes: the relay asks for none that would be in fragments, and
/// its client comes over TCP.
fn without_fragments(count: u16) -> Vec<Vec<u8>> {
    let mut all = queries(count);
    for query in &mut all {
        // The OPT record is the last, and its class what the client takes.
        if let Some([0, 0, 41, size @ .., _, _, _, _, _, _]) = query.last_chunk_mut::<11>()
            && *size > 1232_u16.to_be_bytes()
        {
            *size = 1232_u16.to_be_bytes();
        }
    }
    all
}

/// So many at once from one socket, and then their answers, which may come in any order.
fn many_at_once(server: Ipv4Addr, queries: &[Vec<u8>], at_once: usize) -> Vec<Vec<u8>> {
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    socket.connect(SocketAddrV4::new(server, 53)).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut buffer = [0; 65_535];
    let mut all = Vec::new();
    for queries in queries.chunks(at_once) {
        for query in queries {
            socket.send(query).unwrap();
        }
        let mut answers: Vec<_> = queries
            .iter()
            .map(|_| {
                let length = socket.recv(&mut buffer).unwrap();
                buffer[..length].to_vec()
            })
            .collect();
        answers.sort();
        all.extend(answers);
    }
    all
}

fn all_answers(options: Options) {
    let world = world(options);
    let client = &world.network.client;
    let _unbounds = [unbound(&world.network.a, FIRST), unbound(&world.network.b, SECOND)];
    let compare = |count: u16, at_once: usize| {
        let through = client.run(move || many_at_once(OWN, &queries(count), at_once));
        let direct = client.run(move || many_at_once(FIRST, &without_fragments(count), at_once));
        assert!(through == direct, "of {count} {}", differences(&through, &direct));
    };
    compare(4000, 1);
    compare(2000, 20);
    // Names of the table are answered here, whoever asks, and however.
    for how in ["", "+tcp", "+noedns", "+cookie", "+dnssec"] {
        assert_eq!(dig(client, &format!("+short {how} www.bt.com")), format!("{ORIGINAL}\n"), "{how}");
        for kind in ["AAAA", "HTTPS", "ANY", "TXT"] {
            let said = dig(client, &format!("{how} wWw.bT.cOm {kind}"));
            assert!(!said.contains("123.45.67") && said.contains("status: NOERROR"), "{how} {kind}: {said}");
        }
        assert_eq!(dig(client, &format!("+short {how} name.test TXT")), "\"behind\"\n", "{how}");
        let said = dig(client, &format!("{how} NOthing.test"));
        assert!(said.contains("status: NXDOMAIN") && said.contains(";NOthing.test."), "{how}: {said}");
    }
    // What is too long for a datagram comes over TCP, from the same server.
    let long = dig(client, "+bufsize=4096 long.test TXT");
    assert!(long.contains("MSG SIZE  rcvd: 3") && long.contains("(TCP)"), "{long}");
    // Transfers are refused, and so is who may not ask.
    let transfers = [251, 252].map(|kind| query(7, "test", kind, 0));
    let refused = client.run(move || over_udp(OWN, &transfers));
    assert!(refused.iter().all(|answer| answer[3] & 15 == 5), "{refused:?}");
    let stranger = &world.network.a;
    assert!(dig(stranger, "name.test").contains("status: REFUSED"));
    assert_eq!(dig(stranger, "+short www.bt.com"), format!("{ORIGINAL}\n"));
    let metrics = run(&world.network.proxy, "curl -sS http://127.0.0.1:9207/metrics");
    for line in [
        "byway_name_relay_queries 0",
        "byway_name_relay_total{outcome=\"not_allowed\"} 1",
        "byway_name_relay_total{outcome=\"wrong_id\"} 0",
    ] {
        assert!(metrics.lines().any(|found| found == line), "no {line} in {metrics}");
    }
    let (_, counted) = world.end_unjudged();
    let of = |name: &str| count(&counted, &format!("names_relay_{name}"));
    assert!(of("answered") >= 6000 && of("answered") == of("asked"), "{counted}");
    assert_eq!(of("case_lost") + of("wrong_question") + of("wrong_case") + of("damaged") + of("full"), 0, "{counted}");
    assert_eq!(count(&counted, "names_relayed"), 3, "over TCP: {counted}");
}

#[test]
fn answers_are_the_servers_own() {
    in_namespace_with(PROGRAMS, || all_answers(Options::PLAIN));
}

#[test]
fn answers_are_the_servers_own_with_two_queues_and_without_offloads() {
    in_namespace_with(PROGRAMS, || {
        all_answers(Options { offload: false, queues: 2, ..Options::PLAIN });
    });
}

#[test]
fn kdig_asks() {
    in_namespace_with(&[("kdig", "--version"), ("unbound", "-V")], || {
        let world = world(Options::PLAIN);
        let _unbounds = [unbound(&world.network.a, FIRST), unbound(&world.network.b, SECOND)];
        let client = &world.network.client;
        for how in ["+notcp", "+tcp", "+edns", "+cookie", "+dnssec", "+padding"] {
            for (question, answer) in [("wWw.Bt.com A", "100.100.100.100"), ("nAmE.test TXT", "\"behind\"")] {
                let said = run(client, &format!("kdig @{OWN} {how} {question}"));
                assert!(said.contains(answer) && !said.contains("123.45.67"), "{how}: {said}");
                assert!(!said.to_lowercase().contains("warning") && !said.contains("MALFORMED"), "{how}: {said}");
            }
        }
        world.end_unjudged();
    });
}

/// The first server is dead from the beginning: each query is answered, the first ones by the second attempt, and then
/// without delay. Without the other one as well the client is told, and when a server is back it is asked.
#[test]
fn the_second_server_takes_over() {
    in_namespace_with(PROGRAMS, || {
        let world = world(Options::PLAIN);
        let client = &world.network.client;
        let second = unbound(&world.network.b, SECOND);
        let asked = queries(500);
        let through = client.run(move || over_udp(OWN, &asked));
        let direct = client.run(move || over_udp(SECOND, &without_fragments(500)));
        assert!(through == direct, "of 500 {}", differences(&through, &direct));
        assert_eq!(dig(client, "+short +tcp name.test TXT"), "\"behind\"\n", "TCP follows");
        drop(second);
        let said = dig(client, "name.test TXT");
        assert!(said.contains("status: SERVFAIL") && said.contains(";name.test."), "{said}");
        let _first = unbound(&world.network.a, FIRST);
        wait("the first server is asked again", || dig(client, "+short name.test TXT") == "\"behind\"\n");
        let (_, counted) = world.end_unjudged();
        let of = |name: &str| count(&counted, &format!("names_relay_{name}"));
        assert!(of("unanswered") >= 1 && of("asked") == of("answered") + of("unanswered"), "{counted}");
        // Three of 500 have waited, and one each ten seconds since.
        assert!((3..100).contains(&of("timed_out")), "{counted}");
    });
}

/// A server that answers in lower case, as some do.
fn lower_case_server(address: Ipv4Addr) {
    let socket = UdpSocket::bind(SocketAddrV4::new(address, 53)).unwrap();
    std::thread::spawn(move || {
        let mut buffer = [0; 512];
        while let Ok((length, from)) = socket.recv_from(&mut buffer) {
            let answer = &mut buffer[..length];
            answer[2] |= 0x80;
            answer[12..].make_ascii_lowercase();
            let _ = socket.send_to(answer, from);
        }
    });
}

#[test]
fn a_server_that_does_not_keep_the_case_is_asked_again() {
    in_namespace_with(PROGRAMS, || {
        let world = patient_world();
        let client = &world.network.client;
        world.network.a.run(|| lower_case_server(FIRST));
        for _ in 0..30 {
            let said = dig(client, "+noedns Some.Name.Example TXT");
            assert!(said.contains("status: NOERROR") && said.contains(";Some.Name.Example."), "{said}");
        }
        let (_, counted) = world.end_unjudged();
        let of = |name: &str| count(&counted, &format!("names_relay_{name}"));
        assert_eq!((of("answered"), of("case_lost"), of("timed_out")), (30, 8, 0), "{counted}");
    });
}

/// One client asks for more than there is room for, and nobody answers; others are answered all the same. One in 64 shares the
/// first one's place in the table of counts, and so its limit.
#[test]
fn a_client_that_is_not_answered_leaves_room_for_others() {
    in_namespace_with(PROGRAMS, || {
        let (before, after) = RELAY.split_once("servers = ").unwrap();
        let text =
            format!("{before}queries = 64\npatience = \"60s\"\nservers = {after}").replace("1.2.3.4/32", "1.2.3.0/24");
        let world = with_servers(Options { rules: Box::leak(text.into_boxed_str()), ..Options::PLAIN });
        let Network { client, proxy, a, .. } = &world.network;
        let socket_at = |space: &Space, address: Ipv4Addr| {
            space.run(move || {
                let socket = UdpSocket::bind((address, 0)).unwrap();
                socket.connect(SocketAddrV4::new(OWN, 53)).unwrap();
                socket
            })
        };
        let others = [77, 78, 79].map(|last| Ipv4Addr::new(1, 2, 3, last));
        for other in others {
            client.ip(&format!("address add {other}/32 dev lo")).unwrap();
            proxy.ip(&format!("route add {other}/32 dev to-client")).unwrap();
        }
        let counted = || run(proxy, "curl -sS http://127.0.0.1:9207/metrics");
        let count = |text: &str, name: &str| {
            let name = format!("byway_name_relay_total{{outcome=\"{name}\"}} ");
            text.lines().find_map(|line| line.strip_prefix(&name)?.parse::<u32>().ok())
        };
        let asker = socket_at(client, Ipv4Addr::UNSPECIFIED);
        // Some may be lost on the way: all the machine's namespaces share the kernel's queue of received packets.
        wait("a hundred more than the limit are counted", || {
            for id in 0..50 {
                asker.send(&query(id, "nobody.test", 1, 0)).unwrap();
            }
            count(&counted(), "client_limit") >= Some(100)
        });
        let text = counted();
        assert_eq!((count(&text, "asked"), count(&text, "full")), (Some(16), Some(0)), "{text}");
        let _unbound = unbound(a, FIRST);
        let is_answered = |other: &Ipv4Addr| {
            let (socket, mut answer) = (socket_at(client, *other), [0; 512]);
            socket.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
            (0..10).any(|_| {
                socket.send(&query(7, "name.test", 16, 0)).unwrap();
                socket.recv(&mut answer).is_ok_and(|length| answer[..length].ends_with(b"\x06behind"))
            })
        };
        assert!(others.iter().filter(|other| is_answered(other)).count() >= 2, "{}", counted());
        world.end_unjudged();
    });
}
