//! Frames on their way in and out, translated as they pass.

use smoltcp::phy::{self, Medium, PacketMeta};

use crate::device::link::{Links, copy, packet};
use crate::device::mover::Mover;
use crate::table::storage::Storage;
use crate::time::Instant;
use crate::translator::Translator;
use crate::verdict::Verdict;

/// A received frame, already translated; empty if it was dropped.
#[derive(Debug)]
pub struct RxToken<'a> {
    pub(super) frame: &'a [u8],
    pub(super) meta: PacketMeta,
}

#[cfg(feature = "defmt")]
impl defmt::Format for RxToken<'_> {
    fn format(&self, f: defmt::Formatter<'_>) {
        defmt::write!(f, "RxToken({} bytes)", self.frame.len());
    }
}

impl phy::RxToken for RxToken<'_> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(self.frame)
    }

    fn meta(&self) -> PacketMeta {
        self.meta
    }
}

/// Permission to send a frame, which will be translated.
#[derive(Debug)]
pub struct TxToken<'a, T, S, H = ()> {
    pub(super) token: T,
    pub(super) buffer: &'a mut [u8],
    pub(super) way: Way<'a, S, H>,
}

#[cfg(feature = "defmt")]
impl<T, S, H> defmt::Format for TxToken<'_, T, S, H> {
    fn format(&self, f: defmt::Formatter<'_>) {
        defmt::write!(f, "TxToken({} bytes)", self.buffer.len());
    }
}

impl<T: phy::TxToken, S: Storage, H: Mover<S>> phy::TxToken for TxToken<'_, T, S, H> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(mut self, length: usize, f: F) -> R {
        // The frame is written to a buffer outside the wrapped device, because a frame written there can no longer be
        // dropped.
        let Some(frame) = self.buffer.get_mut(..length) else {
            // Longer than the largest frame that the stack knows of. A frame that must be dropped is sent as zeros, which
            // receivers ignore.
            return self.token.consume(length, |frame| {
                let result = f(frame);
                if !self.way.translate_sent(frame) {
                    frame.fill(0);
                }
                result
            });
        };
        let result = f(frame);
        if self.way.translate_sent(frame) {
            self.token.consume(length, |sent| copy(frame, sent));
        }
        result
    }

    fn set_meta(&mut self, meta: PacketMeta) {
        self.token.set_meta(meta);
    }
}

/// What is needed to translate a frame.
#[derive(Debug)]
pub(super) struct Way<'a, S, H> {
    pub(super) translator: &'a mut Translator<S>,
    pub(super) mover: &'a mut H,
    pub(super) links: &'a mut Links,
    pub(super) medium: Medium,
    pub(super) now: Instant,
}

impl<S: Storage, H: Mover<S>> Way<'_, S, H> {
    /// Translates a frame that the stack sends. False if it is to be dropped.
    fn translate_sent(&mut self, frame: &mut [u8]) -> bool {
        let header = frame.first_chunk().copied().filter(|_| self.medium == Medium::Ethernet);
        let Some(packet) = packet(self.medium, frame) else {
            return true;
        };
        let verdict = self.mover.translate(self.now, self.translator, packet);
        if let Some(header) = header {
            self.links.learn(header, verdict);
        }
        goes_on(verdict)
    }

    /// Translates a received frame. False if it is to be dropped.
    pub(super) fn translate(&mut self, frame: &mut [u8]) -> bool {
        packet(self.medium, frame).is_none_or(|packet| goes_on(self.mover.translate(self.now, self.translator, packet)))
    }
}

const fn goes_on(verdict: Verdict) -> bool {
    match verdict {
        Verdict::ToServer | Verdict::ToClient | Verdict::Pass => true,
        Verdict::Hold | Verdict::Drop(_) => false,
    }
}
