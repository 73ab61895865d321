//! What is printed, for people.

use std::io::{self, IsTerminal, Write};

use byway::{Protocol, Redivert};

use crate::arguments::Arguments;
use crate::content::SIZE;
use crate::observer::{Deed, Place, Seen, Sighting};
use crate::scenario::{CLIENT, Chapter, ORIGINAL, PROXY, SERVERS, Story};

/// How wide the names of rows, and the columns of the two downloads, are.
const NAME: usize = 34;
const COLUMN: usize = 18;

pub(crate) fn print(out: &mut impl Write, story: &Story, arguments: &Arguments) -> io::Result<()> {
    let style = Style::of_terminal();
    writeln!(out, "{}", style.bold("A download moves to another server half-way, and the client never notices."))?;
    writeln!(out)?;
    writeln!(out, "  client    {CLIENT}")?;
    writeln!(out, "  asks for  {ORIGINAL}, where nobody is")?;
    writeln!(out, "  proxy     {PROXY}")?;
    writeln!(out, "  servers   {}", SERVERS.map(|(name, endpoint)| format!("{name} {endpoint}")).join(", "))?;
    figure(out, story, &style)?;
    let [(a, _), (b, _)] = SERVERS;
    let title = format!("Downloads of {} bytes, moved from {a} to {b} half-way (simulated time)", grouped(SIZE as u64));
    writeln!(out, "\n{}", style.bold(&title))?;
    chapters(out, &story.chapters, &style)?;
    ending(out, story.fault(), "All of it came, from two servers, and the client saw one.", arguments, &style)
}

/// What a download came to that was driven from outside.
pub(crate) fn print_driven(out: &mut impl Write, chapter: &Chapter, arguments: &Arguments) -> io::Result<()> {
    let style = Style::of_terminal();
    let title = format!("A download of {} bytes, driven from outside (real time)", grouped(SIZE as u64));
    writeln!(out, "\n{}", style.bold(&title))?;
    chapters(out, core::slice::from_ref(chapter), &style)?;
    let good = match chapter.delivered {
        [_, 0] | [0, _] => "All of it came, from one server: nobody moved it.",
        _ => "All of it came, from two servers, and the client saw one.",
    };
    ending(out, chapter.broken().map(String::from), good, arguments, &style)
}

fn ending(
    out: &mut impl Write,
    fault: Option<String>,
    good: &str,
    arguments: &Arguments,
    style: &Style,
) -> io::Result<()> {
    if let Some(folder) = &arguments.pcap {
        writeln!(out, "\nFor Wireshark: client-side.pcap and server-side.pcap in {}", folder.display())?;
    }
    writeln!(out)?;
    match fault {
        None => writeln!(out, "{}", style.good(good)),
        Some(fault) => writeln!(out, "{}", style.bad(&format!("This went wrong: {fault}."))),
    }
}

/// The table of the document's Figure 3, with the addresses of packets that were really sent.
fn figure(out: &mut impl Write, story: &Story, style: &Style) -> io::Result<()> {
    writeln!(out, "\n{}", style.bold("Figure 3: the first packet and its reply"))?;
    writeln!(out)?;
    writeln!(out, "{}", style.dim("  event  where                 does      from                to"))?;
    for seen in &story.figure {
        let Sighting { place, deed, from, to } = seen;
        let (event, name) = event(*place, *deed);
        let deed = match deed {
            Deed::Sends => "sends",
            Deed::Receives => "receives",
        };
        writeln!(out, "  {event:>5}  {name:<20}  {deed:<8}  {:<18}  {to}", from.to_string())?;
    }
    writeln!(out, "\n  The proxy's table: {}", story.connection)
}

/// The number that an event has in the document, and where it happens.
fn event(place: Place, deed: Deed) -> (u8, String) {
    match (place, deed) {
        (Place::Client, Deed::Sends) => (1, "client".into()),
        (Place::ClientSide, Deed::Receives) => (2, "proxy, client side".into()),
        (Place::NetworkSide, Deed::Sends) => (3, "proxy, network side".into()),
        (Place::Server(name), _) => (4, format!("server {name}")),
        (Place::NetworkSide, Deed::Receives) => (5, "proxy, network side".into()),
        (Place::ClientSide, Deed::Sends) => (6, "proxy, client side".into()),
        (Place::Client, Deed::Receives) => (7, "client".into()),
    }
}

fn chapters(out: &mut impl Write, chapters: &[Chapter], style: &Style) -> io::Result<()> {
    writeln!(out)?;
    let row = |name: &str, cell: &dyn Fn(&Chapter) -> String| {
        let cells: String = chapters.iter().map(|chapter| format!("{:>COLUMN$}", cell(chapter))).collect();
        format!("  {name:<NAME$}{cells}")
    };
    writeln!(out, "{}", style.dim(&row("", &|chapter| kind(chapter).into())))?;
    for (place, (name, _)) in SERVERS.iter().enumerate() {
        writeln!(out, "{}", row(&format!("server {name} delivered"), &|c| grouped(c.delivered[place] as u64)))?;
    }
    writeln!(out, "{}", row("late packets of A, dropped", &|c| grouped(c.late)))?;
    writeln!(out, "{}", row("asked for again", &asked_again))?;
    writeln!(out, "{}", row("until B's first bytes", &|c| c.gap.map_or("never".into(), millis)))?;
    writeln!(out, "{}", row("whole download", &|c| millis(c.took)))?;
    writeln!(out, "{}", row(&format!("client saw packets of {}", ORIGINAL.ip()), &|c| grouped(c.by_client.expected)))?;
    writeln!(out, "{}", row("  of anybody else", &|c| other(c.by_client, style)))?;
    writeln!(out, "{}", row(&format!("servers saw packets of {PROXY}"), &|c| grouped(c.by_servers.expected)))?;
    writeln!(out, "{}", row("  of anybody else", &|c| other(c.by_servers, style)))?;
    writeln!(out, "{}", row("SHA-256 of what came", &|c| hash(c, style)))
}

fn kind(chapter: &Chapter) -> &'static str {
    match (chapter.protocol, chapter.how) {
        (Protocol::Tcp, Some(Redivert::Reset)) => "TCP, reset",
        (Protocol::Udp, Some(Redivert::Switch)) => "UDP, switched",
        (Protocol::Tcp, None) => "TCP",
        (Protocol::Udp, None) => "UDP",
        _ => "",
    }
}

fn asked_again(chapter: &Chapter) -> String {
    let what = if chapter.protocol == Protocol::Tcp { "connection" } else { "request" };
    let plural = if chapter.asked_again == 1 { "" } else { "s" };
    format!("{} {what}{plural}", chapter.asked_again)
}

fn other(seen: Seen, style: &Style) -> String {
    let count = format!("{:>COLUMN$}", grouped(seen.other));
    if seen.other == 0 { count } else { style.bad(&count) }
}

fn hash(chapter: &Chapter, style: &Style) -> String {
    let [got, right] = &chapter.hashes;
    let short = &got[..8];
    if got == right {
        style.good(&format!("{:>COLUMN$}", format!("{short}…  right")))
    } else {
        style.bad(&format!("{:>COLUMN$}", format!("{short}…  wrong")))
    }
}

fn millis(duration: smoltcp::time::Duration) -> String {
    format!("{:.1} ms", duration.total_micros() as f64 / 1000.0)
}

/// `2097152` as `2 097 152`.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            grouped.push(' ');
        }
        grouped.push(digit);
    }
    grouped
}

/// Bold and colours, where somebody looks at a terminal that has them (and see no-color.org).
struct Style {
    on: bool,
}

impl Style {
    fn of_terminal() -> Self {
        let wanted = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Self { on: wanted && io::stdout().is_terminal() }
    }

    fn bold(&self, text: &str) -> String {
        self.paint("1", text)
    }

    fn dim(&self, text: &str) -> String {
        self.paint("2", text)
    }

    fn good(&self, text: &str) -> String {
        self.paint("32", text)
    }

    fn bad(&self, text: &str) -> String {
        self.paint("1;31", text)
    }

    fn paint(&self, code: &str, text: &str) -> String {
        if self.on { format!("\x1b[{code}m{text}\x1b[0m") } else { text.into() }
    }
}
