//! `[portion]`: this process translates one direction, and another the other.

use core::time::Duration;
use std::path::Path;

use byway::Timeouts;

use super::document::{Fault, Table};
use super::{Nat, Rule};
use crate::portion::{Direction, End, Settings};

pub(super) fn read(table: &Table<'_>, file: &Path, nat: &Nat, rules: &[Rule]) -> Result<Settings, Fault> {
    const DIRECTIONS: [(&str, Direction); 2] = [("to-server", Direction::ToServer), ("to-client", Direction::ToClient)];
    const ADDRESS: &str = "an address and port like \"192.0.2.1:5214\"";
    let direction = table.need("direction", "\"to-server\" or \"to-client\"")?.choice(&DIRECTIONS)?;
    let end = match (table.get("listen"), table.get("connect")) {
        (Some(at), None) => End::Listen(at.endpoint(ADDRESS)?),
        (None, Some(to)) => End::Connect(to.endpoint(ADDRESS)?),
        (Some(_), Some(to)) => return Err(to.fault("one portion listens, the other connects: leave out either")),
        (None, None) => return Err(table.fault("listen or connect is missing: one portion listens, the other connects")),
    };
    let name = table.need("key", "the name of a key file")?;
    // The key's number is not used here.
    let (key, (_, secret)) = super::key_file(&name, file)?;
    let refresh = match table.get("refresh") {
        None => Duration::from_secs(1),
        Some(value) => {
            let refresh = value.duration()?;
            let (least, most) = (Duration::from_millis(100), Duration::from_secs(20));
            if !(least..=most).contains(&refresh) {
                return Err(value.fault(format!("{refresh:?} found: expected a time from 100ms to 20s")));
            }
            refresh
        }
    };
    table.finish()?;
    if let Some(rule) = rules.first() {
        check_rule(direction, rule)?;
    }
    let Timeouts { tcp_established, tcp_transitory, udp, icmp, .. } = nat.timeouts;
    let shortest = tcp_established.min(tcp_transitory).min(udp).min(icmp);
    if refresh * 3 > shortest {
        // A connection whose packets pass only one portion must not expire at the other.
        let problem = format!("refresh of {refresh:?} is more than a third of the shortest time-out, {shortest:?}");
        return Err(table.fault(problem));
    }
    if nat.capacity.events == 0 {
        return Err(table.fault("nat.events is 0: events tell the other portion of connections"));
    }
    if nat.capacity.resumable {
        return Err(table.fault("[resumable] is there: a hand-over needs both directions in one process"));
    }
    Ok(Settings { direction, end, secret, key, refresh })
}

/// Whether a portion for this direction may have this rule.
pub(super) fn check_rule(direction: Direction, rule: &Rule) -> Result<(), Fault> {
    match direction {
        Direction::ToClient => Err(rule.fault("rules belong to the portion to the server: this one follows it")),
        Direction::ToServer => Ok(()),
    }
}
