//! Queries on a TCP connection: each message after its length (RFC 1035, section 4.2.2), and several before the first answer
//! (RFC 7766, section 6.2.1.1).

use core::net::Ipv4Addr;

use super::respond::{Answered, MAX_ANSWER, Transport};
use super::storage::NameStorage;
use super::table::Names;
use crate::time::Instant;

/// How many bytes of room an answer with its length needs at most.
pub const MAX_STREAM_ANSWER: usize = 2 + MAX_ANSWER;

/// How far [`Names::answer_stream`] has come, and why it stopped there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[must_use]
pub struct Streamed<'a> {
    /// How many bytes of the input were consumed; the caller keeps the others and appends what arrives next.
    pub taken: usize,
    /// How many bytes of `out` are to be sent.
    pub written: usize,
    /// What the caller has to do next.
    pub next: Next<'a>,
}

/// What comes next on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Next<'a> {
    /// Read more: the input ends within a message.
    Read,
    /// Send what was written, and call again with the rest of the input and an empty `out`.
    Write,
    /// This query is not ours. It is taken from the input. Ask the DNS server and send its answer after its length; other
    /// answers may overtake it (RFC 7766, section 7).
    Ask(&'a [u8]),
    /// Close the connection: what arrived is not a query.
    Close,
}

impl<N: NameStorage> Names<N> {
    /// Answers the queries at the start of `input`, the bytes received on a TCP connection so far, into `out`:
    /// [`MAX_STREAM_ANSWER`] bytes for each answer are always enough. It stops when the input ends, when `out` has less
    /// room than that, and at a query that is not ours. A message has at most 65 535 bytes, of which a query needs few:
    /// a caller that gives each connection a buffer of 1024 bytes may close one whose message does not fit.
    ///
    /// ```
    /// # use byway::Instant;
    /// # use byway::naming::*;
    /// # let mut names = Names::new(NamesConfig::new([7; 32]), FixedNames::<4>::new());
    /// # names.insert(NameEntry::new("a".parse::<Pattern>()?).to([203, 0, 113, 7].into()))?;
    /// # let query = b"\0\x13\x12\x34\x01\0\0\x01\0\0\0\0\0\0\x01a\0\0\x01\0\x01".to_vec();
    /// # let (input, client) = ([query.clone(), query, vec![0]].concat(), [192, 0, 2, 1].into());
    /// let mut out = [0; 4 * MAX_STREAM_ANSWER];
    /// let done = names.answer_stream(Instant::ZERO, client, &input, &mut out);
    /// // Two queries, and the first byte of a third.
    /// assert_eq!((done.taken, done.next), (input.len() - 1, Next::Read));
    /// assert_eq!(out[..2], [0, 35]);
    /// assert_eq!(done.written, 2 * (2 + 35));
    /// # Ok::<(), Box<dyn core::error::Error>>(())
    /// ```
    #[cfg_attr(not(target_pointer_width = "64"), inline(never))]
    pub fn answer_stream<'a>(
        &mut self,
        now: Instant,
        client: Ipv4Addr,
        input: &'a [u8],
        out: &mut [u8],
    ) -> Streamed<'a> {
        let mut done = Streamed { taken: 0, written: 0, next: Next::Read };
        while let Some((message, rest)) = first(input.get(done.taken..).unwrap_or_default()) {
            let room = out.get_mut(done.written..).unwrap_or_default();
            let Some((prefix, room)) = room.split_first_chunk_mut::<2>().filter(|(_, room)| room.len() >= MAX_ANSWER)
            else {
                done.next = Next::Write;
                return done;
            };
            let answered = self.answer(now, client, Transport::Tcp, message, room);
            done.taken = input.len() - rest;
            match answered {
                Answered::Answer { length } => {
                    *prefix = (length as u16).to_be_bytes();
                    done.written += 2 + length;
                }
                Answered::Pass => {
                    done.next = Next::Ask(message);
                    return done;
                }
                Answered::Drop(_) => {
                    done.next = Next::Close;
                    return done;
                }
            }
        }
        done
    }
}

/// The first message, and how many bytes follow it. `None` if it is not complete yet.
fn first(input: &[u8]) -> Option<(&[u8], usize)> {
    let (length, rest) = input.split_first_chunk()?;
    let (message, rest) = rest.split_at_checked(u16::from_be_bytes(*length).into())?;
    Some((message, rest.len()))
}
