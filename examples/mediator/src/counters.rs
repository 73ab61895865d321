//! What was refused, given up or noticed, by reason.

use core::fmt;

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)*) => {
        /// Something that is counted.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum Reason { $($(#[$doc])* $name,)* }

        impl Reason {
            /// Every reason.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// A short name in lower case, stable across versions.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }
        }
    };
}

reasons! {
    /// A request of an HTTP client was accepted.
    Requests = "requests",
    /// A response was sent completely.
    Responses = "responses",
    /// A message was sent again for want of an answer.
    Retransmissions = "retransmissions",
    /// Requests in flight were sent again at once, because an instruction may have moved them.
    Resent = "resent",
    /// A body went on at another server.
    Moves = "moves",
    /// An observer registered again, since nothing was heard for longer than a notification is fresh.
    RegisteredAgain = "registered_again",
    /// An upload began again at another server, which had not seen its first blocks.
    Replays = "replays",
    /// A datagram of a server was not CoAP.
    MalformedMessage = "malformed_message",
    /// A response had a token that no request has.
    ForeignToken = "foreign_token",
    /// A message came from an origin, or to a client, that its token does not belong to.
    ForeignEndpoint = "foreign_endpoint",
    /// A message was received again.
    Duplicates = "duplicates",
    /// An acknowledgement or a reset of nothing that is in flight.
    ForeignId = "foreign_id",
    /// A server sent a request; the proxy serves none.
    ServerRequests = "server_requests",
    /// A response had a critical option that the proxy does not know (RFC 7252, section 5.4.1).
    CriticalOption = "critical_option",
    /// A server called valid what the client does not have.
    ForeignValid = "foreign_valid",
    /// A response had a Block option that is malformed, of a larger size than asked for, or not full.
    BadBlock = "bad_block",
    /// A response had another block than the one that was asked for.
    BlockNumber = "block_number",
    /// The ETag changed in the middle of a body.
    EtagChanged = "etag_changed",
    /// The server changed in the middle of a body without an ETag.
    NoEtag = "no_etag",
    /// The format or the size changed in the middle of a body.
    RepresentationChanged = "representation_changed",
    /// A server answered with an error in the middle of a body.
    ErrorInBody = "error_in_body",
    /// An upload was moved after its first bytes were no longer in the buffer.
    NotReplayable = "not_replayable",
    /// A request that must not be repeated was in flight when it was moved.
    Ambiguous = "ambiguous",
    /// No answer, although the request was sent as often as RFC 7252 allows.
    TimedOut = "timed_out",
    /// A server reset a request.
    Reset = "reset",
    /// A request was not sent, or not again, since its origin has been silent (PROBING_RATE).
    Silent = "silent",
    /// An HTTP request was malformed.
    BadRequest = "bad_request",
    /// A URI was malformed, or too long for CoAP.
    BadUri = "bad_uri",
    /// An HTTP request named an origin that is not configured.
    ForeignOrigin = "foreign_origin",
    /// An HTTP request was for a host whose name the service does not have.
    ForeignHost = "foreign_host",
    /// A page from elsewhere had a browser send a request that may change something.
    ForeignPage = "foreign_page",
    /// The head of an HTTP request was longer than the buffer.
    HeadTooLarge = "head_too_large",
    /// A method, format or expectation that has no counterpart in CoAP.
    Unsupported = "unsupported",
    /// A request waited too long for other transfers of the same resource.
    NoLane = "no_lane",
    /// A request waited for message identifiers, none of which may be used again for 247 s (RFC 7252, section 4.4).
    NoIdentifiers = "no_identifiers",
    /// A body was longer than CoAP has numbers for its blocks.
    TooLong = "too_long",
    /// An HTTP client went away before its response was complete.
    ClientGone = "client_gone",
    /// An HTTP client was silent for too long when it was its turn.
    ClientIdle = "client_idle",
    /// An HTTP client was not silent, but sent a request or read a response too slowly.
    ClientSlow = "client_slow",
    /// A connection on which nothing was asked for was closed, to make room for another one.
    Displaced = "displaced",
    /// A connection was refused because there are as many as configured.
    TooMany = "too_many",
    /// A connection was refused because its client has as many as one may have.
    TooManyOfClient = "too_many_of_client",
    /// A notification was replaced by a later one before its client could take it.
    NotificationsSkipped = "notifications_skipped",
}

/// One number for each [`Reason`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counters([u64; Reason::ALL.len()]);

impl Default for Counters {
    fn default() -> Self {
        Self([0; Reason::ALL.len()])
    }
}

impl Counters {
    /// Counts one.
    pub fn count(&mut self, reason: Reason) {
        if let Some(count) = self.0.get_mut(reason as usize) {
            *count = count.saturating_add(1);
        }
    }

    /// How many there were.
    #[must_use]
    pub fn of(&self, reason: Reason) -> u64 {
        self.0.get(reason as usize).copied().unwrap_or(0)
    }
}

impl fmt::Display for Counters {
    /// Those that are not zero, as `name=count`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let some = Reason::ALL.iter().map(|reason| (reason.name(), self.of(*reason))).filter(|(_, count)| *count != 0);
        some.enumerate()
            .try_for_each(|(at, (name, count))| write!(f, "{}{name}={count}", if at == 0 { "" } else { " " }))
    }
}
