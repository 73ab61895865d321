//! Clients and servers that do not keep to the rules: refused, counted, and never mixed into a body.

#[expect(unreachable_pub, reason = "it is shared by several tests")]
mod support;

use core::net::SocketAddrV4;

use byway::Instant;
use byway_mediator::coap::block::Block;
use byway_mediator::coap::message::{Code, Kind, Message, Token, Uint, option, write};
use byway_mediator::counters::Reason;
use byway_mediator::server::Resource;
use support::{Aborted, Network, ORIGIN, SERVERS, World, content};

/// What a server that is up to something does with a request for a block.
type Trick = fn(&Message<'_>, Block) -> Vec<Vec<u8>>;

const ETAG: &[u8] = b"etag";

/// The honest answer: block `number` of 10 of 1024 bytes each, in the proxy's own message.
fn honest(request: &Message<'_>, block: Block) -> Vec<u8> {
    let more = Block { more: block.number < 9, ..block };
    answer(request.token, request.id, ETAG, more, &[block.number as u8; 1024], &[])
}

fn answer(token: Token, id: u16, etag: &[u8], block: Block, payload: &[u8], more: &[(u16, &[u8])]) -> Vec<u8> {
    let (block, size) = (Uint::new(block.value()), Uint::new(10 * 1024));
    let mut options = vec![(option::ETAG, etag), (option::BLOCK2, block.as_bytes()), (option::SIZE2, size.as_bytes())];
    for (number, value) in more {
        options.retain(|(known, _)| known != number);
        options.push((*number, value));
    }
    write(Kind::Acknowledgement, Code::CONTENT, id, token, &mut options, payload)
}

/// A world whose first server plays a trick from the fifth block on.
fn world(trick: Trick) -> World {
    let mut world = World::new(Network::default());
    let server = move |_: Instant, _: SocketAddrV4, datagram: &[u8]| {
        let Ok(request) = Message::parse(datagram) else {
            return Vec::new();
        };
        let Some(block) = request.option(option::BLOCK2).and_then(Block::parse) else {
            return Vec::new();
        };
        if block.number < 5 { vec![honest(&request, block)] } else { trick(&request, block) }
    };
    world.mediator.device_mut().add(SERVERS[0], server);
    world
}

fn body(world: &mut World) -> Result<Vec<u8>, Aborted> {
    let mut client = world.connect();
    client.send(world, b"GET /x HTTP/1.1\r\nHost: x\r\n\r\n");
    client.response(world, false).map(|response| response.body)
}

fn whole() -> Vec<u8> {
    (0..10).flat_map(|number| [number; 1024]).collect()
}

#[test]
fn a_block_that_does_not_belong_ends_the_transfer() {
    let tricks: [(Reason, Trick); 12] = [
        (Reason::EtagChanged, |r, b| vec![answer(r.token, r.id, b"other", b, &[9; 1024], &[])]),
        (Reason::EtagChanged, |r, b| vec![answer(r.token, r.id, b"", b, &[9; 1024], &[])]),
        (Reason::BlockNumber, |r, b| {
            let next = Block { number: b.number + 1, more: true, ..b };
            vec![answer(r.token, r.id, ETAG, next, &[9; 1024], &[])]
        }),
        (Reason::BlockNumber, |r, b| {
            let earlier = Block { number: 0, more: true, ..b };
            vec![answer(r.token, r.id, ETAG, earlier, &[9; 1024], &[])]
        }),
        (Reason::BlockNumber, |r, _| {
            vec![write(Kind::Acknowledgement, Code::CONTENT, r.id, r.token, &mut [(4, ETAG)], b"x")]
        }),
        (Reason::RepresentationChanged, |r, b| {
            let size = Uint::new(77);
            vec![answer(
                r.token,
                r.id,
                ETAG,
                Block { more: true, ..b },
                &[9; 1024],
                &[(option::SIZE2, size.as_bytes())],
            )]
        }),
        (Reason::RepresentationChanged, |r, b| {
            vec![answer(r.token, r.id, ETAG, b, &[9; 1024], &[(option::CONTENT_FORMAT, &[50])])]
        }),
        // The body ends early, although all has the right names.
        (Reason::RepresentationChanged, |r, b| vec![answer(r.token, r.id, ETAG, b, &[9; 10], &[])]),
        (Reason::BadBlock, |r, b| vec![answer(r.token, r.id, ETAG, Block { more: true, ..b }, &[9; 1000], &[])]),
        (Reason::BadBlock, |r, b| vec![answer(r.token, r.id, ETAG, b, &[9; 10], &[(option::BLOCK2, &[0x57])])]),
        (Reason::CriticalOption, |r, b| vec![answer(r.token, r.id, ETAG, b, &[9; 1024], &[(9, &[1])])]),
        (Reason::ErrorInBody, |r, _| {
            vec![write(Kind::Acknowledgement, Code::NOT_FOUND, r.id, r.token, &mut [], b"gone")]
        }),
    ];
    for (reason, trick) in tricks {
        let mut world = world(trick);
        assert_eq!(body(&mut world), Err(Aborted), "{reason:?}");
        assert_eq!(world.count(reason), 1, "{reason:?}: {}", world.mediator.counters());
        assert_eq!(world.count(Reason::Responses), 0);
    }
}

#[test]
fn what_is_no_answer_is_counted_and_changes_nothing() {
    let tricks: [(Reason, Trick); 6] = [
        (Reason::ForeignToken, |r, b| {
            let forged = answer(Token::new([1; 8]), r.id, ETAG, b, &[66; 1024], &[]);
            vec![forged, honest(r, b)]
        }),
        (Reason::ForeignId, |r, b| {
            let forged = answer(r.token, r.id.wrapping_add(1), ETAG, b, &[66; 1024], &[]);
            vec![forged, honest(r, b)]
        }),
        (Reason::MalformedMessage, |r, b| vec![vec![0x40, 0x45, 0, 1, 0xff], b"junk".to_vec(), honest(r, b)]),
        (Reason::ServerRequests, |r, b| {
            vec![write(Kind::Confirmable, Code::GET, 7, Token::new([3; 8]), &mut [], &[]), honest(r, b)]
        }),
        // Each answer twice: the second one is for a token that is not in use any more.
        (Reason::ForeignToken, |r, b| vec![honest(r, b), honest(r, b)]),
        (Reason::ForeignId, |r, b| vec![vec![0x60, 0, 0x77, 0x77], vec![0x70, 0, 0x77, 0x77], honest(r, b)]),
    ];
    for (reason, trick) in tricks {
        let mut world = world(trick);
        assert_eq!(body(&mut world), Ok(whole()), "{reason:?}");
        assert!(world.count(reason) >= 5, "{reason:?}: {}", world.mediator.counters());
    }
}

#[test]
fn a_forged_answer_from_elsewhere_does_not_get_past_byway() {
    let mut world = world(|_, _| Vec::new());
    let mut client = world.connect();
    client.send(&mut world, b"GET /x HTTP/1.1\r\nHost: x\r\n\r\n");
    client.head(&mut world).unwrap();
    let connection = world.mediator.translator().connections().next().unwrap();
    let before = world.mediator.translator().counters().dropped_in_all();
    let now = world.now;
    for from in [SERVERS[1], ORIGIN] {
        world.mediator.device_mut().inject(now, from, connection.server_side.source, &[0x40, 0x45, 0, 1]);
    }
    for _ in 0..5 {
        world.step();
    }
    assert_eq!(world.mediator.translator().counters().dropped_in_all(), before + 2);
    assert_eq!(world.count(Reason::MalformedMessage), 0);
}

#[test]
fn a_reset_ends_a_request() {
    let mut world = world(|request, _| vec![vec![0x70, 0, (request.id >> 8) as u8, request.id as u8]]);
    assert_eq!(body(&mut world), Err(Aborted));
    assert_eq!(world.count(Reason::Reset), 1);
}

#[test]
fn hostile_requests_are_refused_before_they_reach_a_server() {
    let mut world = World::new(Network::default());
    let get = |target: &str| format!("GET {target} HTTP/1.1\r\nHost: x\r\n\r\n");
    let long = format!("/{}", "a".repeat(256));
    let many = "/a".repeat(200);
    let huge = format!("GET /{} HTTP/1.1\r\n", "b".repeat(10_000));
    let cases = [
        (get("/../etc/passwd"), 400, Reason::BadUri),
        (get("/a/%2e%2E/b"), 400, Reason::BadUri),
        // Servers that join segments would take these for several.
        (get("/a/..%2Fb"), 400, Reason::BadUri),
        (get("/%2e%2e%2F%2e%2e%2fetc/passwd"), 400, Reason::BadUri),
        (get("/a%2F."), 400, Reason::BadUri),
        (get("/a%5C..%5Cb"), 400, Reason::BadUri),
        (get("/hc/coap://100.100.100.100/..%2Fb"), 400, Reason::BadUri),
        (get("/a%00b"), 400, Reason::BadUri),
        (get("/a%0d%0ab"), 400, Reason::BadUri),
        (get("/%ff"), 400, Reason::BadUri),
        (get("/%4"), 400, Reason::BadUri),
        (get("/%zz"), 400, Reason::BadUri),
        (get("*"), 400, Reason::BadUri),
        (get(&long), 414, Reason::BadUri),
        (get(&many), 414, Reason::BadUri),
        (get(&format!("/?{}", "q".repeat(256))), 414, Reason::BadUri),
        (get("/hc/coap://192.0.2.99/x"), 403, Reason::ForeignOrigin),
        (get("/hc/coap://100.100.100.100:1/x"), 403, Reason::ForeignOrigin),
        (get("/hc/coaps://100.100.100.100/x"), 501, Reason::Unsupported),
        (get("/hc/http://100.100.100.100/x"), 400, Reason::BadUri),
        (huge, 431, Reason::HeadTooLarge),
        ("BREW /pot HTTP/1.1\r\nHost: x\r\n\r\n".into(), 501, Reason::Unsupported),
        ("GET / HTTP/1.1\r\nHost: x\r\nAccept: text/html\r\n\r\n".into(), 406, Reason::Unsupported),
        (
            "PUT / HTTP/1.1\r\nHost: x\r\nContent-Type: a/b\r\nContent-Length: 1\r\n\r\nx".into(),
            415,
            Reason::Unsupported,
        ),
        ("GET / HTTP/1.1\r\n\r\n".into(), 400, Reason::BadRequest),
        ("\x16\x03\x01\x02\x00".into(), 400, Reason::BadRequest),
        ("PUT / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n".into(), 400, Reason::BadRequest),
    ];
    for (at, (request, status, reason)) in cases.into_iter().enumerate() {
        let before = world.count(reason);
        let response = world.ask(&request);
        assert_eq!((response.status, world.count(reason)), (status, before + 1), "{at}: {request:.60}");
        assert_eq!(response.field("Connection"), Some("close"));
    }
    assert_eq!(world.requests(), [0, 0]);
    for _ in 0..10 {
        world.step();
    }
    assert_eq!(world.mediator.device().sent(), 0);
}

#[test]
fn a_server_that_wants_no_such_body_is_believed_and_keeps_nothing() {
    let mut world = World::new(Network::default());
    world.put("x", &Resource::new(content(10), None));
    let body = vec![7; (1 << 20) + 1];
    let head = format!("PUT /y HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n", body.len());
    let mut client = world.connect();
    client.send(&mut world, head.as_bytes());
    client.send(&mut world, &body);
    let response = client.response(&mut world, false).unwrap();
    assert_eq!(response.status, 413);
    assert!(!world.servers[0].lock().unwrap().resources.contains_key("y"));
}

/// A server that answers with blocks of sizes of its own: the block of this size that begins where the one begins that was
/// asked for.
fn sizes(choose: fn(usize, u8) -> u8) -> (World, Result<Vec<u8>, Aborted>) {
    let mut world = World::new(Network::default());
    let all = content(20_000);
    let mut asked = 0;
    world.mediator.device_mut().add(SERVERS[0], move |_: Instant, _: SocketAddrV4, datagram: &[u8]| {
        let request = Message::parse(datagram).unwrap();
        let block = request.option(option::BLOCK2).and_then(Block::parse).unwrap();
        let size = choose(asked, block.size);
        asked += 1;
        let start = block.offset() as usize;
        let end = (start + (16 << size)).min(all.len());
        let number = (start / (16 << size)) as u32;
        let value = Uint::new(Block { number, more: end < all.len(), size }.value());
        let mut options = [(option::ETAG, ETAG), (option::BLOCK2, value.as_bytes())];
        vec![write(Kind::Acknowledgement, Code::CONTENT, request.id, request.token, &mut options, &all[start..end])]
    });
    let got = body(&mut world);
    (world, got)
}

/// What a first answer comes to: the HTTP status, and what was counted.
fn first(request: &str, code: Code, options: &'static [(u16, &[u8])], reason: Reason) -> (u16, u64) {
    let mut world = World::new(Network::default());
    world.mediator.device_mut().add(SERVERS[0], move |_: Instant, _: SocketAddrV4, datagram: &[u8]| {
        let request = Message::parse(datagram).unwrap();
        vec![write(Kind::Acknowledgement, code, request.id, request.token, &mut options.to_vec(), b"x")]
    });
    let status = world.ask(request).status;
    (status, world.count(reason))
}

/// 304 is for those who have said what they have (RFC 9110, section 15.4.5), and 2.03 for that alone (RFC 7252, section
/// 5.9.1.3).
#[test]
fn nothing_is_valid_that_the_client_does_not_have() {
    let valid = |request| first(request, Code::VALID, &[(option::ETAG, &[1, 2])], Reason::ForeignValid);
    assert_eq!(valid("GET /x HTTP/1.1\r\nHost: x\r\nIf-None-Match: \"03\", \"0102\"\r\n\r\n"), (304, 0));
    assert_eq!(valid("GET /x HTTP/1.1\r\nHost: x\r\nIf-None-Match: \"03\"\r\n\r\n"), (502, 1));
    assert_eq!(valid("GET /x HTTP/1.1\r\nHost: x\r\n\r\n"), (502, 1));
    assert_eq!(valid("GET /x HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\n\r\n"), (502, 1));
    assert_eq!(valid("PUT /x HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\nx"), (502, 1));
    assert_eq!(valid("DELETE /x HTTP/1.1\r\nHost: x\r\nIf-Match: \"0102\"\r\n\r\n"), (502, 1));
}

/// The second of an option that may be there once is an unknown one (RFC 7252, section 5.4.5).
#[test]
fn a_block_that_is_named_twice_is_none() {
    let get = "GET /x HTTP/1.1\r\nHost: x\r\n\r\n";
    let answer = |options| first(get, Code::CONTENT, options, Reason::CriticalOption);
    assert_eq!(answer(&[(option::BLOCK2, &[6]), (option::BLOCK2, &[0x16])]), (502, 1));
    assert_eq!(answer(&[(option::BLOCK2, &[6])]), (200, 0));
    // Of others the second is left out.
    assert_eq!(answer(&[(option::ETAG, &[1]), (option::ETAG, &[2])]), (200, 0));
}

#[test]
fn blocks_may_become_smaller_and_not_larger() {
    // RFC 7959, section 2.4: the server may choose a smaller size, also later on.
    let (_, got) = sizes(|asked, size| [size, size, 4, size, 3, size, 0][asked.min(6)].min(size));
    assert!(got.unwrap() == content(20_000)[..]);
    let (_, got) = sizes(|_, _| 0);
    assert!(got.unwrap() == content(20_000)[..]);
    let refused = |choose| {
        let (world, got) = sizes(choose);
        (got, world.count(Reason::BadBlock), world.count(Reason::BlockNumber))
    };
    assert_eq!(refused(|asked, size| if asked == 16 { 6 } else { size.min(2) }), (Err(Aborted), 1, 0));
    // Down and up again in turns: no such block begins there.
    assert_eq!(refused(|asked, _| if asked % 2 == 0 { 2 } else { 6 }), (Err(Aborted), 0, 1));
}
