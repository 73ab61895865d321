//! What a session makes of a request's head.

use byway::Instant;
use smoltcp::phy;

use super::{BODY, HEAD, Response, Session, Shared, State};
use crate::coap::block;
use crate::coap::message::{Code, Uint, option};
use crate::coap::transfer::{Body, Request};
use crate::counters::Reason;
use crate::http::answer::Ending;
use crate::http::body::Decoder;
use crate::http::head::{self, Framing, Head};
use crate::http::host::{Authority, Hosts};
use crate::map::code;
use crate::map::format::Accept;
use crate::map::uri;

impl Session {
    /// Reads a head, if there is one.
    pub(super) fn begin<D: phy::Device>(&mut self, now: Instant, shared: &mut Shared<D>) -> bool {
        // An empty line before a request is skipped (RFC 9112, section 2.2).
        let empty = self.input.chunks_exact(2).take_while(|line| line == b"\r\n").count();
        self.input.drain(..2 * empty);
        self.skipped += 2 * empty;
        self.response.keep_alive = false;
        self.response.is_begun = false;
        if self.skipped > HEAD {
            self.refuse(400, Reason::BadRequest, "there are empty lines instead of a request", shared);
            return true;
        }
        if self.input.is_empty() {
            return false;
        }
        self.response.head_only = self.input.starts_with(b"HEAD ");
        let (head, length) = match head::parse(&self.input) {
            Ok(Some(parsed)) => parsed,
            Ok(None) if self.input.len() < HEAD => return false,
            Ok(None) => {
                self.refuse(431, Reason::HeadTooLarge, "the head is too long", shared);
                return true;
            }
            Err(refused) => {
                self.refuse(refused.status, refused.reason, "the request cannot be understood", shared);
                return true;
            }
        };
        self.input.drain(..length);
        self.input.shrink_to(1024);
        self.skipped = 0;
        self.clock.reset();
        self.request(now, head, shared);
        true
    }

    fn request<D: phy::Device>(&mut self, now: Instant, head: Head, shared: &mut Shared<D>) {
        self.decoder = Decoder::new(head.framing);
        self.body = Body::new(BODY);
        self.response = Response {
            keep_alive: head.keep_alive,
            is_1_1: head.is_1_1,
            head_only: head.method == "HEAD",
            is_get: matches!(head.method.as_str(), "GET" | "HEAD"),
            ending: Ending::None,
            is_begun: false,
            locations: None,
            notified: None,
            told: None,
        };
        let request = match self.map(&head, shared) {
            Ok(request) => request,
            Err((status, reason, why)) => return self.refuse(status, reason, why, shared),
        };
        shared.counters.count(Reason::Requests);
        if head.framing == Framing::None {
            self.body.complete();
        } else if !request.has_body {
            // A body that CoAP has no place for; the next request would begin in it.
            self.response.keep_alive = false;
            self.decoder = Decoder::new(Framing::None);
        } else if head.expects_continue && self.input.is_empty() {
            self.output.extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n");
        }
        shared.tickets = shared.tickets.wrapping_add(1);
        self.waiting = Some((shared.tickets, request));
        self.state = State::Working;
        self.lease(now, shared);
    }

    /// Whether the request is for this service, and no page from elsewhere has a browser change something in it.
    fn check_host(head: &Head, method: Code, hosts: &Hosts) -> Result<(), (u16, Reason, &'static str)> {
        const BAD: (u16, Reason, &str) = (400, Reason::BadUri, "this is no target of a request");
        // The target's own authority is the one that counts (RFC 9112, section 3.2.2).
        let (authority, _) = uri::split(&head.target).map_err(|_| BAD)?;
        let host = authority.or(head.host.as_deref());
        let host = host.map(|host| Authority::parse(host).ok_or(BAD)).transpose()?;
        // Browsers, which are what can be misled, always name the host.
        if host.is_some_and(|host| !hosts.contains(host.host)) {
            let why = "the proxy does not have this name: --host or hosts lists those that it has, besides addresses";
            return Err((421, Reason::ForeignHost, why));
        }
        if method != Code::GET
            && let Some(origin) = &head.origin
            && !host.is_some_and(|host| host.has_page(origin))
        {
            return Err((403, Reason::ForeignPage, "a page of another origin may not change anything here"));
        }
        Ok(())
    }

    fn map<D>(&mut self, head: &Head, shared: &Shared<D>) -> Result<Request, (u16, Reason, &'static str)> {
        let Some(method) = code::method(&head.method) else {
            return Err((501, Reason::Unsupported, "CoAP has no such method"));
        };
        Self::check_host(head, method, &shared.hosts)?;
        let target = uri::map(&head.target, &shared.origins).map_err(|refused| {
            (refused.status, refused.reason, "this URI cannot be mapped to one of a configured CoAP origin")
        })?;
        let mut options = target.options;
        let observes = match head.accept {
            Accept::Events if head.method == "GET" => true,
            Accept::Any | Accept::Events => false,
            Accept::Format(format) => {
                options.push((option::ACCEPT, Uint::new(u32::from(format)).as_bytes().to_vec()));
                false
            }
            Accept::None => return Err((406, Reason::Unsupported, "CoAP has none of the formats that are accepted")),
        };
        let has_body = matches!(method, Code::PUT | Code::POST | Code::PATCH);
        if has_body && head.is_of_foreign_format {
            return Err((415, Reason::Unsupported, "CoAP has no such format"));
        }
        if let Some(format) = head.content_format.filter(|_| has_body) {
            options.push((option::CONTENT_FORMAT, Uint::new(u32::from(format)).as_bytes().to_vec()));
        }
        if method == Code::GET && observes {
            // Each event has its data.
        } else if method == Code::GET {
            options.extend(head.if_none_match.iter().map(|etag| (option::ETAG, etag.clone())));
        } else if head.if_none_match_any {
            options.push((option::IF_NONE_MATCH, Vec::new()));
        } else if !head.if_none_match.is_empty() {
            return Err((501, Reason::Unsupported, "CoAP has no such condition"));
        }
        options.extend(head.if_match.iter().map(|etag| (option::IF_MATCH, etag.clone())));
        self.response.locations = target.locations;
        Ok(Request {
            method,
            origin: target.origin,
            client: self.client,
            options,
            has_body,
            head_only: self.response.head_only,
            observes,
            block: shared.block.min(block::MAX_SIZE),
        })
    }
}
