//! The rules of a configuration.

use std::collections::HashSet;

use byway::{Divert, DivertOptions, Match, Midstream, ParseError, Weighted};

use super::document::{Fault, Table, Value};

/// The most servers that a rule may name: as many as fit into an instruction.
const MAX_SERVERS: usize = 16;

/// A rule.
#[derive(Clone, Debug)]
pub struct Rule {
    /// What it matches.
    pub matches: Match,
    /// The servers that it leads to.
    pub servers: Vec<Weighted>,
    /// Its options.
    pub options: DivertOptions,
    /// Whether packets that cannot be translated leave as they are, and are not dropped.
    pub fail_open: bool,
    place: Fault,
}

impl PartialEq for Rule {
    /// The place in the file does not matter.
    fn eq(&self, other: &Self) -> bool {
        self.divert() == other.divert() && self.fail_open == other.fail_open
    }
}

impl Rule {
    /// The instruction.
    #[must_use]
    pub fn divert(&self) -> Divert<'_> {
        Divert::new(self.matches).to_group(&self.servers).with_options(self.options)
    }

    /// The same rule with another match.
    pub(super) fn about(&self, matches: Match) -> Self {
        Self { matches, ..self.clone() }
    }

    pub(super) fn fault(&self, problem: impl core::fmt::Display) -> Fault {
        Fault { problem: problem.to_string(), ..self.place.clone() }
    }
}

/// Lists of servers with names.
pub(super) type Groups<'a> = Vec<(&'a str, Vec<Weighted>)>;

pub(super) fn groups<'a>(root: &Table<'a>) -> Result<Groups<'a>, Fault> {
    let mut groups = Vec::new();
    if let Some(table) = root.table("groups")? {
        for (name, value) in table.each() {
            groups.push((name, servers(&value)?));
        }
    }
    Ok(groups)
}

pub(super) fn read(root: &Table<'_>, groups: &Groups<'_>) -> Result<Vec<Rule>, Fault> {
    let (mut rules, mut known) = (Vec::new(), HashSet::new());
    let Some(listed) = root.get("rule") else {
        return Ok(rules);
    };
    for value in listed.list("a list of tables: [[rule]]")? {
        let rule = rule(&value.table()?, groups)?;
        if !known.insert(rule.matches) {
            return Err(rule.fault(format!("another rule is about {}", rule.matches)));
        }
        rules.push(rule);
    }
    Ok(rules)
}

fn rule(table: &Table<'_>, groups: &Groups<'_>) -> Result<Rule, Fault> {
    const MATCH: &str = "ADDRESS[/LENGTH][:PORT] [tcp|udp|icmp] [from CLIENTS], like \"100.100.100.100:80 tcp\"";
    let divert = table.need("divert", MATCH)?;
    let matches = divert.text(MATCH)?.parse().map_err(|error: ParseError| divert.fault(error))?;
    let servers = match (table.get("to"), table.get("group")) {
        (Some(to), None) => servers(&to)?,
        (None, Some(name)) => group(&name, groups)?,
        (Some(_), Some(group)) => return Err(group.fault("the rule has servers already: leave out either to or group")),
        (None, None) => {
            return Err(table.need("to", "a server, or a list of servers").err().unwrap_or_else(|| table.fault("")));
        }
    };
    let rule = with_servers(table, matches, servers, divert.fault(""))?;
    table.finish()?;
    Ok(rule)
}

/// A rule with the options that stand in the table.
pub(super) fn with_servers(
    table: &Table<'_>,
    matches: Match,
    servers: Vec<Weighted>,
    place: Fault,
) -> Result<Rule, Fault> {
    const MIDSTREAM: [(&str, Midstream); 3] =
        [("pass", Midstream::Pass), ("adopt", Midstream::Adopt), ("drop", Midstream::Drop)];
    let mut options = DivertOptions::NONE;
    options.keep_source = table.or("keep_source", false, Value::boolean)?;
    options.any_port_replies = table.or("any_port", false, Value::boolean)?;
    options.midstream = table.or("midstream", None, |v| v.choice(&MIDSTREAM).map(Some))?;
    options.resumable = table.or("resumable", false, Value::boolean)?;
    options.least_loaded = table.or("least_loaded", false, Value::boolean)?;
    options.ejecting = table.or("eject", false, Value::boolean)?;
    let fail_open = table.or("fail_open", false, Value::boolean)?;
    Ok(Rule { matches, servers, options, fail_open, place })
}

/// The servers of a group.
pub(super) fn group(value: &Value<'_>, groups: &Groups<'_>) -> Result<Vec<Weighted>, Fault> {
    let name = value.text("the name of one of [groups]")?;
    let found = groups.iter().find(|(group, _)| *group == name);
    found.map(|(_, servers)| servers.clone()).ok_or_else(|| {
        let names: Vec<_> = groups.iter().map(|(name, _)| *name).collect();
        let names = if names.is_empty() { "there is none".into() } else { names.join(", ") };
        value.fault(format!("\"{name}\" found: expected the name of one of [groups]: {names}"))
    })
}

pub(super) fn servers(value: &Value<'_>) -> Result<Vec<Weighted>, Fault> {
    const EXPECTED: &str = "a server: ADDRESS[:PORT][*WEIGHT], or \"same\"";
    let mut servers = Vec::new();
    for value in value.one_or_more() {
        servers.push(value.text(EXPECTED)?.parse().map_err(|error: ParseError| value.fault(error))?);
    }
    match servers.len() {
        1..=MAX_SERVERS => Ok(servers),
        count => Err(value.fault(format!("{count} servers found: expected 1 to {MAX_SERVERS}"))),
    }
}
