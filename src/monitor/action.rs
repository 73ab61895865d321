//! What the monitor does.

use core::time::Duration;

/// What the monitor does.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum Action {
    /// Sets the weights to what the model says that servers can carry, or moves them part of the way there.
    Reweigh,
    /// Restores the weights before the decision `of`, since it has made things worse.
    Undo {
        /// Its number.
        of: u32,
    },
    /// A server gets no more requests: too many of them failed.
    EjectFailing {
        /// Its place in the arrays.
        server: usize,
        /// How many failed ...
        bad: u32,
        /// ... of how many that ended.
        of: u32,
    },
    /// A server gets no more requests: it does not answer.
    EjectHanging {
        /// Its place in the arrays.
        server: usize,
        /// How many requests wait.
        waiting: u32,
        /// How long it has answered none.
        silent: Duration,
    },
    /// A server gets no more requests: many wait, and it answers few of them, however fast.
    EjectStalled {
        /// Its place in the arrays.
        server: usize,
        /// How many requests wait.
        waiting: u32,
        /// How long they have waited, on average.
        waited: Duration,
        /// How many it has answered meanwhile.
        answered: u32,
    },
    /// A server gets no more requests: it is much slower than the others, which can do without it.
    EjectSlow {
        /// Its place in the arrays.
        server: usize,
        /// How long its requests take, those that still wait included, in seconds ...
        response: f64,
        /// ... and those of the others.
        others: f64,
    },
    /// An ejected server gets a few requests, so that it can show whether it has recovered.
    Try {
        /// Its place in the arrays.
        server: usize,
        /// Whether it should get some of the open connections, because too few new ones have come during its trial.
        open: bool,
    },
    /// A server that was tried gets no more requests until it is known how it has done, since measurements come late.
    Pause {
        /// Its place in the arrays.
        server: usize,
    },
    /// A server that was tried has answered, and comes back with a small weight.
    Return {
        /// Its place in the arrays.
        server: usize,
    },
}

impl Action {
    /// Whether it takes a server out of use. Another action at the same time must not hide that, since the server's
    /// open connections may have to move.
    pub(super) const fn ejects(&self) -> bool {
        matches!(
            self,
            Self::EjectFailing { .. } | Self::EjectHanging { .. } | Self::EjectStalled { .. } | Self::EjectSlow { .. }
        )
    }
}
