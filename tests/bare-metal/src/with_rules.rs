//! What an agent does to a translator, without the agent: so that the difference is the agent.

use core::hint::black_box;
use core::net::{Ipv4Addr, SocketAddrV4};

use byway::{Divert, Redivert, Timeouts, Translator, Weighted};

use super::with_byway::Storage;

pub fn take(translator: &mut Translator<Storage>) {
    let address = || black_box(Ipv4Addr::LOCALHOST);
    let endpoint = || SocketAddrV4::new(address(), black_box(1));
    let group = black_box([Weighted::new(endpoint(), 1), Weighted::new(address(), 2)]);
    let mut plan = translator.plan();
    black_box(plan.divert(&Divert::new(endpoint()).to_group(&group)).is_ok());
    black_box(plan.remove(endpoint()).is_some());
    black_box(plan.redivert(endpoint(), address(), black_box(Redivert::Switch)).is_ok());
    black_box(translator.divert(Divert::new(endpoint()).to_group(&group)).is_ok());
    black_box(translator.remove(endpoint()).is_some());
    black_box(translator.redivert(endpoint(), address(), black_box(Redivert::Switch)).is_ok());
    black_box(translator.set_timeouts(black_box(Timeouts::RECOMMENDED)).is_ok());
    black_box(translator.set_client_limit(black_box(5)).is_ok());
    black_box(translator.diverts().count());
    black_box(translator.connections().next_measured().is_some());
    black_box(translator.counters().dropped_in_all());
    while let Some(event) = translator.poll_event() {
        black_box(event);
    }
}
