//! Which of several monitors leads: what a monitor reports about itself, and the agent's answer.

use super::wire::{Reader, Writer};
use core::time::Duration;

use crate::time::Instant;

/// The shortest lease of a monitor that stands for the lead, in milliseconds.
pub const MIN_LEASE: u16 = 1_000;

/// The longest such lease, in milliseconds.
pub const MAX_LEASE: u16 = 60_000;

/// The most bytes of a note.
pub const MAX_NOTE: usize = 96;

/// The most bytes of a [`Lead`] in an answer: its fixed part, and a note.
pub(super) const LEAD: usize = 14 + MAX_NOTE;

/// Stands for "no monitor" in an answer. No monitor has this number.
pub(super) const NOBODY: u64 = u64::MAX;

/// What a monitor that leads leaves at the translator for those that watch: up to [`MAX_NOTE`] bytes that mean nothing
/// to the translator. They are not encrypted, like everything in this protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Note {
    length: u8,
    bytes: [u8; MAX_NOTE],
}

impl Note {
    /// A note without bytes.
    pub const EMPTY: Self = Self { length: 0, bytes: [0; MAX_NOTE] };

    /// A note of these bytes. `None` if there are more than [`MAX_NOTE`].
    #[must_use]
    pub fn new(bytes: &[u8]) -> Option<Self> {
        let mut note = Self { length: u8::try_from(bytes.len()).ok()?, ..Self::EMPTY };
        note.bytes.get_mut(..bytes.len())?.copy_from_slice(bytes);
        Some(note)
    }

    /// Its bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.length)).unwrap_or_default()
    }

    /// Writes its length, a zero, and its bytes.
    pub(super) fn write(&self, out: &mut Writer<'_>) {
        out.u8(self.length);
        out.u8(0);
        out.put(self.bytes());
    }

    pub(super) fn read(reader: &mut Reader<'_>) -> Option<Self> {
        let length = reader.u8()?;
        reader.zeros(1)?;
        Self::new(reader.take(usize::from(length))?)
    }
}

/// Who leads at a translator: the answer to [`Instruction::Lead`](super::Instruction::Lead).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub struct Lead {
    /// The number of the monitor that leads; `None` if none does at present.
    pub leader: Option<u64>,
    /// For how long the monitor that has asked leads, counted from when it first sent the request: it must not act
    /// after that. `None` if it must not act at all. Once it has given up waiting for the answer to a LEAD
    /// ([`GaveUp`](super::GaveUp)), it must not act either until another LEAD is answered.
    pub lease: Option<Duration>,
    /// How many monitors with its key stand for the lead, itself included.
    pub standing: u16,
    /// The note of the monitor that leads; empty if none does.
    pub note: Note,
}

impl Lead {
    pub(super) fn write(&self, out: &mut Writer<'_>) {
        out.u64(self.leader.unwrap_or(NOBODY));
        out.u16(self.lease.map_or(0, |lease| lease.as_millis() as u16));
        out.u16(self.standing);
        self.note.write(out);
    }

    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader(bytes);
        let (leader, lease, standing) = (reader.u64()?, reader.u16()?, reader.u16()?);
        Some(Self {
            leader: (leader != NOBODY).then_some(leader),
            lease: (lease != 0).then(|| Duration::from_millis(u64::from(lease))),
            standing,
            note: Note::read(&mut reader)?,
        })
    }
}

/// A monitor that stands for the lead; all zeros when it does not.
#[derive(Clone, Copy, Debug)]
pub(super) struct Standing {
    pub(super) number: u64,
    /// Until when it stands, unless it renews that.
    pub(super) until: Instant,
    /// When it will have stood for a whole lease, and can take the lead from another.
    pub(super) settled: Instant,
    /// Until when it leads.
    pub(super) leads_until: Instant,
    /// Whether an answer to it has said that it no longer leads. Its next request shows that it has got that answer.
    pub(super) yields: bool,
    pub(super) note: Note,
}

impl Standing {
    pub(super) const NONE: Self = Self {
        number: 0,
        until: Instant::ZERO,
        settled: Instant::ZERO,
        leads_until: Instant::ZERO,
        yields: false,
        note: Note::EMPTY,
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let note = Note::new(b"a note").unwrap();
        let long = Note::new(&[7; MAX_NOTE]).unwrap();
        for lead in [
            Lead { leader: None, lease: None, standing: 0, note: Note::EMPTY },
            Lead { leader: Some(7), lease: Some(Duration::from_millis(60_000)), standing: 2, note },
            Lead { leader: Some(0), lease: None, standing: u16::MAX, note: long },
        ] {
            let mut buffer = [0; 200];
            let mut out = Writer::new(&mut buffer);
            lead.write(&mut out);
            let length = out.length().unwrap();
            assert_eq!(Lead::read(&buffer[..length]), Some(lead));
            assert_eq!(Lead::read(&buffer[..length - 1]), None);
        }
        assert_eq!(Note::new(&[0; MAX_NOTE + 1]), None);
    }
}
