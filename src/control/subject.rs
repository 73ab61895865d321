//! What a request is applied to: one table, or those of several shards.

use super::apply::{Change, Stage, Terms};
use super::authentication::Rights;
use super::code::{Code, Refusal};
use super::instruction::Instruction;
use super::pages::{self, WriteMeasured};
use super::wire::Writer;

use crate::translator::Table;

/// What a request is applied to.
pub(super) trait Subject {
    /// The generation that an answer gives.
    fn generation(&mut self) -> u32;

    /// Whether all tables have this generation.
    fn has_generation(&mut self, demanded: u32) -> bool {
        self.generation() == demanded
    }

    /// Checks that a request is well-formed, and reads its first instruction into `first`. If that is a change, applies
    /// all of them, or in a dry run finds out what they would do, and writes their effects. If one is refused, `place`
    /// is its number, and nothing has changed.
    fn apply(
        &mut self,
        terms: Terms<'_>,
        place: &mut u8,
        first: &mut Instruction,
        out: &mut Writer<'_>,
    ) -> Result<(), Refusal>;

    /// Writes a page of rules.
    fn list_rules(&mut self, position: u32, out: &mut Writer<'_>);

    /// Writes a page of connections.
    fn list_connections(&mut self, position: u32, write: Option<WriteMeasured>, out: &mut Writer<'_>);

    /// Writes a page of the naming server's entries, if there is one.
    #[cfg(feature = "naming")]
    fn list_names(&mut self, _position: u32, _out: &mut Writer<'_>) {}

    /// Writes the counters.
    fn list_counters(&mut self, refused: &[u64], out: &mut Writer<'_>);

    /// Writes the settings.
    fn list_settings(&mut self, rights: Rights, out: &mut Writer<'_>);
}

impl Subject for Table<'_> {
    fn generation(&mut self) -> u32 {
        self.state.generation
    }

    fn apply(
        &mut self,
        terms: Terms<'_>,
        place: &mut u8,
        first: &mut Instruction,
        out: &mut Writer<'_>,
    ) -> Result<(), Refusal> {
        let mut change = Change::new(terms, self, place, 0);
        change.go_through(Stage::Form, out)?;
        terms.request.instructions().next().ok_or(Code::Malformed)?.read(first)?;
        if first.is_change() { change.apply(out) } else { Ok(()) }
    }

    fn list_rules(&mut self, position: u32, out: &mut Writer<'_>) {
        pages::rules(self, position, out);
    }

    fn list_connections(&mut self, position: u32, write: Option<WriteMeasured>, out: &mut Writer<'_>) {
        pages::connections(self, position, write, out);
    }

    fn list_counters(&mut self, refused: &[u64], out: &mut Writer<'_>) {
        pages::counters(&self.state.counters, refused, out);
    }

    fn list_settings(&mut self, rights: Rights, out: &mut Writer<'_>) {
        pages::settings(&pages::Sizes::of(self), &self.state.config.timeouts, rights, out);
    }
}
