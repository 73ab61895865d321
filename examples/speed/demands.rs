//! What the project demands of each row.

use crate::labels::{Call, Measure, Protocol};
use crate::report::Line;

/// At most this.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Demand {
    /// This many times the row's limit.
    Ratio(f64),
    /// This many times the row beside it.
    Times(f64),
    /// This many nanoseconds more than the row beside it.
    More(f64),
    Nanoseconds(f64),
}

impl Line {
    pub(crate) fn demand(&self) -> Option<Demand> {
        use Demand::{More, Nanoseconds, Ratio, Times};
        let is_single = self.label.call == Some(Call::Single);
        let is_tcp = self.label.protocol == Protocol::Tcp;
        match (self.label.measure, self.connections) {
            (Measure::Hit, ..=1_000) if is_single => Some(Ratio(if is_tcp { 1.6 } else { 1.3 })),
            (Measure::Hit, ..=1_000) => Some(Ratio(if is_tcp { 1.6 } else { 1.4 })),
            (Measure::Hit, 100_000..) => Some(Ratio(if is_single { 1.3 } else { 1.2 })),
            (Measure::HitMeasured, _) => Some(More(5.0)),
            (Measure::HitResumable, _) => Some(More(10.0)),
            (Measure::Pass, _) => Some(Ratio(1.5)),
            // Where libalias takes 67 ns.
            (Measure::New | Measure::NewByPrefix, 1_000) if is_single => Some(Nanoseconds(55.0)),
            (Measure::Answer, 1_000) if is_single => Some(Times(3.0)),
            (Measure::Answer, 1_000_000) if !is_single => Some(Times(2.0)),
            (Measure::Redivert, _) if self.label.call.is_none() => Some(Nanoseconds(20_000.0)),
            (Measure::Redivert, 1_000_000) if !is_single => Some(Times(5.0)),
            (Measure::Sweep, _) => Some(Nanoseconds(6_000.0)),
            (Measure::Flood, _) => Some(Times(3.0)),
            (Measure::Snapshot, _) if self.label.call == Some(Call::Export) => Some(Nanoseconds(80.0)),
            (Measure::Snapshot, 1_000) => Some(Nanoseconds(250.0)),
            (Measure::Snapshot, 1_000_000) => Some(Nanoseconds(350.0)),
            // Five million a second.
            (Measure::NameAnswered, _) => Some(Nanoseconds(200.0)),
            (Measure::NameOther, _) => Some(Nanoseconds(60.0)),
            (Measure::NameUnrelated, _) => Some(Nanoseconds(5.0)),
            _ => None,
        }
    }
}

impl Demand {
    /// The number, and its unit.
    pub(crate) fn most(self) -> (f64, &'static str) {
        match self {
            Self::Ratio(most) => (most, ""),
            Self::Times(most) => (most, " x"),
            Self::More(most) => (most, " ns more"),
            Self::Nanoseconds(most) => (most, " ns"),
        }
    }

    /// Whether the line has what the demand is about, and no more of it.
    pub(crate) fn is_met(self, line: &Line) -> bool {
        let value = match self {
            Self::Ratio(_) => line.against.map(|(_, ratio)| ratio),
            Self::Times(_) => line.beside.map(|beside| beside.times),
            Self::More(_) => line.beside.map(|beside| beside.more),
            Self::Nanoseconds(_) => Some(line.nanoseconds),
        };
        value.is_some_and(|value| value <= self.most().0)
    }
}
