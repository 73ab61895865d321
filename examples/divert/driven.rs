//! One download in real time. Nothing is diverted here: that comes from outside, over a port for instructions.

use core::time::Duration;
use std::io::Write;

use byway::Protocol;
use smoltcp::time::Instant;

use crate::arguments::{Arguments, Driven};
use crate::capture::Captures;
use crate::client::{Client, OverTcp, OverUdp};
use crate::content::SIZE;
use crate::instructions::Instructions;
use crate::network::{Network, byway_time};
use crate::observer::Observer;
use crate::proxy::Proxy;
use crate::report;
use crate::scenario::{CLIENT, Chapter, ORIGINAL, PROXY, SERVERS, chapter, late};

/// How long nothing is done at most: the client may take more after that.
const TICK: Duration = Duration::from_millis(10);

/// How many bytes the client is ahead of its pace.
const AHEAD: usize = 4096;

/// What has happened so far, told line by line.
struct Diary<'a, W> {
    out: &'a mut W,
    generation: u32,
    /// When the last instruction changed something.
    changed: Option<Instant>,
    delivering: Option<char>,
    delivered: [usize; 2],
    gap: Option<smoltcp::time::Duration>,
}

impl<W: Write> Diary<'_, W> {
    /// Looks at what is new. Whoever reads it may go away.
    fn note(&mut self, network: &Network, client: &dyn Client) {
        let now = network.now;
        let seconds = now.total_millis() as f64 / 1000.0;
        let translator = &network.proxy.translator;
        if translator.generation() != self.generation {
            self.generation = translator.generation();
            self.changed = Some(now);
            let rules = translator.diverts().map(|rule| {
                let servers: Vec<_> = rule.servers().map(|(server, _)| server.target.to_string()).collect();
                format!("{} -> {}", rule.matches(), servers.join(", "))
            });
            let rules: Vec<_> = rules.collect();
            let rules = if rules.is_empty() { "no rule".into() } else { rules.join("; ") };
            let _ = writeln!(self.out, "  {seconds:6.1} s  instruction, generation {}: {rules}", self.generation);
        }
        for (place, (server, _)) in SERVERS.into_iter().enumerate() {
            let bytes = client.download().by_server.get(&server).map_or(0, |(bytes, _)| *bytes);
            if bytes != self.delivered[place] && self.delivering != Some(server) {
                let _ = writeln!(self.out, "  {seconds:6.1} s  server {server} delivers");
                // What the old server had sent may come later than the first of the new one.
                if self.delivering.is_some() && self.gap.is_none() {
                    self.gap = self.changed.map(|changed| now - changed);
                }
                self.delivering = Some(server);
            }
            self.delivered[place] = bytes;
        }
    }
}

pub(crate) fn run(driven: &Driven, arguments: &Arguments, out: &mut impl Write) -> Result<Chapter, String> {
    let mut instructions = Instructions::open(driven)?;
    let captures = arguments.pcap.as_deref().map_or(Ok(Captures::default()), Captures::create)?;
    let proxy = Proxy::new(PROXY, captures).map_err(|error| error.to_string())?;
    let mut network = Network::new(CLIENT, &SERVERS, proxy, Observer::new(ORIGINAL, PROXY));
    let mut client: Box<dyn Client> = match driven.protocol {
        Protocol::Tcp => Box::new(OverTcp::new(ORIGINAL, &mut network.client)),
        _ => Box::new(OverUdp::new(ORIGINAL, &mut network.client)),
    };
    let _ = greet(out, &instructions, driven);

    let start = std::time::Instant::now();
    let clock = || Instant::from_micros(i64::try_from(start.elapsed().as_micros()).unwrap_or(i64::MAX));
    let mut diary = Diary { out, generation: 0, changed: None, delivering: None, delivered: [0; 2], gap: None };
    let mut began = None;
    while !client.download().is_complete() {
        let paced = began.map_or(0, |began: Instant| due(clock() - began, driven.seconds));
        client.take_at_most(paced + AHEAD);
        network.act(client.as_mut());
        if began.is_none() && client.download().received != 0 {
            began = Some(network.now);
        }
        diary.note(&network, client.as_ref());
        let now = clock();
        let next = network.next(client.as_ref()).filter(|next| *next <= now + TICK.into());
        let wait = next.map_or(TICK, |next| if next > now { (next - now).into() } else { Duration::ZERO });
        instructions.serve(wait, || byway_time(clock()), &mut network.proxy.translator)?;
        network.now = clock();
    }
    let (took, gap, out) = (began.map(|began| network.now - began), diary.gap, diary.out);
    let chapter = Chapter {
        late: late(&network),
        gap,
        took: took.unwrap_or_default(),
        ..chapter(&mut network, client.as_ref(), driven.protocol)
    };
    network.proxy.finish()?;
    let _ = report::print_driven(out, &chapter, arguments);
    Ok(chapter)
}

/// How many bytes the client may have had after this time.
fn due(time: smoltcp::time::Duration, seconds: u32) -> usize {
    let whole = u64::from(seconds.max(1)) * 1_000_000;
    let bytes = (SIZE as u64).saturating_mul(time.total_micros()) / whole;
    usize::try_from(bytes).unwrap_or(SIZE).min(SIZE)
}

fn greet(out: &mut impl Write, instructions: &Instructions, driven: &Driven) -> std::io::Result<()> {
    let [(a, first), (b, second)] = SERVERS;
    let reset = if driven.protocol == Protocol::Tcp { " --reset" } else { "" };
    writeln!(out, "Waiting for instructions on {}. In another terminal:", instructions.at)?;
    let monitor =
        format!("  cargo run -p byway-host -- ctl --agent {} --key {}", instructions.at, driven.key.display());
    writeln!(out, "\n{monitor} divert {ORIGINAL} {first}")?;
    writeln!(out, "{monitor} redivert {first} {second}{reset}")?;
    writeln!(out, "\nThe client asks {ORIGINAL}, where nobody is; {first} is server {a}, {second} server {b}.\n")
}
