//! The receivers of a shard's events.

use byway::{Heap, Translator};

use crate::control::EventReporter;
use crate::portion::RecordSender;
use crate::report::ReportSender;

/// The port for instructions and its subscribers, the other portion, and the thread that reports to a collector; each may be
/// absent.
#[derive(Clone, Debug, Default)]
pub struct Listeners {
    /// The port for instructions.
    pub control: Option<EventReporter>,
    /// The other portion.
    pub portion: Option<RecordSender>,
    /// The thread that reports to a collector.
    pub report: Option<ReportSender>,
}

impl Listeners {
    /// Takes a translator's events, and passes them on.
    pub fn report(&mut self, shard: usize, translator: &mut Translator<Heap>) {
        let Self { control, portion, report } = self;
        if control.is_none() && portion.is_none() && report.is_none() {
            return;
        }
        let mut any = false;
        while control.as_mut().is_none_or(EventReporter::has_room)
            && let Some(detailed) = translator.poll_report()
        {
            any = true;
            let event = detailed.event;
            if let Some(report) = report {
                report.send(shard, detailed);
            }
            if let Some(portion) = portion {
                portion.report(translator, &event);
            }
            if let Some(control) = control {
                control.report(event);
            }
        }
        if let Some(control) = control {
            control.wake();
        }
        if let Some(report) = report.as_ref().filter(|_| any) {
            report.wake();
        }
    }

    /// Whether an event waits for room in a queue.
    #[must_use]
    pub fn is_held_up(&self) -> bool {
        self.control.as_ref().is_some_and(EventReporter::is_held_up)
    }
}
