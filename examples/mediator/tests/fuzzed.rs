//! The fuzzer's targets on random bytes, on their seeds with a few bytes changed, and on what the fuzzer has kept.

#[expect(unreachable_pub, reason = "it is shared by several tests")]
mod support;

mod fuzz;

use proptest::collection::vec;
use proptest::prelude::*;

/// A seed with some bytes replaced, taken out or added.
fn changed() -> impl Strategy<Value = Vec<u8>> {
    let change = (any::<prop::sample::Index>(), 0..3_u8, any::<u8>());
    (prop::sample::select(fuzz::seeds()), vec(change, 0..12)).prop_map(|(mut seed, changes)| {
        for (at, how, byte) in changes {
            let at = at.index(seed.len() + 1);
            match how {
                0 => seed.insert(at, byte),
                _ if at >= seed.len() => {}
                1 => seed[at] = byte,
                _ => drop(seed.remove(at)),
            }
        }
        seed
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn parsers(data in prop_oneof![changed(), vec(any::<u8>(), 0..200)]) {
        fuzz::parsers(&data);
    }

    #[test]
    fn worlds(data in prop_oneof![changed(), vec(any::<u8>(), 0..800)]) {
        fuzz::world(&data);
    }
}

/// What the fuzzer runs.
type Target = fn(&[u8]);

/// The archives of `fuzz/corpus`: each input with its length before it, in four bytes.
#[test]
fn what_the_fuzzer_has_kept() {
    let archives: [(&[u8], Target); 2] = [
        (include_bytes!("../../../fuzz/corpus/mediator_parsers.bin"), fuzz::parsers),
        (include_bytes!("../../../fuzz/corpus/mediator.bin"), fuzz::world),
    ];
    for (mut archive, run) in archives {
        let mut inputs = 0;
        while let Some((length, rest)) = archive.split_first_chunk() {
            let (input, rest) = rest.split_at(u32::from_be_bytes(*length) as usize);
            run(input);
            (archive, inputs) = (rest, inputs + 1);
        }
        assert!(inputs >= 50, "{inputs}");
    }
}
