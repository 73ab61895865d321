//! What the naming server answers, read by the crate `domain`: what each RFC says of it.

use core::net::Ipv4Addr;

use crate::support::*;
use byway::Instant;
use byway::naming::{
    Answered, FixedNames, MAX_ANSWER, MAX_STREAM_ANSWER, NameEntry, Names, NamesConfig, Next, Outcome, Transport,
    WeightedAddress,
};
use domain::base::iana::{Opcode, OptRcode, Rcode, Rtype};
use domain::base::{Message, Name, ToName};
use domain::rdata::{A as ARecord, AllRecordData, Soa};

type Parsed<'a> = AllRecordData<&'a [u8], domain::base::ParsedName<&'a [u8]>>;

/// The addresses of the answer section; nothing else may be in it.
fn addresses(message: &Message<&[u8]>) -> Vec<(String, u32, Ipv4Addr)> {
    let records = message.answer().unwrap().limit_to::<ARecord>();
    let found: Vec<_> = records
        .map(|record| record.unwrap())
        .map(|record| (record.owner().to_string(), record.ttl().as_secs(), record.data().addr()))
        .collect();
    assert_eq!(found.len(), usize::from(message.header_counts().ancount()));
    found
}

#[test]
fn a_name_in_the_table_is_answered_with_its_address() {
    let mut names = names();
    for (name, expected, ttl) in
        [("www.bt.com", ADDRESS, 86_400), ("a.xyz.com", BELOW, 30), ("a.b.c.xyz.com", BELOW, 30)]
    {
        let asked = query(name, A);
        let answer = udp(&mut names, &asked);
        let message = read(&answer);
        assert_eq!(addresses(&message), [(name.to_owned(), ttl, expected)]);
        let header = message.header();
        assert_eq!((header.id(), header.opcode(), header.rcode()), (0xbeef, Opcode::QUERY, Rcode::NOERROR));
        assert_eq!((header.aa(), header.tc(), header.rd(), header.ra()), (true, false, true, true));
        assert_eq!((header.z(), header.ad(), header.cd()), (false, false, false));
        assert_eq!(message.header_counts().arcount(), 0, "no OPT record for who has sent none");
    }
}

#[test]
fn other_names_pass() {
    let mut names = names();
    for name in
        ["bt.com", "xyz.com", "www.bt.org", "wwww.bt.com", "www.bt.com.org", "a.www.bt.com", "xyz.co", "axyz.com", ""]
    {
        for kind in [A, AAAA, ANY, SOA] {
            assert_eq!(ask(&mut names, Transport::Udp, &query(name, kind)), Err(Answered::Pass), "{name}");
        }
    }
    assert_eq!(names.counters().of(Outcome::Passed), names.counters().in_all());
}

/// RFC 1035 (section 2.3.3), RFC 4343, and draft-vixie-dnsext-dns0x20.
#[test]
fn case_is_ignored_and_echoed() {
    let mut names = names();
    for name in ["WWW.BT.COM", "wWw.Bt.cOm", "Q.XyZ.CoM"] {
        let asked = query(name, A);
        let answer = udp(&mut names, &asked);
        assert_eq!(answer[12..asked.len()], asked[12..]);
        assert_eq!(addresses(&read(&answer)).len(), 1);
    }
    // Only letters have a case: `@` and backquote, `[` and `{` are 32 apart too.
    names.insert(NameEntry::new(pattern("\\@[.test")).to(ADDRESS)).unwrap();
    assert!(ask(&mut names, Transport::Udp, &query("@[.test", A)).is_ok());
    for other in ["`[.test", "@{.test"] {
        assert_eq!(ask(&mut names, Transport::Udp, &query(other, A)), Err(Answered::Pass));
    }
}

/// For each type, with and without EDNS, DO and CD, over both transports, at an exact name and below a suffix: the only
/// address is the entry's, and everything else says that there is nothing.
#[test]
fn no_type_leads_past_the_entry() {
    let mut names = names();
    // A, NS, CNAME, SOA, PTR, MX, TXT, AAAA, SRV, NAPTR, DNAME, DS, RRSIG, NSEC, DNSKEY, TLSA, SVCB, HTTPS, ANY, CAA, unassigned.
    let kinds = [1, 2, 5, 6, 12, 15, 16, 28, 33, 35, 39, 43, 46, 47, 48, 52, 64, 65, 255, 257, 65_280];
    let mut seen = 0;
    for kind in kinds {
        for (name, own, expected) in [("www.bt.com", "www.bt.com", ADDRESS), ("a.xyz.com", "xyz.com", BELOW)] {
            for edns in [None, Some(false), Some(true)] {
                for flags in [0, 0x0100, 0x0010, 0x0110, 0x0130] {
                    for transport in [Transport::Udp, Transport::Tcp] {
                        let record = edns.map_or(Vec::new(), |dnssec| opt(1232, 0, dnssec, &[]));
                        let counts = [1, 0, 0, u16::from(edns.is_some())];
                        let asked = message(flags, counts, &[&question(name, kind), &record]);
                        let answer = answer(&mut names, transport, &asked);
                        let message = read(&answer);
                        assert_eq!(message.header().rcode(), Rcode::NOERROR);
                        // RFC 4035, section 3.1.6: CD is copied, AD is not.
                        assert_eq!((message.header().cd(), message.header().ad()), (flags & 0x10 != 0, false));
                        assert_eq!(message.header().rd(), flags & 0x100 != 0);
                        // RFC 3225, section 3: DO is copied.
                        let found = message.opt().map(|opt| opt.dnssec_ok());
                        assert_eq!(found, edns);
                        if kind == A || kind == ANY {
                            assert_eq!(addresses(&message)[0].2, expected);
                        } else if kind == SOA && name == own {
                            assert_eq!(message.header_counts().ancount(), 1);
                        } else {
                            // RFC 2308, section 2.2: no data, with the SOA record of the zone.
                            assert_eq!(message.header_counts().ancount(), 0);
                            let soa = message.authority().unwrap().limit_to::<Soa<_>>().next().unwrap().unwrap();
                            assert_eq!(soa.owner().to_string(), own);
                            assert_eq!(soa.ttl(), soa.data().minimum());
                        }
                        let hidden =
                            [ADDRESS, BELOW].into_iter().filter(|a| *a != expected || !matches!(kind, 1 | 255));
                        for address in hidden {
                            assert!(!answer.windows(4).any(|w| w == address.octets()), "{kind} {name}");
                        }
                        seen += 1;
                    }
                }
            }
        }
    }
    assert_eq!(names.counters().in_all(), seen);
}

#[test]
fn edns() {
    let mut names = names();
    for (payload, version) in [(0, 0), (512, 0), (1232, 0), (65_535, 0)] {
        let answer = udp(&mut names, &query_with("www.bt.com", A, &opt(payload, version, false, &[])));
        let message = read(&answer);
        let opt = message.opt().unwrap();
        assert_eq!((opt.udp_payload_size(), opt.version(), message.opt_rcode()), (1232, 0, OptRcode::NOERROR));
        assert!(!message.header().tc());
    }
    // RFC 6891, section 6.1.3.
    let answer = udp(&mut names, &query_with("www.bt.com", A, &opt(1232, 1, true, &[1, 2, 3])));
    let message = read(&answer);
    assert_eq!((message.opt_rcode(), message.opt().unwrap().version()), (OptRcode::BADVERS, 0));
    assert_eq!(message.header_counts().ancount(), 0);
    // Section 6.1.2: unknown options are ignored.
    let unknown = [0xfd, 0xe9, 0, 3, 1, 2, 3, 0, 8, 0, 0];
    let answer = udp(&mut names, &query_with("www.bt.com", A, &opt(1232, 0, false, &unknown)));
    assert_eq!(addresses(&read(&answer)).len(), 1);
    // Section 6.1.1: one OPT record, of the root, and options that end with it.
    let good = opt(1232, 0, false, &[]);
    let mut named = good.clone();
    named.splice(0..1, [1, b'a', 0]);
    for (records, count, found) in [
        ([&good[..], &good].concat(), 2, true),
        (named, 1, false),
        (opt(1232, 0, false, &[0, 8, 0]), 1, true),
        (opt(1232, 0, false, &[0, 8, 0, 1]), 1, true),
    ] {
        let asked = crate::support::message(0x100, [1, 0, 0, count], &[&question("www.bt.com", A), &records]);
        let answer = udp(&mut names, &asked);
        assert_eq!(read(&answer).header().rcode(), Rcode::FORMERR);
        assert_eq!(read(&answer).opt().is_some(), found);
    }
    assert_eq!((names.counters().of(Outcome::Edns), names.counters().of(Outcome::BadVersion)), (4, 1));
}

/// RFC 6891, section 6.1.1: an answer to a query with an OPT record has one, whatever else is wrong with the query.
#[test]
fn every_answer_to_edns_has_it() {
    let mut names = names();
    let good = opt(1232, 0, true, &[]);
    let a = [&wire("www.bt.com")[..], &[0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 1, 2, 3, 4]].concat();
    let tsig = [0, 0, 250, 0, 255, 0, 0, 0, 0, 0, 0];
    let extra = [1];
    for (flags, kind, counts, records, code) in [
        // NOTIFY; an answer in a query; IXFR; a signature; bytes behind the end.
        (4 << 11, A, [1, 0, 0, 1], [&good[..], &[]], Rcode::NOTIMP),
        (4 << 11, A, [1, 1, 0, 1], [&a, &good], Rcode::NOTIMP),
        (0x100, A, [1, 1, 0, 1], [&a, &good], Rcode::FORMERR),
        (0x100, A, [1, 0, 1, 1], [&a, &good], Rcode::FORMERR),
        (0x100, 251, [1, 0, 1, 1], [&a, &good], Rcode::REFUSED),
        (0x100, 252, [1, 0, 0, 1], [&good, &[]], Rcode::REFUSED),
        (0x100, A, [1, 0, 0, 2], [&good, &tsig], Rcode::FORMERR),
        (0x100, A, [1, 0, 0, 1], [&good, &extra], Rcode::FORMERR),
        (0x100, A, [1, 0, 0, 1], [&opt(1232, 0, true, &cookie_option(&[1; 9])), &[]], Rcode::FORMERR),
    ] {
        let asked = message(flags, counts, &[&question("www.bt.com", kind), records[0], records[1]]);
        let answer = udp(&mut names, &asked);
        let message = read(&answer);
        assert_eq!(message.header().rcode(), code, "{counts:?}");
        assert!(message.opt().is_some_and(|opt| opt.dnssec_ok()), "{kind} {counts:?}");
    }
}

/// RFC 9018, and RFC 7873: compared with the server cookies that `domain` makes.
#[test]
fn cookies() {
    let secret = *b"0123456789abcdef";
    let mut names = with(NamesConfig::new([7; 32]).cookie_secret(secret).answers_per_second(1));
    let client = [1, 2, 3, 4, 5, 6, 7, 8];
    let first = query_with("www.bt.com", A, &opt(1232, 0, false, &cookie_option(&client)));
    let given = udp(&mut names, &first);
    let theirs = domain::base::opt::cookie::ClientCookie::from_octets(client);
    let whole = domain::base::opt::Cookie::new(theirs, None).create_response(1_000.into(), CLIENT.into(), &secret);
    let message = read(&given);
    let ours = message.opt().unwrap().opt().first::<domain::base::opt::Cookie>().unwrap();
    assert_eq!(ours, whole);
    // With it the source is real, and the limit of one answer per second is not for it.
    let cookie = [&client[..], &given[given.len() - 16..]].concat();
    let second = query_with("www.bt.com", A, &opt(1232, 0, false, &cookie_option(&cookie)));
    for _ in 0..100 {
        let answer = udp(&mut names, &second);
        assert_eq!(addresses(&read(&answer)).len(), 1);
    }
    assert_eq!(names.counters().proven, 100);
    // Without it, or with another's, every second query gets the cookie and no address.
    let mut forged = cookie;
    forged[20] ^= 1;
    let forged = query_with("www.bt.com", A, &opt(1232, 0, false, &cookie_option(&forged)));
    let (mut dropped, mut told) = (0, 0);
    for asked in [&first, &forged].into_iter().cycle().take(100) {
        match ask(&mut names, Transport::Udp, asked) {
            Ok(answer) => {
                let message = read(&answer);
                assert_eq!((message.opt_rcode(), message.header_counts().ancount()), (OptRcode::BADCOOKIE, 0));
                assert_eq!(message.opt().unwrap().opt().first::<domain::base::opt::Cookie>(), Some(whole.clone()));
                told += 1;
            }
            Err(Answered::Drop(Outcome::LimitedDropped)) => dropped += 1,
            Err(other) => panic!("{other:?}"),
        }
    }
    assert_eq!((dropped, told), (50, 50));
    // RFC 7873, section 5.2.2.
    for length in (0..50).filter(|length| !matches!(length, 8 | 16..=40)) {
        let mut names = crate::support::names();
        let record = opt(1232, 0, false, &cookie_option(&vec![1; length]));
        assert_eq!(read(&udp(&mut names, &query_with("www.bt.com", A, &record))).header().rcode(), Rcode::FORMERR);
        assert_eq!(names.counters().of(Outcome::CookieLength), 1);
    }
    // Section 5.4: a query for a cookie alone has no question, and is the server's.
    let alone = crate::support::message(0, [0, 0, 0, 1], &[&opt(1232, 0, false, &cookie_option(&client))]);
    assert_eq!(ask(&mut names, Transport::Udp, &alone), Err(Answered::Pass));
}

#[test]
fn a_flood_is_limited_by_network_and_a_real_client_gets_through() {
    let mut names = with(NamesConfig::new([7; 32]).answers_per_second(10));
    let asked = query("www.bt.com", A);
    let mut out = [0; MAX_ANSWER];
    let mut ask_from = |client: [u8; 4], millis: u64, transport| {
        let answered = names.answer(Instant::from_millis(millis), client.into(), transport, &asked, &mut out);
        match answered {
            Answered::Answer { length } => {
                let message = read(&out[..length]);
                assert_eq!(message.header().tc(), message.header_counts().ancount() == 0);
                // What is not an answer is no longer than the query.
                assert!(!message.header().tc() || length == asked.len());
                (message.header_counts().ancount(), message.header().tc())
            }
            Answered::Drop(Outcome::LimitedDropped) => (0, false),
            other => panic!("{other:?}"),
        }
    };
    let flood: Vec<_> = (0..110).map(|n| ask_from([198, 51, 100, n], 5_000, Transport::Udp)).collect();
    assert_eq!(flood.iter().filter(|f| **f == (1, false)).count(), 10);
    assert_eq!(flood.iter().filter(|f| **f == (0, true)).count(), 50);
    // Over TCP; and another network; and again a second later, at the rate and no faster.
    assert_eq!(ask_from([198, 51, 100, 1], 5_000, Transport::Tcp), (1, false));
    let others = (0..16).filter(|n| ask_from([100, *n, 0, 1], 5_000, Transport::Udp) == (1, false)).count();
    assert!(others >= 12, "{others} of 16 other networks share the flooded one's place");
    let later: usize = (6_000..9_000).filter(|at| ask_from([198, 51, 100, 1], *at, Transport::Udp).0 == 1).count();
    assert!((38..=41).contains(&later), "{later} answers in three seconds, and a burst");
    // Time that runs backwards is the latest there was.
    assert_ne!(ask_from([198, 51, 100, 1], 0, Transport::Udp).0, 1);
}

#[test]
fn what_is_no_query_is_not_implemented_or_passes() {
    let mut names = names();
    // STATUS, NOTIFY, UPDATE, DSO, unassigned.
    for opcode in [2, 4, 5, 6, 15] {
        let flags = opcode << 11;
        let answer = udp(&mut names, &message(flags, [1, 0, 0, 0], &[&question("www.bt.com", A)]));
        let message = read(&answer);
        assert_eq!(u16::from(message.header().opcode().to_int()), opcode);
        assert_eq!((message.header().rcode(), message.header_counts().qdcount()), (Rcode::NOTIMP, 1));
        let other = crate::support::message(flags, [1, 0, 0, 0], &[&question("example.org", A)]);
        assert_eq!(ask(&mut names, Transport::Udp, &other), Err(Answered::Pass));
    }
    // Classes other than IN, transfers of a zone, and types that no record has.
    for (kind, class) in [(A, 3), (A, 4), (A, 255), (A, 254), (251, 1), (252, 1)] {
        let mut asked = query("www.bt.com", kind);
        let end = asked.len();
        asked[end - 1] = class;
        assert_eq!(read(&udp(&mut names, &asked)).header().rcode(), Rcode::REFUSED, "{kind} {class}");
    }
    // IXFR as it is asked, with the client's SOA record (RFC 1995, section 3).
    let (name, soa) =
        (question("www.bt.com", 251), [&[0xc0, 12, 0, 6, 0, 1, 0, 0, 0, 0, 0, 22, 0, 0][..], &[0; 20]].concat());
    let asked = message(0x100, [1, 0, 1, 0], &[&name, &soa]);
    assert_eq!(read(&udp(&mut names, &asked)).header().rcode(), Rcode::REFUSED);
    assert_eq!(read(&udp(&mut names, &query("www.bt.com", 41))).header().rcode(), Rcode::FORMERR);
    // What no DNS query has in a datagram, though its first question is one.
    let tunnel = message(0x100, [257, 0, 0, 0], &[&question("www.bt.com", A)]);
    assert_eq!(ask(&mut names, Transport::Udp, &tunnel), Err(Answered::Pass));
    // A response is never answered: two servers would keep each other busy for ever.
    for flags in [0x8000, 0x8180, 0xf800] {
        let response = message(flags, [1, 0, 0, 0], &[&question("www.bt.com", A)]);
        assert_eq!(ask(&mut names, Transport::Udp, &response), Err(Answered::Drop(Outcome::Response)));
    }
    assert_eq!((names.counters().of(Outcome::NotImplemented), names.counters().of(Outcome::Refused)), (5, 7));
}

/// The catalogue of RFC 9267: what implementations trust and should not. Each fault by its section.
#[test]
fn the_faults_of_rfc_9267() {
    let mut names = names();
    let formerr = |names: &mut Table, bytes: &[u8], outcome: Outcome| {
        let before = names.counters().of(outcome);
        let answer = udp(names, bytes);
        assert_eq!(read(&answer).header().rcode(), Rcode::FORMERR, "{bytes:?}");
        assert_eq!(names.counters().of(outcome), before + 1, "{outcome:?} {bytes:?}");
        // Nothing that the query made up is in it, but a question that was understood.
        assert!(answer.len() == 12 || answer[12..] == bytes[12..answer.len()]);
    };
    // Section 2: pointers to themselves, forwards, into the header, behind the message, in a circle, and honest ones.
    for pointer in [12_u16, 14, 0, 5, 600, 0x3fff] {
        let name = (0xc000 | pointer).to_be_bytes();
        let asked = message(0x100, [1, 0, 0, 0], &[&name, &[0, 1, 0, 1]]);
        formerr(&mut names, &asked, Outcome::QuestionLabel);
        let asked = message(0x100, [1, 0, 0, 0], &[b"\x03www", &name, &[0, 1, 0, 1]]);
        formerr(&mut names, &asked, Outcome::QuestionLabel);
    }
    // Two that point at each other.
    formerr(&mut names, &message(0, [1, 0, 0, 0], &[&[0xc0, 14, 0xc0, 12, 0, 1, 0, 1]]), Outcome::QuestionLabel);
    // Sections 2 and 3: label types that were never assigned; lengths above 63.
    for length in [0x40, 0x41, 0x7f, 0x80, 0xbf] {
        let asked = message(0, [1, 0, 0, 0], &[&[length], &[b'a'; 200], &[0, 0, 1, 0, 1]]);
        formerr(&mut names, &asked, Outcome::QuestionLabel);
    }
    // Section 3: names longer than 255 bytes; one of 255 is fine.
    let long = "a.".repeat(127);
    assert_eq!(ask(&mut names, Transport::Udp, &query(&long, A)), Err(Answered::Pass));
    formerr(&mut names, &query(&format!("{long}a"), A), Outcome::QuestionLength);
    formerr(&mut names, &query(&"a.".repeat(3_000), A), Outcome::QuestionLength);
    let whole = format!("{}.{}.{}.{}.xyz.com", "a".repeat(63), "b".repeat(63), "c".repeat(63), "d".repeat(53));
    assert_eq!(wire(&whole).len(), 255);
    let answer = udp(&mut names, &query_with(&whole, AAAA, &opt(512, 0, true, &cookie_option(&[1; 8]))));
    assert_eq!((answer.len(), read(&answer).header().tc()), (MAX_ANSWER, false));
    // Section 4: a name that never ends. The message ends within it, so no server can have it either.
    for cut in 12..query("www.bt.com", A).len() - 4 {
        let asked = &query("www.bt.com", A)[..cut];
        assert_eq!(ask(&mut names, Transport::Udp, asked), Err(Answered::Pass), "{cut}");
    }
    // A question without its type and class.
    for cut in 1..=4 {
        let asked = query("www.bt.com", A);
        assert_eq!(ask(&mut names, Transport::Udp, &asked[..asked.len() - cut]), Err(Answered::Pass));
    }
    // A zero within a name is a name's end and no C string's.
    let zero = message(0, [1, 0, 0, 0], &[b"\x03w\0w\x02bt\x03com\0\0\x01\0\x01"]);
    assert_eq!(ask(&mut names, Transport::Udp, &zero), Err(Answered::Pass));
    // Section 5: lengths of data that end behind the message, or before it.
    let own = question("www.bt.com", A);
    let good = opt(1232, 0, false, &[]);
    for (at, length) in [(9, 1_u16), (9, 11), (9, u16::MAX)] {
        let mut record = good.clone();
        record[at..at + 2].copy_from_slice(&length.to_be_bytes());
        formerr(&mut names, &message(0, [1, 0, 0, 1], &[&own, &record]), Outcome::Record);
    }
    formerr(&mut names, &message(0, [1, 0, 0, 1], &[&own, &good, &[0]]), Outcome::Trailing);
    // Section 6: counts that promise more than there is, or less.
    for count in [2, 3, 256, u16::MAX] {
        formerr(&mut names, &message(0, [1, 0, 0, count], &[&own, &good]), Outcome::Record);
    }
    formerr(&mut names, &message(0, [1, 0, 0, 0], &[&own, &good]), Outcome::Trailing);
    for count in [2, 3, 255] {
        formerr(&mut names, &message(0, [count, 0, 0, 0], &[&own]), Outcome::Questions);
        formerr(&mut names, &message(0, [1, count, 0, 0], &[&own]), Outcome::Answers);
        formerr(&mut names, &message(0, [1, 0, count, 0], &[&own]), Outcome::Answers);
    }
    // Noise on port 53 is no query: it passes where packets do, and is refused on a connection.
    let other = question("example.org", A);
    for (count, name) in [(256, &other[..]), (u16::MAX, &other), (1, &[0xc0; 9])] {
        let noise = message(0, [count, 0, 0, 256], &[name]);
        assert_eq!(ask(&mut names, Transport::Udp, &noise), Err(Answered::Pass));
        assert_eq!(read(&crate::support::answer(&mut names, Transport::Tcp, &noise)).header().rcode(), Rcode::FORMERR);
    }
    // A record's name may be a pointer, wherever to: nobody follows it. A label of no type may not.
    let record = |name: &[u8]| [name, &[0, 16, 0, 1, 0, 0, 0, 0, 0, 0]].concat();
    for pointer in [[0xc0, 12], [0xc0, 0x1c], [0xff, 0xff]] {
        assert!(ask(&mut names, Transport::Udp, &message(0, [1, 0, 0, 1], &[&own, &record(&pointer)])).is_ok());
    }
    formerr(&mut names, &message(0, [1, 0, 0, 1], &[&own, &record(&[0x80, 0])]), Outcome::Record);
    formerr(&mut names, &message(0, [1, 0, 0, 1], &[&own, &record(&wire(&"a.".repeat(200)))]), Outcome::Record);
    // RFC 8945, section 5.1, and RFC 2931.
    for kind in [24, 250] {
        let mut signed = record(&[0]);
        signed[2] = kind;
        formerr(&mut names, &message(0, [1, 0, 0, 1], &[&own, &signed]), Outcome::Signed);
    }
    // Headers that are none.
    for length in 0..12 {
        let asked = &query("www.bt.com", A)[..length];
        assert_eq!(ask(&mut names, Transport::Udp, asked), Err(Answered::Drop(Outcome::NoHeader)));
    }
}

#[test]
fn a_client_keeps_its_address_and_weights_are_shares() {
    let mut names = names();
    let [a, b, c] = [1, 2, 3].map(|n| Ipv4Addr::new(198, 51, 100, n));
    let weighted = |weights: [(Ipv4Addr, u16); 3]| weights.map(|(address, weight)| WeightedAddress { address, weight });
    let mut out = [0; MAX_ANSWER];
    let asked = query("group.test", A);
    let mut all = |names: &mut Table| -> Vec<Ipv4Addr> {
        let clients = (0..4_000_u32).map(|n| Ipv4Addr::from_bits(0x0a00_0000 + n));
        let answers = clients.map(|client| {
            let Answered::Answer { length } = names.answer(Instant::ZERO, client, Transport::Udp, &asked, &mut out)
            else {
                panic!("no answer")
            };
            addresses(&read(&out[..length]))[0].2
        });
        answers.collect()
    };
    let count = |answers: &[Ipv4Addr], address| answers.iter().filter(|answer| **answer == address).count();
    names.insert(NameEntry::new(pattern("group.test")).to_group(&weighted([(a, 1), (b, 3), (c, 0)]))).unwrap();
    let first = all(&mut names);
    assert_eq!(all(&mut names), first);
    assert_eq!(count(&first, c), 0);
    assert!((2_900..3_100).contains(&count(&first, b)), "{}", count(&first, b));
    // Another comes: it takes from both, and nobody changes between the two.
    names.insert(NameEntry::new(pattern("group.test")).to_group(&weighted([(a, 1), (b, 3), (c, 4)]))).unwrap();
    let second = all(&mut names);
    assert!((1_900..2_100).contains(&count(&second, c)), "{}", count(&second, c));
    assert!(first.iter().zip(&second).all(|(before, after)| before == after || *after == c));
}

#[test]
fn a_small_buffer_gets_a_truncated_answer_or_none() {
    let mut names = names();
    let asked = query_with("www.bt.com", A, &opt(1232, 0, false, &[]));
    let bare = 12 + question("www.bt.com", A).len();
    for room in 0..=MAX_ANSWER {
        let mut out = vec![0; room];
        let answered = names.answer(Instant::ZERO, CLIENT, Transport::Udp, &asked, &mut out);
        let Answered::Answer { length } = answered else {
            assert_eq!((answered, room < bare), (Answered::Drop(Outcome::NoRoom), true));
            continue;
        };
        let message = read(&out[..length]);
        assert_eq!(message.header().tc(), room < bare + 16 + 11);
        assert_eq!(message.header_counts().ancount() == 0, message.header().tc());
        assert_eq!(message.opt().is_some(), room >= bare + 11);
    }
}

/// RFC 7766: several queries before the first answer, messages in pieces, and those of others in between.
#[test]
fn a_tcp_connection() {
    let mut names = names();
    let framed = |message: &[u8]| [&(message.len() as u16).to_be_bytes(), message].concat();
    let (own, other) = (query("www.bt.com", A), query("example.org", A));
    let input = [framed(&own), framed(&own), framed(&other), framed(&own)].concat();
    for piece in [1, 2, 7, 31, 200] {
        let (mut waiting, mut sent, mut asked) = (Vec::new(), Vec::new(), Vec::new());
        for bytes in input.chunks(piece) {
            waiting.extend_from_slice(bytes);
            loop {
                let mut out = [0; MAX_STREAM_ANSWER];
                let done = names.answer_stream(Instant::ZERO, CLIENT, &waiting, &mut out);
                sent.extend_from_slice(&out[..done.written]);
                let (taken, next) = (done.taken, done.next);
                let is_done = match next {
                    Next::Ask(query) => {
                        asked.push(query.to_vec());
                        false
                    }
                    Next::Read => true,
                    Next::Write => false,
                    Next::Close => panic!("closed"),
                };
                waiting.drain(..taken);
                if is_done {
                    break;
                }
            }
        }
        assert_eq!((waiting.len(), &asked), (0, &vec![other.clone()]));
        let one = framed(&answer(&mut names, Transport::Tcp, &own));
        assert_eq!(sent, [one.clone(), one.clone(), one].concat(), "in pieces of {piece}");
    }
    // What is no query ends the connection; an empty message is none.
    let mut out = [0; MAX_STREAM_ANSWER];
    assert_eq!(names.answer_stream(Instant::ZERO, CLIENT, &[0, 0], &mut out).next, Next::Close);
    // Without room nothing is taken.
    let done = names.answer_stream(Instant::ZERO, CLIENT, &input, &mut out[..MAX_STREAM_ANSWER - 1]);
    assert_eq!((done.taken, done.written, done.next), (0, 0, Next::Write));
}

#[test]
fn owners_compare_as_domain_compares_them() {
    let mut names = names();
    let answer = udp(&mut names, &query("WWW.bt.COM", A));
    let message = read(&answer);
    let record = message.answer().unwrap().next().unwrap().unwrap();
    let expected: Name<Vec<u8>> = "www.bt.com".parse().unwrap();
    assert!(record.owner().name_eq(&expected));
    assert_eq!(record.rtype(), Rtype::A);
    let data = record.into_record::<Parsed<'_>>().unwrap().unwrap();
    assert!(matches!(data.data(), AllRecordData::A(a) if a.addr() == ADDRESS));
    let _: Names<FixedNames<1>> = Names::new(NamesConfig::new([0; 32]), FixedNames::new());
}
