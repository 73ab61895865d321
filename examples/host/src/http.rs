//! HTTP/1.1 for the pages of this program: a thread for each connection and one request on it, within a time and a length.

use core::sync::atomic::{AtomicUsize, Ordering};
use core::time::Duration;
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Instant;

use crate::thread;

/// The limits for a client.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// How many clients are served at once; further ones get status 503.
    pub at_once: usize,
    /// The longest request, in bytes.
    pub longest: usize,
    /// How long a client may take to send its request, and again to read the answer.
    pub patience: Duration,
}

/// A request.
#[derive(Debug, Default)]
pub struct Request {
    /// `GET` and the like.
    pub method: String,
    /// The path, without the query behind it.
    pub path: String,
    /// The body.
    pub body: Vec<u8>,
    /// Names in lower case, and values.
    headers: Vec<(String, String)>,
}

/// Why a request is refused: a status and a reason.
pub type Refused = (u16, &'static str);

const MALFORMED: Refused = (400, "the request is malformed");
const TOO_LONG: Refused = (413, "the request is too long");
const TOO_LATE: Refused = (408, "the request took too long");

impl Request {
    /// The value of a header.
    ///
    /// # Errors
    /// The header is there twice, so that two readers can understand two things.
    pub fn header(&self, name: &str) -> Result<Option<&str>, Refused> {
        let mut values = self.headers.iter().filter(|(known, _)| known == name).map(|(_, value)| value.as_str());
        let first = values.next();
        values.next().map_or(Ok(first), |_| Err(MALFORMED))
    }

    /// How long the body is.
    fn length(&self) -> Result<usize, Refused> {
        if self.header("transfer-encoding")?.is_some() {
            return Err((501, "a length is needed"));
        }
        let Some(value) = self.header("content-length")? else { return Ok(0) };
        // Digits and nothing else (RFC 9110, section 8.6): `parse` would take a sign.
        let number = value.bytes().all(|byte| byte.is_ascii_digit()).then(|| value.parse());
        number.and_then(Result::ok).ok_or(MALFORMED)
    }
}

/// Serves all connections, on threads called `name`. `converse` gets the connection and the request on it.
///
/// # Errors
/// The thread cannot be started.
pub fn serve<F>(name: &'static str, listener: TcpListener, limits: Limits, converse: F) -> Result<(), String>
where
    F: Fn(&TcpStream, Result<Request, Refused>) -> io::Result<()> + Clone + Send + 'static,
{
    let busy = Arc::new(AtomicUsize::new(0));
    let serve = move || {
        for stream in listener.incoming().flatten() {
            let served = Served::new(&busy);
            if served.before >= limits.at_once {
                let _ = answer(&stream, limits, 503, "text/plain", "", b"too many at once\n");
                continue;
            }
            let converse = converse.clone();
            // If the thread cannot be started, the client is not served.
            let _ = thread::start(name, move || {
                let _served = served;
                let asked = read(&stream, limits);
                converse(&stream, asked)
            });
        }
    };
    thread::start(name, serve).map(drop)
}

/// A client that is being served.
struct Served {
    busy: Arc<AtomicUsize>,
    before: usize,
}

impl Served {
    fn new(busy: &Arc<AtomicUsize>) -> Self {
        Self { busy: busy.clone(), before: busy.fetch_add(1, Ordering::Relaxed) }
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.busy.fetch_sub(1, Ordering::Relaxed);
    }
}

/// How much is left of a client's time.
fn left(until: Instant) -> io::Result<Duration> {
    match until.saturating_duration_since(Instant::now()) {
        Duration::ZERO => Err(io::ErrorKind::TimedOut.into()),
        left => Ok(left),
    }
}

/// Reads a request with its body.
fn read(mut stream: &TcpStream, limits: Limits) -> Result<Request, Refused> {
    let until = Instant::now() + limits.patience;
    let (mut bytes, mut buffer) = (Vec::new(), [0; 4096]);
    loop {
        let read = left(until).and_then(|left| stream.set_read_timeout(Some(left))).and_then(|()| stream.read(&mut buffer));
        let length = read.map_err(|_| TOO_LATE)?;
        bytes.extend_from_slice(&buffer[..length]);
        if let Some((mut request, body)) = parse(&bytes)? {
            let end = body.saturating_add(request.length()?);
            if end > limits.longest {
                return Err(TOO_LONG);
            }
            if let Some(body) = bytes.get(body..end) {
                request.body = body.to_vec();
                return Ok(request);
            }
        }
        if bytes.len() > limits.longest {
            return Err(TOO_LONG);
        }
        if length == 0 {
            return Err((400, "the request ends too early"));
        }
    }
}

/// A request without its body, and where that begins, once all of the head is there.
fn parse(bytes: &[u8]) -> Result<Option<(Request, usize)>, Refused> {
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut head = httparse::Request::new(&mut headers);
    let httparse::Status::Complete(body) = head.parse(bytes).map_err(|_| MALFORMED)? else {
        return Ok(None);
    };
    let text = |header: &httparse::Header<'_>| {
        let value = core::str::from_utf8(header.value).map_err(|_| MALFORMED)?;
        Ok((header.name.to_ascii_lowercase(), value.trim().into()))
    };
    let path = head.path.unwrap_or_default();
    let request = Request {
        method: head.method.unwrap_or_default().into(),
        path: path.split('?').next().unwrap_or_default().into(),
        body: Vec::new(),
        headers: head.headers.iter().map(text).collect::<Result<_, Refused>>()?,
    };
    Ok(Some((request, body)))
}

/// Answers with a body of this media type. `more` are whole lines of further headers.
///
/// # Errors
/// The answer was not read in time.
pub fn answer(stream: &TcpStream, limits: Limits, status: u16, kind: &str, more: &str, body: &[u8]) -> io::Result<()> {
    let length = format!("Content-Length: {}\r\n{more}", body.len());
    let until = Instant::now() + limits.patience;
    write_all(stream, until, head(status, kind, &length).as_bytes())?;
    write_all(stream, until, body)
}

/// Answers a HEAD request: as [`answer`] would a GET, but without the body (RFC 9110, section 9.3.2).
///
/// # Errors
/// The answer was not read in time.
pub fn answer_head(stream: &TcpStream, limits: Limits, status: u16, kind: &str, more: &str, body: &[u8]) -> io::Result<()> {
    let length = format!("Content-Length: {}\r\n{more}", body.len());
    write_all(stream, Instant::now() + limits.patience, head(status, kind, &length).as_bytes())
}

/// The head of an answer after which the connection is closed.
pub fn head(status: u16, kind: &str, more: &str) -> String {
    let reason = match status {
        200 => "OK",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        409 => "Conflict",
        413 => "Content Too Large",
        415 => "Unsupported Media Type",
        421 => "Misdirected Request",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        _ => "Refused",
    };
    format!("HTTP/1.1 {status} {reason}\r\nContent-Type: {kind}\r\nConnection: close\r\n{more}\r\n")
}

fn write_all(mut stream: &TcpStream, until: Instant, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        stream.set_write_timeout(Some(left(until)?))?;
        let written = stream.write(bytes)?;
        bytes = bytes.get(written..).filter(|_| written != 0).ok_or(io::ErrorKind::WriteZero)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { at_once: 2, longest: 1000, patience: Duration::from_millis(500) };

    /// Both ends of a connection.
    fn connection() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (client, listener.accept().unwrap().0)
    }

    #[test]
    fn a_request_must_be_there_in_time() {
        let (mut client, server) = connection();
        let drip = std::thread::spawn(move || {
            // Each byte comes in time, and all of them do not.
            for byte in b"GET / HTTP/1.1\r\nHost: a\r\nX: ".iter().chain([b'y'; 200].iter()) {
                std::thread::sleep(Duration::from_millis(20));
                if client.write_all(&[*byte]).is_err() {
                    break;
                }
            }
        });
        assert_eq!(read(&server, LIMITS).unwrap_err().0, 408);
        drop(server);
        drip.join().unwrap();
    }

    #[test]
    fn a_request_is_read_whole_or_refused() {
        let ask = |request: &str| {
            let (mut client, server) = connection();
            client.write_all(request.as_bytes()).unwrap();
            client.shutdown(std::net::Shutdown::Write).unwrap();
            read(&server, LIMITS)
        };
        let request = ask("POST /a?b HTTP/1.1\r\nHost: c\r\nX-Y:  d \r\nContent-Length: 3\r\n\r\nefghi").unwrap();
        assert_eq!((request.method.as_str(), request.path.as_str(), &request.body[..]), ("POST", "/a", &b"efg"[..]));
        assert_eq!((request.header("x-y"), request.header("z")), (Ok(Some("d")), Ok(None)));
        for (request, status) in [
            (String::new(), 400),
            ("GET / HTTP/1.1\r\n".into(), 400),
            ("nonsense\r\n\r\n".into(), 400),
            ("GET / HTTP/1.1\r\nContent-Length: 1\r\n\r\n".into(), 400),
            ("GET / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n12".into(), 400),
            ("GET / HTTP/1.1\r\nContent-Length: -1\r\n\r\n".into(), 400),
            (format!("GET / HTTP/1.1\r\nContent-Length: {}\r\n\r\n", u64::MAX), 413),
            ("GET / HTTP/1.1\r\nContent-Length: 1000\r\n\r\n".into(), 413),
            (format!("GET / HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(1000)), 413),
            ("GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".into(), 501),
        ] {
            assert_eq!(ask(&request).unwrap_err().0, status, "{request:.100}");
        }
    }

    #[test]
    fn who_comes_when_many_are_served_is_told_so() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let at = listener.local_addr().unwrap();
        let limits = Limits { patience: Duration::from_secs(60), ..LIMITS };
        serve("test", listener, limits, move |stream, _| answer(stream, limits, 200, "text/plain", "", b"")).unwrap();
        let mut idle: Vec<_> = (0..LIMITS.at_once).map(|_| TcpStream::connect(at).unwrap()).collect();
        let said = |mut stream: TcpStream| {
            let mut said = String::new();
            stream.read_to_string(&mut said).unwrap();
            said
        };
        assert!(said(TcpStream::connect(at).unwrap()).starts_with("HTTP/1.1 503 Service Unavailable\r\n"));
        // A client that has been served makes room.
        let mut first = idle.remove(0);
        first.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
        assert!(said(first).starts_with("HTTP/1.1 200 OK\r\n"));
    }
}
