//! The loads that servers report: which are believed, which are not and why, and whom they concern.

use std::collections::BTreeMap;

use byway::Instant;
use byway::monitor::{LoadReading, LoadSample, Reported};
use serde_json::{Value, json};

use super::exposition::Sum;
use super::scrape::{Report, Scraper};
use super::service::State;
use crate::config::load::Load;

/// One server that reports its load.
#[derive(Debug)]
struct Source {
    load: Load,
    scraper: Scraper,
    reading: LoadReading,
    last: Option<byway::monitor::Load>,
    believed: u64,
    /// How often a report was not used, by reason.
    refused: BTreeMap<&'static str, u64>,
    /// What is wrong at present.
    wrong: Option<String>,
}

/// All servers that report their load.
#[derive(Debug)]
pub struct Loads {
    sources: Vec<Source>,
}

impl Loads {
    /// Begins to ask them.
    ///
    /// # Errors
    /// There is no thread for one.
    pub fn start(loads: &[Load]) -> Result<Self, String> {
        let mut all = Self { sources: Vec::new() };
        all.change(loads)?;
        Ok(all)
    }

    /// Asks these servers from now on, and no others. What stays as it is goes on with what is known.
    ///
    /// # Errors
    /// There is no thread for one; then nothing has changed.
    pub fn change(&mut self, loads: &[Load]) -> Result<(), String> {
        let is_new = |load: &&Load| !self.sources.iter().any(|source| source.load == **load);
        let begun: Vec<_> = loads.iter().filter(is_new).map(Source::start).collect::<Result<_, String>>()?;
        self.sources.retain(|source| loads.contains(&source.load));
        self.sources.extend(begun);
        self.sources.sort_by_key(|source| loads.iter().position(|load| *load == source.load));
        Ok(())
    }

    /// Passes what has come to the services that it concerns. `at` converts a time to the monitor's clock. Never waits.
    pub fn poll(&mut self, services: &mut [State], at: impl Fn(std::time::Instant) -> Instant) {
        for source in &mut self.sources {
            let Some((asked, said)) = source.scraper.take() else { continue };
            let Some(load) = source.take((asked, said), at(asked)) else { continue };
            for service in services.iter_mut() {
                service.report_load(&source.load.server, load);
            }
        }
    }

    /// What the page shows of them.
    #[must_use]
    pub fn show(&self, now: Instant) -> Value {
        let each = self.sources.iter().map(|source| {
            json!({
                "server": source.load.server.to_string(),
                "url": source.load.url,
                "load": source.last.map(|load| load.share()),
                "age": source.last.map(|load| now.duration_since(load.at()).as_secs_f64()),
                "believed": source.believed,
                "refused": source.refused,
                "wrong": source.wrong,
            })
        });
        Value::Array(each.collect())
    }
}

impl Source {
    fn start(load: &Load) -> Result<Self, String> {
        let failed = |error| format!("load of {}: {error}", load.server);
        let scraper = Scraper::start(load.url.clone(), load.metric.clone(), load.interval).map_err(failed)?;
        let reading = LoadReading::new(load.kind, load.full).ok_or("full: expected a number above zero")?;
        let (last, wrong) = (None, None);
        Ok(Self { load: load.clone(), scraper, reading, last, believed: 0, refused: BTreeMap::new(), wrong })
    }

    fn take(&mut self, (_, said): Report, at: Instant) -> Option<byway::monitor::Load> {
        let said = said.map_err(|fault| (fault.kind(), fault.to_string()));
        let taken = said.and_then(|Sum { value, series, stamp }| {
            let taken = self.reading.take(&LoadSample { at, value, series, stamp });
            taken.map_err(|why| (why.text(), format!("{}: {value:e}", why.text())))
        });
        match taken {
            Ok(load) => {
                if self.wrong.take().is_some() {
                    tracing::info!("load of {}: it can be used again", self.load.server);
                }
                self.believed += u64::from(load.is_some());
                self.last = load.or(self.last);
                load
            }
            Err((kind, why)) => {
                *self.refused.entry(kind).or_default() += 1;
                if self.wrong.is_none() {
                    tracing::warn!("load of {}, {}: {why}", self.load.server, self.load.url);
                }
                self.wrong = Some(why);
                None
            }
        }
    }
}

/// A load that a server has reported, and what came of it; nothing without a fresh one.
pub(super) fn told(reported: Option<Reported>) -> Value {
    reported.map_or(Value::Null, |one| {
        json!({ "load": one.share, "age": one.age.as_secs_f64(), "capacity": one.capacity, "correction": one.correction })
    })
}
