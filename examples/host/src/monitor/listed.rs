//! A rule as a translator has listed it, and the instruction that changes it.

use byway::control::{Instruction, ListedRule, Rule};
use byway::{Divert, DivertOptions, Match, Weighted};

use super::rules::Each;
use crate::config::monitor::Service;

/// A rule as a translator has listed it.
#[derive(Clone, Debug)]
pub struct Listed {
    /// What it matches.
    pub matches: Match,
    /// Its servers, with their weights.
    pub servers: Vec<Weighted>,
    /// What else it asks for.
    pub options: DivertOptions,
}

impl Listed {
    pub(super) fn of(rule: &ListedRule<'_>) -> Self {
        Self {
            matches: rule.matches(),
            servers: rule.servers().map(|(server, _)| server).collect(),
            options: rule.options(),
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
    pub fn new(matches: Match) -> Self {
        let mut options = DivertOptions::NONE;
        options.least_loaded = true;
        Self { matches, servers: Vec::new(), options }
    }

    /// The instruction that gives it other servers, of which the least loaded gets a new connection; or which clients it is
    /// for. The rest stays.
    #[must_use]
    pub fn with(&self, matches: Match, servers: &[Weighted]) -> Option<Instruction> {
        let divert = Divert::new(matches).to_group(servers).with_options(self.options).least_loaded();
        Rule::new(&divert).map(Instruction::Divert)
    }
}
