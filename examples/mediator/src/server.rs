//! A CoAP server in memory, for the demonstration and for tests.
//!
//! Its messages go through the crate `coap-lite`, while the proxy has its own reader and writer: so both ends cannot share
//! a mistake. It keeps to RFC 7252 (repetitions get the same answer), RFC 7959 (blocks in both directions) and RFC 7641
//! (observe).

use core::net::{SocketAddr, SocketAddrV4};
use core::sync::atomic::{AtomicBool, Ordering};
use core::time::Duration;
use std::collections::{BTreeMap, VecDeque};
use std::net::UdpSocket;
use std::sync::Arc;

use byway::Instant;
use coap_lite::{CoapOption, MessageClass, MessageType, Packet, RequestType, ResponseType};

use crate::coap::block::{Block, MAX_SIZE};
use crate::coap::message::Uint;
use crate::far::link::Host;

/// How many answers are remembered.
const REMEMBERED: usize = 256;

/// The longest body that is taken, in bytes.
const MAX_BODY: usize = 1 << 20;

/// What is at a path.
#[derive(Clone, Debug)]
pub struct Resource {
    /// The representation.
    pub body: Arc<[u8]>,
    /// Its ETag; none is sent if it is empty.
    pub etag: Vec<u8>,
    /// Its content format.
    pub format: Option<u16>,
    /// How long it may be cached, in seconds.
    pub max_age: Option<u32>,
}

impl Resource {
    /// A representation with an ETag that follows from its bytes, so that all servers that have it agree.
    #[must_use]
    pub fn new(body: impl Into<Arc<[u8]>>, format: Option<u16>) -> Self {
        use sha2::Digest;
        let body = body.into();
        let etag = sha2::Sha256::digest(&body).iter().take(8).copied().collect();
        Self { body, etag, format, max_age: None }
    }
}

/// The server.
#[derive(Debug, Default)]
pub struct Server {
    /// What it serves, by path: segments joined with slashes.
    pub resources: BTreeMap<String, Resource>,
    /// How many requests it has executed, without repetitions.
    pub requests: u64,
    /// How many POST requests it has executed.
    pub posts: u64,
    /// Whether it acknowledges first and answers in a message of its own (RFC 7252, section 5.2.2).
    pub separate: bool,
    uploads: BTreeMap<(SocketAddrV4, String), Vec<u8>>,
    answers: VecDeque<(SocketAddrV4, u16, Vec<Vec<u8>>)>,
    observers: Vec<Observer>,
    next_id: u16,
    notifications: u32,
}

#[derive(Debug)]
struct Observer {
    at: SocketAddrV4,
    path: String,
    token: Vec<u8>,
    last_id: u16,
}

impl Server {
    /// Changes a resource, and gives the notifications to send.
    pub fn change(&mut self, path: &str, resource: Resource) -> Vec<(SocketAddrV4, Vec<u8>)> {
        self.resources.insert(path.to_owned(), resource);
        self.notifications += 1;
        let mut sent = Vec::new();
        for at in 0..self.observers.len() {
            let id = self.id();
            let Some(observer) = self.observers.get_mut(at).filter(|observer| observer.path == path) else {
                continue;
            };
            observer.last_id = id;
            let mut answer = Packet::new();
            answer.header.set_type(MessageType::Confirmable);
            answer.header.message_id = id;
            answer.set_token(observer.token.clone());
            let to = observer.at;
            self.represent(&mut answer, path, None);
            answer.add_option(CoapOption::Observe, uint(self.notifications));
            sent.extend(answer.to_bytes().ok().map(|bytes| (to, bytes)));
        }
        sent
    }

    /// How many observers there are.
    #[must_use]
    pub fn observers(&self) -> usize {
        self.observers.len()
    }

    /// Forgets all observers.
    pub fn forget_observers(&mut self) {
        self.observers.clear();
    }

    /// Takes a datagram, and gives what is sent back.
    pub fn handle(&mut self, from: SocketAddrV4, datagram: &[u8]) -> Vec<Vec<u8>> {
        let Ok(request) = Packet::from_bytes(datagram) else {
            return Vec::new();
        };
        let id = request.header.message_id;
        let MessageClass::Request(method) = request.header.code else {
            if request.header.get_type() == MessageType::Reset {
                self.observers.retain(|observer| observer.at != from || observer.last_id != id);
            }
            return Vec::new();
        };
        if let Some((.., answers)) = self.answers.iter().find(|(at, of, _)| (*at, *of) == (from, id)) {
            return answers.clone();
        }
        self.requests += 1;
        let mut answer = Packet::new();
        answer.set_token(request.get_token().to_vec());
        self.execute(method, from, &request, &mut answer);
        let mut answers = Vec::new();
        if self.separate {
            let mut acknowledgement = Packet::new();
            acknowledgement.header.set_type(MessageType::Acknowledgement);
            acknowledgement.header.code = MessageClass::Empty;
            acknowledgement.header.message_id = id;
            answers.extend(acknowledgement.to_bytes());
            answer.header.set_type(MessageType::Confirmable);
            answer.header.message_id = self.id();
        } else {
            answer.header.set_type(MessageType::Acknowledgement);
            answer.header.message_id = id;
        }
        answers.extend(answer.to_bytes());
        if self.answers.len() == REMEMBERED {
            self.answers.pop_front();
        }
        self.answers.push_back((from, id, answers.clone()));
        answers
    }

    fn id(&mut self) -> u16 {
        self.next_id = self.next_id.wrapping_add(1);
        self.next_id
    }

    fn execute(&mut self, method: RequestType, from: SocketAddrV4, request: &Packet, answer: &mut Packet) {
        let segments = request.get_option(CoapOption::UriPath).into_iter().flatten();
        let path = segments.map(|segment| String::from_utf8_lossy(segment)).collect::<Vec<_>>().join("/");
        let code = match method {
            RequestType::Get => return self.get(from, &path, request, answer),
            RequestType::Delete => {
                self.resources.remove(&path);
                ResponseType::Deleted
            }
            RequestType::Put | RequestType::Post => match self.upload(from, &path, request, answer) {
                Err(code) => code,
                Ok(body) => return self.store(method, &path, body, request, answer),
            },
            _ => ResponseType::MethodNotAllowed,
        };
        answer.header.code = MessageClass::Response(code);
    }

    fn get(&mut self, from: SocketAddrV4, path: &str, request: &Packet, answer: &mut Packet) {
        let is_known = self.resources.get(path).is_some_and(|resource| {
            request.get_option(CoapOption::ETag).into_iter().flatten().any(|etag| *etag == resource.etag)
        });
        if is_known {
            answer.header.code = MessageClass::Response(ResponseType::Valid);
            answer.add_option(CoapOption::ETag, self.resources.get(path).map(|r| r.etag.clone()).unwrap_or_default());
            return;
        }
        let block = first(request, CoapOption::Block2);
        self.represent(answer, path, block);
        let observe = request.get_option(CoapOption::Observe).and_then(|values| values.front());
        if let Some(value) = observe.filter(|_| self.resources.contains_key(path)) {
            let token = request.get_token().to_vec();
            self.observers.retain(|observer| observer.at != from || observer.token != token);
            if value.iter().all(|byte| *byte == 0) {
                let (path, last_id) = (path.to_owned(), request.header.message_id);
                self.observers.push(Observer { at: from, path, token, last_id });
                self.notifications += 1;
                answer.add_option(CoapOption::Observe, uint(self.notifications));
            }
        }
    }

    /// A block of a resource, or an error.
    fn represent(&self, answer: &mut Packet, path: &str, block: Option<Block>) {
        let Some(resource) = self.resources.get(path) else {
            answer.header.code = MessageClass::Response(ResponseType::NotFound);
            answer.payload = b"there is nothing".to_vec();
            return;
        };
        answer.header.code = MessageClass::Response(ResponseType::Content);
        if !resource.etag.is_empty() {
            answer.add_option(CoapOption::ETag, resource.etag.clone());
        }
        if let Some(format) = resource.format {
            answer.add_option(CoapOption::ContentFormat, uint(u32::from(format)));
        }
        if let Some(max_age) = resource.max_age {
            answer.add_option(CoapOption::MaxAge, uint(max_age));
        }
        blockwise(answer, &resource.body, block);
    }

    /// Adds a block of an upload. The whole body, when it is complete.
    fn upload(
        &mut self,
        from: SocketAddrV4,
        path: &str,
        request: &Packet,
        answer: &mut Packet,
    ) -> Result<Vec<u8>, ResponseType> {
        let Some(block) = first(request, CoapOption::Block1) else {
            return Ok(request.payload.clone());
        };
        let key = (from, path.to_owned());
        if block.number == 0 {
            self.uploads.insert(key.clone(), Vec::new());
        }
        let body = self.uploads.get_mut(&key).filter(|body| body.len() as u64 == block.offset());
        let body = body.ok_or(ResponseType::RequestEntityIncomplete)?;
        if body.len() + request.payload.len() > MAX_BODY {
            return Err(ResponseType::RequestEntityTooLarge);
        }
        body.extend_from_slice(&request.payload);
        answer.add_option(CoapOption::Block1, uint(block.value()));
        if block.more {
            return Err(ResponseType::Continue);
        }
        Ok(self.uploads.remove(&key).unwrap_or_default())
    }

    fn store(&mut self, method: RequestType, path: &str, body: Vec<u8>, request: &Packet, answer: &mut Packet) {
        let block = first(request, CoapOption::Block2);
        if method == RequestType::Post && block.is_some_and(|block| block.number != 0) {
            // More of the response to the last one (RFC 7959, section 3.3).
            answer.header.code = MessageClass::Response(ResponseType::Created);
            if let Some(last) = self.resources.get(&format!("{path}/{}", self.posts)) {
                blockwise(answer, &last.body, block);
            }
            return;
        }
        if method == RequestType::Post {
            self.posts += 1;
            answer.header.code = MessageClass::Response(ResponseType::Created);
            answer.add_option(CoapOption::LocationPath, path.as_bytes().to_vec());
            answer.add_option(CoapOption::LocationPath, self.posts.to_string().into_bytes());
            blockwise(answer, &body, block);
            self.resources.insert(format!("{path}/{}", self.posts), Resource::new(body, None));
            return;
        }
        let format = request.get_option(CoapOption::ContentFormat).and_then(|values| values.front());
        let format = format.map(|value| value.iter().fold(0, |sum, byte| (sum << 8) | u16::from(*byte)));
        let is_new = self.resources.insert(path.to_owned(), Resource::new(body, format)).is_none();
        let code = if is_new { ResponseType::Created } else { ResponseType::Changed };
        answer.header.code = MessageClass::Response(code);
    }
}

/// Puts a body, or the block of it that was asked for, into an answer.
fn blockwise(answer: &mut Packet, body: &[u8], asked: Option<Block>) {
    let asked = asked.unwrap_or(Block { number: 0, more: false, size: MAX_SIZE });
    let start = usize::try_from(asked.offset()).unwrap_or(usize::MAX);
    let Some(rest) = body.get(start..).filter(|rest| !rest.is_empty() || start == 0) else {
        answer.header.code = MessageClass::Response(ResponseType::BadOption);
        return;
    };
    let payload = rest.get(..asked.length()).unwrap_or(rest);
    answer.payload = payload.to_vec();
    if body.len() > asked.length() || asked.number != 0 {
        let block = Block { more: payload.len() < rest.len(), ..asked };
        answer.add_option(CoapOption::Block2, uint(block.value()));
        answer.add_option(CoapOption::Size2, uint(u32::try_from(body.len()).unwrap_or(u32::MAX)));
    }
}

fn first(request: &Packet, option: CoapOption) -> Option<Block> {
    Block::parse(request.get_option(option)?.front()?)
}

fn uint(value: u32) -> Vec<u8> {
    Uint::new(value).as_bytes().to_vec()
}

/// A server that several hold.
pub type SharedServer = Arc<std::sync::Mutex<Server>>;

impl Host for SharedServer {
    fn receive(&mut self, _: Instant, from: SocketAddrV4, datagram: &[u8]) -> Vec<Vec<u8>> {
        self.lock().map(|mut server| server.handle(from, datagram)).unwrap_or_default()
    }
}

/// Serves on a socket until `stop` is set.
pub fn serve(socket: &UdpSocket, server: &SharedServer, stop: &AtomicBool) {
    let mut datagram = [0; 2048];
    if socket.set_read_timeout(Some(Duration::from_millis(100))).is_err() {
        return;
    }
    while !stop.load(Ordering::Relaxed) {
        let Ok((length, SocketAddr::V4(from))) = socket.recv_from(&mut datagram) else {
            continue;
        };
        let answers = server.lock().map(|mut server| server.handle(from, datagram.get(..length).unwrap_or_default()));
        for answer in answers.into_iter().flatten() {
            // One that is lost is asked for again.
            let _ = socket.send_to(&answer, from);
        }
    }
}
