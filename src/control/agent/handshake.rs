//! How a session begins: HELLO and its challenge, OPEN and its answer.

use core::net::SocketAddr;

use super::Agent;
use crate::control::answer::Head;
use crate::control::code::Code;
use crate::control::datagram::{
    Challenge, Header, Hello, MAX_ANSWER, Open, Refusing, Start, VERSION, kind, seal, session_of,
};
use crate::control::refused::Refused;
use crate::control::session::Session;
use crate::control::several::generation;
use crate::control::translators::Translators;
use crate::control::wire::{Reader, Writer};

impl<const KEYS: usize, const SESSIONS: usize, const REPORTS: usize> Agent<KEYS, SESSIONS, REPORTS> {
    /// Answers a request for a session with a challenge. The challenge costs no memory, is authenticated, and is as
    /// long as the HELLO. The layout of this one datagram is the same in all versions.
    pub(super) fn hello(
        &mut self,
        version: u8,
        mut reader: Reader<'_>,
        from: &SocketAddr,
        datagram: &[u8],
        answer: &mut [u8; MAX_ANSWER],
    ) -> Result<usize, Refused> {
        let hello = Hello::read(&mut reader).ok_or(Refused::Foreign)?;
        let limit = self.hashes();
        let key = self.keys.get(hello.key).ok_or(Refused::UnknownKey)?;
        if !self.handshakes.spend_one(limit, self.now) {
            return Err(Refused::Flooded);
        }
        if !key.secret.verifies(datagram) {
            return Err(Refused::BadTag);
        }
        let written = if version != VERSION {
            let detail = u32::from(VERSION) << 8 | u32::from(VERSION);
            Refusing { hello, code: Code::UnknownVersion.number(), detail }.write(&key.secret, answer)
        } else {
            let number = self.next_number().ok_or(Refused::Stale)?;
            let nonce = self.boot.challenge(hello.key, number, &hello.nonce, from);
            Challenge { hello, nonce, number }.write(&key.secret, answer)
        };
        written.ok_or(Refused::Malformed)
    }

    /// The number of the next session. Each number opens at most one session. If two monitors get a challenge before
    /// either has used it, both have the same number, and the slower one asks again. `None` after 2^32 sessions.
    const fn next_number(&self) -> Option<u32> {
        self.opened.checked_add(1)
    }

    #[inline(never)]
    pub(super) fn open<T: Translators + ?Sized>(
        &mut self,
        start: Start,
        mut reader: Reader<'_>,
        translators: &mut T,
        from: SocketAddr,
        datagram: &[u8],
        answer: &mut [u8; MAX_ANSWER],
    ) -> Result<usize, Refused> {
        let header = Header::read(start, &mut reader).ok_or(Refused::Foreign)?;
        let open = Open::read(&mut reader).ok_or(Refused::Foreign)?;
        let mut out = Writer::new(answer);
        Header { kind: kind::ANSWER, ..header }.write(&mut out);
        let mut head = Head { refusal: None, dry_run: false, generation: 0 };
        let mut generation = || generation(translators);
        let limit = self.hashes();
        if let Some(session) = self.sessions.find(header.session) {
            // The session is already open, and the answer was lost.
            if session.sequence != 0 {
                return Err(Refused::Old);
            }
            session.authenticate(limit, self.now, true, &from, datagram)?;
            head.generation = generation();
            head.write(&mut out);
            return seal(out, &session.secret).ok_or(Refused::Malformed);
        }
        let key = self.keys.get(open.key).ok_or(Refused::UnknownKey)?;
        // The session's number is not secret: it was in the challenge.
        let number = self.next_number().filter(|number| *number == open.number).ok_or(Refused::Stale)?;
        if !self.handshakes.spend_one(limit, self.now) && !self.openings.spend_one(limit, self.now) {
            return Err(Refused::Flooded);
        }
        let nonce = self.boot.challenge(key.id, number, &open.nonce, &from);
        if session_of(&nonce) != header.session {
            return Err(Refused::Stale);
        }
        let secret = key.secret.session(key.id, number, &open.nonce, &nonce);
        if !secret.verifies(datagram) {
            return Err(Refused::BadTag);
        }
        head.generation = generation();
        let Some(session) = self.sessions.room_for(key.id, self.now) else {
            head.refusal = Some((Code::NoSession.into(), 0));
            head.write(&mut out);
            return seal(out, &secret).ok_or(Refused::Malformed);
        };
        *session = Session::new(header.session, secret, key.id, from, self.now);
        self.opened = number;
        head.write(&mut out);
        seal(out, &session.secret).ok_or(Refused::Malformed)
    }
}
