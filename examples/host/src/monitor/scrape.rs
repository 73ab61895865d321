//! Asks servers for the load that they report themselves, each in a thread of its own, so that the monitor never waits for a
//! server.

use core::time::Duration;
use std::io::BufReader;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError, TryLockError};
use std::time::Instant;

use ureq::Agent;

use super::exposition::{Fault, Selector, Sum, read};

/// The longest that a server may take for a report, from its connection to its last byte.
pub const PATIENCE: Duration = Duration::from_secs(2);

/// What a server has said last, and when it was asked.
pub type Report = (Instant, Result<Sum, Fault>);

/// A thread that asks one server again and again, until this is dropped. Only its newest report is kept.
#[derive(Debug)]
pub struct Scraper {
    newest: Arc<Mutex<Option<Report>>>,
    _alive: Sender<()>,
}

impl Scraper {
    /// Asks for `url` at this interval.
    ///
    /// # Errors
    /// The kernel's: the thread cannot be started.
    pub fn start(url: String, metric: Selector, interval: Duration) -> std::io::Result<Self> {
        let (alive, ended) = channel();
        let newest = Arc::new(Mutex::new(None));
        let report = newest.clone();
        let ask = move || {
            let agent = agent(PATIENCE.min(interval));
            loop {
                let begun = Instant::now();
                let said = fetch(&agent, &url, &metric);
                *report.lock().unwrap_or_else(PoisonError::into_inner) = Some((begun, said));
                let rest = interval.saturating_sub(begun.elapsed());
                if ended.recv_timeout(rest) == Err(RecvTimeoutError::Disconnected) {
                    return;
                }
            }
        };
        std::thread::Builder::new().name("load".into()).spawn(ask)?;
        Ok(Self { newest, _alive: alive })
    }

    /// The newest report, if it was not taken yet. Never waits.
    pub fn take(&self) -> Option<Report> {
        match self.newest.try_lock() {
            Ok(mut newest) => newest.take(),
            Err(TryLockError::Poisoned(newest)) => newest.into_inner().take(),
            Err(TryLockError::WouldBlock) => None,
        }
    }
}

/// Asks for nothing but plain text, follows no redirection, uses no proxy, and keeps no connection.
fn agent(patience: Duration) -> Agent {
    let config = Agent::config_builder()
        .timeout_global(Some(patience))
        .max_redirects(0)
        .proxy(None)
        .http_status_as_error(false)
        .max_idle_connections(0)
        .max_response_header_size(16 << 10)
        .user_agent("byway")
        .accept("text/plain;version=0.0.4");
    config.build().into()
}

fn fetch(agent: &Agent, url: &str, metric: &Selector) -> Result<Sum, Fault> {
    let response = agent.get(url).call().map_err(|error| Fault::Unreachable(error.to_string()))?;
    let status = response.status().as_u16();
    if status != 200 {
        return Err(Fault::Status(status));
    }
    read(BufReader::new(response.into_body().into_reader()), metric)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};

    /// What is read from a server that does `serve` with each connection, once it has read the request.
    fn asked(serve: impl Fn(&mut TcpStream) -> std::io::Result<()> + Send + 'static) -> Result<Sum, Fault> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/metrics", listener.local_addr().unwrap());
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let _ = stream.read(&mut [0; 4_096]);
                // The client may have gone.
                let _ = serve(&mut stream);
            }
        });
        fetch(&agent(Duration::from_secs(1)), &url, &"a".parse().unwrap())
    }

    fn says(text: &'static str) -> Result<Sum, Fault> {
        asked(|stream| stream.write_all(text.as_bytes()))
    }

    const OK: &str = "HTTP/1.1 200 OK\r\nConnection: close\r\n";

    #[test]
    fn reports_come_in_every_wrapping() {
        let one = Ok(Sum { value: 0.5, series: 1, stamp: None });
        assert_eq!(says("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\na 0.5\n"), one);
        assert_eq!(says("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\na 0.5\n"), one);
        assert_eq!(says("HTTP/1.0 200 OK\r\n\r\na 0.5\n"), one);
        assert_eq!(says("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\na 0.\r\n2\r\n5\n\r\n0\r\n\r\n"), one);
    }

    #[test]
    fn whoever_answers_badly_is_refused() {
        assert_eq!(says("HTTP/1.1 500 No\r\nContent-Length: 6\r\n\r\na 0.5\n"), Err(Fault::Status(500)));
        assert_eq!(says("HTTP/1.1 302 Go\r\nLocation: /a\r\nContent-Length: 0\r\n\r\n"), Err(Fault::Status(302)));
        assert!(matches!(says("a 0.5\n"), Err(Fault::Unreachable(_))));
        assert!(matches!(says(""), Err(Fault::Unreachable(_))));
        let cut = says("HTTP/1.1 200 OK\r\nContent-Length: 60\r\n\r\na 0.5\n");
        assert!(matches!(cut, Err(Fault::CutOff | Fault::Unreachable(_))), "{cut:?}");
        let nobody = fetch(&agent(PATIENCE), "http://127.0.0.1:1/", &"a".parse().unwrap());
        assert!(matches!(nobody, Err(Fault::Unreachable(_))), "{nobody:?}");
    }

    #[test]
    fn whoever_is_slow_or_does_not_end_is_given_up() {
        let silent = asked(|stream| stream.read(&mut [0; 9]).map(drop));
        assert!(matches!(silent, Err(Fault::Unreachable(_))), "{silent:?}");
        // Each byte comes soon after the last.
        let trickling = asked(|stream| {
            stream.write_all(format!("{OK}\r\n").as_bytes())?;
            loop {
                stream.write_all(b"#")?;
                std::thread::sleep(Duration::from_millis(20));
            }
        });
        assert!(matches!(trickling, Err(Fault::Unreachable(_))), "{trickling:?}");
        let headers = asked(|stream| {
            stream.write_all(OK.as_bytes())?;
            loop {
                stream.write_all(b"X-Y: zzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzz\r\n")?;
            }
        });
        assert!(matches!(headers, Err(Fault::Unreachable(_))), "{headers:?}");
        let endless = asked(|stream| {
            stream.write_all(format!("{OK}\r\n").as_bytes())?;
            let lines = b"b 1\n".repeat(10_000);
            loop {
                stream.write_all(&lines)?;
            }
        });
        assert!(matches!(endless, Err(Fault::TooLong | Fault::Unreachable(_))), "{endless:?}");
    }
}
