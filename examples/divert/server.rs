//! A mirror server: it answers requests over UDP and TCP, and remembers nothing of a request once it is answered.

use core::ops::Range;

use smoltcp::iface::SocketHandle;
use smoltcp::socket::{tcp, udp};

use crate::content::{self, CHUNK, LONGEST_HEAD};
use byway_examples::host::Host;

/// How many TCP connections it serves at once.
const CONNECTIONS: usize = 4;

pub(crate) struct Server {
    name: char,
    port: u16,
    resource: Vec<u8>,
    udp: SocketHandle,
    connections: Vec<Connection>,
}

struct Connection {
    socket: SocketHandle,
    request: Vec<u8>,
    /// What is still to be sent, once the request is read.
    left: Option<Range<usize>>,
}

impl Server {
    pub(crate) fn new(name: char, port: u16, host: &mut Host) -> Self {
        let udp = host.sockets.add(udp::Socket::new(datagrams(), datagrams()));
        let connection = |_| {
            let [rx, tx] = [4096, 1 << 16].map(|size| tcp::SocketBuffer::new(vec![0; size]));
            Connection { socket: host.sockets.add(tcp::Socket::new(rx, tx)), request: Vec::new(), left: None }
        };
        let connections = (0..CONNECTIONS).map(connection).collect();
        Self { name, port, resource: content::resource(), udp, connections }
    }

    pub(crate) fn act(&mut self, host: &mut Host) {
        self.answer_datagrams(host.sockets.get_mut(self.udp));
        for connection in &mut self.connections {
            connection.act(self.name, self.port, &self.resource, host.sockets.get_mut(connection.socket));
        }
    }

    fn answer_datagrams(&self, socket: &mut udp::Socket<'_>) {
        if !socket.is_open() {
            socket.bind(self.port).expect("the port is not zero");
        }
        while socket.can_send()
            && let Ok((data, from)) = socket.recv()
        {
            let Some(part) = content::read_request(data).filter(|part| part.len() <= CHUNK) else {
                continue;
            };
            let answer = [content::heading(self.name, &part).as_bytes(), &self.resource[part]].concat();
            // A full buffer loses the answer, as networks do; the client asks again.
            let _ = socket.send_slice(&answer, from);
        }
    }
}

impl Connection {
    fn act(&mut self, name: char, port: u16, resource: &[u8], socket: &mut tcp::Socket<'_>) {
        if !socket.is_open() {
            self.request.clear();
            self.left = None;
            socket.listen(port).expect("the socket is closed, and the port is not zero");
        }
        while self.left.is_none()
            && socket.can_recv()
            && let Ok(byte) = socket.recv(|data| (data.len().min(1), data.first().copied()))
        {
            self.request.extend(byte);
            if let Some(part) = content::read_request(&self.request) {
                let _ = socket.send_slice(content::heading(name, &part).as_bytes());
                self.left = Some(part);
            } else if self.request.len() > LONGEST_HEAD {
                return socket.abort();
            }
        }
        if let Some(left) = &mut self.left {
            left.start += socket.send_slice(&resource[left.clone()]).unwrap_or(0);
            if left.start == left.end {
                socket.close();
            }
        } else if socket.state() == tcp::State::CloseWait {
            socket.close();
        }
    }
}

fn datagrams() -> udp::PacketBuffer<'static> {
    udp::PacketBuffer::new(vec![udp::PacketMetadata::EMPTY; 64], vec![0; 1 << 17])
}
