//! What an operator wants: done, or only previewed.

use std::sync::mpsc::Sender;

use byway::Redivert;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::results::Results;
use super::rules::{Each, Pins};
use super::run::{PATIENCE, Run, Sent, Undo};
use super::service::Change;

impl Run {
    /// Does what an operator says, or says what it would do.
    pub(super) fn obey(&mut self, command: &Value, reply: Sender<Result<Value, String>>) {
        match self.try_to_obey(command, &reply) {
            Ok(Some(done)) => drop(reply.send(Ok(done))),
            // The translators' answers come first.
            Ok(None) => {}
            Err(why) => drop(reply.send(Err(why))),
        }
    }

    pub(super) fn try_to_obey(&mut self, command: &Value, reply: &Sender<Result<Value, String>>) -> Result<Option<Value>, String> {
        let text = |field: &str| command[field].as_str().ok_or_else(|| format!("{field} is missing"));
        let what = text("do")?;
        let dry_run = command["dry_run"] == true;
        if let Some(why) = self.watches() {
            return Err(why);
        }
        if what == "undo" {
            return self.undo(command, dry_run, reply);
        }
        let name = text("service")?;
        let service = self.services.iter().position(|state| state.service.name == name);
        let service = service.ok_or_else(|| format!("there is no service \"{name}\""))?;
        let state = &self.services[service];
        if state.in_force.is_none() {
            return Err("no translator has been heard yet".into());
        }
        let server = |field: &str| {
            let name = text(field)?;
            state.place_of(name).ok_or_else(|| format!("{name} is no server of \"{}\"", state.service.name))
        };
        let mut pins = state.pins.clone();
        let mut moves = Vec::new();
        let words = match what {
            "drain" => {
                pins.drained[server("server")?] = true;
                format!("the operator has drained {}", text("server")?)
            }
            "restore" => {
                let server = server("server")?;
                (pins.drained[server], pins.share[server]) = (false, None);
                format!("the operator has given {} back to the model", text("server")?)
            }
            "only" => {
                let server = server("server")?;
                (0..state.len()).for_each(|other| pins.drained[other] = other != server);
                format!("the operator wants all on {}", text("server")?)
            }
            "release" => {
                pins = Pins::default();
                "the operator leaves everything to the model".into()
            }
            "pin" => {
                let percent = command["share"].as_u64().filter(|share| *share <= 100);
                let percent = percent.ok_or("share must be a number from 0 to 100")? as u8;
                let server = server("server")?;
                pins.share[server] = Some(percent);
                let sum: u32 = pins.share.iter().flatten().map(|share| u32::from(*share)).sum();
                if sum > 100 {
                    return Err(format!("all pinned shares together would be {sum} %"));
                }
                format!("the operator has pinned {} to {percent} %", text("server")?)
            }
            "move" => {
                let (from, to) = (server("server")?, server("to")?);
                if from == to {
                    return Err("old and new server are the same".into());
                }
                pins.drained[from] = true;
                moves.push((from, to));
                format!("the operator moves open connections of {} to {}", text("server")?, text("to")?)
            }
            other => return Err(format!("there is no command \"{other}\"")),
        };
        if (0..state.len()).all(|server| pins.drained[server] || pins.share[server] == Some(0) || state.demands.excluded[server].as_ref().is_some_and(|by| by != "the operator")) {
            return Err(format!("\"{name}\" would have no server left"));
        }
        let how = match command["how"].as_str() {
            None if state.service.open_connections == Redivert::Drain => Redivert::Switch,
            None => state.service.open_connections,
            Some(word) => word.parse().map_err(|_| format!("how: \"{word}\" is no kind of re-divert"))?,
        };
        if dry_run {
            let weights = state.preview(Timestamp::now(), &self.config.rules, &pins);
            return self.preview(service, weights, moves, how, &words, reply);
        }
        Ok(Some(self.set_pins(service, pins, moves, how, &words)))
    }

    /// Sets pins, and sends what follows from them.
    pub(super) fn set_pins(&mut self, service: usize, pins: Pins, moves: Vec<(usize, usize)>, how: Redivert, words: &str) -> Value {
        let before = core::mem::replace(&mut self.services[service].pins, pins);
        let weights = self.services[service].in_force.unwrap_or_default();
        self.services[service].demand(Timestamp::now(), &self.config.rules);
        let change = self.services[service].apply("the operator", words);
        let state = &self.services[service];
        self.journal.note_pins(&state.service.name, state.pins.json(state));
        self.write_note();
        let state = &self.services[service];
        let mut change = change.unwrap_or_else(|| Change {
            weights,
            moves: Vec::new(),
            falling: Vec::new(),
            how,
            entry: json!({
                "service": state.service.name, "cause": "the operator", "text": format!("{}: {words}", state.service.name),
                "before": state.named(&weights), "after": state.named(&weights),
            }),
            promised: None,
        });
        change.moves.extend(moves);
        change.how = how;
        let decision = self.carry_out(service, change, Some(before));
        json!({ "decision": decision, "text": words })
    }

    /// What translators say that a change would do.
    pub(super) fn preview(
        &mut self,
        service: usize,
        weights: Each<u16>,
        moves: Vec<(usize, usize)>,
        how: Redivert,
        words: &str,
        reply: &Sender<Result<Value, String>>,
    ) -> Result<Option<Value>, String> {
        let state = &self.services[service];
        let told = json!({
            "preview": true,
            "text": words,
            "before": state.named(&state.in_force.unwrap_or_default()),
            "after": state.named(&weights),
        });
        let has_moves = !moves.is_empty();
        let change = Change { weights, moves, falling: Vec::new(), how, entry: Value::Null, promised: None };
        self.changes += 1;
        let number = self.changes;
        let open = self.ask_all(service, &change, number, true);
        if open == 0 {
            return Err("no translator can be reached".into());
        }
        let until = self.now() + PATIENCE;
        let reply = Some((reply.clone(), told));
        let results = Results::default();
        let sent = Sent { service, open, results, decision: None, reply, is_refused: false, is_made: true, has_moves, until };
        self.sent.insert(number, sent);
        Ok(None)
    }

    /// Undoes a decision: the weights before it hold again and, if it was an operator's, what operators had set before it.
    pub(super) fn undo(&mut self, command: &Value, dry_run: bool, reply: &Sender<Result<Value, String>>) -> Result<Option<Value>, String> {
        let number = command["decision"].as_u64().ok_or("decision is missing: its number")?;
        let undo = self.undo.get(&number).cloned();
        let Undo { service, pins, weights } =
            undo.ok_or_else(|| format!("decision {number} cannot be undone: it was not made since the monitor was started"))?;
        let words = format!("the operator has undone decision {number}");
        let state = &mut self.services[service];
        // What operators have set since then stays, unless it is that which is taken back.
        let pins = pins.unwrap_or_else(|| state.pins.clone());
        if dry_run {
            let how = state.service.open_connections;
            let weights = state.demands_with(Timestamp::now(), &self.config.rules, &pins).constrain(&weights, state.len(), &pins).0;
            return self.preview(service, weights, Vec::new(), how, &words, reply);
        }
        let how = state.service.open_connections;
        state.wish(&weights);
        Ok(Some(self.set_pins(service, pins, Vec::new(), how, &words)))
    }
}
