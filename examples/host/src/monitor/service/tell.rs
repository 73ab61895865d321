//! A service in words: for the journal, the page and the command line.

use core::time::Duration;

use byway::control::MAX_SERVERS;
use byway::monitor::{Action, Decision};
use serde_json::{Value, json};

use super::{State, shares};
use crate::monitor::loads::told;
use crate::monitor::rules::Each;

impl State {
    pub(super) fn words(&self, weights: &Each<u16>) -> String {
        let sum: f64 = weights.iter().map(|weight| f64::from(*weight)).sum::<f64>().max(1.0);
        let shares: Vec<_> = (0..self.len())
            .map(|server| format!("{} {:.0} %", self.name(server), f64::from(weights[server]) / sum * 100.0))
            .collect();
        shares.join(", ")
    }

    /// Weights by the names of the servers.
    #[must_use]
    pub fn named(&self, weights: &Each<u16>) -> Value {
        (0..self.len()).map(|server| (self.name(server), Value::from(weights[server]))).collect::<serde_json::Map<_, _>>().into()
    }

    /// The clause after "since".
    pub(super) fn why(&self, decision: &Decision<MAX_SERVERS>) -> String {
        match decision.action {
            Action::Reweigh => {
                let [before, after] = decision.predicted().map(|time| time * 1e3);
                let corrected = decision.inputs.reported.iter().flatten().filter(|one| one.correction != 1.0).count();
                let loads = if corrected == 0 { String::new() } else { format!(", with the loads that {corrected} servers report") };
                format!(
                    "the model expects requests to take {after:.1} ms instead of {before:.1} ms, which saves {:.2} s of waiting in \
                     10 s, more than the {:.2} s of cost and doubt{loads}",
                    decision.promise(),
                    decision.threshold()
                )
            }
            Action::Undo { .. } => {
                let times = decision.inputs.judged.map_or([0.0; 2], |outcome| outcome.response);
                let [before, after] = times.map(|time| time * 1e3);
                format!("requests took {after:.1} ms instead of {before:.1} ms after the last change, which is undone")
            }
            Action::EjectFailing { server, bad, of } => format!("{bad} of {of} requests to {} have failed", self.name(server)),
            Action::EjectHanging { server, waiting, silent } => format!(
                "{waiting} requests wait for {}, and it has answered none for {:.2} s",
                self.name(server),
                silent.as_secs_f64()
            ),
            Action::EjectStalled { server, waiting, waited, answered } => format!(
                "{waiting} requests wait for {}, for {:.2} s on average, and it has answered only {answered}",
                self.name(server),
                waited.as_secs_f64()
            ),
            Action::EjectSlow { server, response, others } => format!(
                "requests to {} take {:.1} ms, those of the others {:.1} ms, and they can do without it",
                self.name(server),
                response * 1e3,
                others * 1e3
            ),
            Action::Try { server, .. } => format!("{} gets a few requests to show whether it is well again", self.name(server)),
            Action::Pause { server } => format!("what {} was given to show whether it is well is not known yet", self.name(server)),
            Action::Return { server } => format!("{} has answered well", self.name(server)),
            _ => "the monitor has decided so".into(),
        }
    }

    pub(super) fn inputs(&self, decision: Option<&Decision<MAX_SERVERS>>) -> Value {
        let (seen, estimates, reported) = match decision {
            Some(decision) => (decision.inputs.seen, decision.inputs.estimates, decision.inputs.reported),
            None => (self.seen, self.model.estimates(), self.model.reported()),
        };
        let each = (0..self.len()).map(|server| {
            let (seen, estimate) = (&seen[server], &estimates[server]);
            json!({
                "server": self.name(server),
                "answered": seen.answered,
                "mean": if seen.answered == 0 { 0.0 } else { seen.response.as_secs_f64() / f64::from(seen.answered) },
                "failed": seen.failures.max(seen.unanswered),
                "waiting": seen.waiting,
                "waited": seen.waited.as_secs_f64(),
                "silent": seen.silent.as_secs_f64(),
                "capacity": estimate.capacity,
                "floor": estimate.floor,
                "response": estimate.response,
                "rate": estimate.rate,
                "others": estimate.others,
                "part": estimate.part,
                "reported": told(reported[server]),
            })
        });
        Value::Array(each.collect())
    }

    /// What has become of a decision of the model, once that is known. `None` if it is so old that the model has forgotten it.
    #[must_use]
    pub fn outcome(&self, number: u32) -> Option<Option<Value>> {
        let decision = self.model.decisions().find(|decision| decision.number == number)?;
        Some(decision.outcome.map(|outcome| {
            let [before, after] = outcome.response;
            json!({
                "before": before,
                "after": after,
                "promised_share": outcome.promised,
                "realised": outcome.realised_share(),
                "is_worse": outcome.is_worse(),
            })
        }))
    }

    /// The shares that the model would give if nothing kept it from that: in proportion to what servers can carry, as far as
    /// that is known. Where that is worth a change, it goes there step by step.
    fn aim(&self) -> Each<f64> {
        let (weights, ejected, estimates) = (shares(&self.model.weights()), self.model.ejected(), self.model.estimates());
        let is_in = |server: &usize| !ejected[*server] && self.demands.excluded[*server].is_none();
        let all: Vec<usize> = (0..self.len()).filter(is_in).collect();
        if !all.iter().all(|server| estimates[*server].is_known()) {
            return weights;
        }
        let sum: f64 = all.iter().map(|server| estimates[*server].own_capacity()).sum();
        let mut aim: Each<f64> = Default::default();
        all.iter().for_each(|server| aim[*server] = estimates[*server].own_capacity() / sum.max(1e-9));
        aim
    }

    /// What the page shows of it.
    #[must_use]
    pub fn show(&self) -> Value {
        let in_force = self.in_force.unwrap_or_default();
        let share = |weights: &Each<u16>, server: usize| {
            let sum: f64 = weights.iter().map(|weight| f64::from(*weight)).sum();
            if sum > 0.0 { f64::from(weights[server]) / sum } else { 0.0 }
        };
        let (aim, ejected) = (self.aim(), self.model.ejected());
        let (estimates, reported) = (self.model.estimates(), self.model.reported());
        let each = (0..self.len()).map(|server| {
            let (lately, estimate) = (self.lately(server), &estimates[server]);
            let millis = |time: Option<Duration>| time.map(|time| time.as_secs_f64() * 1e3);
            let buckets: Vec<_> =
                lately.buckets().map(|(from, to, count)| json!([from.as_secs_f64() * 1e3, to.as_secs_f64() * 1e3, count])).collect();
            json!({
                "name": self.name(server),
                "connections": self.connections[server],
                "waiting": self.seen[server].waiting,
                "failures": self.failures[server],
                "share": share(&in_force, server),
                "proposed": aim[server],
                "capacity": estimate.capacity,
                "others": estimate.others,
                "part": estimate.part,
                "rate": estimate.rate,
                "reported": told(reported[server]),
                "median": millis(lately.percentile(50.0)),
                "p99": millis(lately.percentile(99.0)),
                "buckets": buckets,
                "ejected": ejected[server],
                "excluded_by": self.demands.excluded[server],
                "maximum": self.demands.maximum[server].as_ref().map(|(share, by)| json!({ "share": share, "by": by })),
                "drained": self.pins.drained[server],
                "pinned": self.pins.share[server],
            })
        });
        json!({
            "name": self.service.name,
            "divert": self.service.matches.to_string(),
            "known": self.in_force.is_some(),
            "trust": self.model.trust(),
            "left_out": self.demands.left_out,
            "servers": each.collect::<Vec<_>>(),
        })
    }
}

pub(super) fn cause(decision: &Decision<MAX_SERVERS>) -> String {
    match decision.action {
        Action::Reweigh => "a prediction of the model".into(),
        Action::Undo { .. } => "the outcome of the last change".into(),
        Action::EjectFailing { .. } | Action::EjectHanging { .. } | Action::EjectStalled { .. } => "failures that were seen".into(),
        Action::EjectSlow { .. } => "response times that were seen".into(),
        Action::Try { .. } | Action::Pause { .. } | Action::Return { .. } => "the end of an ejection".into(),
        _ => "the model".into(),
    }
}
