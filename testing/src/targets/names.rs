//! What a fuzzer runs: any bytes as a DNS message, over UDP and TCP, in a packet, as a packet, and as a stream in pieces.
//!
//! `cargo test` runs it on the corpus; `fuzz/` on what a fuzzer finds.

use core::net::Ipv4Addr;

use byway::Instant;
use byway::naming::{
    Answered, FixedNames, MAX_ANSWER, MAX_ANSWER_PACKET, MAX_STREAM_ANSWER, NameEntry, Names, NamesConfig, Next,
    Outcome, Transport,
};

const CLIENT: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 77);
const SERVER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 53);
const NOW: Instant = Instant::from_secs(1_000);
/// The header, a SOA record and a cookie: what an answer can be longer than its query, whose OPT record it repeats.
const LONGER: usize = 35 + 16;

type Table = Names<FixedNames<8, 4>>;

fn table(rate: u32) -> Table {
    let mut names = Names::new(NamesConfig::new([7; 32]).answers_per_second(rate), FixedNames::new());
    for (pattern, last) in [("www.bt.com", 1), ("*.xyz.com", 2), ("a", 3), ("*.b", 4)] {
        let pattern: byway::naming::Pattern = pattern.parse().expect("a pattern");
        names.insert(NameEntry::new(pattern).to(Ipv4Addr::new(203, 0, 113, last))).expect("there is room");
    }
    names
}

/// The whole sum of a packet's words, with no code of the library.
fn sum(parts: &[&[u8]]) -> u16 {
    let mut sum = 0_u64;
    for part in parts {
        for pair in part.chunks(2) {
            sum += u64::from(pair[0]) << 8 | pair.get(1).map_or(0, |low| u64::from(*low));
        }
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

fn packet(message: &[u8]) -> Vec<u8> {
    let udp = (8 + message.len()) as u16;
    let mut bytes = vec![0x45, 0];
    bytes.extend((20 + udp).to_be_bytes());
    bytes.extend([0, 0, 0, 0, 64, 17, 0, 0]);
    bytes.extend(CLIENT.octets());
    bytes.extend(SERVER.octets());
    bytes.extend([0x9c, 0x40, 0, 53]);
    bytes.extend(udp.to_be_bytes());
    bytes.extend([0, 0]);
    bytes.extend(message);
    let header = !sum(&[&bytes[..20]]);
    bytes[10..12].copy_from_slice(&header.to_be_bytes());
    bytes
}

/// What must hold of every answer to `query`.
fn check(query: &[u8], answer: &[u8]) {
    assert_eq!(answer[..2], query[..2], "the same number");
    assert!(answer[2] & 0x80 != 0 && query[2] & 0x80 == 0, "a response, to no response");
    assert!(answer.len() <= MAX_ANSWER && answer.len() <= query.len() + LONGER);
    let counts: Vec<u16> = answer[4..12].chunks(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]])).collect();
    assert!(counts.iter().all(|count| *count <= 1), "{counts:?}");
    let mut at = 12;
    if counts[0] == 1 {
        while answer[at] != 0 {
            assert!(answer[at] < 64, "no pointer in the question");
            at += 1 + usize::from(answer[at]);
        }
        at += 5;
        assert_eq!(answer[12..at], query[12..at], "the question, letter by letter");
    }
    // Each record: a pointer to the question, or the root.
    for _ in 0..counts[1] + counts[2] + counts[3] {
        let start = at;
        at += if answer[start] == 0 { 1 } else { 2 };
        if answer[start] != 0 {
            let owner = usize::from(u16::from_be_bytes([answer[start], answer[start + 1]]) & 0x3fff);
            assert!(answer[start] >= 0xc0 && (12..start).contains(&owner));
        }
        at += 10 + usize::from(u16::from_be_bytes([answer[at + 8], answer[at + 9]]));
    }
    assert_eq!(at, answer.len(), "the records are all there is");
}

fn ask(names: &mut Table, transport: Transport, query: &[u8]) -> (Answered, Vec<u8>) {
    let mut out = [0xaa; MAX_ANSWER];
    let before = names.counters().in_all();
    let answered = names.answer(NOW, CLIENT, transport, query, &mut out);
    assert_eq!(names.counters().in_all(), before + 1);
    let Answered::Answer { length } = answered else {
        assert_eq!(out, [0xaa; MAX_ANSWER], "nothing is written for what is not answered");
        return (answered, Vec::new());
    };
    check(query, &out[..length]);
    (answered, out[..length].to_vec())
}

/// The first byte says how large the pieces of a stream are; the rest is a message.
pub fn run(data: &[u8]) {
    let Some((piece, message)) = data.split_first() else { return };
    let message = &message[..message.len().min(1_400)];
    let mut names = table(0);
    let (by_udp, udp) = ask(&mut names, Transport::Udp, message);
    let (by_tcp, tcp) = ask(&mut names, Transport::Tcp, message);

    // In a packet the same is answered, with right checksums; what was dropped is passed.
    let mut out = [0xaa; MAX_ANSWER_PACKET];
    match names.intercept(NOW, &packet(message), &mut out) {
        Answered::Answer { length } => {
            assert_eq!(out[28..length], udp);
            let pseudo = [&out[12..20], &[0, 17], &out[24..26]].concat();
            assert_eq!((sum(&[&out[..20]]), sum(&[&pseudo, &out[20..length]])), (0xffff, 0xffff));
        }
        Answered::Pass => assert!(!matches!(by_udp, Answered::Answer { .. })),
        Answered::Drop(outcome) => panic!("{outcome:?}"),
    }
    // The bytes as a packet: whatever they are; and beside a query, whose answer is the same.
    let _ = names.intercept(NOW, message, &mut out);
    let (query, mut burst, mut answered) = (packet(message), [[0xaa; MAX_ANSWER_PACKET]; 2], [Answered::Pass; 2]);
    let single = names.intercept(NOW, &query, &mut out);
    names.intercept_burst(NOW, &[message, &query], &mut burst, &mut answered);
    assert_eq!(answered[1], single);
    if let Answered::Answer { length } = single {
        assert_eq!(out[..length], burst[1][..length]);
    }

    // Over the limit no answer is longer than its query and a cookie.
    let mut limited = table(1);
    for _ in 0..4 {
        let (answered, answer) = ask(&mut limited, Transport::Udp, message);
        let is_cookie = limited.counters().of(Outcome::LimitedCookie) != 0;
        let is_first = limited.counters().in_all() == 1;
        if matches!(answered, Answered::Answer { .. }) && !is_first && limited.counters().proven == 0 {
            assert!(answer.len() <= message.len() + if is_cookie { 16 } else { 0 });
        }
    }

    // Twice on a connection, in pieces.
    let framed = [&(message.len() as u16).to_be_bytes(), message].concat();
    let input = [&framed[..], &framed].concat();
    let (mut waiting, mut sent, mut asked) = (Vec::new(), Vec::new(), 0);
    'connection: for bytes in input.chunks(usize::from(*piece).max(1)) {
        waiting.extend_from_slice(bytes);
        loop {
            let mut out = [0; MAX_STREAM_ANSWER];
            let done = names.answer_stream(NOW, CLIENT, &waiting, &mut out);
            assert!(done.taken <= waiting.len() && done.written <= out.len());
            sent.extend_from_slice(&out[..done.written]);
            let (taken, next) = (done.taken, done.next);
            let goes_on = match next {
                Next::Read => false,
                Next::Write => true,
                Next::Ask(query) => {
                    assert_eq!(query, message);
                    asked += 1;
                    true
                }
                Next::Close => break 'connection,
            };
            waiting.drain(..taken);
            if !goes_on {
                break;
            }
        }
    }
    match by_tcp {
        Answered::Answer { length } => {
            let one = [&(length as u16).to_be_bytes(), &tcp[..]].concat();
            assert_eq!(sent, [&one[..], &one].concat());
        }
        Answered::Pass => assert_eq!((asked, sent.len()), (2, 0)),
        Answered::Drop(_) => assert!(sent.is_empty()),
    }
}

/// Messages to begin with.
pub fn seeds() -> Vec<Vec<u8>> {
    let names: [&[u8]; 7] = [
        b"\x03www\x02bt\x03com\0",
        b"\x03wWw\x02Bt\x03COM\0",
        b"\x01q\x03xyz\x03com\0",
        b"\x01a\0",
        b"\x01c\x01b\0",
        b"\x07example\x03org\0",
        b"\x03www\x02bt\xc0\x0c",
    ];
    let records: [&[u8]; 6] = [
        b"",
        b"\0\0\x29\x04\xd0\0\0\0\0\0\0",
        b"\0\0\x29\x04\xd0\0\0\x80\0\0\x0c\0\x0a\0\x0812345678",
        b"\0\0\x29\x04\xd0\0\x01\0\0\0\0",
        b"\0\0\x29\x02\0\0\0\0\0\0\x05\0\x0a\0\x011",
        b"\xc0\x0c\0\xfa\0\xff\0\0\0\0\0\0",
    ];
    let mut seeds = Vec::new();
    for (number, name) in names.iter().enumerate() {
        for (kind, record) in [1_u8, 28, 255, 6, 65, 252].iter().zip(records.iter().cycle().skip(number)) {
            let flags: [u8; 2] = if *kind == 252 { [0x28, 0] } else { [1, 0x10] };
            let counts = [0, 1, 0, 0, 0, 0, 0, u8::from(!record.is_empty())];
            let question = [&name[..], &[0, *kind, 0, 1], record].concat();
            seeds.push([&[7 * number as u8, 0x12, 0x34][..], &flags, &counts, &question].concat());
        }
    }
    seeds
}
