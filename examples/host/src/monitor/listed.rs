//! A rule as a translator has listed it, and the instruction that changes it.

use byway::control::{Instruction, ListedRule, Rule};
use byway::{Divert, Match, Midstream, Weighted};

use super::rules::Each;
use crate::config::monitor::Service;

/// A rule as a translator has listed it.
#[derive(Clone, Debug)]
pub struct Listed {
    /// What it matches.
    pub matches: Match,
    /// Its servers, with their weights.
    pub servers: Vec<Weighted>,
    /// Whether a new connection goes to the server with the fewest for its weight.
    pub least_loaded: bool,
    keep_source: bool,
    any_port: bool,
    resumable: bool,
    ejecting: bool,
    midstream: Option<Midstream>,
}

impl Listed {
    pub(super) fn of(rule: &ListedRule<'_>) -> Self {
        Self {
            matches: rule.matches(),
            servers: rule.servers().map(|(server, _)| server).collect(),
            least_loaded: rule.is_least_loaded(),
            keep_source: rule.keeps_source(),
            any_port: rule.takes_replies_from_any_port(),
            resumable: rule.is_resumable(),
            ejecting: rule.is_ejecting(),
            midstream: rule.midstream(),
        }
    }

    /// The weights that it has for the servers of a service.
    #[must_use]
    pub fn weights(&self, service: &Service) -> Each<u16> {
        let mut weights: Each<u16> = Default::default();
        for (weight, server) in weights.iter_mut().zip(&service.servers) {
            *weight = self.servers.iter().find(|listed| listed.target == server.target).map_or(0, |listed| listed.weight);
        }
        weights
    }

    /// A rule that the translator does not have yet.
    #[must_use]
    pub const fn new(matches: Match) -> Self {
        Self {
            matches,
            servers: Vec::new(),
            least_loaded: true,
            keep_source: false,
            any_port: false,
            resumable: false,
            ejecting: false,
            midstream: None,
        }
    }

    /// The instruction that gives it other servers, of which the least loaded gets a new connection; or which clients it is
    /// for. The rest stays.
    #[must_use]
    pub fn with(&self, matches: Match, servers: &[Weighted]) -> Option<Instruction> {
        let mut divert = Divert::new(matches).to_group(servers).least_loaded();
        if self.keep_source {
            divert = divert.keep_source();
        }
        if self.any_port {
            divert = divert.replies_from_any_port();
        }
        if self.resumable {
            divert = divert.resumable();
        }
        if self.ejecting {
            divert = divert.ejecting();
        }
        if let Some(midstream) = self.midstream {
            divert = divert.midstream(midstream);
        }
        Rule::new(&divert).map(Instruction::Divert)
    }
}
