//! Reads the configuration anew while the monitor works: a file of locations can take seconds, and the lead would be lost.

use super::run::{Run, Wanted};
use crate::config::monitor::Monitor;

/// Whether the file is being read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Reload {
    #[default]
    No,
    UnderWay,
    /// It may have changed since: once more afterwards.
    Again,
}

impl Run {
    /// Has the file read by a thread of its own.
    pub(super) fn reload(&mut self) {
        if self.reload != Reload::No {
            self.reload = Reload::Again;
            return;
        }
        let (file, wanted, waker) = (self.file.clone(), self.wanted.clone(), self.waker.clone());
        let read = move || {
            let read = Monitor::read(&file).map_err(|error| error.to_string());
            // Nobody listens any more at the end.
            let _ = wanted.send(Wanted::Loaded(Box::new(read)));
            waker.wake();
        };
        match std::thread::Builder::new().name("reload".into()).spawn(read) {
            Ok(_) => self.reload = Reload::UnderWay,
            Err(error) => self.refuse(&format!("no thread can be started: {error}")),
        }
    }

    /// All of the file holds now, or nothing of it.
    pub(super) fn loaded(&mut self, read: Result<Monitor, String>) {
        let new = read.map(|new| new.with(self.config.overrides));
        match new.and_then(|new| new.check_reload(&self.config).map(|()| new)) {
            Ok(new) => self.configure(new),
            Err(why) => self.refuse(&why),
        }
        if core::mem::take(&mut self.reload) == Reload::Again {
            self.reload();
        }
    }

    fn configure(&mut self, new: Monitor) {
        for (state, service) in self.services.iter_mut().zip(&new.services) {
            state.configure(service.clone());
        }
        self.config = new;
        for link in &mut self.links {
            link.stand.wants = !self.config.dry_run;
            link.stand.hurry();
        }
        if self.config.dry_run {
            self.take_back();
        }
        tracing::info!("the configuration was read anew: {} rules", self.config.rules.len());
    }

    fn refuse(&mut self, why: &str) {
        self.refused_reloads += 1;
        tracing::error!("the configuration stays as it was: {why}");
    }

    /// A dry run begins: what was not sent yet is not sent. Previews change nothing, and are answered.
    fn take_back(&mut self) {
        for place in 0..self.links.len() {
            let mut heard = Vec::new();
            let sent = &self.sent;
            let is_change = |number: u64| sent.get(&number).is_none_or(|sent| sent.decision.is_some());
            self.links[place].take_back(is_change, "a dry run has begun", &mut heard);
            heard.into_iter().for_each(|heard| self.hear(place, heard));
        }
    }
}
