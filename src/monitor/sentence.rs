//! A decision in one sentence.

use core::fmt;

use crate::monitor::action::Action;
use crate::monitor::decide::{Decision, Outcome, Promise, shares};

impl<const N: usize> fmt::Display for Decision<N> {
    /// One sentence.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.inputs.at.as_micros() as f64 / 1e6;
        write!(f, "{} at {seconds:.2} s: ", self.number)?;
        match self.action {
            Action::Reweigh => {
                let Promise { response: [before, after], best, gain, threshold } = self.promise;
                let [before, after, best] = [before, after, best].map(|time| time * 1e3);
                let horizon = self.settings.horizon.as_secs();
                write!(
                    f,
                    "weights {:?} instead of {:?}, since ",
                    Weights(&self.weights),
                    Weights(&self.inputs.weights)
                )?;
                write!(f, "requests should take {after:.1} ms instead of {before:.1} (at best {best:.1}), ")?;
                write!(
                    f,
                    "which saves {gain:.1} s of waiting in {horizon} s, more than the {threshold:.1} s of cost and doubt"
                )?;
                let corrected = self.inputs.reported.iter().flatten().filter(|one| one.correction != 1.0).count();
                if corrected != 0 {
                    write!(f, ", with the loads that {corrected} servers report")?;
                }
            }
            Action::Undo { of } => {
                write!(f, "decision {of} is undone, since requests have become slower")?;
                if let Some(Outcome { response: [before, after], .. }) = self.inputs.judged {
                    write!(f, ": {:.1} ms instead of {:.1}", after * 1e3, before * 1e3)?;
                }
            }
            Action::EjectFailing { server, bad, of } => {
                write!(f, "server {server} gets nothing more, since {bad} of {of} requests have failed")?;
            }
            Action::EjectHanging { server, waiting, silent } => {
                let silent = silent.as_secs_f64();
                write!(
                    f,
                    "server {server} gets nothing more, since {waiting} requests wait and none was answered for {silent:.2} s"
                )?;
            }
            Action::EjectStalled { server, waiting, waited, answered } => {
                let waited = waited.as_secs_f64();
                write!(
                    f,
                    "server {server} gets nothing more, since {waiting} requests wait, for {waited:.2} s on average, and it has \
                     answered only {answered}"
                )?;
            }
            Action::EjectSlow { server, response, others } => {
                let [response, others] = [response, others].map(|time| time * 1e3);
                write!(
                    f,
                    "server {server} gets nothing more, since its requests take {response:.1} ms, those of the others {others:.1}, \
                     and they can do without it"
                )?;
            }
            Action::Try { server, .. } => {
                write!(f, "server {server} gets a few requests, to see whether it is well again")?
            }
            Action::Pause { server } => {
                write!(f, "server {server} gets nothing more until it is known how it has done")?
            }
            Action::Return { server } => {
                write!(f, "server {server} comes back with a small weight, since it has answered well")?
            }
        }
        if let Some(share) = self.outcome.as_ref().and_then(Outcome::realised_share) {
            write!(f, "; {:.0} % of the promise came true", share * 100.0)?;
        }
        Ok(())
    }
}

/// Weights in per cent.
struct Weights<'a, const N: usize>(&'a [u16; N]);

impl<const N: usize> fmt::Debug for Weights<'_, N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shares = shares(&self.0.map(f64::from));
        for (place, share) in shares.into_iter().enumerate() {
            write!(f, "{}{:.0}", if place == 0 { "" } else { ":" }, share * 100.0)?;
        }
        Ok(())
    }
}
