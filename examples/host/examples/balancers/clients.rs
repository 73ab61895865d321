//! Clients whose requests come when they come, however long others take (an open loop). Response times count from the
//! moment at which a request was to be sent, so that nothing is omitted while a client waits.
//!
//! Each request is a line of the output: when it was to be sent, how long it took (both in microseconds since the first one
//! could come), and `ok`, or why it failed.

use core::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use core::time::Duration;
use std::io::Write as _;
use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::time::{Instant, sleep_until, timeout};

use byway_testing::random::Dice;

/// What the clients do. Times are in seconds.
#[derive(Clone, Debug)]
struct Plan {
    to: SocketAddrV4,
    seed: u64,
    /// Requests a second.
    rate: f64,
    seconds: f64,
    /// The mean work of a request.
    work: f64,
    /// How long a client waits for an answer.
    patience: f64,
    /// Requests on each connection, and the mean time between them.
    requests: u32,
    pause: f64,
    /// So many clients, each with an address of its own from 1.2.0.0 on.
    clients: u32,
    /// What is sent; the request's work in microseconds if it is empty.
    ask: Vec<u8>,
    /// What comes.
    answer: usize,
}

impl Plan {
    fn read(words: &[String]) -> Result<Self, String> {
        let mut plan = Self {
            to: SocketAddrV4::new(Ipv4Addr::new(100, 100, 100, 100), 80),
            seed: 1,
            rate: 100.0,
            seconds: 10.0,
            work: 0.040,
            patience: 2.0,
            requests: 1,
            pause: 0.1,
            clients: 4_096,
            ask: Vec::new(),
            answer: b"done\n".len(),
        };
        fn set<T: core::str::FromStr>(field: &mut T, word: &str, value: &str) -> Result<(), String> {
            *field = value.parse().map_err(|_| format!("{word}: wrong"))?;
            Ok(())
        }
        for word in words {
            let (key, value) = word.split_once('=').ok_or_else(|| format!("{word}: no KEY=VALUE"))?;
            match key {
                "to" => set(&mut plan.to, word, value)?,
                "seed" => set(&mut plan.seed, word, value)?,
                "rate" => set(&mut plan.rate, word, value)?,
                "seconds" => set(&mut plan.seconds, word, value)?,
                "work" => set(&mut plan.work, word, value)?,
                "patience" => set(&mut plan.patience, word, value)?,
                "requests" => set(&mut plan.requests, word, value)?,
                "pause" => set(&mut plan.pause, word, value)?,
                "clients" => set(&mut plan.clients, word, value)?,
                "ask" => plan.ask = format!("{value}\r\n").into_bytes(),
                "answer" => set(&mut plan.answer, word, value)?,
                _ => return Err(format!("{word}: not known")),
            }
        }
        Ok(plan)
    }

    /// The sessions: who, and for each request when it is to be sent and what.
    fn sessions(&self) -> Vec<Session> {
        let mut dice = Dice(self.seed);
        let (mut now, mut sessions) = (0.0, Vec::new());
        loop {
            now += dice.exponential(f64::from(self.requests) / self.rate);
            if now >= self.seconds {
                return sessions;
            }
            let client = (dice.unit() * f64::from(self.clients)) as u32;
            let client = Ipv4Addr::from_bits(0x0102_0000 + client);
            let (mut at, mut requests) = (now, Vec::new());
            for _ in 0..self.requests {
                let work = dice.log_normal(self.work);
                let text = match self.ask.as_slice() {
                    [] => format!("{:.0}\n", work * 1e6).into_bytes(),
                    ask => ask.to_vec(),
                };
                // What would begin after the end is left out for everybody.
                if at < self.seconds {
                    requests.push((Duration::from_secs_f64(at), text));
                }
                at += dice.exponential(self.pause);
            }
            sessions.push(Session { client, requests });
        }
    }
}

struct Session {
    client: Ipv4Addr,
    requests: Vec<(Duration, Vec<u8>)>,
}

struct Record {
    at: Duration,
    took: Duration,
    result: &'static str,
}

pub(crate) async fn run(words: &[String]) -> Result<(), String> {
    let plan = Arc::new(Plan::read(words)?);
    let sessions = plan.sessions();
    let planned: usize = sessions.iter().map(|session| session.requests.len()).sum();
    let (sender, mut records) = unbounded_channel();
    println!("begin");
    let begin = Instant::now();
    for session in sessions {
        if let Some((first, _)) = session.requests.first() {
            sleep_until(begin + *first).await;
            tokio::spawn(hold(plan.clone(), session, begin, sender.clone()));
        }
    }
    drop(sender);
    let (mut out, mut count) = (std::io::BufWriter::new(std::io::stdout().lock()), 0);
    while let Some(Record { at, took, result }) = records.recv().await {
        count += 1;
        writeln!(out, "{} {} {result}", at.as_micros(), took.as_micros()).map_err(|error| error.to_string())?;
    }
    out.flush().map_err(|error| error.to_string())?;
    if count == planned { Ok(()) } else { Err(format!("{planned} requests were planned, and {count} made")) }
}

/// Makes the requests of a session, one after the other. After a failure the rest goes on with a new connection.
async fn hold(plan: Arc<Plan>, session: Session, begin: Instant, records: UnboundedSender<Record>) {
    let mut connection = None;
    for (at, text) in session.requests {
        sleep_until(begin + at).await;
        let asked = ask(&plan, &mut connection, session.client, &text);
        let result = match timeout(Duration::from_secs_f64(plan.patience), asked).await {
            Ok(Ok(())) => "ok",
            Ok(Err(why)) => why,
            Err(_) => "silent",
        };
        let took = begin.elapsed().saturating_sub(at);
        if result != "ok" {
            connection = None;
        }
        let _ = records.send(Record { at, took, result });
    }
}

async fn ask(
    plan: &Plan,
    connection: &mut Option<TcpStream>,
    client: Ipv4Addr,
    text: &[u8],
) -> Result<(), &'static str> {
    let stream = match connection {
        Some(stream) => stream,
        None => connection.insert(connect(plan.to, client).await.map_err(|_| "not connected")?),
    };
    stream.write_all(text).await.map_err(|_| "not sent")?;
    let mut answer = vec![0; plan.answer];
    stream.read_exact(&mut answer).await.map_err(|_| "not answered")?;
    Ok(())
}

async fn connect(to: SocketAddrV4, client: Ipv4Addr) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(SocketAddr::new(client.into(), 0))?;
    let stream = socket.connect(to.into()).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    fn plan(words: &[&str]) -> Plan {
        Plan::read(&words.iter().map(ToString::to_string).collect::<Vec<_>>()).unwrap()
    }

    /// All balancers get the same requests, and as many and as much work as was asked for.
    #[test]
    fn a_plan_depends_on_its_seed_alone() {
        for requests in ["requests=1", "requests=10"] {
            let words = ["rate=500", "seconds=100", "work=0.04", "pause=0.01", requests];
            let all = |seed| {
                let sessions = plan(&[&words[..], &[seed]].concat()).sessions();
                sessions.into_iter().flat_map(|session| session.requests).collect::<Vec<_>>()
            };
            let (one, again, other) = (all("seed=1"), all("seed=1"), all("seed=2"));
            assert!(one == again && one != other);
            assert!((45_000..55_000).contains(&one.len()), "{requests}: {}", one.len());
            let work = |text: &[u8]| String::from_utf8_lossy(text).trim_end().parse::<f64>().unwrap() / 1e6;
            let mean = one.iter().map(|(_, text)| work(text)).sum::<f64>() / one.len() as f64;
            assert!((0.038..0.042).contains(&mean), "{mean}");
        }
    }

    /// A client that waits for an answer sends its next request late, and that counts (no coordinated omission).
    #[tokio::test]
    async fn time_counts_from_when_a_request_was_to_be_sent() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let SocketAddr::V4(to) = listener.local_addr().unwrap() else { unreachable!() };
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 3];
            while stream.read_exact(&mut request).await.is_ok() {
                tokio::time::sleep(Duration::from_millis(300)).await;
                stream.write_all(b"done\n").await.unwrap();
            }
        });
        let requests = [0, 100, 200].map(|at| (Duration::from_millis(at), b"40\n".to_vec())).into();
        let session = Session { client: Ipv4Addr::LOCALHOST, requests };
        let (sender, mut records) = unbounded_channel();
        let plan = Arc::new(Plan { to, ..plan(&["patience=90"]) });
        hold(plan, session, Instant::now(), sender).await;
        for (sent, least) in [(0, 300), (100, 500), (200, 700)] {
            let Record { at, took, result } = records.recv().await.unwrap();
            assert_eq!((at, result), (Duration::from_millis(sent), "ok"));
            assert!(took >= Duration::from_millis(least), "{took:?} {least}");
        }
    }
}
