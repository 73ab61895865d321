//! What the lab shows, step by step. Each step checks what it says.

use core::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use core::time::Duration;
use std::net::{TcpStream, UdpSocket};
use std::sync::mpsc::{Receiver, channel};

use super::Lab;
use super::network::{A, ALTERNATIVE, B, CLIENT, ORIGINAL, OWN, PROXY};
use super::web::{self, Answer, LENGTH};

/// What the client asks for.
const ASKED: SocketAddrV4 = SocketAddrV4::new(ORIGINAL, 80);
/// The client's port in the document's figure 3.
const FIGURE_3: u16 = 3456;

/// Shows all of it.
///
/// # Errors
/// The step that failed, and why.
pub(super) fn tell(mut lab: Lab) -> Result<(), String> {
    println!(
        "The lab: a client, a proxy and two mirrors, as network namespaces with this kernel's own TCP and UDP.\n\n\
        \x20 client {CLIENT} ---- {PROXY} proxy: byway, own address {OWN}, ----+---- mirror A {A}\n\
        \x20                               alternative address {ALTERNATIVE}      +---- mirror B {B}\n\n\
         The client knows {ORIGINAL} only, which nobody has."
    );
    fetch(&lab)?;
    divert(&lab)?;
    redivert(&lab)?;
    switch(&lab)?;
    lab = restart(lab)?;
    println!("\nAll of it was as it should be. Nothing is left of the lab.");
    drop(lab);
    Ok(())
}

fn check(holds: bool, otherwise: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(otherwise()) }
}

fn failed(step: &str) -> impl Fn(std::io::Error) -> String + '_ {
    move |error| format!("{step}: {error}")
}

fn fetch(lab: &Lab) -> Result<(), String> {
    println!("\n1. Fetch, without a rule\n   client: GET http://{ORIGINAL}/");
    match web::open(&lab.network.client, 0, ASKED) {
        Ok(_) => Err("somebody has answered, though nobody has the address".into()),
        Err(error) => {
            println!("   client: {error}");
            Ok(())
        }
    }
}

fn order(lab: &Lab, words: &str) -> Result<(), String> {
    println!("   operator: byway ctl {words}");
    println!("             {}", lab.proxy.ctl(words)?);
    Ok(())
}

fn divert(lab: &Lab) -> Result<(), String> {
    println!("\n2. Divert: figure 3 of the document");
    order(lab, &format!("divert {ORIGINAL} {A}"))?;
    let stream = web::open(&lab.network.client, FIGURE_3, ASKED).map_err(failed("fetch"))?;
    let answer = web::get(&stream, "/", 0, |_| ()).map_err(failed("fetch"))?;
    print_ends(&lab.servers[0].last(), &stream, "A")?;
    let text = String::from_utf8_lossy(&answer.body).trim_end().to_string();
    println!("   client reads: \"{text}\"");
    check(text == "this is mirror A", || format!("mirror A should have answered, not: {text}"))
}

/// Both ends of a connection, as the kernels of both machines have them.
fn print_ends(seen: &Option<[SocketAddr; 2]>, stream: &TcpStream, name: &str) -> Result<(), String> {
    let [own, peer] = seen.ok_or_else(|| format!("mirror {name} has seen nobody"))?;
    let (client, original) = (stream.local_addr(), stream.peer_addr());
    let (client, original) = (client.map_err(failed("socket"))?, original.map_err(failed("socket"))?);
    println!("   client's socket:   {client} -> {original}");
    println!("   mirror {name}'s socket: {peer} -> {own}");
    check(original.ip() == ORIGINAL && peer.ip() == ALTERNATIVE, || "these are the wrong addresses".into())
}

/// A download that has begun: how far it is, and in the end what came.
type Download = (Receiver<usize>, std::thread::JoinHandle<std::io::Result<Answer>>);

fn download(lab: &Lab, first: usize) -> Result<(TcpStream, Download), String> {
    let stream = web::open(&lab.network.client, 0, ASKED).map_err(failed("download"))?;
    let reader = stream.try_clone().map_err(failed("download"))?;
    let (told, progress) = channel();
    let thread = std::thread::spawn(move || web::get(&reader, "/file", first, |length| {
        // Nobody has to read the progress.
        let _ = told.send(length);
    }));
    // The download is under way when a part of it is here.
    progress.recv_timeout(Duration::from_secs(10)).map_err(|_| "the download does not begin".to_string())?;
    Ok((stream, (progress, thread)))
}

fn wait_for(progress: &Receiver<usize>, length: usize) -> Result<(), String> {
    while progress.recv_timeout(Duration::from_secs(10)).map_err(|_| "the download stands still")? < length {}
    Ok(())
}

fn end(thread: std::thread::JoinHandle<std::io::Result<Answer>>) -> Result<Answer, String> {
    thread.join().map_err(|_| "the download has panicked".to_string())?.map_err(failed("download"))
}

const fn mib(bytes: usize) -> f64 {
    bytes as f64 / (1 << 20) as f64
}

fn redivert(lab: &Lab) -> Result<(), String> {
    println!("\n3. Re-divert in mid-download, with a reset: TCP begins anew, and goes on where it was");
    println!("   client: GET http://{ORIGINAL}/file, {:.0} MiB, and what is missing if it breaks off", mib(LENGTH));
    let (stream, (progress, thread)) = download(lab, 0)?;
    print_ends(&lab.servers[0].last(), &stream, "A")?;
    wait_for(&progress, LENGTH / 3)?;
    order(lab, &format!("redivert {A} {B} --reset"))?;
    let mut answer = end(thread)?;
    println!("   mirror {} has delivered {:.1} MiB, then: connection reset", answer.server, mib(answer.body.len()));
    check(!answer.is_whole && answer.server == "A", || "it should have been interrupted".into())?;
    let (stream, (_, thread)) = download(lab, answer.body.len())?;
    print_ends(&lab.servers[1].last(), &stream, "B")?;
    let rest = end(thread)?;
    println!("   mirror {} has delivered the other {:.1} MiB", rest.server, mib(rest.body.len()));
    answer.body.extend(rest.body);
    compare(&answer.body, rest.server == "B")
}

fn compare(body: &[u8], from_the_right_one: bool) -> Result<(), String> {
    let (found, expected) = (web::hash(body), web::hash(&web::file()));
    println!("   SHA-256 of what the client has: {found}..., of the mirrors' file: {expected}...");
    check(found == expected, || "the download is not the file".into())?;
    check(from_the_right_one, || "the wrong mirror has delivered it".into())
}

fn switch(lab: &Lab) -> Result<(), String> {
    const QUESTIONS: u32 = 20;
    println!("\n4. Switch UDP: one connected socket, and the next answer is the other mirror's");
    let opened = lab.network.client.run(|| {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, FIGURE_3))?;
        socket.connect(ASKED)?;
        socket.set_read_timeout(Some(Duration::from_secs(2)))?;
        Ok(socket)
    });
    let socket = opened.map_err(failed("UDP"))?;
    let mut servers = String::new();
    for number in 0..QUESTIONS {
        if number == QUESTIONS / 2 {
            println!("   answers: {}", servers.trim_end());
            order(lab, &format!("redivert {B} {A}"))?;
            servers.clear();
        }
        socket.send(format!("question {number}").as_bytes()).map_err(failed("UDP"))?;
        let mut answer = [0; 64];
        let length = socket.recv(&mut answer).map_err(failed("UDP: no answer"))?;
        let text = String::from_utf8_lossy(&answer[..length]).into_owned();
        let (server, rest) = text.split_once(' ').unwrap_or_default();
        let expected = if number < QUESTIONS / 2 { "B" } else { "A" };
        check(server == expected && rest == format!("question {number}"), || format!("the wrong answer: {text}"))?;
        servers += &format!("{server} ");
    }
    println!("   answers: {}", servers.trim_end());
    let connections = lab.proxy.ctl("connections")?;
    let ours = connections.lines().find(|line| line.starts_with("udp"));
    println!("   byway: {}", ours.unwrap_or("it knows of nothing").split_whitespace().collect::<Vec<_>>().join(" "));
    check(ours.is_some(), || "byway should know the connection".into())
}

fn restart(mut lab: Lab) -> Result<Lab, String> {
    println!("\n5. Restart byway under traffic: the same TCP connection goes on");
    let before = lab.servers[0].connections();
    let (stream, (progress, thread)) = download(&lab, 0)?;
    print_ends(&lab.servers[0].last(), &stream, "A")?;
    wait_for(&progress, LENGTH / 3)?;
    let (proxy, gone) = lab.proxy.restart()?;
    lab.proxy = proxy;
    println!("   byway was ended by SIGTERM and started again: it was away for {} ms", gone.as_millis());
    let answer = end(thread)?;
    let connections = lab.servers[0].connections() - before;
    println!("   the client has waited for {} ms at most, on {connections} connection", answer.gap.as_millis());
    check(answer.is_whole && connections == 1, || "the download has been interrupted".into())?;
    compare(&answer.body, answer.server == "A")?;
    println!("   operator: byway ctl list: {}", lab.proxy.ctl("list")?.lines().next().unwrap_or_default());
    Ok(lab)
}
