//! The service's own names, and pages from elsewhere: what a browser can be misled into does not reach a server.

#[expect(unreachable_pub, reason = "it is shared by several tests")]
mod support;

use byway_mediator::counters::Reason;
use byway_mediator::server::Resource;
use support::{Network, World};

fn world() -> World {
    let mut world = World::new(Network::default());
    world.put("light", &Resource::new(&b"on"[..], Some(0)));
    world
}

/// DNS rebinding: a page of `evil.example`, whose name leads to the proxy's address now, fetches from its own origin.
#[test]
fn a_request_for_another_host_is_refused() {
    let mut world = world();
    let get = |target: &str, host: &str| format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n");
    // This world's name is `x`.
    for host in ["x", "X:8080", "x.", "127.0.0.1:8080", "[::1]:8080", "192.0.2.7", "localhost", "my.localhost:80"] {
        assert_eq!(world.ask(&get("/light", host)).body, b"on", "{host}");
    }
    // Whoever asks for a whole URI asks that host, whatever Host says (RFC 9112, section 3.2.2).
    assert_eq!(world.ask(&get("http://x/light", "evil.example")).body, b"on");
    assert_eq!(world.ask(&get("HTTP://127.0.0.1:8080/light", "x")).body, b"on");
    // A client of HTTP/1.0 need not say it, and no browser is one.
    assert_eq!(world.ask("GET /light HTTP/1.0\r\n\r\n").body, b"on");
    let (before, mut refused) = (world.requests(), 0);
    for (target, host, status) in [
        ("/light", "evil.example", 421),
        ("/light", "evil.example:8080", 421),
        ("/light", "x.evil.example", 421),
        ("/light", "127.0.0.1.evil.example", 421),
        ("/light", "xx", 421),
        ("http://evil.example/light", "x", 421),
        ("/hc/coap://100.100.100.100/light", "evil.example", 421),
        ("/light", "", 400),
        ("/light", "x, evil.example", 400),
        ("/light", "evil.example@x", 400),
        ("/light", "x/", 400),
        ("http:///light", "x", 400),
        ("http://evil.example@x/light", "x", 400),
        ("https://x/light", "x", 400),
    ] {
        assert_eq!(world.ask(&get(target, host)).status, status, "{target} {host}");
        refused += u64::from(status == 421);
    }
    assert_eq!((world.count(Reason::ForeignHost), world.requests()), (refused, before));
}

/// A form or a script of another origin can have a browser send a POST, although it cannot read the response.
#[test]
fn a_page_from_elsewhere_changes_nothing() {
    let mut world = world();
    let ask = |method: &str, host: &str, origin: &str| {
        let length = if matches!(method, "GET" | "HEAD" | "DELETE") { "" } else { "Content-Length: 3\r\n" };
        let body = if length.is_empty() { "" } else { "off" };
        format!("{method} /light HTTP/1.1\r\nHost: {host}\r\nOrigin: {origin}\r\n{length}\r\n{body}")
    };
    let before = world.requests();
    for method in ["POST", "PUT", "DELETE", "PATCH"] {
        for origin in ["http://evil.example", "null", "http://x:81", "http://x.evil.example", ""] {
            assert_eq!(world.ask(&ask(method, "x:80", origin)).status, 403, "{method} {origin}");
        }
    }
    let two = "POST /light HTTP/1.1\r\nHost: x\r\nOrigin: http://x\r\nOrigin: http://y\r\nContent-Length: 1\r\n\r\nx";
    assert_eq!(world.ask(two).status, 400);
    assert_eq!(world.ask("DELETE /light HTTP/1.0\r\nOrigin: http://x\r\n\r\n").status, 403);
    assert_eq!((world.count(Reason::ForeignPage), world.requests()), (21, before));
    // What only reads is permitted: without a field that says so, no browser gives the page the response.
    let response = world.ask(&ask("GET", "x", "http://evil.example"));
    assert_eq!((response.status, response.field("Access-Control-Allow-Origin")), (200, None));
    assert_eq!(world.ask(&ask("HEAD", "x", "null")).status, 200);
    // The service's own pages change what they like, also behind a proxy for TLS; so do clients that are no browsers.
    assert_eq!(world.ask(&ask("PUT", "x:8080", "http://x:8080")).status, 204);
    assert_eq!(world.ask(&ask("PUT", "x", "https://x")).status, 204);
    assert_eq!(world.ask("PUT /light HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\non").status, 204);
    assert_eq!(world.get("/light").body, b"on");
}
