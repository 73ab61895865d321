//! What a session reads from its client, and writes to it.

use core::time::Duration;
use std::io::ErrorKind;

use byway::Instant;

use super::{HEAD, LOW, Session, Shared, State, Stream};
use crate::counters::{Counters, Reason};
use crate::http::answer::Ending;

/// How much input is thrown away after an error, so that the client can read the response, and for how long.
const LINGER: (usize, Duration) = (1 << 16, Duration::from_secs(2));

impl Session {
    pub(super) fn read<D>(&mut self, now: Instant, stream: &mut impl Stream, shared: &mut Shared<D>) -> bool {
        let mut any = false;
        while self.is_readable && !self.has_ended {
            let room = match self.state {
                State::Head | State::Working => HEAD.saturating_sub(self.input.len()).min(2048),
                State::Lingering { left, .. } => left.min(2048),
                State::Closing | State::Closed => 0,
            };
            if room == 0 {
                break;
            }
            let mut bytes = [0; 2048];
            match stream.read(bytes.get_mut(..room).unwrap_or_default()) {
                Ok(0) => self.has_ended = true,
                Ok(length) => {
                    (any, self.active) = (true, now);
                    if self.state == State::Working && !self.decoder.is_done() {
                        self.clock.moved(length, &shared.pace);
                    }
                    match &mut self.state {
                        State::Lingering { left, .. } => *left -= length.min(*left),
                        _ => {
                            self.input.reserve_exact(length);
                            self.input.extend_from_slice(bytes.get(..length).unwrap_or_default());
                        }
                    }
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.is_readable = false,
                Err(_) => {
                    if self.state != State::Head {
                        shared.counters.count(Reason::ClientGone);
                    }
                    self.state = State::Closed;
                }
            }
        }
        any
    }

    /// The client sends nothing more, and nothing can be begun with what has come. It may still wait for a response.
    pub(super) fn input_ended(&mut self, counters: &mut Counters) {
        match self.state {
            // It waits for room in the output.
            State::Head if !self.input.is_empty() && !self.has_room() => {}
            State::Head if self.sent == self.output.len() => self.state = State::Closed,
            State::Head => self.state = State::Closing,
            // A rest of the input waits for room in the body.
            State::Working if (self.decoder.is_done() || !self.input.is_empty()) && !self.is_observing() => {}
            State::Working => {
                counters.count(Reason::ClientGone);
                self.state = State::Closed;
            }
            State::Closing | State::Closed => {}
            State::Lingering { .. } => self.state = State::Closed,
        }
    }

    pub(super) fn write<D>(&mut self, now: Instant, stream: &mut impl Stream, shared: &mut Shared<D>) -> bool {
        let mut any = false;
        while self.is_writable
            && let Some(rest) = self.output.get(self.sent..).filter(|rest| !rest.is_empty())
        {
            match stream.write(rest) {
                Ok(length) if length != 0 => {
                    self.sent += length;
                    (any, self.active) = (true, now);
                    self.clock.moved(length, &shared.pace);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.is_writable = false,
                _ => {
                    shared.counters.count(Reason::ClientGone);
                    self.state = State::Closed;
                    return false;
                }
            }
        }
        if self.sent == self.output.len() {
            self.output.clear();
            self.sent = 0;
            if self.state == State::Head {
                // It may be idle for long.
                self.output = Vec::new();
            }
            if self.state == State::Closing {
                if self.response.is_begun && self.response.ending == Ending::Close && self.transfer.is_some() {
                    // An ordinary end would look like the end of the body.
                    stream.abort();
                    self.state = State::Closed;
                } else if self.has_ended || stream.finish().is_err() {
                    self.state = State::Closed;
                } else {
                    self.state = State::Lingering { left: LINGER.0, until: now + LINGER.1 };
                    any = true;
                }
            }
        } else if self.sent > LOW {
            self.output.drain(..self.sent);
            self.sent = 0;
        }
        if matches!(self.state, State::Lingering { left: 0, .. }) {
            self.state = State::Closed;
        }
        any
    }
}
