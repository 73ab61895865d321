//! TCP endpoints by RFC 9293, section 3.10.7, with the challenges of RFC 5961 and the data in a SYN of RFC 7413: small enough
//! to be read beside the RFCs, and with everything in the caller's hands that a real stack decides for itself (numbers,
//! time-outs, what of a SYN's data is taken). None of it is taken from the library.

use core::net::SocketAddrV4;
use std::collections::{BTreeMap, VecDeque};

use crate::truth::{ACK, End, FIN, RST, SYN, Segment};
use crate::{BOTH, checksums, ends, tcp};

/// The receive window of each endpoint, in bytes.
const WINDOW: u32 = 65_535;

/// The most data in a segment that is sent again.
const SEGMENT: u32 = 1_000;

/// The two ends of a connection, as the endpoint sees them: its own, and its peer.
pub type Ends = (SocketAddrV4, SocketAddrV4);

/// The state of one connection (RFC 9293, section 3.3.1): it has sent up to `next`, of which up to `unacknowledged` has
/// arrived, and expects `expected` next.
#[derive(Clone, Copy, Debug)]
pub struct Block {
    pub state: End,
    pub start: u32,
    pub unacknowledged: u32,
    pub next: u32,
    pub peers_start: u32,
    pub expected: u32,
    passive: bool,
    fin: Option<u32>,
}

impl Block {
    /// Whether two ends talk with each other, and not with an older incarnation of one of them.
    pub fn is_paired_with(&self, other: &Self) -> bool {
        self.state != End::SynSent
            && other.state != End::SynSent
            && self.peers_start == other.start
            && other.peers_start == self.start
    }

    pub fn is_all_acknowledged(&self) -> bool {
        self.unacknowledged == self.next
    }
}

const fn before(one: u32, other: u32) -> bool {
    (one.wrapping_sub(other) as i32) < 0
}

const fn up_to(one: u32, other: u32) -> bool {
    !before(other, one)
}

/// A host with TCP endpoints. What it sends is in `out`.
#[derive(Clone, Debug, Default)]
pub struct Host {
    pub listens: bool,
    /// How much of a SYN's data is taken.
    pub takes: u32,
    /// The numbers that connections begin with.
    pub starts: VecDeque<u32>,
    pub blocks: BTreeMap<Ends, Block>,
    pub out: VecDeque<Vec<u8>>,
}

impl Host {
    pub fn new(starts: impl IntoIterator<Item = u32>) -> Self {
        Self { starts: starts.into_iter().collect(), ..Self::default() }
    }

    pub fn state(&self, at: Ends) -> Option<End> {
        self.blocks.get(&at).map(|block| block.state)
    }

    fn send(&mut self, (own, peer): Ends, flags: u8, sequence: u32, acknowledgment: u32, data: u32) {
        self.out.push_back(tcp(own, peer, (flags, sequence, acknowledgment), &vec![7; data as usize]));
    }

    fn acknowledge(&mut self, at: Ends) {
        if let Some(&Block { next, expected, .. }) = self.blocks.get(&at) {
            self.send(at, ACK, next, expected, 0);
        }
    }

    fn begin(&mut self, at: Ends, state: End, data: u32) -> u32 {
        let start = self.starts.pop_front().expect("a number to begin with");
        let next = start.wrapping_add(1).wrapping_add(data);
        let block = Block {
            state,
            start,
            unacknowledged: start,
            next,
            peers_start: 0,
            expected: 0,
            passive: state == End::SynReceived,
            fin: None,
        };
        self.blocks.insert(at, block);
        start
    }

    /// Opens a connection, with this much data in the SYN.
    pub fn connect(&mut self, at: Ends, data: u32) {
        let start = self.begin(at, End::SynSent, data);
        self.send(at, SYN, start, 0, data);
    }

    pub fn write(&mut self, at: Ends, data: u32) {
        if let Some(block) = self.blocks.get_mut(&at)
            && matches!(block.state, End::Established | End::CloseWait)
        {
            let Block { next, expected, .. } = *block;
            block.next = next.wrapping_add(data);
            self.send(at, ACK, next, expected, data);
        }
    }

    pub fn close(&mut self, at: Ends) {
        let Some(block) = self.blocks.get_mut(&at) else {
            return;
        };
        block.state = match block.state {
            End::Established => End::FinWait1,
            End::CloseWait => End::LastAck,
            _ => return,
        };
        let Block { next, expected, .. } = *block;
        (block.fin, block.next) = (Some(next), next.wrapping_add(1));
        self.send(at, FIN | ACK, next, expected, 0);
    }

    pub fn abort(&mut self, at: Ends) {
        if let Some(block) = self.blocks.remove(&at)
            && !matches!(block.state, End::SynSent | End::Closing | End::LastAck | End::TimeWait)
        {
            self.send(at, RST | ACK, block.next, block.expected, 0);
        }
    }

    /// What a retransmission time-out does: the oldest segment goes out again, a SYN without its data.
    pub fn repeat(&mut self, at: Ends) {
        let Some(&block) = self.blocks.get(&at).filter(|block| !block.is_all_acknowledged()) else {
            return;
        };
        match block.state {
            End::SynSent => self.send(at, SYN, block.start, 0, 0),
            End::SynReceived => self.send(at, SYN | ACK, block.start, block.expected, 0),
            _ => {
                let end = block.fin.unwrap_or(block.next);
                let data = end.wrapping_sub(block.unacknowledged).min(SEGMENT);
                let fin = if block.fin == Some(block.unacknowledged.wrapping_add(data)) { FIN } else { 0 };
                self.send(at, ACK | fin, block.unacknowledged, block.expected, data);
            }
        }
    }

    /// A packet arrives.
    pub fn receive(&mut self, packet: &[u8]) {
        assert_eq!(checksums(packet), BOTH);
        let segment = Segment::read(packet).expect("a TCP segment");
        let (peer, own) = ends(packet);
        let at = (own, peer);
        match self.blocks.get(&at) {
            None if self.listens && segment.flags & (SYN | RST | ACK) == SYN => self.accept(at, &segment),
            None => self.refuse(at, &segment),
            Some(block) if block.state == End::SynSent => self.receive_in_syn_sent(at, &segment),
            // RFC 1122, section 4.2.2.13.
            Some(block)
                if block.state == End::TimeWait
                    && self.listens
                    && segment.flags & (SYN | RST | ACK) == SYN
                    && before(block.expected, segment.sequence) =>
            {
                self.accept(at, &segment);
            }
            Some(&block) => self.receive_synchronized(at, block, &segment),
        }
    }

    fn accept(&mut self, at: Ends, segment: &Segment) {
        let start = self.begin(at, End::SynReceived, 0);
        let expected = segment.sequence.wrapping_add(1).wrapping_add(segment.length.min(self.takes));
        if let Some(block) = self.blocks.get_mut(&at) {
            (block.peers_start, block.expected) = (segment.sequence, expected);
        }
        self.send(at, SYN | ACK, start, expected, 0);
    }

    /// CLOSED, and LISTEN for what it does not accept.
    fn refuse(&mut self, at: Ends, segment: &Segment) {
        match (segment.has(RST), segment.has(ACK)) {
            (true, _) => {}
            (false, true) => self.send(at, RST, segment.acknowledgment, 0, 0),
            (false, false) => self.send(at, RST | ACK, 0, segment.end(), 0),
        }
    }

    fn receive_in_syn_sent(&mut self, at: Ends, segment: &Segment) {
        let Some(block) = self.blocks.get_mut(&at) else {
            return;
        };
        let acknowledged = segment.acknowledgment;
        let acknowledges = segment.has(ACK) && before(block.start, acknowledged) && up_to(acknowledged, block.next);
        if segment.has(ACK) && !acknowledges {
            return self.refuse(at, segment);
        }
        if segment.has(RST) {
            if acknowledges {
                self.blocks.remove(&at);
            }
            return;
        }
        if !segment.has(SYN) {
            return;
        }
        (block.peers_start, block.expected) = (segment.sequence, segment.end());
        let Block { start, next, expected, .. } = *block;
        if acknowledges {
            (block.state, block.unacknowledged) = (End::Established, acknowledged);
            self.send(at, ACK, acknowledged, expected, next.wrapping_sub(acknowledged));
        } else {
            block.state = End::SynReceived;
            self.send(at, SYN | ACK, start, expected, 0);
        }
    }

    /// All states from SYN-RECEIVED on.
    fn receive_synchronized(&mut self, at: Ends, block: Block, segment: &Segment) {
        let length = segment.end().wrapping_sub(segment.sequence);
        let is_within = |number: u32| number.wrapping_sub(block.expected) < WINDOW;
        let is_acceptable = is_within(segment.sequence) || length != 0 && is_within(segment.end().wrapping_sub(1));
        if segment.has(RST) {
            if segment.sequence == block.expected {
                self.blocks.remove(&at);
            } else if is_within(segment.sequence) {
                self.acknowledge(at);
            }
            return;
        }
        if segment.has(SYN) && block.state == End::SynReceived && segment.sequence == block.peers_start {
            if segment.has(ACK) && segment.acknowledgment == block.next {
                self.update(at, |block| {
                    (block.state, block.unacknowledged) = (End::Established, segment.acknowledgment);
                });
                return self.acknowledge(at);
            }
            return self.send(at, SYN | ACK, block.start, block.expected, 0);
        }
        if segment.has(SYN) && is_acceptable && block.state == End::SynReceived && block.passive {
            // Back to LISTEN; the SYN will come again.
            self.blocks.remove(&at);
            return;
        }
        if !is_acceptable || segment.has(SYN) {
            return self.acknowledge(at);
        }
        if !segment.has(ACK) {
            return;
        }
        let oldest = block.unacknowledged.wrapping_sub(WINDOW);
        let is_new = before(block.unacknowledged, segment.acknowledgment);
        let is_sent = up_to(segment.acknowledgment, block.next);
        match block.state {
            End::SynReceived if !(is_new && is_sent) => return self.refuse(at, segment),
            _ if !(up_to(oldest, segment.acknowledgment) && is_sent) => return self.acknowledge(at),
            _ => {}
        }
        self.update(at, |block| {
            if is_new {
                block.unacknowledged = segment.acknowledgment;
            }
            let is_closed = block.fin.is_some() && block.is_all_acknowledged();
            block.state = match block.state {
                End::SynReceived => End::Established,
                End::FinWait1 if is_closed => End::FinWait2,
                End::Closing if is_closed => End::TimeWait,
                End::LastAck if is_closed => End::Closed,
                state => state,
            };
        });
        if self.state(at) == Some(End::Closed) {
            self.blocks.remove(&at);
            return;
        }
        if length == 0 {
            return;
        }
        self.update(at, |block| {
            let is_next = up_to(segment.sequence, block.expected) && before(block.expected, segment.end());
            let is_open = matches!(block.state, End::Established | End::FinWait1 | End::FinWait2);
            if !(is_next && is_open) {
                return;
            }
            block.expected = segment.end();
            block.state = match block.state {
                state if !segment.has(FIN) => state,
                End::Established => End::CloseWait,
                End::FinWait1 => End::Closing,
                _ => End::TimeWait,
            };
        });
        self.acknowledge(at);
    }

    fn update(&mut self, at: Ends, change: impl FnOnce(&mut Block)) {
        if let Some(block) = self.blocks.get_mut(&at) {
            change(block);
        }
    }
}
