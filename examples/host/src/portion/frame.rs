//! The protocol of two portions on their stream.
//!
//! | bytes | |
//! | ---: | --- |
//! | 16 | `byway portion 1` and a line feed |
//! | 1 | what the sender translates: 1 to the server, 2 to the client |
//! | 32 | a random number |
//!
//! Both send this at once. Each then has a key of its own, HMAC-SHA-256 with the common secret of `byway portion`, its direction
//! and both random numbers (first that of the portion to the server). All else is in frames:
//!
//! | bytes | |
//! | ---: | --- |
//! | 4 | length of the contents, big-endian, at most 4096 in the first frame and 65 536 in others |
//! | length | the contents |
//! | 16 | the first half of HMAC-SHA-256 with the sender's key of the frame's number (8 bytes, from zero) and the contents |
//!
//! The contents begin with their kind:
//!
//! - 1: the alternative addresses as text, in the first frame and in no other;
//! - 2: records, of 56 bytes each;
//! - 3: connections that have ended and have no record any more, each as its protocol (1 byte), 1 if its ends are to be sent a
//!   RST or 0 (1 byte), client, original destination and alternative source (address and port, 6 bytes each);
//! - 4: queries that were relayed to DNS servers, each as its length (2 bytes) and its record ([`RelayRecord::write`]);
//! - 5: what has become of such queries, as notices of 5 bytes each ([`RelayNotice::to_bytes`]).
//!
//! Nothing is encrypted. Whoever sees the stream learns who is connected to what and what is asked of DNS servers, but can
//! neither add, change, repeat nor leave out a frame without the other end noticing.

use core::net::SocketAddrV4;
use std::io::{self, Read, Write};

use byway::naming::{RelayNotice, RelayRecord};
use byway::{Connection, Protocol, RECORD_LENGTH, Record};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use super::Direction;

const MAGIC: &[u8; 16] = b"byway portion 1\n";
/// Length of a random number.
pub(super) const NONCE: usize = 32;
const TAG: usize = 16;
/// The longest contents.
const MAX: usize = 65_536;
const ALTERNATIVES: u8 = 1;
const RECORDS: u8 = 2;
const GONE: u8 = 3;
const QUERIES: u8 = 4;
const NOTICES: u8 = 5;
const GONE_LENGTH: usize = 20;
/// The longest contents of the first frame, whose sender has not proved yet that it knows the key.
const FIRST: usize = 4_096;
/// How many records fit into a frame, or more.
pub(super) const MOST: usize = (MAX - 1) / RECORD_LENGTH;
/// How many records of queries fit into a frame, or more.
pub(super) const MOST_QUERIES: usize = (MAX - 1) / (2 + RelayRecord::MAX_LENGTH);

/// What a frame says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Message {
    /// The sender's alternative addresses.
    Alternatives(String),
    /// Connections.
    Records(Vec<Record>),
    /// Connections that have ended.
    Gone(Vec<Gone>),
    /// Queries whose answers come to the other portion.
    Queries(Vec<RelayRecord>),
    /// What has become of them there.
    Notices(Vec<RelayNotice>),
}

/// A connection that has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Gone {
    pub(super) protocol: Protocol,
    /// Whether its ends are to be sent a RST: each portion knows what one of them expects.
    pub(super) is_reset: bool,
    pub(super) client: SocketAddrV4,
    pub(super) original: SocketAddrV4,
    /// Distinguishes this connection from a later one of the same client.
    pub(super) alternative: SocketAddrV4,
}

impl Gone {
    pub(super) const fn of(connection: &Connection, is_reset: bool) -> Self {
        Self {
            protocol: connection.protocol,
            is_reset,
            client: connection.client_side.source,
            original: connection.client_side.destination,
            alternative: connection.server_side.source,
        }
    }

    fn to_bytes(self) -> [u8; GONE_LENGTH] {
        let mut bytes = [self.protocol.number(); GONE_LENGTH];
        bytes[1] = self.is_reset.into();
        for (place, end) in bytes[2..].chunks_mut(6).zip([self.client, self.original, self.alternative]) {
            place[..4].copy_from_slice(&end.ip().octets());
            place[4..].copy_from_slice(&end.port().to_be_bytes());
        }
        bytes
    }

    fn from_bytes(bytes: &[u8; GONE_LENGTH]) -> Option<Self> {
        let protocol = [Protocol::Tcp, Protocol::Udp, Protocol::Icmp].into_iter().find(|p| p.number() == bytes[0])?;
        let end = |at: usize| {
            let [a, b, c, d, high, low] = *bytes[at..].first_chunk().expect("three ends of six bytes");
            SocketAddrV4::new([a, b, c, d].into(), u16::from_be_bytes([high, low]))
        };
        let is_reset = [0, 1].contains(&bytes[1]).then_some(bytes[1] == 1)?;
        Some(Self { protocol, is_reset, client: end(2), original: end(8), alternative: end(14) })
    }
}

/// Greets the other end, and returns the two halves of the stream, as authenticated frames, and a secret that both ends have and that
/// is for this stream alone.
///
/// # Errors
/// The stream's; or the other end is no portion, or one for the same direction.
pub(super) fn greet<S: Read + Write>(
    stream: &mut S,
    own: Direction,
    secret: &[u8; 32],
    nonce: &[u8; NONCE],
) -> io::Result<(Seal, Seal, [u8; 32])> {
    let mut greeting = [0; MAGIC.len() + 1 + NONCE];
    greeting[..MAGIC.len()].copy_from_slice(MAGIC);
    greeting[MAGIC.len()] = number(own);
    greeting[MAGIC.len() + 1..].copy_from_slice(nonce);
    stream.write_all(&greeting)?;
    let mut theirs = [0; MAGIC.len() + 1 + NONCE];
    stream.read_exact(&mut theirs)?;
    if theirs[..MAGIC.len()] != MAGIC[..] {
        return Err(refused("it is no portion of byway, or one of another version"));
    }
    if theirs[MAGIC.len()] != number(own.opposite()) {
        return Err(refused("both portions are for the same direction"));
    }
    let (mine, other) = (&nonce[..], &theirs[MAGIC.len() + 1..]);
    let nonces = if own == Direction::ToServer { [mine, other] } else { [other, mine] };
    let seal = |sender| Seal::new(secret, sender, nonces);
    let common = derive(secret, &[b"byway relay", nonces[0], nonces[1]]);
    Ok((seal(own), seal(own.opposite()), common))
}

const fn number(direction: Direction) -> u8 {
    match direction {
        Direction::ToServer => 1,
        Direction::ToClient => 2,
    }
}

fn refused(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

/// One sender's key, and how many frames it has sent.
#[derive(Debug)]
pub(super) struct Seal {
    key: Hmac<Sha256>,
    sent: u64,
}

impl Seal {
    fn new(secret: &[u8; 32], sender: Direction, nonces: [&[u8]; 2]) -> Self {
        let key = derive(secret, &[b"byway portion", &[number(sender)], nonces[0], nonces[1]]);
        Self { key: keyed(&key), sent: 0 }
    }

    /// What authenticates the next frame.
    fn next(&mut self, contents: &[u8]) -> Hmac<Sha256> {
        let mut key = self.key.clone();
        key.update(&self.sent.to_be_bytes());
        key.update(contents);
        self.sent += 1;
        key
    }

    /// Writes a frame.
    ///
    /// # Errors
    /// The stream's; more records than [`MOST`].
    pub(super) fn write(&mut self, stream: &mut impl Write, message: &Message) -> io::Result<()> {
        let mut frame = vec![0; 4];
        match message {
            Message::Alternatives(text) => {
                frame.push(ALTERNATIVES);
                frame.extend_from_slice(text.as_bytes());
            }
            Message::Gone(all) => {
                frame.push(GONE);
                all.iter().for_each(|gone| frame.extend_from_slice(&gone.to_bytes()));
            }
            Message::Records(records) => {
                frame.push(RECORDS);
                records.iter().for_each(|record| frame.extend_from_slice(record.as_bytes()));
            }
            Message::Queries(records) => {
                frame.push(QUERIES);
                for record in records {
                    let mut bytes = [0; RelayRecord::MAX_LENGTH];
                    let length = record.write(&mut bytes);
                    frame.extend_from_slice(&(length as u16).to_be_bytes());
                    frame.extend_from_slice(&bytes[..length]);
                }
            }
            Message::Notices(notices) => {
                frame.push(NOTICES);
                notices.iter().for_each(|notice| frame.extend_from_slice(&notice.to_bytes()));
            }
        }
        let contents = &frame[4..];
        let length = u32::try_from(contents.len()).ok().filter(|length| *length as usize <= MAX);
        let length = length.ok_or_else(|| refused("a frame is too long"))?;
        let tag = self.next(contents).finalize().into_bytes();
        frame[..4].copy_from_slice(&length.to_be_bytes());
        frame.extend_from_slice(&tag[..TAG]);
        stream.write_all(&frame)
    }

    /// Reads a frame.
    ///
    /// # Errors
    /// The stream's; or it is not authentic, or makes no sense.
    pub(super) fn read(&mut self, stream: &mut impl Read) -> io::Result<Message> {
        self.read_up_to(stream, if self.sent == 0 { FIRST } else { MAX })
    }

    fn read_up_to(&mut self, stream: &mut impl Read, most: usize) -> io::Result<Message> {
        let mut length = [0; 4];
        stream.read_exact(&mut length)?;
        let length = u32::from_be_bytes(length) as usize;
        if length > most {
            return Err(refused("a frame is too long"));
        }
        let mut frame = vec![0; length + TAG];
        stream.read_exact(&mut frame)?;
        let (contents, tag) = frame.split_at(length);
        self.next(contents).verify_truncated_left(tag).map_err(|_| refused("the other portion has another key"))?;
        let senseless = || refused("a frame makes no sense");
        match contents.split_first().ok_or_else(senseless)? {
            (&ALTERNATIVES, text) => {
                String::from_utf8(text.to_vec()).map(Message::Alternatives).map_err(|_| senseless())
            }
            (&RECORDS, bytes) => {
                let (records, rest) = bytes.as_chunks::<RECORD_LENGTH>();
                let records: Result<_, _> = records.iter().map(|bytes| Record::from_bytes(bytes)).collect();
                records.ok().filter(|_| rest.is_empty()).map(Message::Records).ok_or_else(senseless)
            }
            (&GONE, bytes) => {
                let (all, rest) = bytes.as_chunks::<GONE_LENGTH>();
                let all: Option<_> = all.iter().map(Gone::from_bytes).collect();
                all.filter(|_| rest.is_empty()).map(Message::Gone).ok_or_else(senseless)
            }
            (&QUERIES, bytes) => queries(bytes).map(Message::Queries).ok_or_else(senseless),
            (&NOTICES, bytes) => {
                let (all, rest) = bytes.as_chunks::<{ RelayNotice::LENGTH }>();
                let all: Option<_> = all.iter().map(|bytes| RelayNotice::from_bytes(*bytes)).collect();
                all.filter(|_| rest.is_empty()).map(Message::Notices).ok_or_else(senseless)
            }
            _ => Err(senseless()),
        }
    }
}

/// Records of queries, each after its length.
fn queries(mut bytes: &[u8]) -> Option<Vec<RelayRecord>> {
    let mut records = Vec::new();
    while let Some((length, rest)) = bytes.split_first_chunk() {
        let (record, rest) = rest.split_at_checked(u16::from_be_bytes(*length).into())?;
        records.push(RelayRecord::read(record).ok()?);
        bytes = rest;
    }
    bytes.is_empty().then_some(records)
}

/// A key for one purpose: HMAC-SHA-256 of these parts.
pub(super) fn derive(secret: &[u8; 32], parts: &[&[u8]]) -> [u8; 32] {
    let mut all = keyed(secret);
    parts.iter().for_each(|part| all.update(part));
    all.finalize().into_bytes().into()
}

fn keyed(key: &[u8; 32]) -> Hmac<Sha256> {
    Hmac::new_from_slice(key).expect("HMAC takes a key of any length")
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use byway::naming::{HeapRelay, MAX_RELAY_QUERY, Relay, RelayConfig, Relayed};
    use byway::{Instant, Pair};

    use super::*;

    type Ends = [(UnixStream, Seal, Seal); 2];

    fn greeted(directions: [Direction; 2], secrets: [[u8; 32]; 2]) -> io::Result<Ends> {
        let (mut a, mut b) = UnixStream::pair()?;
        let other = std::thread::spawn(move || {
            let (own, theirs, common) = greet(&mut b, directions[1], &secrets[1], &[2; NONCE])?;
            Ok::<_, io::Error>(((b, own, theirs), common))
        });
        let (own, theirs, common) = greet(&mut a, directions[0], &secrets[0], &[1; NONCE])?;
        let (other, of_other) = other.join().unwrap()?;
        assert_eq!(common == of_other, secrets[0] == secrets[1]);
        Ok([(a, own, theirs), other])
    }

    const BOTH: [Direction; 2] = [Direction::ToServer, Direction::ToClient];

    /// The record of a query for this name.
    fn asked(name: &str) -> RelayRecord {
        let config = RelayConfig::new([7; 32], "9.9.9.53:53".parse().unwrap());
        let mut relay = Relay::new(config, HeapRelay::new(4)).unwrap();
        let labels = name.split('.').filter(|label| !label.is_empty());
        let name: Vec<u8> = labels.flat_map(|label| [&[label.len() as u8], label.as_bytes()].concat()).chain([0]).collect();
        let query = [&[1, 2, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0], &name[..], &[0, 1, 0, 1]].concat();
        let client = Pair { source: "1.2.3.4:4000".parse().unwrap(), destination: "10.9.9.9:53".parse().unwrap() };
        match relay.query(Instant::ZERO, client, &query, &mut [0; MAX_RELAY_QUERY]) {
            Relayed::Ask { port, .. } => relay.record(port).unwrap(),
            other => panic!("{other:?}"),
        }
    }

    fn said(text: &str) -> Message {
        Message::Alternatives(text.into())
    }

    #[test]
    fn what_one_writes_the_other_reads() {
        let [(mut a, mut a_own, mut a_theirs), (mut b, mut b_own, mut b_theirs)] = greeted(BOTH, [[7; 32]; 2]).unwrap();
        for text in ["one", "two"] {
            a_own.write(&mut a, &said(text)).unwrap();
            assert_eq!(b_theirs.read(&mut b).unwrap(), said(text));
            let end = |port| SocketAddrV4::new([10, 1, 2, 3].into(), port);
            let gone = Gone { protocol: Protocol::Udp, is_reset: true, client: end(1), original: end(2), alternative: end(0xff03) };
            let notices = [1, 2, 3].map(|what| RelayNotice::from_bytes([1, 2, 3, 4, what]).unwrap());
            let queries = Message::Queries(vec![asked("a.test"), asked(""), asked(&"a.".repeat(120))]);
            let others = [Message::Gone(vec![gone; 3]), queries, Message::Notices(notices.to_vec())];
            for message in [Message::Records(Vec::new())].into_iter().chain(others) {
                b_own.write(&mut b, &message).unwrap();
                assert_eq!(a_theirs.read(&mut a).unwrap(), message);
            }
        }
    }

    #[test]
    fn another_key_and_the_same_direction_are_refused() {
        let [(mut a, mut own, _), (mut b, _, mut theirs)] = greeted(BOTH, [[7; 32], [8; 32]]).unwrap();
        own.write(&mut a, &said("one")).unwrap();
        assert_eq!(theirs.read(&mut b).unwrap_err().to_string(), "the other portion has another key");
        let error = greeted([Direction::ToServer; 2], [[7; 32]; 2]).unwrap_err();
        assert_eq!(error.to_string(), "both portions are for the same direction");
    }

    /// An attacker on the stream can do nothing but end it.
    #[test]
    fn a_frame_that_is_changed_repeated_moved_or_sent_back_is_refused() {
        let written = |count: usize| {
            let [(_, mut own, a_theirs), (_, _, theirs)] = greeted(BOTH, [[7; 32]; 2]).unwrap();
            let mut frames = Vec::new();
            for number in 0..count {
                let mut frame = Vec::new();
                own.write(&mut frame, &said(&format!("frame {number}"))).unwrap();
                frames.push(frame);
            }
            (frames, a_theirs, theirs)
        };
        let read = |seal: &mut Seal, bytes: &[u8]| seal.read(&mut &*bytes).map_err(|error| error.to_string());
        let refused = Err("the other portion has another key".to_string());
        let (frames, ..) = written(1);
        for at in 4..frames[0].len() {
            let (mut frames, _, mut theirs) = written(1);
            frames[0][at] ^= 1;
            assert_eq!(read(&mut theirs, &frames[0]), refused, "byte {at}");
        }
        // Repeated.
        let (frames, _, mut theirs) = written(1);
        assert_eq!(read(&mut theirs, &frames[0]), Ok(said("frame 0")));
        assert_eq!(read(&mut theirs, &frames[0]), refused);
        // One is missing.
        let (frames, _, mut theirs) = written(2);
        assert_eq!(read(&mut theirs, &frames[1]), refused);
        // Sent back to where it came from.
        let (frames, mut own, _) = written(1);
        assert_eq!(read(&mut own, &frames[0]), refused);
        // From another stream with the same secret and the same direction.
        let (mut first, mut second) = (Vec::new(), Seal::new(&[7; 32], BOTH[0], [&[3; NONCE], &[2; NONCE]]));
        Seal::new(&[7; 32], BOTH[0], [&[1; NONCE], &[2; NONCE]]).write(&mut first, &said("one")).unwrap();
        assert_eq!(read(&mut second, &first), refused);
    }

    #[test]
    fn a_length_and_contents_without_sense_are_refused() {
        let mut seal = Seal::new(&[7; 32], BOTH[0], [&[1; NONCE], &[2; NONCE]]);
        let error = seal.read(&mut &[0, 0, 0x10, 1, 0][..]).unwrap_err();
        assert_eq!(error.to_string(), "a frame is too long");
        seal.sent = 1;
        let error = seal.read(&mut &[0, 1, 0, 1, 0][..]).unwrap_err();
        assert_eq!(error.to_string(), "a frame is too long");
        for contents in [&[][..], &[0], &[6, 1], &[QUERIES, 0], &[QUERIES, 0, 2, 1, 1], &[NOTICES, 0, 1, 0, 1, 4], &[GONE, 6], &[GONE; 21], &[RECORDS, 1], &[RECORDS; 57], &[ALTERNATIVES, 0xff]] {
            let mut own = Seal::new(&[7; 32], BOTH[0], [&[1; NONCE], &[2; NONCE]]);
            let mut theirs = Seal::new(&[7; 32], BOTH[0], [&[1; NONCE], &[2; NONCE]]);
            let tag = own.next(contents).finalize().into_bytes();
            let length = (contents.len() as u32).to_be_bytes();
            let frame = [&length[..], contents, &tag[..TAG]].concat();
            let error = theirs.read(&mut &frame[..]).unwrap_err();
            assert_eq!(error.to_string(), "a frame makes no sense", "{contents:?}");
        }
    }
}
