//! Bodies that go to servers which want other blocks than they get, or play tricks.

#[expect(unreachable_pub, reason = "it is shared by several tests")]
mod support;

use core::net::SocketAddrV4;
use core::time::Duration;
use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use byway::Instant;
use byway_mediator::coap::block::Block;
use byway_mediator::coap::message::{Code, Kind, Message, Uint, option, write};
use byway_mediator::counters::Reason;
use byway_mediator::far::identifiers::EXCHANGE_LIFETIME;
use byway_mediator::session::BODY;
use support::{Network, SERVERS, World, content};

/// What a server has seen: each request's block, and its payload.
type Seen = Arc<Mutex<Vec<(Block, Vec<u8>)>>>;

/// How it answers the request with this number, from zero: a code, and a Block1.
type Answer = fn(usize, Block) -> (Code, Option<Block>);

/// What an upload comes to: the HTTP status, and what the server has seen.
fn upload(length: usize, answer: Answer) -> (u16, World, Vec<(Block, Vec<u8>)>) {
    let mut world = World::new(Network::default());
    let seen = Seen::default();
    let kept = seen.clone();
    world.mediator.device_mut().add(SERVERS[0], move |_: Instant, _: SocketAddrV4, datagram: &[u8]| {
        let request = Message::parse(datagram).unwrap();
        let whole = Block { number: 0, more: false, size: 6 };
        let block = request.option(option::BLOCK1).map_or(whole, |value| Block::parse(value).unwrap());
        let mut kept = kept.lock().unwrap();
        let (code, block1) = answer(kept.len(), block);
        kept.push((block, request.payload.to_vec()));
        let value = block1.map(|block| Uint::new(block.value()));
        let mut options: Vec<(u16, &[u8])> = value.iter().map(|value| (option::BLOCK1, value.as_bytes())).collect();
        vec![write(Kind::Acknowledgement, code, request.id, request.token, &mut options, &[])]
    });
    let mut client = world.connect();
    let head = format!("PUT /x HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n");
    client.send(&mut world, head.as_bytes());
    client.send(&mut world, &content(length));
    let status = client.response(&mut world, false).unwrap().status;
    let seen = core::mem::take(&mut *seen.lock().unwrap());
    (status, world, seen)
}

/// The bytes that the blocks say, if each begins where the last one ended.
fn joined(seen: &[(Block, Vec<u8>)]) -> Vec<u8> {
    let mut body = Vec::new();
    for (block, payload) in seen {
        assert_eq!(block.offset(), body.len() as u64, "{block:?}");
        assert!(payload.len() == block.length() || !block.more);
        body.extend_from_slice(payload);
    }
    body
}

fn take(block: Block) -> (Code, Option<Block>) {
    (if block.more { Code::CONTINUE } else { Code::CHANGED }, Some(block))
}

#[test]
fn a_server_that_refuses_large_blocks_gets_small_ones() {
    for length in [2000, BODY, 20_000] {
        let (status, _, seen) = upload(length, |at, block| match at {
            // RFC 7959, section 2.9.3: the size that it can take.
            0 => (Code::REQUEST_ENTITY_TOO_LARGE, Some(Block { size: 2, ..block })),
            _ => take(block),
        });
        assert_eq!((status, joined(&seen[1..]) == content(length)[..]), (204, true), "{length}");
        assert!(seen[1..].iter().all(|(block, _)| block.size == 2));
    }
}

#[test]
fn a_server_that_asks_for_smaller_blocks_on_the_way_gets_them_from_there_on() {
    let (status, _, seen) = upload(10_000, |at, block| {
        let (code, block1) = take(block);
        // 1024, then 256, then 16; and once it asks for larger ones again, which it does not get.
        let size = [6, 4, 4, 0, 5][at.min(4)];
        (code, block1.map(|block| Block { size, ..block }))
    });
    assert_eq!((status, joined(&seen) == content(10_000)[..]), (204, true));
    let sizes: Vec<_> = seen.iter().take(6).map(|(block, _)| block.size).collect();
    assert_eq!(sizes, [6, 6, 4, 4, 0, 0]);
}

#[test]
fn what_cannot_be_an_answer_to_a_block_ends_the_upload() {
    let tricks: [(u16, Reason, Answer); 4] = [
        (502, Reason::BlockNumber, |_, block| (Code::CONTINUE, Some(Block { number: block.number + 1, ..block }))),
        // Backwards.
        (502, Reason::BlockNumber, |at, block| match at {
            0..2 => take(block),
            _ => (Code::CONTINUE, Some(Block { number: 0, ..block })),
        }),
        (502, Reason::BlockNumber, |_, _| (Code::CONTINUE, None)),
        // It forgets, each time.
        (503, Reason::NotReplayable, |at, block| match at % 2 {
            0 => take(block),
            _ => (Code::REQUEST_ENTITY_INCOMPLETE, None),
        }),
    ];
    for (at, (status, reason, trick)) in tricks.into_iter().enumerate() {
        // It fits into the buffer, so nothing but the trick ends it.
        let (got, world, seen) = upload(BODY, trick);
        assert_eq!((got, world.count(reason)), (status, 1), "{at}");
        assert!(seen.len() <= 200, "{at}: {}", seen.len());
        assert_eq!(world.mediator.in_flight(), 0);
    }
}

#[test]
fn an_error_or_an_early_success_is_the_response() {
    let cases: [(u16, Answer); 5] = [
        (413, |_, _| (Code::REQUEST_ENTITY_TOO_LARGE, None)),
        // No smaller one than this.
        (413, |_, block| (Code::REQUEST_ENTITY_TOO_LARGE, Some(block))),
        (400, |_, _| (Code::REQUEST_ENTITY_INCOMPLETE, None)),
        (503, |at, block| if at < 2 { take(block) } else { (Code::SERVICE_UNAVAILABLE, None) }),
        // Each block by itself (RFC 7959, section 2.3: without the bit "more" it was acted on).
        (204, |_, block| (Code::CHANGED, Some(block))),
    ];
    for (at, (status, answer)) in cases.into_iter().enumerate() {
        assert_eq!(upload(10_000, answer).0, status, "{at}");
    }
    // A server that says "continue" to the last block has not executed anything.
    let (status, world, _) = upload(2000, |_, block| (Code::CONTINUE, Some(Block { more: true, ..block })));
    assert_eq!((status, world.count(Reason::BlockNumber)), (502, 1));
}

/// A message identifier is not used again for 247 s (RFC 7252, section 4.4), and an upload cannot go on as another client.
#[test]
fn an_upload_of_more_blocks_than_there_are_identifiers_waits_for_them() {
    let blocks = 40_000;
    let mut world = World::new(Network { delay: Duration::from_micros(50), ..Network::default() });
    let mut last = HashMap::new();
    let taken = Arc::new(Mutex::new(0));
    let kept = taken.clone();
    world.mediator.device_mut().add(SERVERS[0], move |now: Instant, _: SocketAddrV4, datagram: &[u8]| {
        let request = Message::parse(datagram).unwrap();
        if let Some(before) = last.insert(request.id, now) {
            assert!(now.duration_since(before) >= EXCHANGE_LIFETIME, "{} again", request.id);
        }
        let block = request.option(option::BLOCK1).map(|value| Block::parse(value).unwrap()).unwrap();
        let mut taken = kept.lock().unwrap();
        let (code, block) = match *taken {
            // It wants the smallest.
            0 if block.size != 0 => (Code::REQUEST_ENTITY_TOO_LARGE, Block { size: 0, ..block }),
            at => {
                assert_eq!(block.number, at);
                *taken += 1;
                take(block).1.map(|taken| (take(block).0, taken)).unwrap()
            }
        };
        let value = Uint::new(block.value());
        vec![write(
            Kind::Acknowledgement,
            code,
            request.id,
            request.token,
            &mut [(option::BLOCK1, value.as_bytes())],
            &[],
        )]
    });
    let mut client = world.connect();
    let head = format!("PUT /x HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n", blocks * 16);
    client.send(&mut world, head.as_bytes());
    client.send(&mut world, &content(blocks * 16));
    let mut idle = 0;
    while client.waiting() == 0 && !client.is_over() {
        world.step();
        idle += 1;
        assert!(idle < 1_000_000, "{}", world.mediator.counters());
    }
    let response = client.response(&mut world, false).unwrap();
    assert_eq!((response.status, *taken.lock().unwrap()), (204, blocks as u32), "{}", world.mediator.counters());
    assert!(world.count(Reason::NoIdentifiers) >= 1);
    // Others do not wait: they have identifiers of their own.
    assert_eq!(world.count(Reason::ClientIdle), 0);
}
