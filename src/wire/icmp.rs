//! ICMP messages (RFC 792) and the packets that they quote.

use super::checksum::{self, Delta};
use super::tcp;

/// Length of an ICMP header in bytes.
pub(crate) const HEADER: usize = 8;

const ECHO_REPLY: u8 = 0;
pub(crate) const UNREACHABLE: u8 = 3;
pub(crate) const ECHO_REQUEST: u8 = 8;

/// Destination unreachable: communication administratively prohibited (RFC 1812, section 5.2.7.1).
pub(crate) const PROHIBITED: u8 = 13;

/// The kind of message that a type number stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    EchoRequest,
    EchoReply,
    /// It quotes the packet that caused it.
    Error,
    Other,
}

pub(crate) const fn kind(number: u8) -> Kind {
    match number {
        ECHO_REQUEST => Kind::EchoRequest,
        ECHO_REPLY => Kind::EchoReply,
        // Destination unreachable, source quench, redirect, time exceeded, parameter problem.
        UNREACHABLE | 4 | 5 | 11 | 12 => Kind::Error,
        _ => Kind::Other,
    }
}

/// Replaces the identifier of an echo message, and updates its checksum by `delta`. `message` may be its first part
/// only.
///
/// A reply that becomes all zeros gets the checksum 0xFFFF, the only correct one for it. If the rest of the message is
/// in other fragments, that is correct too, whatever the rest contains. One wrong checksum is repaired on the way:
/// 0x0000 in a reply of all zeros whose identifier changes, which only a client that uses identifier 0 can cause.
/// Checking for it would cost 84 bytes of flash.
pub(super) fn set_identifier(message: &mut [u8], identifier: u16, delta: Delta) {
    let Some(first) = message.first_chunk_mut::<HEADER>() else {
        return;
    };
    let identifier = identifier.to_be_bytes();
    if first[4..6] == identifier {
        return;
    }
    first[4..6].copy_from_slice(&identifier);
    [first[2], first[3]] = checksum::update([first[2], first[3]], delta);
    if is_zero(message)
        && let Some(field) = message.get_mut(2..4)
    {
        field.fill(0xff);
    }
}

// Stops at the first byte that is not zero: in nearly all messages that is one of the first four.
fn is_zero(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| *byte == 0)
}

const _: () = assert!(tcp::HEADER == 20 && HEADER == 8);

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether a receiver accepts the checksum of a message.
    fn is_right(message: &[u8]) -> bool {
        checksum::finish(checksum::sum(0, message)) == 0
    }

    /// Identifiers of every kind are replaced, in messages whose first six words are those of a reply and zero except
    /// for one: a correct checksum stays correct, by a sum over all bytes. A wrong one becomes correct only where
    /// equation 3 cannot distinguish the two: in a message of all zeros, including its checksum.
    #[test]
    fn a_right_checksum_stays_right_whatever_the_identifiers_are() {
        for old in (0..=0xffff_u16).filter(|old| *old < 20 || *old > 0xfff0 || old % 97 == 0) {
            for new in [0, 1, 0x00ff, 0x8000, 0xfffe, 0xffff, !old, old.wrapping_add(1)] {
                for rest in [0, 1, 0x0100, 0xfffe, 0xffff, !old, !new] {
                    let mut message = [0; 12];
                    message[4..6].copy_from_slice(&old.to_be_bytes());
                    message[8..10].copy_from_slice(&u16::to_be_bytes(rest));
                    let right = checksum::finish(checksum::sum(0, &message));
                    for written in [right, !right, right ^ 1, 0, 0xffff] {
                        let mut message = message;
                        message[2..4].copy_from_slice(&written.to_be_bytes());
                        let (before, was_right) = (message, is_right(&message));
                        let delta = Delta::of([u32::from(old)], [u32::from(new)]);
                        set_identifier(&mut message, new, delta);
                        assert_eq!(message[4..6], new.to_be_bytes());
                        let exempt = before == [0; 12] && old != new;
                        assert!(exempt || is_right(&message) == was_right, "{before:x?} {message:x?}");
                        assert!(old != new || message == before);
                    }
                }
            }
        }
    }

    /// A first fragment's checksum depends on the rest of the message: with any rest, a correct checksum stays correct.
    #[test]
    fn a_first_part_of_zeros_is_right_with_any_rest() {
        for old in [0, 1, 0x1234, 0xfffe, 0xffff_u16] {
            for new in [0, 1, 0x4321, 0xfffe, 0xffff_u16] {
                for rest in (0..=0xffff_u16).step_by(15) {
                    let mut message = [0; 10];
                    message[4..6].copy_from_slice(&old.to_be_bytes());
                    message[8..10].copy_from_slice(&rest.to_be_bytes());
                    let right = checksum::finish(checksum::sum(0, &message));
                    message[2..4].copy_from_slice(&right.to_be_bytes());
                    set_identifier(&mut message[..8], new, Delta::of([u32::from(old)], [u32::from(new)]));
                    assert!(is_right(&message), "{old:#x} -> {new:#x}, {rest:#x}");
                }
            }
        }
    }
}
