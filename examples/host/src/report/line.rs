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
                exporter.announce_again();
            }
            match (result, &mut self.wire) {
                (Ok(()), Wire::Udp(_, _, last)) => *last = records,
                (Ok(()), _) => {}
                (Err(why), wire) => {
                    exporter.lost(records);
                    if let Wire::Tcp(_) = wire {
                        // A part of the message may have been sent: nothing can follow it.
                        *wire = Wire::Broken(now + RETRY);
                    }
                    self.fail(&why);
                }
            }
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
