//! All of the document's Figure 5 in one process, and what a translator adds to it.
//!
//! A client asks a DNS server for a name. The machine between them, which is the enhanced naming server and a translator,
//! answers from its own table with an address that it diverts to a mirror. Half-way through a transfer the monitor gives the
//! name to another mirror: the transfer, the next query, and a client that goes by its cache all reach the new one.
//!
//! The client, the DNS server and the mirrors are smoltcp stacks; the client's resolver is smoltcp's own. Time is simulated.
//!
//! | module | what |
//! | --- | --- |
//! | `machine` | the naming server and the translator: the lines that a user of the library writes |
//! | `network` | the hosts, and how packets get from one to another |

mod machine;
mod network;

use core::error::Error;
use core::net::Ipv4Addr;
use std::process::ExitCode;

use byway::naming::{NameEntry, Outcome};
use byway::{Divert, Prefix, Redivert};

use network::{Network, Transfer};

/// What the name is answered with, and who serves it.
const ORIGINAL: Ipv4Addr = Ipv4Addr::new(100, 100, 100, 100);
const MIRRORS: [Ipv4Addr; 2] = [Ipv4Addr::new(123, 45, 67, 89), Ipv4Addr::new(123, 45, 67, 90)];

const NAME: &str = "www.bt.com";
const OTHER: &str = "www.example.org";
const BLOCKS: u32 = 100;
const DAY: u32 = 86_400;

fn main() -> ExitCode {
    match story() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("names: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Tells it as it happens. Whether all of it came out as it should.
fn story() -> Result<bool, Box<dyn Error>> {
    let mut network = Network::new(&MIRRORS)?;
    let mut good = true;
    let mut say = |network: &Network, holds: bool, text: String| {
        good &= holds;
        let mark = if holds { ' ' } else { '!' };
        println!("{:>7} ms {mark} {text}", network.millis());
    };

    let www = NAME.parse()?;
    let rule = Divert::new(ORIGINAL).to(MIRRORS[0]);
    let machine = &mut network.machine;
    machine.names.divert(&mut machine.translator, NameEntry::new(www).ttl(DAY), rule)?;
    say(
        &network,
        true,
        format!("monitor: {NAME} is {ORIGINAL}, diverted to {}; clients may keep it a day", MIRRORS[0]),
    );

    let cached = network.resolve(NAME)?;
    say(&network, cached == ORIGINAL, format!("client: {NAME} is {cached}, by the naming server"));
    let other = network.resolve(OTHER)?;
    let passed = network.asked_at_server() == 1 && other == network::OTHER_ADDRESS;
    say(&network, passed, format!("client: {OTHER} is {other}, by the DNS server"));

    let mut transfer = Transfer::begin(&mut network, cached);
    transfer.run(&mut network, BLOCKS / 2)?;
    let served = network.served();
    say(&network, served == [BLOCKS / 2, 0], format!("client: {} of {BLOCKS} blocks have come", transfer.blocks()));

    let machine = &mut network.machine;
    let moved = machine.names.redivert(&mut machine.translator, &www, Prefix::ALL, MIRRORS[1], Redivert::Switch)?;
    let instructed = network.millis();
    let text = format!("monitor: {NAME} goes to {}; {} connection moves", MIRRORS[1], moved.connections);
    say(&network, moved.connections == 1, text);

    transfer.run(&mut network, 1)?;
    let after = network.millis() - instructed;
    let served = network.served();
    say(&network, served == [BLOCKS / 2, 1], format!("client: the next block came from {} in {after} ms", MIRRORS[1]));
    let again = network.resolve(NAME)?;
    say(&network, again == ORIGINAL, format!("client: {NAME} is {again}, as before"));
    let mut by_cache = Transfer::begin(&mut network, cached);
    by_cache.run(&mut network, 1)?;
    let served = network.served();
    say(&network, served == [BLOCKS / 2, 2], "client: a new transfer by the cached address came from there too".into());
    transfer.run(&mut network, BLOCKS / 2 - 1)?;
    let whole = transfer.blocks() == BLOCKS && transfer.is_intact();
    say(&network, whole, format!("client: all {BLOCKS} blocks are there, none lost and none wrong"));

    let counters = network.machine.names.counters();
    let (answered, passed) = (counters.of(Outcome::Address), counters.of(Outcome::Passed));
    say(&network, (answered, passed) == (2, 1), format!("machine: answered {answered} queries, passed {passed}"));
    let hidden = !network.client_has_seen(&MIRRORS);
    say(&network, hidden, "client: saw the address of no mirror".into());
    println!(
        "{}",
        if good { "\nThe name moved, and every client with it." } else { "\nSomething is wrong: see the !" }
    );
    Ok(good)
}
