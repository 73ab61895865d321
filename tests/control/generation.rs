//! The generation beside a naming server: the sum of that of the rules and that of the names, in every answer.

use core::net::Ipv4Addr;

use crate::support::*;
use byway::control::{Code, Instruction, NamedEntry, Note, Request, WithNames};
use byway::naming::{FixedNames, NameEntry, Names, NamesConfig, Pattern};
use byway::{Heap, Translator};
use byway_testing::*;

fn name(address: &str) -> Instruction {
    let pattern: Pattern = "www.bt.com".parse().unwrap();
    let address: Ipv4Addr = address.parse().unwrap();
    Instruction::Name(NamedEntry::new(&NameEntry::new(pattern).to(address)).unwrap())
}

/// A request that demands the generation that the last answer gave is carried out, whatever it is about; with another
/// one it is refused.
#[test]
fn every_answer_gives_the_generation_that_a_request_can_demand() {
    let mut byway = Translator::new(config(), Heap::new(100, 12).measured()).unwrap();
    let mut names = Names::new(NamesConfig::new([9; 32]), FixedNames::<4, 1>::new());
    let mut house = House::of(WithNames::new(&mut byway, &mut names), [0xb0; 32]);
    let mut admin = house.open(ADMIN, peer(1));
    let changes = [name("1.1.1.1"), divert(at("100.1.1.1:80"), at("20.0.0.1:80")), name("1.1.1.2")];
    for generation in 0..=3_u32 {
        for instruction in [
            Instruction::ListRules(0),
            Instruction::Measurements(0),
            Instruction::Report { seconds: 10, interval: 250 },
            Instruction::Lead { number: 1, lease: 5_000, note: Note::EMPTY },
        ] {
            for demanded in [None, Some(generation), Some(generation.wrapping_sub(1)), Some(generation + 1)] {
                let request = Request::one(instruction);
                let request = demanded.map_or(request, |demanded| request.only_if(demanded));
                let refused = demanded.is_some_and(|demanded| demanded != generation).then_some(Code::Generation);
                house.ask(&mut admin, peer(1), &request, |answer| {
                    let got = (answer.generation(), answer.refused().and_then(|refusal| refusal.code));
                    assert_eq!(got, (generation, refused), "{instruction:?} {demanded:?}");
                });
            }
        }
        if let Some(change) = changes.get(generation as usize) {
            house.ask(&mut admin, peer(1), &Request::one(*change), |answer| assert!(answer.refused().is_none()));
        }
    }
}
