//! Those who are told what happens to the connections of a shard.

use byway::{Heap, Translator};

use crate::control::EventReporter;
use crate::portion::RecordSender;

/// Nobody, or the port for instructions and its subscribers, and the other portion.
#[derive(Clone, Debug, Default)]
pub struct Listeners {
    /// The port for instructions.
    pub control: Option<EventReporter>,
    /// The other portion.
    pub portion: Option<RecordSender>,
}

impl Listeners {
    /// Takes a translator's events, and passes them on.
    pub fn report(&mut self, translator: &mut Translator<Heap>) {
        let Self { control, portion } = self;
        if control.is_none() && portion.is_none() {
            return;
        }
        while control.as_mut().is_none_or(EventReporter::has_room)
            && let Some(event) = translator.poll_event()
        {
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
    }

    /// Whether an event waits for room in a queue.
    #[must_use]
    pub fn is_held_up(&self) -> bool {
        self.control.as_ref().is_some_and(EventReporter::is_held_up)
    }
}
