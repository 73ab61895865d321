//! What a link has still to ask.

use super::*;

#[test]
fn a_new_note_waits_for_the_answer_to_the_last_one() {
    let at = UdpSocket::bind("127.0.0.1:0").unwrap();
    let translator = Translator { name: "edge".into(), at: at.local_addr().unwrap(), key: (1, [7; 32]) };
    let now = Instant::from_secs(9);
    let mut link = Link::new(translator, Duration::from_secs(1), HashSet::new(), Stand::new(7, true));
    link.connect(now).unwrap();
    (link.is_open, link.renew, link.current) = (true, now + PAUSE, Some(Ask::Lead));
    link.stand.hurry();
    link.poll(now, &mut Vec::new());
    assert!(link.queue.is_empty() && link.stand.ask_at() <= now, "it is not forgotten");
    assert!(link.poll_at() > now, "it does not spin");
    link.current = None;
    link.poll(now, &mut Vec::new());
    assert!(link.is_asking() && link.stand.ask_at() > now);
}

#[test]
fn previews_are_not_taken_back() {
    let translator = Translator { name: "edge".into(), at: ([127, 0, 0, 1], 9).into(), key: (1, [7; 32]) };
    let mut link = Link::new(translator, Duration::from_secs(1), HashSet::new(), Stand::new(7, true));
    for ask in [Ask::Change(1), Ask::List, Ask::Change(2)] {
        link.ask(ask, Request::one(Instruction::ListRules(0)));
    }
    let mut heard = Vec::new();
    link.take_back(|number| number == 1, "a dry run has begun", &mut heard);
    assert!(matches!(&heard[..], [Heard::Changed(1, Err(_))]), "{heard:?}");
    assert!(link.queue.iter().map(|(ask, _)| *ask).eq([Ask::List, Ask::Change(2)]));
}
