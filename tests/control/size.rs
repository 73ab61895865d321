//! What an agent takes in RAM, printed with the other sizes.

use byway::control::{Agent, Client};

#[test]
fn an_agent_is_small() {
    let (agent, one_more) = (size_of::<Agent<1, 1>>(), size_of::<Agent<1, 2>>());
    let (session, key) = (one_more - agent, size_of::<Agent<2, 1>>() - agent);
    println!("agent without sessions and keys: {} bytes", agent - session - key);
    println!("a session: {session} bytes, a key: {key} bytes; a monitor's side: {} bytes", size_of::<Client>());
    assert!(session <= 304 && key <= 48, "{session} {key}");
}
