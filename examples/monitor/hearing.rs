//! What stands between translators and their monitor.

/// How the monitor hears translators.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Hearing {
    /// How many there are; each has the same share of the clients.
    pub translators: usize,
    /// How late what they have measured arrives, in seconds.
    pub late: f64,
    /// Which share of it never does.
    pub lost: f64,
    /// By how much the clock of each is ahead of the last one's, in seconds.
    pub apart: f64,
    /// A server that reports this load, whatever it does.
    pub liar: Option<(usize, f64)>,
}

impl Hearing {
    /// One translator, which is heard at once.
    pub(crate) const GOOD: Self = Self { translators: 1, late: 0.0, lost: 0.0, apart: 0.0, liar: None };
}

impl Hearing {
    /// Two translators whose clocks are a second apart; what they have measured arrives five seconds late, and a tenth of it never.
    pub(crate) const BAD: Self = Self { translators: 2, late: 5.0, lost: 0.1, apart: 1.0, liar: None };
}
