//! Which rows there are.

use core::cell::RefCell;
use core::net::Ipv4Addr;
use std::rc::Rc;

use crate::episodes::{Answer, Churn, Expire, Flood, New};
use crate::labels::{Call, Measure, Protocol};
use crate::moves::{Instruction, Moving, Next, Snapshot, Sweep};
use crate::subject::{Rules, Settings, Subject};
use crate::timed::{CHUNK, Row};
use crate::{baseline, byway, limits, names};

/// Other ways in which connections open.
const OPENINGS: [(Measure, Rules, Settings); 5] = [
    (Measure::NewByPrefix, Rules::Prefix(Ipv4Addr::new(198, 19, 0, 1)), Settings::Usual),
    (Measure::NewMasqueraded, Rules::Masquerade, Settings::Usual),
    (Measure::NewWithOwn, Rules::OwnServers, Settings::OwnAddress),
    (Measure::NewWithLimit, Rules::OwnServers, Settings::ClientLimit),
    (Measure::NewWithRanges, Rules::OwnServers, Settings::Ranges),
];

/// The rows of one size and protocol, which take turns: the limits, then byway.
pub(crate) fn all(connections: u32, protocol: Protocol) -> Result<Vec<Box<dyn Row>>, String> {
    let flows = Rc::new(limits::flows(connections, protocol)?);
    let shared = |subject| Rc::new(RefCell::new(subject));
    let subject = shared(Subject::filled(&flows, Rules::OwnServers, connections)?);
    let mut rows = limits::rows(&flows);
    rows.append(&mut baseline::rows(&flows));
    rows.append(&mut byway::hits(&subject, Measure::Hit));
    for (measure, settings) in
        [(Measure::HitMeasured, Settings::Measured), (Measure::HitResumable, Settings::Resumable)]
    {
        let subject = Subject::filled_with(&flows, Rules::OwnServers, settings, connections)?;
        rows.append(&mut byway::hits(&shared(subject), measure));
    }
    rows.append(&mut byway::passes(&flows)?);
    rows.append(&mut names::rows(&flows)?);
    if (connections as usize) < CHUNK {
        // Too few for an episode: the clock would be timed.
        return Ok(rows);
    }
    let churn = Rc::new(RefCell::new(Churn::new(&flows)?));
    let moving = Rc::new(RefCell::new(Moving::new(&flows)?));
    rows.push(New::row(&churn, Call::Single));
    rows.push(New::row(&churn, Call::Burst));
    for (opening, rules, settings) in OPENINGS {
        let churn = Rc::new(RefCell::new(Churn::with(&flows, opening, rules, settings)?));
        rows.push(New::row(&churn, Call::Single));
    }
    rows.push(Answer::row(&churn, Call::Single));
    rows.push(Answer::row(&churn, Call::Burst));
    rows.push(Expire::row(&churn));
    rows.push(Box::new(Instruction(Rc::clone(&moving))));
    rows.push(Next::row(&moving, Call::Single));
    rows.push(Next::row(&moving, Call::Burst));
    rows.push(Box::new(Sweep(Rc::clone(&moving))));
    if protocol == Protocol::Tcp {
        rows.push(Flood::row(&flows)?);
    }
    rows.push(Snapshot::row(&subject, &churn, Call::Export));
    rows.push(Snapshot::row(&subject, &churn, Call::Import));
    Ok(rows)
}
