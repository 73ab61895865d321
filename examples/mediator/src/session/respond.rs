//! What a session makes of CoAP's answers.

use core::fmt::Write;
use core::hash::{Hash, Hasher};
use core::net::SocketAddrV4;
use core::time::Duration;

use byway::Instant;
use smoltcp::phy;

use super::{OUTPUT, Session, Shared, State};
use crate::coap::block::Block;
use crate::coap::exchange::Failure;
use crate::coap::message::{Code, Kind, Message, option};
use crate::coap::transfer::{Step, Trouble};
use crate::counters::Reason;
use crate::http::answer::{self, Ending};
use crate::map::{code, format, uri};

/// How long a response without Max-Age may be cached (RFC 7252, section 5.10.5), in seconds.
const MAX_AGE: u32 = 60;

/// After this time, a notification with a smaller number is a new one (RFC 7641, section 3.4).
const REORDERED: Duration = Duration::from_secs(128);

/// The longest event, in bytes. With a head it fits into the output.
const EVENT: usize = 2048;

/// What a chunk takes around its data, in bytes.
const CHUNK: usize = 16;

/// When a notification came, and from which server: each has numbers of its own.
type Heard = (Instant, Option<SocketAddrV4>);

impl Session {
    /// `server` is where the answer came from.
    pub(super) fn step<D: phy::Device>(
        &mut self,
        now: Instant,
        server: Option<SocketAddrV4>,
        step: Step<'_>,
        shared: &mut Shared<D>,
    ) {
        self.make_room();
        let heard = (now, server);
        match step {
            Step::Nothing => {}
            Step::Begin { message, more } if self.is_observing() => self.begin_events(heard, &message, more, shared),
            Step::Begin { message, more } => self.begin_response(&message, more, shared),
            Step::Data { bytes, more } => {
                answer::data(&mut self.output, self.response.ending, bytes);
                if !more {
                    self.complete(shared);
                }
            }
            Step::Notification(message) => self.notify(heard, &message, shared),
            Step::Failed(trouble) => self.give_up(trouble, shared),
        }
    }

    fn begin_response<D: phy::Device>(&mut self, message: &Message<'_>, more: bool, shared: &mut Shared<D>) {
        let status = code::status(message.code, !message.payload.is_empty());
        let more = more && message.code.class() == 2;
        let has_body = !matches!(status, 204 | 304);
        self.response.ending = match () {
            () if !has_body || (self.response.head_only && more) => Ending::None,
            () if !more => Ending::Length(message.payload.len()),
            () if self.response.is_1_1 => Ending::Chunks,
            () => Ending::Close,
        };
        // A body that the client still sends is not read to its end.
        self.response.keep_alive &= self.decoder.is_done() && self.response.ending != Ending::Close && self.may_go_on();
        self.response.is_begun = true;
        let mut fields = self.fields(message, status);
        if self.response.keep_alive && !self.response.is_1_1 {
            // Without it a client of HTTP/1.0 waits for the connection's end (RFC 9112, section 9.3 and C.2.2).
            fields.push_str("Connection: keep-alive\r\n");
        }
        answer::head(&mut self.output, status, self.response.ending, self.response.keep_alive, &fields);
        if has_body && !self.response.head_only {
            answer::data(&mut self.output, self.response.ending, message.payload);
        }
        if !more || self.response.head_only || !has_body {
            if self.response.ending == Ending::Chunks && self.response.head_only {
                self.response.ending = Ending::None;
            }
            self.complete(shared);
        }
    }

    fn fields(&self, message: &Message<'_>, status: u16) -> String {
        let mut fields = String::new();
        let mut field = |name: &str, value: &dyn core::fmt::Display| {
            // A String takes everything.
            let _ = write!(fields, "{name}: {value}\r\n");
        };
        let is_error = message.code.class() != 2;
        match message.uint(option::CONTENT_FORMAT, 2) {
            Some(format) => field("Content-Type", &format::media_type(format)),
            // A diagnostic payload (RFC 7252, section 5.5.2).
            None if is_error && !message.payload.is_empty() => field("Content-Type", &"text/plain; charset=utf-8"),
            None => {}
        }
        if let Some(etag) = message.option(option::ETAG).filter(|etag| (1..=8).contains(&etag.len())) {
            let digits: String = etag.iter().map(|byte| format!("{byte:02x}")).collect();
            field("ETag", &format_args!("\"{digits}\""));
        }
        let max_age = message.uint(option::MAX_AGE, 4);
        if self.response.is_get && matches!(message.code, Code::CONTENT | Code::VALID) {
            field("Cache-Control", &format_args!("max-age={}", max_age.unwrap_or(MAX_AGE)));
            field("Vary", &"Accept");
        }
        if status == 503 {
            // RFC 7252, section 5.9.3.4.
            field("Retry-After", &max_age.unwrap_or(MAX_AGE));
        }
        if status == 201
            && let Some(prefix) = &self.response.locations
            && let Some(location) = uri::location(message.options().collect::<Vec<_>>().into_iter(), prefix)
        {
            field("Location", &location);
        }
        fields
    }

    /// The response is complete; what follows in the input is the next request.
    fn complete<D: phy::Device>(&mut self, shared: &mut Shared<D>) {
        answer::end(&mut self.output, self.response.ending);
        shared.counters.count(Reason::Responses);
        self.end(shared);
        self.state = if self.response.keep_alive && self.may_go_on() { State::Head } else { State::Closing };
    }

    /// The first response of an observed resource: the first event.
    fn begin_events<D: phy::Device>(
        &mut self,
        heard: Heard,
        message: &Message<'_>,
        more: bool,
        shared: &mut Shared<D>,
    ) {
        if message.code.class() != 2 {
            return self.begin_response(message, more, shared);
        }
        if message.option(option::OBSERVE).is_none() {
            return self.refuse(406, Reason::Unsupported, "the resource cannot be observed", shared);
        }
        self.response.is_begun = true;
        self.response.ending = if self.response.is_1_1 { Ending::Chunks } else { Ending::Close };
        let fields = "Content-Type: text/event-stream\r\nCache-Control: no-store\r\n";
        answer::head(&mut self.output, 200, self.response.ending, true, fields);
        // There is room: nothing but the head waits.
        self.event(heard, message);
    }

    fn notify<D: phy::Device>(&mut self, heard: Heard, message: &Message<'_>, shared: &mut Shared<D>) {
        let number = message.uint(option::OBSERVE, 3);
        if message.code.class() != 2 || number.is_none() {
            // The observation has ended; the client's EventSource connects again, and learns why.
            return self.complete(shared);
        }
        // What answers a registration cannot be older than it, also if the server counts anew.
        let is_asked_for = message.kind == Kind::Acknowledgement;
        let is_old = self.response.notified.zip(number).is_some_and(|((last, when, from), number)| {
            let behind = last.wrapping_sub(number) & 0x00ff_ffff;
            !is_asked_for && from == heard.1 && heard.0 < when + REORDERED && behind < 1 << 23
        });
        let is_same_server = self.response.notified.is_some_and(|(_, _, from)| from == heard.1);
        if is_asked_for && is_same_server && self.response.told == Some(digest(message)) {
            // The client has it; only the number may be new.
            self.response.notified = number.map(|number| (number, heard.0, heard.1));
        } else if is_old {
            shared.counters.count(Reason::Duplicates);
        } else if !self.event(heard, message) {
            // The client is slow: what it gets next is newer (RFC 7641, section 1.3).
            self.response.told = None;
            shared.counters.count(Reason::NotificationsSkipped);
        }
    }

    /// Tells the client of a notification. False if there is no room.
    fn event(&mut self, heard: Heard, message: &Message<'_>) -> bool {
        let number = message.uint(option::OBSERVE, 3);
        let more = message.option(option::BLOCK2).and_then(Block::parse).is_some_and(|block| block.more);
        let text = core::str::from_utf8(message.payload).ok().filter(|_| !more);
        // Its lines are longer there: it may be too large for an event although it fits into a block.
        let event = text.map(|text| answer::event(number, None, text)).filter(|event| event.len() <= EVENT);
        // Too large, or not text: the client fetches it.
        let event = event.unwrap_or_else(|| answer::event(number, Some("changed"), ""));
        if self.output.len() - self.sent + event.len() + CHUNK > OUTPUT {
            return false;
        }
        self.response.notified = number.map(|number| (number, heard.0, heard.1));
        self.response.told = Some(digest(message));
        answer::data(&mut self.output, self.response.ending, &event);
        true
    }

    fn give_up<D: phy::Device>(&mut self, trouble: Trouble, shared: &mut Shared<D>) {
        if self.response.is_begun {
            // Without its end the client knows that it is not whole.
            self.state = State::Closing;
            self.response.keep_alive = false;
            if self.response.ending != Ending::Close {
                self.end(shared);
            }
            return;
        }
        let (status, why) = match trouble {
            Trouble::Unanswered(Failure::TimedOut) => (504, "the origin does not answer"),
            Trouble::Unanswered(Failure::Silent) => (504, "the origin has not answered lately"),
            Trouble::Unanswered(Failure::Ambiguous) => (504, "the server was exchanged before it had answered"),
            Trouble::Unanswered(Failure::Exhausted) => (503, "all message identifiers are in use"),
            Trouble::Unanswered(Failure::TooLong) => (413, "CoAP has no numbers for so many blocks"),
            Trouble::Unanswered(Failure::Reset) => (502, "the origin has reset the request"),
            Trouble::Unanswered(Failure::Restless) | Trouble::Refused(Reason::NotReplayable) => {
                (503, "the server was exchanged in the middle of the upload")
            }
            Trouble::Refused(_) => (502, "the origin's answer cannot be used"),
        };
        self.response.keep_alive &= self.decoder.is_done() && self.may_go_on() && self.response.is_1_1;
        let (keep_alive, head_only) = (self.response.keep_alive, self.response.head_only);
        answer::error(&mut self.output, status, keep_alive, head_only, why);
        self.end(shared);
        self.state = if keep_alive { State::Head } else { State::Closing };
    }
}

/// A number for what a notification says, to recognise it when it comes again.
fn digest(message: &Message<'_>) -> u64 {
    let mut hasher = std::hash::DefaultHasher::new();
    (message.payload, message.option(option::BLOCK2), message.option(option::ETAG)).hash(&mut hasher);
    hasher.finish()
}
