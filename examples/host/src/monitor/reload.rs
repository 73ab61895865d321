//! Reads the configuration anew while the monitor works: a file of locations can take seconds, and the lead would be lost.

use std::time::Instant;

use super::run::{Run, Wanted};
use crate::config::monitor::Monitor;

/// Whether the file is being read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Reload {
    #[default]
    No,
    /// Since then.
    UnderWay(Instant),
    /// The same; the file may have changed since, and is read once more afterwards.
    Again(Instant),
}

impl Run {
    /// Starts a thread that reads the file.
    pub(super) fn reload(&mut self) {
        if let Reload::UnderWay(since) | Reload::Again(since) = self.reload {
            let seconds = since.elapsed().as_secs_f64();
            tracing::warn!("a reload has been under way for {seconds:.1} s: the file is read once more after it");
            self.reload = Reload::Again(since);
            return;
        }
        let (file, wanted, waker) = (self.file.clone(), self.wanted.clone(), self.waker.clone());
        let read = move || {
            let read = Monitor::read(&file).map_err(|error| error.to_string());
            // Fails only if the monitor is ending.
            let _ = wanted.send(Wanted::Loaded(Box::new(read)));
            waker.wake();
        };
        match std::thread::Builder::new().name("reload".into()).spawn(read) {
            Ok(_) => self.reload = Reload::UnderWay(Instant::now()),
            Err(error) => self.refuse(&format!("no thread can be started: {error}")),
        }
    }

    /// Applies all of the file, or nothing of it.
    pub(super) fn loaded(&mut self, read: Result<Monitor, String>) {
        let new = read.map(|new| new.with(self.config.overrides));
        let new = new.and_then(|new| new.check_reload(&self.config).map(|()| new));
        // The last thing that can fail, and it changes all loads or none.
        match new.and_then(|new| self.loads.change(&new.loads).map(|()| new)) {
            Ok(new) => self.configure(new),
            Err(why) => self.refuse(&why),
        }
        if matches!(core::mem::take(&mut self.reload), Reload::Again(_)) {
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

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::monitor::link::tests::monitor;

    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<u8>>>);

    impl Write for Log {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn who_asks_while_it_is_read_is_told_since_when() {
        let (mut run, folder) = monitor("reload", "");
        let log = Log::default();
        let writer = log.clone();
        let subscriber = tracing_subscriber::fmt().with_writer(move || writer.clone()).finish();
        let since = Instant::now().checked_sub(core::time::Duration::from_secs(3_600)).unwrap();
        run.reload = Reload::UnderWay(since);
        tracing::subscriber::with_default(subscriber, || {
            run.reload();
            run.reload();
        });
        assert_eq!(run.reload, Reload::Again(since));
        let said = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
        let times = said.matches("WARN").count();
        assert!(times == 2 && said.matches("has been under way for 3").count() == 2, "{said}");
        // It is read once more when that is done, and then no more.
        run.loaded(Err("a test".into()));
        assert!(matches!(run.reload, Reload::UnderWay(again) if again > since), "{:?}", run.reload);
        run.loaded(Err("a test".into()));
        assert_eq!(run.reload, Reload::No);
        let _ = std::fs::remove_dir_all(&folder);
    }
}
