//! Every parser of the proxy's own takes any bytes, and agrees with another program's where there is one.

use byway_mediator::coap::block::Block;
use byway_mediator::coap::message::{Code, Kind, Message, Token, Uint, write};
use byway_mediator::http::body::Decoder;
use byway_mediator::http::head::{self, Framing};
use byway_mediator::map::format;
use byway_mediator::map::uri::{self, Origin};
use coap_lite::{MessageClass, Packet};
use proptest::collection::vec;
use proptest::prelude::*;

fn options() -> impl Strategy<Value = Vec<(u16, Vec<u8>)>> {
    vec((prop_oneof![0..40_u16, 0..2100_u16, any::<u16>()], vec(any::<u8>(), 0..300)), 0..6)
}

/// A message, with some bytes changed.
fn almost_message() -> impl Strategy<Value = Vec<u8>> {
    let message =
        (any::<u16>(), any::<[u8; 8]>(), options(), vec(any::<u8>(), 0..40)).prop_map(|(id, token, all, payload)| {
            let mut all: Vec<_> = all.iter().map(|(number, value)| (*number, value.as_slice())).collect();
            write(Kind::Confirmable, Code::CONTENT, id, Token::new(token), &mut all, &payload)
        });
    (message, vec((any::<prop::sample::Index>(), any::<u8>()), 0..4)).prop_map(|(mut message, changes)| {
        for (at, byte) in changes {
            let at = at.index(message.len());
            message[at] = byte;
        }
        message
    })
}

/// Whether a server that joins segments and splits them again would find a dot segment.
fn has_dots(segment: &str) -> bool {
    let path = format!("/{}/", segment.replace('\\', "/"));
    path.contains("/./") || path.contains("/../")
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn messages_are_read_as_coap_lite_reads_them(bytes in prop_oneof![almost_message(), vec(any::<u8>(), 0..60)]) {
        let ours = Message::parse(&bytes);
        let theirs = Packet::from_bytes(&bytes);
        if let Ok(ours) = ours {
            let theirs = theirs.expect("it takes whatever is well-formed");
            prop_assert_eq!(ours.id, theirs.header.message_id);
            prop_assert_eq!(ours.code.0, u8::from(theirs.header.code));
            prop_assert_eq!(ours.token.as_bytes(), theirs.get_token());
            prop_assert_eq!(ours.payload, &theirs.payload[..]);
            let all = theirs.options().flat_map(|(number, values)| values.iter().map(|value| (*number, value.clone())));
            prop_assert_eq!(ours.options().map(|(n, v)| (n, v.to_vec())).collect::<Vec<_>>(), all.collect::<Vec<_>>());
        } else if let Ok(theirs) = theirs {
            // What only we refuse: another version, nothing behind the marker, an empty message that is not.
            let is_empty = theirs.header.code == MessageClass::Empty;
            let marker = theirs.payload.is_empty() && bytes.last() == Some(&0xff);
            prop_assert!(bytes[0] >> 6 != 1 || marker || is_empty, "{:?} {:02x?}", ours, bytes);
        }
    }

    #[test]
    fn what_is_written_is_read_again(id: u16, token: [u8; 8], all in options(), payload in vec(any::<u8>(), 0..1100)) {
        let mut sent: Vec<_> = all.iter().map(|(number, value)| (*number, value.as_slice())).collect();
        let bytes = write(Kind::NonConfirmable, Code::POST, id, Token::new(token), &mut sent, &payload);
        let read = Message::parse(&bytes).unwrap();
        prop_assert_eq!((read.kind, read.code, read.id), (Kind::NonConfirmable, Code::POST, id));
        prop_assert_eq!(read.options().collect::<Vec<_>>(), sent);
        prop_assert_eq!(read.payload, &payload[..]);
    }

    #[test]
    fn blocks_are_inverse_and_begin_where_they_say(bytes in vec(any::<u8>(), 0..5)) {
        if let Some(block) = Block::parse(&bytes) {
            prop_assert_eq!(Block::parse(Uint::new(block.value()).as_bytes()), Some(block));
            prop_assert_eq!(Block::at(block.offset(), block.more, block.size), Some(block));
        } else {
            prop_assert!(bytes.len() > 3 || bytes.last().is_some_and(|last| last & 7 == 7));
        }
    }

    #[test]
    fn heads_of_any_bytes_are_taken(bytes in vec(any::<u8>(), 0..200), cut in any::<prop::sample::Index>()) {
        let _ = head::parse(&bytes);
        let fields = ["Content-Length: ", "Transfer-Encoding: ", "If-None-Match: ", "Accept: ", "Content-Type: ", "Expect: "];
        let mut request = b"PUT /a HTTP/1.1\r\nHost: x\r\n".to_vec();
        request.extend(fields[cut.index(fields.len())].bytes());
        request.extend(bytes.iter().filter(|byte| !b"\r\n".contains(byte)));
        request.extend(b"\r\n\r\n");
        if let Ok(Some((_, length))) = head::parse(&request) {
            prop_assert_eq!(length, request.len());
        }
    }

    #[test]
    fn chunks_of_any_bytes_are_taken_and_never_give_more_than_there_is_room_for(
        bytes in vec(prop_oneof![Just(b'\r'), Just(b'\n'), Just(b'1'), Just(b'0'), Just(b';'), any::<u8>()], 0..80),
        room in 0..20_usize,
    ) {
        let (mut decoder, mut given) = (Decoder::new(Framing::Chunked), 0);
        if let Ok(used) = decoder.decode(&bytes, room, |data| given += data.len()) {
            prop_assert!(used <= bytes.len() && given <= room);
        }
    }

    #[test]
    fn uris_of_any_text_are_mapped_to_options_that_say_the_same(target in "(/hc/coap://|/)?[ -~é]{0,60}") {
        let origins: [Origin; 2] = ["coap://192.0.2.1".parse().unwrap(), "/a=coap://192.0.2.2/base".parse().unwrap()];
        if let Ok(target) = uri::map(&target, &origins) {
            prop_assert!(target.options.iter().all(|(_, value)| value.len() <= 255 && core::str::from_utf8(value).is_ok()));
            prop_assert!(!target.options.iter().any(|(n, value)| *n == 11 && has_dots(core::str::from_utf8(value).unwrap())));
        }
        let _ = format::accept(&target);
        let _ = format::format(&target);
    }

    #[test]
    fn a_path_of_segments_arrives_as_those_segments(
        segments in vec("[a-zé/?#% .]{1,12}", 1..8).prop_filter("dots", |all| !all.iter().any(|s| has_dots(s))),
    ) {
        let origin: Origin = "coap://192.0.2.1".parse().unwrap();
        let encode = |segment: &String| segment.bytes().map(|byte| format!("%{byte:02X}")).collect::<String>();
        let path: String = segments.iter().map(|segment| format!("/{}", encode(segment))).collect();
        let target = uri::map(&path, &[origin]).unwrap();
        let found: Vec<_> = target.options.iter().map(|(_, value)| String::from_utf8(value.clone()).unwrap()).collect();
        prop_assert_eq!(found, segments);
    }
}
