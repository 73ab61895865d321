//! What the console says now and then.

use core::fmt;

use byway::DropReason;

use crate::counters::Counters;

/// All counters, to be printed: every total, and of the reasons those that have been met.
#[derive(Clone, Copy, Debug)]
pub struct Watchdog<'a> {
    pub(crate) router: &'a Counters,
    pub(crate) translator: &'a byway::Counters,
    pub(crate) connections: u32,
}

impl fmt::Display for Watchdog<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { router, translator, connections } = self;
        let byway::Counters { to_server, to_client, opened, moved, evicted, .. } = translator;
        write!(
            f,
            "{router} byway: connections={connections} to_server={to_server} to_client={to_client} opened={opened} \
             moved={moved} evicted={evicted} dropped:"
        )?;
        for &reason in DropReason::ALL {
            let count = translator.dropped(reason);
            if count != 0 {
                write!(f, " byway.{}={count}", reason.name())?;
            }
        }
        Ok(())
    }
}

#[cfg(feature = "defmt")]
impl defmt::Format for Watchdog<'_> {
    fn format(&self, f: defmt::Formatter<'_>) {
        let Self { router, translator, connections } = self;
        let byway::Counters { to_server, to_client, opened, moved, evicted, .. } = translator;
        defmt::write!(
            f,
            "{} byway: connections={} to_server={} to_client={} opened={} moved={} evicted={} dropped:",
            router,
            connections,
            to_server,
            to_client,
            opened,
            moved,
            evicted
        );
        for &reason in DropReason::ALL {
            let count = translator.dropped(reason);
            if count != 0 {
                defmt::write!(f, " byway.{=str}={}", reason.name(), count);
            }
        }
    }
}
