//! The receivers of a shard's events.

use crate::control::EventReporter;
use crate::portion::RecordSender;
use crate::report::ReportSender;
use crate::router::Router;

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
    /// How many events the translator had lost when it was asked last.
    pub lost: u64,
}

impl Listeners {
    /// Takes the events of a router's translator, and passes them on. None of the listeners waits for another.
    pub fn report(&mut self, shard: usize, router: &mut Router) {
        let Self { control, portion, report, lost } = self;
        let Router { translator, counters, .. } = router;
        if control.is_none() && portion.is_none() && report.is_none() {
            return;
        }
        if let Some(portion) = portion
            && core::mem::replace(lost, translator.counters().events_lost) != translator.counters().events_lost
        {
            portion.fall_behind();
        }
        let (mut any, is_alone) = (false, portion.is_none() && report.is_none());
        loop {
            let has_room = control.as_mut().is_none_or(EventReporter::has_room);
            if is_alone && !has_room {
                // They can wait in the translator's queue, since nobody else wants them.
                break;
            }
            let Some(detailed) = translator.poll_report() else {
                break;
            };
            any = true;
            let event = detailed.event;
            if let Some(report) = report {
                report.send(shard, detailed);
            }
            if let Some(portion) = portion {
                portion.report(translator, &event);
            }
            if let Some(control) = control {
                counters.control_events_lost += u64::from(!control.report(event));
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
