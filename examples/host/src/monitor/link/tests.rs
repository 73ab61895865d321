//! The requests of a link that are not sent yet.

use byway::Redivert;
use byway::control::{Agent, Key, MAX_ANSWER, Rights};

use super::super::rules::Each;
use super::super::run::Run;
use super::super::service::Change;
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

/// What is asked for is sent at once, rather than after the next report.
#[test]
fn a_request_does_not_wait_for_a_datagram() {
    let control = UdpSocket::bind("127.0.0.1:0").unwrap();
    control.set_nonblocking(true).unwrap();
    let mut translator = byway::Translator::new(byway::Config::new([7; 32]), byway::Heap::new(64, 4).measured()).unwrap();
    let mut agent = Agent::<1, 1, 1>::sized([1; 32]);
    agent.add_key(Key::new(1, [7; 32], Rights::All)).unwrap();
    let now = Instant::from_secs(9);
    let mut answer_all = || {
        let (mut datagram, mut answer) = ([0; 2048], [0; MAX_ANSWER]);
        while let Ok((length, from)) = control.recv_from(&mut datagram) {
            if let Ok(length) = agent.handle(now, &mut translator, from, &datagram[..length], &mut answer) {
                control.send_to(&answer[..length], from).unwrap();
            }
        }
    };
    let at = control.local_addr().unwrap();
    let there = Translator { name: "edge".into(), at, key: (1, [7; 32]) };
    let mut link = Link::new(there, Duration::from_secs(1), HashSet::new(), Stand::new(7, true));
    let begun = std::time::Instant::now();
    while !link.is_open() || link.current.is_some() || !link.queue.is_empty() {
        assert!(begun.elapsed() < Duration::from_secs(60), "the session is not open, or something waits");
        link.poll(now, &mut Vec::new());
        std::thread::sleep(Duration::from_millis(1));
        answer_all();
    }
    assert!(link.poll_at() > now, "it does not spin");
    link.list();
    assert!(link.poll_at() <= now);
    link.poll(now, &mut Vec::new());
    assert!(link.current.is_some() && link.poll_at() > now);
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

/// A monitor of one service with two servers, which leads at a translator that has no rule yet; with the folder of its files.
pub(in crate::monitor) fn monitor(name: &str, rules: &str) -> (Run, std::path::PathBuf) {
    let folder = std::env::temp_dir().join(format!("byway-monitor-{name}-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("key"), format!("1 {}\n", "5a".repeat(32))).unwrap();
    let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(folder.join("key"), private).unwrap();
    let text = format!(
        "[[translator]]\nname = \"edge\"\nat = \"127.0.0.1:9\"\nkey = \"key\"\n\
         [[service]]\nname = \"web\"\ndivert = \"100.100.100.100:80\"\nservers = [\"20.0.0.1:80\", \"20.0.0.2:80\"]\n{rules}"
    );
    let file = folder.join("monitor.toml");
    let config = crate::config::monitor::Monitor::parse(&file, &text).unwrap();
    let wanted = std::sync::mpsc::channel().0;
    let waker = std::sync::Arc::new(crate::waker::Waker::new().unwrap());
    let mut run = Run::new(file, config, std::sync::Arc::default(), (wanted, waker)).unwrap();
    let rules = run.config.rules.clone();
    run.services[0].demand(jiff::Timestamp::now(), &rules);
    run.services[0].adopt(&Default::default());
    (run.links[0].is_open, run.links[0].rules) = (true, Some(Vec::new()));
    run.links[0].stand = Stand::new(7, false);
    // The monitor has run for a while.
    run.start = std::time::Instant::now().checked_sub(Duration::from_secs(60)).unwrap();
    (run, folder)
}

/// Rules for so many groups of clients.
fn for_clients(count: usize) -> String {
    let clients: Vec<_> = (0..count).map(|n| format!("\"10.{}.{}.0/25\"", n / 250, n % 250)).collect();
    let servers = "servers = [\"20.0.0.1:80\", \"20.0.0.2:80\"]";
    format!("[[rule]]\n{servers}\nonly = true\nclients = [{}]\n", clients.join(", "))
}

/// Weights of the service's two servers.
fn weights(first: u16, second: u16) -> Each<u16> {
    let mut weights = Each::default();
    (weights[0], weights[1]) = (first, second);
    weights
}

/// Sends weights and moves to the translator; returns the number in the journal.
fn change(run: &mut Run, weight: u16, moves: &[(usize, usize)]) -> u64 {
    let weights = weights(weight, 1);
    let entry = serde_json::json!({ "service": "web", "cause": "a test", "text": "", "before": {}, "after": {} });
    let moves = moves.to_vec();
    run.carry_out(0, Change { weights, moves, falling: Vec::new(), how: Redivert::Switch, entry, promised: None }, None)
}

fn waiting(run: &Run) -> Vec<Ask> {
    run.links[0].queue.iter().map(|(ask, _)| *ask).collect()
}

fn sent(run: &Run, decision: u64) -> String {
    run.journal.get(decision).unwrap()["sent"].to_string()
}

/// Of a change only the newest state is worth sending, however many rules for some clients there are.
#[test]
fn no_more_waits_than_one_change_is() {
    let (mut run, folder) = monitor("queue", &for_clients(500));
    let first = change(&mut run, 1, &[]);
    let one = waiting(&run);
    assert!(one.len() > 30 && one.iter().all(|ask| *ask == Ask::Change(1)), "{}", one.len());
    for weight in 2..20 {
        change(&mut run, weight, &[]);
        let all = waiting(&run);
        assert!(all.len() == one.len() && all.iter().all(|ask| *ask == Ask::Change(weight.into())), "{}", all.len());
    }
    let sent = sent(&run, first);
    assert!(sent.contains(&format!("a later change has taken its place ({} times)", one.len())), "{sent}");
    // Open connections are moved all the same.
    change(&mut run, 20, &[(0, 1)]);
    change(&mut run, 21, &[]);
    assert!([20, 21].iter().all(|number| waiting(&run).contains(&Ask::Change(*number))));
    let _ = std::fs::remove_dir_all(&folder);
}

/// A change that is given up leaves nothing behind that could never be taken back, except what moves connections.
#[test]
fn what_is_given_up_is_not_sent_any_more() {
    let (mut run, folder) = monitor("given-up", &for_clients(100));
    let late = change(&mut run, 2, &[]);
    let count = waiting(&run).len();
    assert!(count > 5);
    run.sent.values_mut().for_each(|sent| sent.until = Instant::ZERO);
    run.give_up();
    assert_eq!(waiting(&run), [Ask::List], "what it has instead is looked at");
    assert!(sent(&run, late).contains(&format!("edge: it took too long ({count} times)")), "{}", sent(&run, late));
    assert!(run.sent.is_empty() && !run.is_pending(0));

    let moving = change(&mut run, 3, &[(0, 1)]);
    let count = waiting(&run).len();
    run.sent.values_mut().for_each(|sent| sent.until = Instant::ZERO);
    run.give_up();
    assert_eq!(waiting(&run).len(), count);
    assert!(run.sent.is_empty() && !sent(&run, moving).contains("too long"), "{}", sent(&run, moving));
    let _ = std::fs::remove_dir_all(&folder);
}

/// After refusals in a row it takes longer and longer until it is asked again. What was not made does not end the row.
#[test]
fn only_what_was_made_ends_a_row_of_refusals() {
    let (mut run, folder) = monitor("refusals", "");
    let refused = || Err(NotMade { why: "refused: full".into(), was_late: false });
    for row in 1..=2 {
        change(&mut run, row, &[]);
        run.changed(row.into(), "edge", refused());
        assert_eq!(run.refusals, [u32::from(row)]);
    }
    // A later change takes its place, somebody else was faster, it is given up: none of them was made.
    change(&mut run, 3, &[]);
    change(&mut run, 4, &[]);
    assert_eq!(run.refusals, [2]);
    run.changed(4, "edge", Err(NotMade { why: "refused: generation".into(), was_late: true }));
    assert_eq!(run.refusals, [2]);
    change(&mut run, 5, &[]);
    run.links[0].queue.clear();
    run.sent.values_mut().for_each(|sent| sent.until = Instant::ZERO);
    run.give_up();
    assert_eq!(run.refusals, [2]);
    change(&mut run, 6, &[]);
    run.changed(6, "edge", Ok(Vec::new()));
    assert_eq!(run.refusals, [0]);
    let _ = std::fs::remove_dir_all(&folder);
}

/// A server that another rule names too comes twice in a report, with two weights. Both together show whether it is late.
#[test]
fn a_server_in_another_rule_hides_no_late_report() {
    let (mut run, folder) = monitor("another-rule", "");
    run.services[0].adopt(&weights(3, 7));
    let report = |run: &mut Run, entries: &[(u32, usize, u16)]| {
        for (position, server, weight) in entries {
            let target = run.services[0].service.servers[*server].target;
            let times = Box::new(Histogram::EMPTY);
            let (position, weight) = (*position, *weight);
            run.hear(0, Heard::Server { target, weight, position, seen: None, times, connections: 0 });
        }
        run.hear(0, Heard::Round { is_whole: true });
        (core::mem::take(&mut run.services[0].is_late), waiting(run).len())
    };
    let other = Listed { servers: rule(&run, [1, 2]).servers, ..Listed::new("100.1.1.1".parse().unwrap()) };
    run.links[0].rules = Some(vec![rule(&run, [3, 7]), other.clone()]);
    report(&mut run, &[(0, 0, 3), (1, 1, 7), (2, 0, 1), (3, 1, 2)]);
    for (entries, is_late) in [
        ([(0, 0, 3), (1, 1, 7), (2, 0, 1), (3, 1, 2)], false),
        ([(0, 0, 1), (1, 1, 2), (2, 0, 3), (3, 1, 7)], false),
        ([(0, 0, 5), (1, 1, 7), (2, 0, 1), (3, 1, 2)], true),
        ([(0, 0, 3), (1, 1, 7), (2, 0, 1), (3, 1, 4)], true),
    ] {
        assert_eq!(report(&mut run, &entries), (is_late, 0));
    }
    // While the rules are being listed it is not known what they say.
    run.links[0].is_listing = true;
    assert_eq!(report(&mut run, &[(0, 0, 3), (1, 1, 7), (2, 0, 1), (3, 1, 2)]), (true, 0));
    run.links[0].is_listing = false;
    // Without it what is late is noticed; that costs one list, however many reports there are.
    run.links[0].rules = Some(vec![rule(&run, [3, 7])]);
    report(&mut run, &[(0, 0, 3), (1, 1, 7)]);
    assert_eq!(report(&mut run, &[(0, 0, 3), (1, 1, 7)]), (false, 0));
    for _ in 0..3 {
        assert_eq!(report(&mut run, &[(0, 0, 5), (1, 1, 7)]), (true, 1));
        run.links[0].is_listing = false;
    }
    run.links[0].queue.clear();
    assert_eq!(report(&mut run, &[(0, 0, 3), (1, 1, 7)]), (false, 0));
    assert_eq!(report(&mut run, &[(0, 0, 3), (1, 1, 6)]), (true, 1));
    let _ = std::fs::remove_dir_all(&folder);
}

/// Advances the time.
pub(in crate::monitor) fn pass(run: &mut Run, time: Duration) {
    run.start = run.start.checked_sub(time).unwrap();
}

/// The rule of the service as the translator has it.
fn rule(run: &Run, weights: [u16; 2]) -> Listed {
    let service = &run.services[0].service;
    let weighted = |(server, weight): (&byway::Weighted, u16)| byway::Weighted { target: server.target, weight };
    Listed { servers: service.servers.iter().zip(weights).map(weighted).collect(), ..Listed::new(service.matches) }
}

/// A translator that comes back while another one is given its weights is not forgotten.
#[test]
fn what_was_listed_during_a_change_is_looked_at_after_it() {
    let (mut run, folder) = monitor("listed", "[[translator]]\nname = \"other\"\nat = \"127.0.0.1:10\"\nkey = \"key\"\n");
    run.note_leads();
    change(&mut run, 9, &[]);
    run.links[0].queue.clear();
    let held = weights(9, 1);
    run.services[0].adopt(&held);
    run.links[0].rules = Some(vec![rule(&run, [9, 1])]);
    (run.links[1].is_open, run.links[1].rules) = (true, Some(vec![rule(&run, [1, 1])]));
    run.links[1].stand = Stand::new(7, false);
    run.hear(1, Heard::Listed);
    let to_change = |run: &Run| {
        let asks = run.links[1].queue.iter().map(|(ask, _)| *ask);
        asks.filter(|ask| *ask != Ask::List).collect::<Vec<_>>()
    };
    assert_eq!(to_change(&run), [], "it may have been asked for that already");
    pass(&mut run, Duration::from_secs(3));
    run.tick();
    assert_eq!(to_change(&run), [Ask::Change(2)]);
    // What it reports before it has answered is older than the change, however long that takes.
    pass(&mut run, Duration::from_secs(3));
    run.hear(1, Heard::Listed);
    run.tick();
    assert_eq!((run.changes, run.services[0].in_force), (2, Some(held)));
    run.links.iter_mut().for_each(|link| link.queue.clear());
    run.links[1].rules = Some(vec![rule(&run, [9, 1])]);
    run.tick();
    pass(&mut run, Duration::from_secs(3));
    run.tick();
    assert_eq!(run.changes, 2);
    let _ = std::fs::remove_dir_all(&folder);
}
