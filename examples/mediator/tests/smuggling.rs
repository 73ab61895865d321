//! Request smuggling (RFC 9112, section 11.2): what could be two requests to one side of the proxy and one to another is
//! refused, and the connection ends there.

#[expect(unreachable_pub, reason = "it is shared by several tests")]
mod support;

use byway_mediator::server::Resource;
use support::{Aborted, Network, Response, World, content};

/// What a smuggler wants to be taken for a request.
const SECOND: &str = "GET /second HTTP/1.1\r\nHost: x\r\n\r\n";

fn world() -> World {
    let mut world = World::new(Network::default());
    world.put("light", &Resource::new(&b"on"[..], Some(0)));
    world.put("second", &Resource::new(&b"smuggled"[..], Some(0)));
    world
}

/// All responses on one connection to this input, with which the client ends, if they are to requests without HEAD.
fn responses(world: &mut World, input: &str) -> Vec<Response> {
    let mut client = world.connect();
    client.send(world, input.as_bytes());
    client.finish(world);
    let mut all = Vec::new();
    while let Ok(response) = client.response(world, false) {
        all.push(response);
    }
    assert!(client.received.is_empty(), "{input:?}: {:?}", String::from_utf8_lossy(&client.received));
    all
}

#[test]
fn what_can_be_read_in_two_ways_is_refused_and_nothing_behind_it_is_read() {
    let chunks = "5\r\nabcde\r\n0\r\n\r\n";
    let put = |fields: &str, body: &str| format!("PUT /light HTTP/1.1\r\nHost: x\r\n{fields}\r\n{body}{SECOND}");
    let cases = [
        // Two lengths; a length and chunks, in both orders; lengths and codings in disguise.
        (put("Content-Length: 5\r\nContent-Length: 0\r\n", "abcde"), 400),
        (put("Content-Length: 0\r\nContent-Length: 5\r\n", "abcde"), 400),
        (put("Content-Length: 5, 5\r\n", "abcde"), 400),
        (put("Content-Length: +5\r\n", "abcde"), 400),
        (put("Content-Length: 0x5\r\n", "abcde"), 400),
        (put("Content-Length: 5 5\r\n", "abcde"), 400),
        (put("Content-Length: -1\r\n", ""), 400),
        (put("Content-Length: 18446744073709551621\r\n", "abcde"), 400),
        (put("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", chunks), 400),
        (put("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", chunks), 400),
        (put("Transfer-Encoding: chunked\r\nContent-Length: 0\r\n", chunks), 400),
        (put("Transfer-Encoding: xchunked\r\nContent-Length: 5\r\n", "abcde"), 501),
        (put("Transfer-Encoding: identity\r\nContent-Length: 5\r\n", "abcde"), 501),
        (put("Transfer-Encoding: chunked, identity\r\n", chunks), 501),
        (put("Transfer-Encoding: chunked, chunked\r\n", chunks), 501),
        (put("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n", chunks), 501),
        (put("Transfer-Encoding: \"chunked\"\r\n", chunks), 501),
        (put("Transfer-Encoding: chunked;q=1\r\n", chunks), 501),
        (put("Transfer-Encoding:\r\n", chunks), 501),
        (put("Transfer-Encoding : chunked\r\n", chunks), 400),
        (put("Transfer-Encoding\t: chunked\r\n", chunks), 400),
        (put(" Transfer-Encoding: chunked\r\n", chunks), 400),
        (put("Content-Length\0: 5\r\n", "abcde"), 400),
        (put("Content-Length: 5\0\r\n", "abcde"), 400),
        // Lines that are folded, or end where others do not end them.
        (put("A: b\r\n c\r\nContent-Length: 5\r\n", "abcde"), 400),
        (put("A: b\r\n\tContent-Length: 0\r\nContent-Length: 5\r\n", "abcde"), 400),
        (put("A: b\nContent-Length: 5\r\n", "abcde"), 400),
        (put("A: b\rContent-Length: 5\r\n", "abcde"), 400),
        (put("A: b\r\r\nContent-Length: 5\r\n", "abcde"), 400),
        (put("Content-Length: 5\n", "abcde"), 400),
        (format!("PUT /light HTTP/1.1\nHost: x\nContent-Length: 5\n\nabcde{SECOND}"), 400),
        (format!("GET /light HTTP/1.1\r\nHost: x\r\n\n{SECOND}"), 400),
        (format!("GET /light HTTP/1.1\r\nHost: x\n\r\n{SECOND}"), 400),
        (format!("GET /light HTTP/1.1\r\n Host: x\r\n\r\n{SECOND}"), 400),
        // Lines of a request that are none.
        (format!("GET  /light HTTP/1.1\r\nHost: x\r\n\r\n{SECOND}"), 400),
        (format!("GET\t/light HTTP/1.1\r\nHost: x\r\n\r\n{SECOND}"), 400),
        (format!("GET /light  HTTP/1.1\r\nHost: x\r\n\r\n{SECOND}"), 505),
        (format!("GET /light x HTTP/1.1\r\nHost: x\r\n\r\n{SECOND}"), 505),
        (format!("GET /light HTTP/1.1 \r\nHost: x\r\n\r\n{SECOND}"), 400),
        (format!("GET /light\r\n{SECOND}"), 400),
        (format!("GET /light HTTP/1.2\r\nHost: x\r\n\r\n{SECOND}"), 505),
        (format!("GET /light http/1.1\r\nHost: x\r\n\r\n{SECOND}"), 505),
        // HTTP/1.0 has no chunks (RFC 9112, section 6.1).
        (format!("PUT /light HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}{SECOND}"), 400),
        // Chunks that are none.
        (put("Transfer-Encoding: chunked\r\n", "5;a\nb\r\nabcde\r\n0\r\n\r\n"), 400),
        (put("Transfer-Encoding: chunked\r\n", "5;a\rb\r\nabcde\r\n0\r\n\r\n"), 400),
        (put("Transfer-Encoding: chunked\r\n", "5\nabcde\r\n0\r\n\r\n"), 400),
        (put("Transfer-Encoding: chunked\r\n", "0x5\r\nabcde\r\n0\r\n\r\n"), 400),
        (put("Transfer-Encoding: chunked\r\n", "+5\r\nabcde\r\n0\r\n\r\n"), 400),
        (put("Transfer-Encoding: chunked\r\n", "5 5\r\nabcde\r\n0\r\n\r\n"), 400),
        (put("Transfer-Encoding: chunked\r\n", "5\r\nabcdef\r\n0\r\n\r\n"), 400),
        (put("Transfer-Encoding: chunked\r\n", "10000000000000005\r\nabcde\r\n0\r\n\r\n"), 400),
        (put("Transfer-Encoding: chunked\r\n", "5\r\nabcde\r\n0\r\nA: b\n\r\n"), 400),
        (put("Transfer-Encoding: chunked\r\n", "5\r\nabcde\r\n0\r\nA: b\rc\r\n\r\n"), 400),
        // Methods and forms that only proxies and tunnels have.
        (format!("CONNECT x:80 HTTP/1.1\r\nHost: x\r\n\r\n{SECOND}"), 501),
        (format!("OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n{SECOND}"), 501),
        (format!("TRACE /light HTTP/1.1\r\nHost: x\r\n\r\n{SECOND}"), 501),
        (format!("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n{SECOND}"), 505),
    ];
    for (input, status) in cases {
        let mut world = world();
        let all = responses(&mut world, &input);
        let statuses: Vec<_> = all.iter().map(|response| response.status).collect();
        assert_eq!(statuses, [status], "{input:?}");
        assert_eq!(all[0].field("Connection"), Some("close"), "{input:?}");
        // Blocks of a body may have left before it went wrong. It was not stored, and the rest is no request.
        assert_eq!(world.get("/light").body, b"on", "{input:?}");
        assert_eq!(world.requests(), [1, 0], "{input:?}");
    }
}

#[test]
fn a_body_where_none_belongs_is_no_request() {
    for method in ["GET", "DELETE"] {
        for framing in [format!("Content-Length: {}", SECOND.len()), "Transfer-Encoding: chunked".into()] {
            let mut world = world();
            let all =
                responses(&mut world, &format!("{method} /light HTTP/1.1\r\nHost: x\r\n{framing}\r\n\r\n{SECOND}"));
            assert_eq!(all.len(), 1, "{method} {framing}");
            assert_eq!(all[0].field("Connection"), Some("close"));
            assert_eq!(world.requests(), [1, 0]);
        }
    }
}

/// What stands on the connection behind a response without a body is the next response.
#[test]
fn responses_without_a_body_end_with_their_heads() {
    let mut world = world();
    world.put("big", &Resource::new(content(5000), None));
    let etag = world.get("/light").field("ETag").unwrap().to_owned();
    let mut client = world.connect();
    let input = [
        "HEAD /light HTTP/1.1\r\nHost: x\r\n\r\n",
        "HEAD /big HTTP/1.1\r\nHost: x\r\n\r\n",
        "HEAD /none HTTP/1.1\r\nHost: x\r\n\r\n",
        &format!("GET /light HTTP/1.1\r\nHost: x\r\nIf-None-Match: {etag}\r\n\r\n"),
        &format!("HEAD /light HTTP/1.1\r\nHost: x\r\nIf-None-Match: {etag}\r\n\r\n"),
        "PUT /light HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\non",
        "GET /big HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET /light HTTP/1.1\r\nHost: x\r\n\r\n",
    ];
    client.send(&mut world, input.concat().as_bytes());
    let mut statuses = Vec::new();
    for request in input {
        let response = client.response(&mut world, request.starts_with("HEAD")).unwrap();
        let has_length = response.field("Content-Length").is_some() || response.field("Transfer-Encoding").is_some();
        // RFC 9110, section 8.6: never with a 204.
        assert!(!has_length || !matches!(response.status, 204 | 304), "{}", response.head);
        statuses.push((response.status, response.body.len()));
    }
    assert_eq!(statuses, [(200, 0), (200, 0), (404, 0), (304, 0), (304, 0), (204, 0), (200, 5000), (200, 2)]);
    // Also what cannot be understood, as long as it is a HEAD.
    let mut client = world.connect();
    client.send(&mut world, b"HEAD /light HTTP/1.1\r\nHost: x\r\nA b\r\n\r\n");
    assert_eq!(client.head(&mut world).unwrap().status, 400);
    assert_eq!(client.more(&mut world), Err(Aborted));
    assert!(client.received.is_empty(), "{:?}", String::from_utf8_lossy(&client.received));
}

#[test]
fn a_client_that_waits_for_a_100_is_told_before_or_refused() {
    let mut world = world();
    let put = |fields: &str| format!("PUT /light HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n{fields}\r\n");
    let mut client = world.connect();
    client.send(&mut world, put("Content-Length: 3\r\n").as_bytes());
    assert_eq!(client.head(&mut world).unwrap().status, 100);
    client.send(&mut world, b"off");
    assert_eq!(client.response(&mut world, false).unwrap().status, 204);
    // The same connection goes on.
    client.send(&mut world, put("Transfer-Encoding: chunked\r\n").as_bytes());
    assert_eq!(client.head(&mut world).unwrap().status, 100);
    client.send(&mut world, b"2\r\non\r\n0\r\n\r\n");
    assert_eq!(client.response(&mut world, false).unwrap().status, 204);
    // One that does not wait gets none (RFC 9110, section 10.1.1).
    client.send(&mut world, (put("Content-Length: 2\r\n") + "on").as_bytes());
    assert_eq!(client.response(&mut world, false).unwrap().status, 204);
    client.send(&mut world, put("").as_bytes());
    assert_eq!(client.response(&mut world, false).unwrap().status, 204);
    // What is refused is refused instead, and what the client may still send is no request.
    for (fields, status) in [("Content-Type: a/b\r\n", 415), ("Host: x\r\n", 400), ("Expect: other\r\n", 417)] {
        let mut client = world.connect();
        let head = put(&format!("{fields}Content-Length: {}\r\n", SECOND.len()));
        client.send(&mut world, head.as_bytes());
        let response = client.response(&mut world, false).unwrap();
        assert_eq!((response.status, response.field("Connection")), (status, Some("close")), "{fields}");
        client.send(&mut world, SECOND.as_bytes());
        assert_eq!(client.more(&mut world), Err(Aborted), "{fields}");
    }
    // HTTP/1.0 has no 100.
    let old = world.ask("PUT /light HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\non");
    assert_eq!(old.status, 204);
}

#[test]
fn a_client_of_http_1_0_is_told_that_the_connection_goes_on() {
    let mut world = world();
    let get = b"GET /light HTTP/1.0\r\nConnection: keep-alive\r\n\r\n";
    let mut client = world.connect();
    for _ in 0..2 {
        client.send(&mut world, get);
        let response = client.response(&mut world, false).unwrap();
        assert_eq!((&response.body[..], response.field("Connection")), (&b"on"[..], Some("keep-alive")));
    }
    client.send(&mut world, b"GET /light HTTP/1.0\r\n\r\n");
    assert_eq!(client.response(&mut world, false).unwrap().field("Connection"), Some("close"));
    assert_eq!(client.more(&mut world), Err(Aborted));
}
