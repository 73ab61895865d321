//! The page and its API, over HTTP on a loopback address.
//!
//! A page that can divert traffic is worth attacking from other pages of the same browser. So each request needs the token, in a
//! header that no form and no image can send; its host must be the address that this listens on, against DNS rebinding; and its
//! origin, if the browser sends one, must be this page.

use core::net::SocketAddr;
use core::time::Duration;
use std::io::{self, ErrorKind, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};

use serde_json::{Value, json};

use super::run::{Order, Wanted};
use super::shared::Shared;
use crate::http::{self, Limits, Refused, Request};
use crate::waker::Waker;

/// How long a client may take to send its request, and to read.
const PATIENCE: Duration = Duration::from_secs(5);
const LIMITS: Limits = Limits { at_once: 32, longest: 16_384, patience: PATIENCE };
/// Headers of every answer: the page must not be framed, loads nothing from elsewhere, and is not cached.
const HEADERS: &str = "Cache-Control: no-store\r\n\
     Content-Security-Policy: default-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'\r\n\
     X-Content-Type-Options: nosniff\r\nX-Frame-Options: DENY\r\nReferrer-Policy: no-referrer\r\n\
     Cross-Origin-Resource-Policy: same-origin\r\n";
/// How often a client that waits for news is told that there are none.
const HEARTBEAT: Duration = Duration::from_secs(10);

const FILES: [(&str, &str, &str); 4] = [
    ("/", "text/html; charset=utf-8", include_str!("page/index.html")),
    ("/page.css", "text/css; charset=utf-8", include_str!("page/page.css")),
    ("/icon.svg", "image/svg+xml", include_str!("page/icon.svg")),
    ("/page.js", "text/javascript; charset=utf-8", include_str!("page/page.js")),
];

/// What serves requests.
#[derive(Clone, Debug)]
pub struct Page {
    /// The state that it shows.
    pub shared: Arc<Shared>,
    /// Where commands go.
    pub wanted: Sender<Wanted>,
    /// What wakes the monitor.
    pub waker: Arc<Waker>,
    /// The token.
    pub token: String,
    /// The address that it listens on.
    pub at: SocketAddr,
}

/// Opens the port. Only on a loopback address: nothing is encrypted.
///
/// # Errors
/// One line that says what to do.
pub fn open(at: SocketAddr) -> Result<TcpListener, String> {
    if !at.ip().is_loopback() {
        return Err(format!("page {at}: only a loopback address, since nothing is encrypted: reach it through ssh -L"));
    }
    TcpListener::bind(at).map_err(|error| match error.kind() {
        ErrorKind::AddrInUse => format!("page {at}: another program has this port"),
        _ => format!("page {at}: {error}"),
    })
}

/// The token in a file that is its owner's alone to read; a new one if there is no file.
///
/// # Errors
/// The file cannot be read or written.
pub fn token(path: &Path) -> Result<String, String> {
    use std::os::unix::fs::OpenOptionsExt;
    let failed = |error: io::Error| format!("monitor.token {}: {error}", path.display());
    match std::fs::read_to_string(path) {
        Ok(token) if token.trim().len() >= 32 => return Ok(token.trim().into()),
        Ok(_) => return Err(format!("monitor.token {}: it must hold 32 characters or more", path.display())),
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(failed(error)),
    }
    let mut random = [0; 24];
    getrandom::fill(&mut random).map_err(|error| format!("monitor.token: {error}"))?;
    let token: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(failed)?;
    writeln!(file, "{token}").map_err(failed)?;
    Ok(token)
}

/// Serves, on threads of its own.
///
/// # Errors
/// The thread cannot be started.
pub fn serve(listener: TcpListener, page: Page) -> Result<(), String> {
    http::serve("page", listener, LIMITS, move |stream, asked| page.converse(stream, asked))
}

impl Page {
    fn converse(&self, stream: &TcpStream, asked: Result<Request, Refused>) -> io::Result<()> {
        match asked.and_then(|asked| self.handle(&asked, stream)) {
            Ok(()) => Ok(()),
            Err((status, why)) => {
                let text = json!({ "error": why }).to_string();
                answer(stream, status, "application/json", text.as_bytes())
            }
        }
    }

    fn handle(&self, asked: &Request, stream: &TcpStream) -> Result<(), Refused> {
        let hosts = [self.at.to_string(), format!("localhost:{}", self.at.port())];
        if !asked.header("host")?.is_some_and(|host| hosts.iter().any(|served| served == host)) {
            return Err((421, "this host is not served here"));
        }
        let origins = hosts.map(|host| format!("http://{host}"));
        if asked.header("origin")?.is_some_and(|origin| !origins.iter().any(|own| own == origin)) {
            return Err((403, "requests from other origins are refused"));
        }
        if asked.header("sec-fetch-site")?.is_some_and(|site| !matches!(site, "same-origin" | "none")) {
            return Err((403, "requests from other sites are refused"));
        }
        let path = asked.path.as_str();
        if let Some((_, kind, text)) = FILES.iter().find(|(name, ..)| *name == path) {
            if asked.method != "GET" {
                return Err((405, "only GET"));
            }
            return answer(stream, 200, kind, text.as_bytes()).map_err(|_| (500, ""));
        }
        if !path.starts_with("/api/") {
            return Err((404, "there is no such page"));
        }
        let token = asked.header("authorization")?.and_then(|value| value.strip_prefix("Bearer "));
        if !token.is_some_and(|token| is_equal(token.as_bytes(), self.token.as_bytes())) {
            return Err((401, "the token is missing or wrong"));
        }
        let kind = asked.header("content-type")?.and_then(|kind| kind.split(';').next());
        let is_json = kind.is_some_and(|kind| kind.trim() == "application/json");
        match (asked.method.as_str(), path) {
            ("GET", "/api/state") => {
                let state = self.shared.after(0, PATIENCE).ok_or((503, "the monitor has nothing to say yet"))?;
                answer(stream, 200, "application/json", state.1.as_bytes()).map_err(|_| (500, ""))
            }
            ("GET", "/api/events") => {
                // A client that has gone is noticed when something is written.
                let _ = self.stream(stream);
                Ok(())
            }
            ("POST", "/api/command") if !is_json => Err((415, "expected Content-Type: application/json")),
            ("POST", "/api/command") => {
                let command: Value = serde_json::from_slice(&asked.body).map_err(|_| (400, "the body is no JSON"))?;
                let told = self.command(command)?;
                let (status, body) = match told {
                    Ok(told) => (200, told),
                    Err(why) => (409, json!({ "error": why })),
                };
                answer(stream, status, "application/json", body.to_string().as_bytes()).map_err(|_| (500, ""))
            }
            (_, "/api/state" | "/api/events" | "/api/command") => Err((405, "another method is needed")),
            _ => Err((404, "there is no such API")),
        }
    }

    fn command(&self, command: Value) -> Result<Result<Value, String>, Refused> {
        let (reply, answer) = channel();
        self.wanted.send(Wanted::Order(Order { command, reply })).map_err(|_| (503, "the monitor is ending"))?;
        self.waker.wake();
        answer.recv_timeout(PATIENCE).map_err(|_| (504, "the monitor has not answered in time"))
    }

    /// Server-sent events: the state, whenever it is new.
    fn stream(&self, mut stream: &TcpStream) -> io::Result<()> {
        stream.set_write_timeout(Some(PATIENCE))?;
        stream.write_all(http::head(200, "text/event-stream", HEADERS).as_bytes())?;
        let mut seen = 0;
        loop {
            match self.shared.after(seen, HEARTBEAT) {
                Some((number, state)) => {
                    seen = number;
                    write!(stream, "id: {number}\ndata: {state}\n\n")?;
                }
                None => write!(stream, ": nothing new\n\n")?,
            }
            stream.flush()?;
        }
    }
}

/// Compares in a time that does not depend on where they differ.
fn is_equal(one: &[u8], other: &[u8]) -> bool {
    one.len() == other.len() && one.iter().zip(other).fold(0, |differences, (a, b)| differences | (a ^ b)) == 0
}

fn answer(stream: &TcpStream, status: u16, kind: &str, body: &[u8]) -> io::Result<()> {
    http::answer(stream, LIMITS, status, kind, HEADERS, body)
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    fn page() -> (Page, std::sync::mpsc::Receiver<Wanted>) {
        let listener = open("127.0.0.1:0".parse().unwrap()).unwrap();
        let (wanted, received) = channel();
        let page = Page {
            shared: Arc::default(),
            wanted,
            waker: Arc::new(Waker::new().unwrap()),
            token: "0123456789abcdef0123456789abcdef".into(),
            at: listener.local_addr().unwrap(),
        };
        page.shared.publish("{\"services\":[]}".into());
        serve(listener, page.clone()).unwrap();
        (page, received)
    }

    /// What is answered to a request; `HOST` and `TOKEN` stand for the right ones.
    fn ask(page: &Page, request: &str) -> String {
        let mut stream = TcpStream::connect(page.at).unwrap();
        let request = request.replace("HOST", &page.at.to_string()).replace("TOKEN", &page.token).replace('\n', "\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut said = String::new();
        let _ = stream.read_to_string(&mut said);
        said
    }

    fn status(page: &Page, request: &str) -> u16 {
        ask(page, request).split(' ').nth(1).and_then(|word| word.parse().ok()).unwrap_or(0)
    }

    #[test]
    fn only_its_own_page_with_the_token_is_served() {
        let (page, _received) = page();
        let state = "GET /api/state HTTP/1.1\nHost: HOST\nAuthorization: Bearer TOKEN\n";
        let said = ask(&page, &format!("{state}\n"));
        assert!(said.starts_with("HTTP/1.1 200 OK\r\n") && said.ends_with("{\"services\":[]}"), "{said}");
        for (request, expected) in [
            ("GET / HTTP/1.1\nHost: HOST\n\n".to_string(), 200),
            (format!("{state}Origin: http://HOST\nSec-Fetch-Site: same-origin\n\n"), 200),
            // Another page of the same browser, a sandboxed one, and one on another port.
            (format!("{state}Origin: http://evil.example\n\n"), 403),
            (format!("{state}Origin: null\n\n"), 403),
            (format!("{state}Origin: http://127.0.0.1:1\n\n"), 403),
            (format!("{state}Sec-Fetch-Site: cross-site\n\n"), 403),
            (format!("{state}Sec-Fetch-Site: same-site\n\n"), 403),
            // A name that leads here by DNS rebinding.
            ("GET / HTTP/1.1\nHost: evil.example\n\n".into(), 421),
            ("GET / HTTP/1.1\n\n".into(), 421),
            ("GET / HTTP/1.1\nHost: HOST\nHost: evil.example\n\n".into(), 400),
            // Without the token, or with another.
            ("GET /api/state HTTP/1.1\nHost: HOST\n\n".into(), 401),
            ("GET /api/state?token=TOKEN HTTP/1.1\nHost: HOST\n\n".into(), 401),
            ("GET /api/state HTTP/1.1\nHost: HOST\nAuthorization: Bearer TOKEn\n\n".into(), 401),
            ("GET /api/state HTTP/1.1\nHost: HOST\nAuthorization: Basic TOKEN\n\n".into(), 401),
            ("GET /api/events HTTP/1.1\nHost: HOST\n\n".into(), 401),
            ("POST /api/command HTTP/1.1\nHost: HOST\nContent-Length: 2\nContent-Type: application/json\n\n{}".into(), 401),
            // What is no request, or too long.
            ("GET /nothing HTTP/1.1\nHost: HOST\n\n".into(), 404),
            ("POST / HTTP/1.1\nHost: HOST\n\n".into(), 405),
            ("nonsense\n\n".into(), 400),
            (format!("{state}X: {}\n\n", "x".repeat(20_000)), 413),
            (format!("{}Content-Length: 999999\n\n", state.replace("GET /api/state", "POST /api/command")), 413),
            (format!("{}Content-Length: +1\n\n1", state.replace("GET", "POST")), 400),
            (format!("{state}Content-Type: text/plain\nContent-Type: application/json\n\n"), 400),
            (format!("{}Transfer-Encoding: chunked\n\n", state.replace("GET", "POST")), 501),
        ] {
            assert_eq!(status(&page, &request), expected, "{request:.200}");
        }
    }

    /// A form of another page can send no JSON; what is no JSON is refused.
    #[test]
    fn commands_are_json_and_reach_the_monitor() {
        let (page, received) = page();
        let post = |kind: &str, body: &str| {
            let length = body.len();
            let request = format!(
                "POST /api/command HTTP/1.1\nHost: HOST\nAuthorization: Bearer TOKEN\nContent-Type: {kind}\n\
                 Content-Length: {length}\n\n{body}"
            );
            ask(&page, &request)
        };
        let monitor = std::thread::spawn(move || {
            for answer in [Ok(json!({ "decision": 7 })), Err("no such server".to_string())] {
                let Ok(Wanted::Order(order)) = received.recv() else { panic!("a command") };
                assert_eq!(order.command["do"], "drain");
                order.reply.send(answer).unwrap();
            }
        });
        for (kind, body, expected) in [
            ("text/plain", "{\"do\":\"drain\"}", "HTTP/1.1 415"),
            ("application/x-www-form-urlencoded", "do=drain", "HTTP/1.1 415"),
            ("application/json", "do=drain", "HTTP/1.1 400"),
        ] {
            assert!(post(kind, body).starts_with(expected), "{kind} {body}");
        }
        let said = post("application/json; charset=utf-8", "{\"do\":\"drain\"}");
        assert!(said.starts_with("HTTP/1.1 200") && said.ends_with("{\"decision\":7}"), "{said}");
        let said = post("application/json", "{\"do\":\"drain\"}");
        assert!(said.starts_with("HTTP/1.1 409") && said.ends_with("{\"error\":\"no such server\"}"), "{said}");
        monitor.join().unwrap();
    }

    #[test]
    fn it_listens_on_loopback_alone() {
        for at in ["0.0.0.0:0", "192.0.2.1:80", "[::]:0"] {
            assert!(open(at.parse().unwrap()).unwrap_err().contains("only a loopback address"), "{at}");
        }
    }

    #[test]
    fn a_token_is_made_once() {
        use std::os::unix::fs::PermissionsExt;
        let path = std::env::temp_dir().join(format!("byway-token-{}", std::process::id()));
        let _ = std::fs::remove_file(&path);
        let made = token(&path).unwrap();
        assert_eq!((made.len(), token(&path).unwrap()), (48, made));
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        std::fs::write(&path, "short").unwrap();
        assert!(token(&path).is_err());
        std::fs::remove_file(&path).unwrap();
    }
}
