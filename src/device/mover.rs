//! Hand-over of the connections that pass through the device, if it is used.

use crate::table::storage::Storage;
use crate::time::Instant;
use crate::translator::{HandOvers, Resumption, Translator, Transmit};
use crate::verdict::Verdict;

/// What hands connections over beside the translator: nothing (`()`), or [`HandOvers`]. Sealed.
pub trait Mover<S: Storage>: Sealed {
    /// Whether it does anything at all.
    #[doc(hidden)]
    const MOVES: bool;

    /// As [`HandOvers::translate`].
    #[doc(hidden)]
    fn translate(&mut self, now: Instant, translator: &mut Translator<S>, packet: &mut [u8]) -> Verdict;

    /// As [`HandOvers::poll`].
    #[doc(hidden)]
    fn poll(&mut self, now: Instant, translator: &mut Translator<S>);

    /// As [`HandOvers::poll_at`].
    #[doc(hidden)]
    fn poll_at(&self, now: Instant) -> Option<Instant>;

    /// As [`HandOvers::poll_transmit`].
    #[doc(hidden)]
    fn poll_transmit(&mut self, now: Instant, translator: &mut Translator<S>, buffer: &mut [u8]) -> Option<Transmit>;
}

pub trait Sealed {}

impl Sealed for () {}

impl<S: Storage> Mover<S> for () {
    const MOVES: bool = false;

    #[inline]
    fn translate(&mut self, now: Instant, translator: &mut Translator<S>, packet: &mut [u8]) -> Verdict {
        translator.translate(now, packet)
    }

    #[inline]
    fn poll(&mut self, _: Instant, _: &mut Translator<S>) {}

    #[inline]
    fn poll_at(&self, _: Instant) -> Option<Instant> {
        None
    }

    #[inline]
    fn poll_transmit(&mut self, _: Instant, _: &mut Translator<S>, _: &mut [u8]) -> Option<Transmit> {
        None
    }
}

impl<R, const N: usize> Sealed for HandOvers<'_, R, N> {}

impl<S: Storage, R: Resumption, const N: usize> Mover<S> for HandOvers<'_, R, N> {
    const MOVES: bool = true;

    fn translate(&mut self, now: Instant, translator: &mut Translator<S>, packet: &mut [u8]) -> Verdict {
        HandOvers::translate(self, now, translator, packet)
    }

    fn poll(&mut self, now: Instant, translator: &mut Translator<S>) {
        HandOvers::poll(self, now, translator);
    }

    fn poll_at(&self, now: Instant) -> Option<Instant> {
        HandOvers::poll_at(self, now)
    }

    fn poll_transmit(&mut self, now: Instant, translator: &mut Translator<S>, buffer: &mut [u8]) -> Option<Transmit> {
        HandOvers::poll_transmit(self, now, translator, buffer)
    }
}
