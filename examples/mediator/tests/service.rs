//! The program on sockets of this machine: the demonstration, `byway ctl`'s protocol, and many clients at once.

#![cfg(unix)]

use byway_mediator::demo;

#[test]
fn the_demonstration_moves_a_body_over_real_sockets() {
    let mut told = Vec::new();
    let report = demo::run(1 << 20, 50, &mut told).unwrap();
    assert!(report.is_intact, "{}", String::from_utf8_lossy(&told));
    assert_eq!((report.bytes, report.instructions), (1 << 20, 50));
    // The last instruction may come when the last block has been asked for.
    assert!(report.moves >= 49, "{report:?}");
    assert!(report.requests.iter().all(|requests| *requests >= 400), "{report:?}");
}
