//! What a datagram of a server means to the requests in flight.

use std::collections::HashMap;

use byway::Instant;

use super::{Answer, Exchange, Exchanges, Failure, MessageId, Peer, REMEMBERED, Source, State};
use crate::coap::message::{self, Code, Kind, Message};
use crate::counters::{Counters, Reason};
use crate::far::identifiers::EXCHANGE_LIFETIME;

impl Exchanges {
    /// Takes a datagram that has come this way. Gives the response in it, if it is the first one to a request.
    pub fn receive<'a>(
        &mut self,
        now: Instant,
        source: Source,
        datagram: &'a [u8],
        counters: &mut Counters,
    ) -> Option<Answer<'a>> {
        let message = match Message::parse(datagram) {
            Ok(message) => message,
            Err(_) => {
                counters.count(Reason::MalformedMessage);
                return None;
            }
        };
        let way = source.way;
        let peer = source.place.map_or(Peer::Origin(way.origin), |place| Peer::Server(place.server));
        if let Some(origin) = self.origins.get_mut(&peer) {
            origin.heard();
        }
        if message.code == Code::EMPTY {
            self.receive_empty(now, source, &message, counters);
            return None;
        }
        if !message.code.is_response() {
            counters.count(Reason::ServerRequests);
            self.reject(source, &message);
            return None;
        }
        if self.is_repetition(now, source, &message) {
            counters.count(Reason::Duplicates);
            return None;
        }
        let number = <[u8; 8]>::try_from(message.token.as_bytes()).ok().map(u64::from_be_bytes);
        let Some((number, exchange)) = number.and_then(|number| Some((number, self.exchanges.get_mut(&number)?)))
        else {
            counters.count(Reason::ForeignToken);
            self.reject(source, &message);
            return None;
        };
        // Observed servers may notify whoever registered by any port of ours that byway leads back to it.
        if exchange.way != way {
            counters.count(Reason::ForeignEndpoint);
            self.reject(source, &message);
            return None;
        }
        // An instruction has moved it, and the old server answers late.
        if !exchange.hears(source) {
            counters.count(Reason::ForeignEndpoint);
            return None;
        }
        if message.kind == Kind::Acknowledgement && exchange.id.is_none_or(|id| id.id != message.id) {
            counters.count(Reason::ForeignId);
            return None;
        }
        if matches!(exchange.state, State::Queued) || message.kind == Kind::Reset {
            counters.count(Reason::ForeignId);
            return None;
        }
        if message.kind == Kind::Acknowledgement && matches!(exchange.state, State::Observing { .. }) {
            counters.count(Reason::Duplicates);
            return None;
        }
        let owner = exchange.owner;
        if message.kind == Kind::Confirmable {
            self.acknowledge(now, source, &message);
        }
        if exchange_observes(&self.exchanges, number, &message) {
            self.leave_turn(number);
            self.observe(now, number, &message);
        } else {
            self.end(number);
        }
        Some(Answer { owner, server: source.server, message })
    }

    /// Whether a datagram that has come past byway is for a request of those that stay where it is from, or repeats what one
    /// has got.
    pub fn expects(&self, source: Source, datagram: &[u8]) -> bool {
        let Ok(message) = Message::parse(datagram) else {
            return false;
        };
        let number = if message.code == Code::EMPTY {
            self.with_id(source, &message)
        } else {
            <[u8; 8]>::try_from(message.token.as_bytes()).ok().map(u64::from_be_bytes)
        };
        let exchange = number.and_then(|number| self.exchanges.get(&number));
        exchange.is_some_and(|exchange| exchange.way == source.way && exchange.hears(source))
            || self.remembers(source, &message)
    }

    /// The request with this message's identifier, at the endpoint that the message was sent to.
    fn with_id(&self, source: Source, message: &Message<'_>) -> Option<u64> {
        self.by_id.get(&MessageId { at: source.alternative?, id: message.id }).copied()
    }

    fn receive_empty(&mut self, now: Instant, source: Source, message: &Message<'_>, counters: &mut Counters) {
        let way = source.way;
        let number = self.with_id(source, message);
        let exchange =
            number.and_then(|number| self.exchanges.get_mut(&number)).filter(|e| e.way == way && e.hears(source));
        let (Some(number), Some(exchange)) = (number, exchange) else {
            counters.count(Reason::ForeignId);
            return;
        };
        match (message.kind, exchange.state) {
            (Kind::Acknowledgement, State::Sent { .. }) => {
                let until = now + self.settings.response_timeout;
                exchange.state = State::Acknowledged { until };
                self.earliest = Some(self.earliest.map_or(until, |earliest| earliest.min(until)));
                let peer = exchange.peer;
                self.give_turn(peer);
            }
            (Kind::Reset, State::Sent { .. } | State::Acknowledged { .. } | State::Observing { .. }) => {
                counters.count(Reason::Reset);
                self.fail(number, Failure::Reset);
            }
            // A CoAP ping (section 4.3), or a repetition.
            (Kind::Confirmable, _) => self.replies.push_back((source, message::empty(Kind::Reset, message.id))),
            _ => counters.count(Reason::Duplicates),
        }
    }

    /// A repetition has the token of what it repeats. The identifier alone would not do: a server that has started again
    /// may begin with any.
    fn is_repetition(&mut self, now: Instant, from: Source, message: &Message<'_>) -> bool {
        while self.remembered.pop_front_if(|(at, ..)| *at + EXCHANGE_LIFETIME <= now).is_some() {}
        let is_known = message.kind == Kind::Confirmable && self.remembers(from, message);
        if is_known {
            self.replies.push_back((from, message::empty(Kind::Acknowledgement, message.id)));
        }
        is_known
    }

    fn remembers(&self, from: Source, message: &Message<'_>) -> bool {
        let what = (from, message.id, message.token);
        self.remembered.iter().any(|(_, known, id, token)| (*known, *id, *token) == what)
    }

    fn acknowledge(&mut self, now: Instant, from: Source, message: &Message<'_>) {
        self.replies.push_back((from, message::empty(Kind::Acknowledgement, message.id)));
        if self.remembered.len() == REMEMBERED {
            self.remembered.pop_front();
        }
        self.remembered.push_back((now, from, message.id, message.token));
    }

    /// Tells the sender of an unwanted message to stop (RFC 7252, section 4.2 and 4.3).
    fn reject(&mut self, source: Source, message: &Message<'_>) {
        if matches!(message.kind, Kind::Confirmable | Kind::NonConfirmable) {
            self.replies.push_back((source, message::empty(Kind::Reset, message.id)));
        }
    }
}

/// Whether notifications follow this response: it was asked for, and the server has agreed (RFC 7641, section 3.1).
fn exchange_observes(exchanges: &HashMap<u64, Exchange>, number: u64, message: &Message<'_>) -> bool {
    exchanges.get(&number).is_some_and(|exchange| exchange.observes)
        && message.code.class() == 2
        && message.option(message::option::OBSERVE).is_some()
}
