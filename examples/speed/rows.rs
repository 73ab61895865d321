//! Which rows there are.

use core::cell::RefCell;
use core::net::Ipv4Addr;
use std::rc::Rc;

use crate::episodes::{Answer, Churn, Expire, Flood, New};
use crate::labels::{Call, Measure, Protocol};
use crate::moves::{Instruction, Moving, Next, Snapshot, Sweep};
use crate::subject::{Rules, Settings, Subject};
use crate::timed::{CHUNK, Row};
use crate::workload::Flows;
use crate::{baseline, byway, limits, names};

/// Other ways in which connections open.
const OPENINGS: [(Measure, Rules, Settings); 5] = [
    (Measure::NewByPrefix, Rules::Prefix(Ipv4Addr::new(198, 19, 0, 1)), Settings::Usual),
    (Measure::NewMasqueraded, Rules::Masquerade, Settings::Usual),
    (Measure::NewWithOwn, Rules::OwnServers, Settings::OwnAddress),
    (Measure::NewWithLimit, Rules::OwnServers, Settings::ClientLimit),
    (Measure::NewWithRanges, Rules::OwnServers, Settings::Ranges),
];

/// The rows of one size and protocol, which take turns: the limits, then byway. With `only` those of one measure alone, and
/// no connections are opened for others.
pub(crate) fn all(connections: u32, protocol: Protocol, only: Option<Measure>) -> Result<Vec<Box<dyn Row>>, String> {
    let wants = |measures: &[Measure]| only.is_none_or(|only| measures.contains(&only));
    let flows = Rc::new(limits::flows(connections, protocol)?);
    let mut rows = Vec::new();
    if wants(&[Measure::Limit]) {
        rows.append(&mut limits::rows(&flows));
    }
    if wants(&[Measure::Hashbrown]) {
        rows.append(&mut baseline::rows(&flows));
    }
    if wants(&[Measure::Hit]) {
        rows.append(&mut byway::hits(&filled(&flows, Settings::Usual)?, Measure::Hit));
    }
    for (measure, settings) in
        [(Measure::HitMeasured, Settings::Measured), (Measure::HitResumable, Settings::Resumable)]
    {
        if wants(&[measure]) {
            rows.append(&mut byway::hits(&filled(&flows, settings)?, measure));
        }
    }
    if wants(&[Measure::Pass]) {
        rows.append(&mut byway::passes(&flows)?);
    }
    if wants(&[Measure::NameAnswered, Measure::NameOther, Measure::NameUnrelated]) {
        rows.append(&mut names::rows(&flows)?);
    }
    if (connections as usize) < CHUNK {
        // Too few for an episode: the clock would be timed.
        return Ok(rows);
    }
    let churn = Rc::new(RefCell::new(Churn::new(&flows)?));
    if wants(&[Measure::New]) {
        rows.push(New::row(&churn, Call::Single));
        rows.push(New::row(&churn, Call::Burst));
    }
    for (opening, rules, settings) in OPENINGS {
        if wants(&[opening]) {
            let churn = Rc::new(RefCell::new(Churn::with(&flows, opening, rules, settings)?));
            rows.push(New::row(&churn, Call::Single));
        }
    }
    if wants(&[Measure::Answer]) {
        rows.push(Answer::row(&churn, Call::Single));
        rows.push(Answer::row(&churn, Call::Burst));
    }
    if wants(&[Measure::Expire]) {
        rows.push(Expire::row(&churn));
    }
    if wants(&[Measure::Redivert, Measure::Sweep]) {
        let moving = Rc::new(RefCell::new(Moving::new(&flows)?));
        rows.push(Box::new(Instruction(Rc::clone(&moving))));
        rows.push(Next::row(&moving, Call::Single));
        rows.push(Next::row(&moving, Call::Burst));
        rows.push(Box::new(Sweep(moving)));
    }
    if wants(&[Measure::Flood]) && protocol == Protocol::Tcp {
        rows.push(Flood::row(&flows)?);
    }
    if wants(&[Measure::Snapshot]) {
        let subject = filled(&flows, Settings::Usual)?;
        rows.push(Snapshot::row(&subject, &churn, Call::Export));
        rows.push(Snapshot::row(&subject, &churn, Call::Import));
        rows.push(Snapshot::row(&subject, &churn, Call::ImportBurst));
    }
    Ok(rows)
}

/// A translator with a connection for each flow.
fn filled(flows: &Rc<Flows>, settings: Settings) -> Result<Rc<RefCell<Subject>>, String> {
    let subject = Subject::filled_with(flows, Rules::OwnServers, settings, flows.count())?;
    Ok(Rc::new(RefCell::new(subject)))
}
