//! What the fuzzer's targets do, without the fuzzer: `fuzz/` and `tests/fuzzed.rs` include it.

#![allow(dead_code, unreachable_pub, reason = "each target uses its own part")]

use core::net::{IpAddr, SocketAddrV4};
use std::sync::{Arc, Mutex};

use byway::{Instant, Redivert};
use byway_mediator::coap::block::Block;
use byway_mediator::coap::message::{Code, Kind, Message, Token, Uint, option, write};
use byway_mediator::far::carrier::packet;
use byway_mediator::http::body::Decoder;
use byway_mediator::http::head::{self, Framing};
use byway_mediator::http::host::{Authority, Hosts};
use byway_mediator::map::format::{accept, format};
use byway_mediator::map::uri::{self, Origin};
use byway_mediator::server::Resource;
use byway_mediator::session::{BODY, HEAD, OUTPUT};
use coap_lite::{MessageClass, Packet};

use super::support::{Client, Network, SERVERS, World, content};

/// Any bytes to each parser. Where there is another one for the same, they agree.
pub fn parsers(data: &[u8]) {
    message(data);
    if let Some(block) = Block::parse(data) {
        assert_eq!(Block::parse(Uint::new(block.value()).as_bytes()), Some(block));
        assert_eq!(Block::at(block.offset(), block.more, block.size), Some(block));
    }
    request(data);
    chunks(data);
    if let Ok(text) = core::str::from_utf8(data) {
        let origins: [Origin; 2] = ["coap://192.0.2.1", "/a=coap://192.0.2.2/base"].map(|text| text.parse().unwrap());
        if let Ok(target) = uri::map(text, &origins) {
            let sum: usize = target.options.iter().map(|(_, value)| value.len()).sum();
            assert!(sum <= 300 && target.options.iter().all(|(_, value)| value.len() <= 255));
            for (number, value) in &target.options {
                let value = core::str::from_utf8(value).expect("text");
                assert!(!value.chars().any(char::is_control), "{value:?}");
                assert!(*number != option::URI_PATH || !matches!(value, "." | ".."), "{text}");
            }
        }
        (_, _) = (accept(text), format(text));
        host(text);
        let _: Result<Origin, _> = text.split(['/', ':']).collect::<Vec<_>>().join("").parse();
    }
}

/// A host that is answered to without a list is an address or this machine, and only its own pages may change something.
fn host(text: &str) {
    let (none, any) = (Hosts::default(), Hosts::new(["*"]).expect("any"));
    let Some(authority) = Authority::parse(text) else {
        return;
    };
    let host = authority.host;
    assert!(!host.contains(['@', '/', '?', '#', '\\', ' ', '\r', '\n']) && any.contains(host), "{text}");
    let bare = host.trim_start_matches('[').trim_end_matches(['.', ']']);
    let is_own = bare.parse::<IpAddr>().is_ok() || bare.to_ascii_lowercase().ends_with("localhost");
    assert!(is_own || !none.contains(host), "{text}");
    assert!(authority.has_page(&format!("http://{}:{}", host, authority.port.unwrap_or(80))), "{text}");
    assert!(!authority.has_page(&format!("http://x{}", text)) && !authority.has_page(text), "{text}");
}

/// coap-lite takes whatever is well-formed, and finds the same in it.
fn message(data: &[u8]) {
    let theirs = Packet::from_bytes(data);
    let Ok(ours) = Message::parse(data) else {
        if let Ok(theirs) = theirs {
            // What only we refuse: another version, nothing behind the marker, an empty message that is not.
            let has_no_payload = theirs.payload.is_empty() && data.last() == Some(&0xff);
            assert!(data[0] >> 6 != 1 || has_no_payload || theirs.header.code == MessageClass::Empty);
        }
        return;
    };
    let theirs = theirs.expect("it is well-formed");
    assert_eq!((ours.id, ours.code.0), (theirs.header.message_id, u8::from(theirs.header.code)));
    assert_eq!((ours.token.as_bytes(), ours.payload), (theirs.get_token(), &theirs.payload[..]));
    let all = theirs.options().flat_map(|(number, values)| values.iter().map(|value| (*number, value.clone())));
    assert!(ours.options().map(|(number, value)| (number, value.to_vec())).eq(all));
    let mut options: Vec<_> = ours.options().collect();
    if let Ok(token) = ours.token.as_bytes().try_into() {
        let again = write(ours.kind, ours.code, ours.id, Token::new(token), &mut options, ours.payload);
        let again = Message::parse(&again).expect("what was written");
        assert!(again.options().eq(ours.options()) && again.payload == ours.payload);
    }
}

/// A head is the same however it comes, and httparse, which reads it, is not asked for more than there is.
fn request(data: &[u8]) {
    match head::parse(data) {
        Ok(Some((head, length))) => {
            assert!(length <= data.len());
            assert_eq!(head::parse(&data[..length]), Ok(Some((head, length))), "what follows does not matter");
            assert!(!matches!(head::parse(&data[..length - 1]), Ok(Some(_))));
            // Whatever hides where it ends is refused: no field with this name has another value.
            let text = String::from_utf8_lossy(&data[..length]).to_ascii_lowercase();
            let lengths: Vec<_> = text.lines().filter_map(|line| line.strip_prefix("content-length:")).collect();
            assert!(!text.contains("\ntransfer-encoding:") || lengths.is_empty(), "{text}");
        }
        Ok(None) => {
            (1..data.len()).for_each(|length| assert_eq!(head::parse(&data[..length]), Ok(None)));
        }
        Err(_) => {}
    }
}

/// Chunks give the same data however they come.
fn chunks(data: &[u8]) {
    let decode = |step: usize| {
        let (mut decoder, mut body, mut at, mut end) = (Decoder::new(Framing::Chunked), Vec::new(), 0, 0);
        while !decoder.is_done() && (end < data.len() || at < end) {
            end = (end + step).min(data.len());
            let used = decoder.decode(&data[at..end], 7, |bytes| body.extend_from_slice(bytes))?;
            at += used;
            if used == 0 && end == data.len() {
                break;
            }
        }
        Ok::<_, byway_mediator::http::body::BadChunk>((body, at, decoder.is_done()))
    };
    let whole = decode(usize::MAX / 2);
    assert_eq!(decode(1), whole);
    assert_eq!(decode(3), whole);
}

/// What is left of the input.
struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn byte(&mut self) -> u8 {
        let (byte, rest) = self.0.split_first().unwrap_or((&0, &[]));
        self.0 = rest;
        *byte
    }

    fn bytes(&mut self, most: usize) -> &'a [u8] {
        let length = usize::from(self.byte()) * most / 255;
        let (bytes, rest) = self.0.split_at(length.min(self.0.len()));
        self.0 = rest;
        bytes
    }
}

const REQUESTS: [&str; 8] = [
    "GET /big HTTP/1.1\r\nHost: x\r\n\r\n",
    "GET /big HTTP/1.0\r\n\r\n",
    "HEAD /big HTTP/1.1\r\nHost: x\r\n\r\n",
    "GET /light HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\n\r\n",
    "PUT /up HTTP/1.1\r\nHost: x\r\nContent-Length: 9000\r\n\r\n",
    "POST /up HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n",
    "DELETE /up HTTP/1.1\r\nHost: x\r\n\r\n",
    "GET /light HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
];

/// Answers of the first server as the input wants them. The second one is honest.
fn trick(input: &mut Input<'_>, datagram: &[u8]) -> Vec<Vec<u8>> {
    let Ok(request) = Message::parse(datagram) else {
        panic!("the proxy sends what is no message: {datagram:02x?}");
    };
    let mut answers = Vec::new();
    for _ in 0..=input.byte() % 3 {
        let answer = match input.byte() % 8 {
            0 => continue,
            1 => input.bytes(1600).to_vec(),
            2 => vec![[0x60, 0x70][usize::from(input.byte() % 2)], 0, (request.id >> 8) as u8, request.id as u8],
            _ => {
                let asked = request.option(option::BLOCK2).and_then(Block::parse);
                let sent = request.option(option::BLOCK1).and_then(Block::parse);
                let change = input.byte();
                let shape = |block: Block| Block {
                    number: if change & 1 != 0 { block.number ^ 1 } else { block.number },
                    more: (change & 2 != 0) ^ (block.number < 6),
                    size: if change & 4 != 0 { change >> 5 } else { block.size },
                };
                let values = [asked, sent].map(|block| block.map(|block| Uint::new(shape(block).value())));
                let code = match input.byte() {
                    0..160 if sent.is_some() => Code::CONTINUE,
                    0..200 => Code::CONTENT,
                    code => Code(code),
                };
                let mut options: Vec<(u16, &[u8])> = vec![(option::ETAG, b"etag")];
                let numbers = [option::BLOCK2, option::BLOCK1];
                options.extend(numbers.into_iter().zip(&values).filter_map(|(n, v)| Some((n, v.as_ref()?.as_bytes()))));
                if request.option(option::OBSERVE).is_some() {
                    options.push((option::OBSERVE, input.bytes(3)));
                }
                if change & 8 != 0 {
                    options.push((u16::from(input.byte()) * 3, input.bytes(300)));
                }
                let length = asked.map_or(10, |block| 16 << shape(block).size.min(6));
                let kind = if change & 16 != 0 { Kind::Confirmable } else { Kind::Acknowledgement };
                let id = if kind == Kind::Confirmable { u16::from(input.byte()) } else { request.id };
                write(kind, code, id, request.token, &mut options, &content(length))
            }
        };
        answers.push(answer);
    }
    answers
}

/// Clients and a server that do what the input says, moves between them and an honest server, and strangers' datagrams.
/// Nothing panics, no connection holds more than it may, and once the clients are gone everything is given back.
pub fn world(data: &[u8]) {
    let mut input = Input(data);
    let half = input.bytes(data.len()).to_vec();
    let answers = Arc::new(Mutex::new((half, 0)));
    let mut world = World::new(Network { nstart: 2, ..Network::default() });
    world.put("big", &Resource::new(content(9000), Some(42)));
    world.put("light", &Resource::new(&b"on"[..], Some(0)));
    world.mediator.device_mut().add(SERVERS[0], move |_: Instant, _: SocketAddrV4, datagram: &[u8]| {
        let mut answers = answers.lock().unwrap();
        let (bytes, at) = &mut *answers;
        let mut input = Input(&bytes[*at..]);
        let made = trick(&mut input, datagram);
        *at = bytes.len() - input.0.len();
        made
    });
    let mut clients: Vec<Client> = Vec::new();
    for _ in 0..400 {
        if input.0.is_empty() {
            break;
        }
        let operation = input.byte();
        let which = usize::from(input.byte());
        match operation % 8 {
            0 if clients.len() < 6 => clients.push(world.connect()),
            1 if !clients.is_empty() => {
                let client = which % clients.len();
                clients[client].send(&mut world, REQUESTS[which / 6 % 8].as_bytes());
            }
            2 if !clients.is_empty() => {
                let (client, bytes) = (which % clients.len(), input.bytes(4000));
                clients[client].send(&mut world, bytes);
            }
            3 if !clients.is_empty() => {
                let client = which % clients.len();
                clients[client].take(&mut world, 20 * which);
            }
            4 if !clients.is_empty() => {
                let mut client = clients.swap_remove(which % clients.len());
                client.finish(&mut world);
            }
            5 => {
                // It may be refused when too many are under way.
                let [from, to] = if which % 2 == 0 { [0, 1] } else { [1, 0] };
                let how = if which % 4 < 2 { Redivert::Switch } else { Redivert::Drain };
                let _ = world.mediator.translator_mut().redivert(SERVERS[from], SERVERS[to], how);
            }
            6 => {
                let connection = world.mediator.translator().connections().nth(which % 4);
                if let Some((client, server)) = connection.map(|c| (c.client_side, c.server_side)) {
                    let (now, bytes) = (world.now, input.bytes(200));
                    if which % 8 < 4 {
                        world.mediator.device_mut().inject(now, server.destination, server.source, bytes);
                    } else {
                        // What another process has translated, from this server or from the one that was left.
                        let from = SERVERS[which / 8 % 2];
                        let packet = packet(client.destination, client.source, bytes);
                        world.mediator.far_mut().hand_in(from, server.source, &packet);
                        world.mediator.poll(now);
                    }
                }
            }
            _ => (0..=which % 8).for_each(|_| world.step()),
        }
        for (_, session) in world.mediator.connections() {
            let held = session.buffered();
            assert!(held <= HEAD + BODY + OUTPUT, "{held} in {session:?}");
        }
    }
    clients.iter_mut().for_each(|client| client.finish(&mut world));
    // Whoever is in the middle of a response that it does not read has a minute; CoAP gives up after 93 s, twice, and requests
    // that wait behind one another, 350 at most, are answered one by one.
    let until = world.now + core::time::Duration::from_secs(350 * 246);
    while world.now < until && world.mediator.connections().count() != 0 {
        for client in &mut clients {
            client.take(&mut world, usize::MAX);
        }
        world.step();
    }
    assert_eq!(world.mediator.connections().count(), 0, "{}", world.mediator.counters());
    assert_eq!(world.mediator.in_flight(), 0, "{}", world.mediator.counters());
    assert_eq!(world.mediator.outstanding(), 0, "{}", world.mediator.counters());
}

/// Inputs to begin with.
pub fn seeds() -> Vec<Vec<u8>> {
    let mut seeds: Vec<Vec<u8>> = REQUESTS.iter().map(|request| request.as_bytes().to_vec()).collect();
    seeds.push(b"4\r\nWiki\r\n6;a=\"b\"\r\npedia \r\n0\r\nX: y\r\n\r\n".to_vec());
    seeds.push(b"/hc/coap%3A%2F%2F192.0.2.1%2Fa%20b?c=d&e".to_vec());
    let block = Uint::new(Block { number: 5, more: true, size: 6 }.value());
    let mut options = [(option::ETAG, &b"etag"[..]), (option::BLOCK2, block.as_bytes()), (2048, &[7; 20])];
    seeds.push(write(Kind::Confirmable, Code::CONTENT, 7, Token::new([1; 8]), &mut options, b"payload"));
    // A server that answers honestly, and one client that asks and takes.
    for request in 0..8 {
        let mut seed = vec![160];
        seed.extend([0, 3, 0, 0].repeat(40));
        seed.extend([0, 0, 1, request * 6]);
        seed.extend([7, 3, 3, 255].repeat(12));
        seed.extend([5, 0, 7, 3, 3, 255, 5, 1, 7, 3, 3, 255]);
        seeds.push(seed);
    }
    seeds
}
