//! The connection to the collector, over UDP or TCP.

use core::net::SocketAddr;
use core::sync::atomic::Ordering;
use core::time::Duration;
use std::io::{self, ErrorKind, Write};
use std::net::{TcpStream, UdpSocket};
use std::sync::Arc;

use byway::Instant;
use byway::report::Exporter;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tracing::{info, warn};

use super::Sent;
use crate::config::{self, Transport};

/// How long a collector may take to accept a connection, and to make room for a message.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long until a collector is tried again that has not accepted one.
const RETRY: Duration = Duration::from_secs(3);

/// The way to the collector.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) collector: SocketAddr,
    pub(super) wire: Wire,
    pub(super) sent: Arc<Sent>,
    /// Whether a datagram got lost, so that the collector may lack templates.
    pub(super) lacks: bool,
}

#[derive(Debug)]
pub(super) enum Wire {
    /// Whether it is connected, and the records in the datagram that was sent last: if nobody has taken it, that is known
    /// with the next one.
    Udp(UdpSocket, bool, u64),
    Tcp(TcpStream),
    /// No connection until it is tried again.
    Broken(Instant),
}

impl Wire {
    /// The number of records in the datagram that was sent last; zero when asked again.
    const fn take_last(&mut self) -> u64 {
        match self {
            Self::Udp(_, _, last) => core::mem::replace(last, 0),
            _ => 0,
        }
    }

    pub(super) fn of(settings: &config::Report) -> io::Result<Self> {
        if settings.transport == Transport::Tcp {
            return Ok(Self::Broken(Instant::ZERO));
        }
        let socket = UdpSocket::bind("0.0.0.0:0")?;
        socket.set_write_timeout(Some(PATIENCE))?;
        Ok(Self::Udp(socket, false, 0))
    }
}

impl Line {
    /// Connects if there is no connection and it is time. Returns whether there is one.
    pub(super) fn connect(&mut self, now: Instant, exporters: &mut [Exporter<Vec<u8>>]) -> bool {
        self.check(now);
        let Wire::Broken(retry) = self.wire else {
            return true;
        };
        if now < retry {
            return false;
        }
        let connected = TcpStream::connect_timeout(&self.collector, PATIENCE).and_then(|stream| {
            stream.set_write_timeout(Some(PATIENCE))?;
            stream.set_nodelay(true)?;
            Ok(stream)
        });
        match connected {
            Ok(stream) => {
                info!("report: connected to {}", self.collector);
                // Another session: it begins with templates.
                exporters.iter_mut().for_each(Exporter::restart);
                self.wire = Wire::Tcp(stream);
                true
            }
            Err(why) => {
                self.fail(&why);
                self.wire = Wire::Broken(now + PATIENCE + RETRY);
                false
            }
        }
    }

    /// Notices that a collector has closed its connection: what is written after that is lost without an error.
    fn check(&mut self, now: Instant) {
        if let Wire::Tcp(stream) = &self.wire {
            let mut fds = [PollFd::new(stream, PollFlags::IN | PollFlags::RDHUP)];
            // A collector says nothing, so whatever there is to read is its end.
            if poll(&mut fds, Some(&Timespec::default())).is_ok_and(|ready| ready > 0) {
                self.fail(&ErrorKind::ConnectionReset.into());
                // A collector that accepts and closes at once is not tried all the time.
                self.wire = Wire::Broken(now + RETRY);
            }
        }
    }

    /// When it is tried again, if there is no connection.
    pub(super) fn due(&self, now: Instant) -> Option<Instant> {
        match &self.wire {
            Wire::Broken(retry) => Some((*retry).max(now)),
            _ => None,
        }
    }

    /// Sends all messages that an exporter has, if there is a line.
    pub(super) fn send_all(&mut self, now: Instant, exporter: &mut Exporter<Vec<u8>>) {
        loop {
            self.check(now);
            if matches!(self.wire, Wire::Broken(_)) {
                return;
            }
            let before = exporter.statistics().records;
            let Some(message) = exporter.poll_transmit(now) else {
                return;
            };
            let (result, refused) = self.send(message);
            let records = exporter.statistics().records - before;
            if refused {
                // No collector has taken it. The next one needs templates.
                exporter.lost(self.wire.take_last());
                self.lacks = true;
            }
            match (result, &mut self.wire) {
                (Ok(()), Wire::Udp(_, _, last)) => *last = records,
                (Ok(()), _) => {}
                (Err(why), wire) => {
                    exporter.lost(records);
                    match wire {
                        // A part of the message may have been sent: nothing can follow it.
                        Wire::Tcp(_) => *wire = Wire::Broken(now + RETRY),
                        // It may have been the templates.
                        _ => self.lacks = true,
                    }
                    self.fail(&why);
                }
            }
        }
    }

    /// Lets all exporters send their templates again if a datagram got lost: it may have been another exporter's.
    pub(super) fn announce_lost(&mut self, exporters: &mut [Exporter<Vec<u8>>]) {
        if core::mem::take(&mut self.lacks) {
            exporters.iter_mut().for_each(Exporter::announce_again);
        }
    }

    /// Sends a message. Also says whether the one before was refused.
    fn send(&mut self, message: &[u8]) -> (io::Result<()>, bool) {
        match &mut self.wire {
            Wire::Udp(socket, is_connected, _) => {
                if !*is_connected && let Err(why) = socket.connect(self.collector) {
                    return (Err(why), false);
                }
                *is_connected = true;
                match socket.send(message) {
                    // The error is of the datagram before.
                    Err(why) if why.kind() == ErrorKind::ConnectionRefused => {
                        let sent = socket.send(message).map(drop);
                        self.fail(&why);
                        (sent, true)
                    }
                    sent => (sent.map(drop), false),
                }
            }
            Wire::Tcp(stream) => (stream.write_all(message), false),
            Wire::Broken(_) => (Err(ErrorKind::NotConnected.into()), false),
        }
    }

    /// Counts a failure, and says so now and then: the first, the second, the fourth, and so on.
    fn fail(&self, why: &io::Error) {
        let failures = self.sent.failures.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
        if failures.is_power_of_two() {
            warn!(failures, "report: {}: {why}; reports get lost until it is there", self.collector);
        }
    }
}

#[cfg(test)]
mod tests {
    use byway::report::{Settings, Totals};
    use byway::{Config, Heap, Translator};

    use super::*;

    /// The kernel refuses datagrams to everybody on a socket that has not asked for that.
    const REFUSED: &str = "255.255.255.255:4739";

    /// What cannot be sent over UDP may have been templates, and those of another shard: they come again once it can be sent.
    #[test]
    fn templates_come_again_after_any_error() {
        let collector = UdpSocket::bind("127.0.0.1:0").unwrap();
        collector.set_read_timeout(Some(PATIENCE)).unwrap();
        let wire = Wire::Udp(UdpSocket::bind("0.0.0.0:0").unwrap(), false, 0);
        let mut line = Line { collector: REFUSED.parse().unwrap(), wire, sent: Arc::default(), lacks: false };
        let exporter = |shard| Exporter::new(Settings::new(32_473).domain(shard), vec![0; 1400]).unwrap();
        let mut exporters = [exporter(1), exporter(2)];
        let config = Config::new([7; 32]).alternative([10, 10, 10, 10].into(), 1024..=65535);
        let totals = Totals::of(&Translator::new(config, Heap::new(16, 16)).unwrap());
        let mut write = |line: &mut Line, seconds| {
            let now = Instant::from_secs(seconds);
            // As the thread does: what is due before there are new records, and these.
            for exporter in &mut exporters {
                line.send_all(now, exporter);
            }
            for exporter in &mut exporters {
                exporter.counters(now, &totals).unwrap();
                exporter.flush();
                line.send_all(now, exporter);
            }
            line.announce_lost(&mut exporters);
        };
        write(&mut line, 10);
        assert!(line.sent.failures.load(Ordering::Relaxed) >= 4);
        line.collector = collector.local_addr().unwrap();
        write(&mut line, 20);
        let mut message = [0; 2048];
        // Of each shard templates come before data.
        let (mut has_templates, mut data) = ([false; 2], [0; 2]);
        while data.contains(&0) {
            let length = collector.recv(&mut message).expect("there are more messages");
            let shard = usize::from(message[15]) - 1;
            let set = u16::from_be_bytes([message[16], message[17]]);
            assert!(length > 20);
            match set {
                2 | 3 => has_templates[shard] = true,
                _ => {
                    assert!(has_templates[shard], "data of shard {shard} without templates");
                    data[shard] += 1;
                }
            }
        }
        assert_eq!(has_templates, [true; 2]);
    }
}
