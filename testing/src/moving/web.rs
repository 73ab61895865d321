//! The programs on the hosts: a web server whose bodies can be computed, and a client that checks each byte of them.

use smoltcp::socket::tcp::Socket;

/// The byte at this place of a body.
pub fn byte(path: &str, place: u64) -> u8 {
    let salt = path.bytes().fold(7_u64, |salt, byte| salt.wrapping_mul(31).wrapping_add(byte.into()));
    let mixed = (place ^ salt).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed >> 56) as u8
}

/// The length of a body, which its path ends with: `/a/1000`.
pub fn length(path: &str) -> u64 {
    path.rsplit('/').next().and_then(|length| length.parse().ok()).unwrap_or(0)
}

/// What is wrong with a server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fault {
    #[default]
    None,
    /// It has another version of everything.
    OtherTag,
    /// It does not know ranges.
    Whole,
    /// It reads and never answers.
    Mute,
    /// It answers with bytes that are no HTTP.
    Garbage,
    /// It resets the connection when it is asked.
    Aborts,
    /// It sends the head of a response, and then a byte of the body whenever the one before has been acknowledged.
    Drips,
}

/// One connection of a server.
#[derive(Clone, Debug, Default)]
pub struct Serving {
    request: Vec<u8>,
    /// The head that is to be sent, and then the bytes of a body from one place to another.
    head: Vec<u8>,
    body: Option<(String, u64, u64)>,
    pub served: u64,
}

impl Serving {
    /// `name` is what the server calls itself: heads differ in length.
    pub fn work(&mut self, socket: &mut Socket<'_>, name: &str, fault: Fault) {
        if !socket.is_open() || !socket.may_recv() && !socket.may_send() {
            *self = Self { served: self.served, ..Self::default() };
            return;
        }
        while socket.can_recv() && self.body.is_none() && self.head.is_empty() {
            let request = &mut self.request;
            let whole = socket.recv(|data| {
                for (count, byte) in data.iter().enumerate() {
                    request.push(*byte);
                    if request.ends_with(b"\r\n\r\n") {
                        return (count + 1, true);
                    }
                }
                (data.len(), false)
            });
            if whole == Ok(true) {
                let request = String::from_utf8(core::mem::take(&mut self.request)).expect("text");
                match fault {
                    Fault::Mute => return,
                    Fault::Aborts => return socket.abort(),
                    Fault::Garbage => self.head = b"\xff\x00garbage, and no line ends\x01\x02".repeat(3),
                    _ => self.answer(&request, name, fault),
                }
            }
        }
        let drips = fault == Fault::Drips;
        let may_send = |socket: &Socket<'_>| socket.can_send() && (!drips || socket.send_queue() == 0);
        let most = if drips { 1 } else { usize::MAX };
        while socket.can_send() && !self.head.is_empty() {
            let sent = socket.send_slice(&self.head).expect("it can");
            self.head.drain(..sent);
        }
        while may_send(socket)
            && self.head.is_empty()
            && let Some((path, next, end)) = &mut self.body
        {
            let sent = socket.send(|room| {
                let count = ((*end - *next) as usize).min(room.len()).min(most);
                for (offset, place) in room[..count].iter_mut().enumerate() {
                    *place = byte(path, *next + offset as u64);
                }
                (count, count as u64)
            });
            *next += sent.expect("it can");
            if next == end {
                self.body = None;
                self.served += 1;
            }
        }
        if !socket.may_recv() && self.body.is_none() && self.head.is_empty() {
            socket.close();
        }
    }

    fn answer(&mut self, request: &str, name: &str, fault: Fault) {
        let path = request.split(' ').nth(1).unwrap_or("/").to_owned();
        let field = |wanted: &str| {
            let lines = request.lines().filter_map(|line| line.split_once(": "));
            lines.filter(|(key, _)| key.eq_ignore_ascii_case(wanted)).map(|(_, value)| value.to_owned()).next_back()
        };
        let total = length(&path);
        let tag = if fault == Fault::OtherTag { format!("\"{path}-2\"") } else { format!("\"{path}\"") };
        // A weak tag promises the same meaning, not the same bytes.
        let tag = if path.starts_with("/weak/") { format!("W/{tag}") } else { tag };
        let range = field("range")
            .filter(|_| fault != Fault::Whole && field("if-range").is_none_or(|wanted| wanted == tag))
            .and_then(|range| {
                let (first, last) = range.strip_prefix("bytes=")?.split_once('-')?;
                let last = if last.is_empty() { total - 1 } else { last.parse().ok()? };
                Some((first.parse::<u64>().ok()?, last))
            });
        let (status, first, end, extra) = match range {
            Some((first, last)) => {
                ("206 Partial Content", first, last + 1, format!("Content-Range: bytes {first}-{last}/{total}\r\n"))
            }
            None => ("200 OK", 0, total, String::new()),
        };
        self.head = format!(
            "HTTP/1.1 {status}\r\nServer: {name}\r\nETag: {tag}\r\nContent-Length: {}\r\n{extra}\r\n",
            end - first
        )
        .into_bytes();
        self.body = (end > first).then_some((path, first, end));
    }
}

/// A client that asks for one path after the other on one connection.
#[derive(Clone, Debug)]
pub struct Asking {
    /// What is still to be asked for, last first.
    pub paths: Vec<String>,
    current: Option<String>,
    head: Vec<u8>,
    in_body: bool,
    /// Bytes of the current body.
    pub received: u64,
    /// Bodies that were right to the last byte.
    pub done: u64,
    /// Whether it waits before it asks again.
    pub paused: bool,
    /// Whether it reads nothing, so that its window closes.
    pub deaf: bool,
    pub bytes: u64,
    /// Every body, one after the other, if it is wanted.
    pub bodies: Option<Vec<u8>>,
}

impl Asking {
    pub fn new(paths: &[&str]) -> Self {
        let paths = paths.iter().rev().map(|&path| path.to_owned()).collect();
        Self {
            paths,
            current: None,
            head: Vec::new(),
            in_body: false,
            received: 0,
            done: 0,
            paused: false,
            deaf: false,
            bytes: 0,
            bodies: None,
        }
    }

    pub const fn is_idle(&self) -> bool {
        self.current.is_none()
    }

    pub fn is_done(&self) -> bool {
        self.current.is_none() && self.paths.is_empty()
    }

    pub fn work(&mut self, socket: &mut Socket<'_>) {
        if self.current.is_none()
            && !self.paused
            && socket.can_send()
            && let Some(path) = self.paths.pop()
        {
            // Some clients say that a request has no body.
            let extra = if self.done.is_multiple_of(2) { "" } else { "Content-Length: 0\r\n" };
            let request = format!("GET {path} HTTP/1.1\r\nHost: the.service\r\n{extra}Accept: */*\r\n\r\n");
            assert_eq!(socket.send_slice(request.as_bytes()), Ok(request.len()));
            self.current = Some(path);
        }
        while !self.deaf && socket.can_recv() {
            let mut chunk = [0; 4096];
            let count = socket.recv_slice(&mut chunk).expect("it can");
            for byte in &chunk[..count] {
                self.take(*byte);
            }
        }
    }

    fn take(&mut self, got: u8) {
        self.bytes += 1;
        let path = self.current.clone().unwrap_or_else(|| panic!("byte {got} that nobody asked for"));
        if !self.in_body {
            self.head.push(got);
            if self.head.ends_with(b"\r\n\r\n") {
                let head = String::from_utf8(core::mem::take(&mut self.head)).expect("text");
                assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
                assert!(head.contains(&format!("Content-Length: {}\r\n", length(&path))), "{head}");
                self.in_body = true;
                self.received = 0;
            }
        } else {
            assert_eq!(got, byte(&path, self.received), "byte {} of {path}", self.received);
            self.received += 1;
            if let Some(bodies) = &mut self.bodies {
                bodies.push(got);
            }
        }
        if self.in_body && self.received == length(&path) {
            (self.current, self.in_body) = (None, false);
            self.done += 1;
        }
    }
}
