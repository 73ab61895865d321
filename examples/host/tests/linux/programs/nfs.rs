//! The document's own example: 64 MiB are read from an NFS server over UDP, and the server is exchanged for another with the
//! same export half-way. Two `nfs-ganesha` serve it; the client is below, as small as can be: MOUNT and NFS of version 3
//! (RFC 1813) in ONC RPC (RFC 5531) over one connected socket, with eight reads under way and time-outs that double.

use core::net::Ipv4Addr;
use core::sync::atomic::{AtomicUsize, Ordering};
use core::time::Duration;
use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::UdpSocket;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::time::Instant;

use crate::network::*;
use byway_host::lab::network::ORIGINAL;
use byway_host::lab::space::Space;

const EXPORT: &str = "/export";
/// Without rights ganesha cannot export a folder of this machine (`open_by_handle_at` is forbidden), so it exports its own memory,
/// where a file has at most 2 MiB.
const FILES: usize = 32;
const FILE: usize = 2 << 20;
const LENGTH: usize = FILES * FILE;
/// How much each read asks for: in six fragments of a cable's 1500 bytes.
const PART: usize = 8192;
const UNDER_WAY: usize = 8;
/// When Linux asks again at the earliest (`RPC_RTO_MIN`), and the most.
const PATIENCE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

const MOUNT: u32 = 100_005;
const NFS: u32 = 100_003;

/// ganesha registers itself with a port mapper, and Debian's cannot run without rights. This one accepts every registration.
fn port_mapper() {
    let listener = UnixListener::bind("/run/rpcbind.sock").unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            std::thread::spawn(move || {
                let mut mark = [0; 4];
                while stream.read_exact(&mut mark).is_ok() {
                    let mut call = vec![0; (u32::from_be_bytes(mark) & 0x7fff_ffff) as usize];
                    stream.read_exact(&mut call).unwrap();
                    // A reply; accepted, no verifier, success; yes.
                    let reply = [&call[..4], &[1, 0, 0, 0, 0, 1].map(u32::to_be_bytes).concat()].concat();
                    let mark = (reply.len() as u32 | 0x8000_0000).to_be_bytes();
                    stream.write_all(&[&mark[..], &reply].concat()).unwrap();
                }
            });
        }
    });
}

/// Starts ganesha on a mirror, and writes the files. A handle is made of a file's name and number, and so it is the same
/// on both mirrors.
fn ganesha(space: &Space, files: &[u8]) -> Program {
    let folder = Path::new(FOLDER).join(format!("ganesha-{}", space.name()));
    std::fs::create_dir_all(&folder).unwrap();
    let config = format!(
        "NFS_CORE_PARAM {{ Protocols = 3; MNT_Port = 20048; Enable_NLM = false; Enable_RQUOTA = false; }}\n\
         NFSV4 {{ Graceless = true; }}\n\
         EXPORT {{ Export_Id = 1; Path = {EXPORT}; Pseudo = {EXPORT}; Access_Type = RW; Protocols = 3; SecType = sys;\n\
         Squash = No_Root_Squash; Transports = UDP, TCP; FSAL {{ Name = MEM; }} }}\n\
         MEM {{ Inode_Size = {FILE}; }}\n"
    );
    std::fs::write(folder.join("conf"), config).unwrap();
    let words = format!("ganesha.nfsd -F -f {0}/conf -p {0}/pid -L {0}/log", folder.display());
    let program = Program::start(space, command(&words));
    wait_for_port(space, "tcp", 2049, || std::fs::read_to_string(folder.join("log")).unwrap_or_default());
    write(space, files);
    program
}

/// A variable-length opaque (RFC 4506, section 4.10).
fn opaque(bytes: &[u8]) -> Vec<u8> {
    let padding = bytes.len().next_multiple_of(4) - bytes.len();
    [&(bytes.len() as u32).to_be_bytes()[..], bytes, &[0; 3][..padding]].concat()
}

/// Takes a word.
fn word(bytes: &mut &[u8]) -> u32 {
    let (word, rest) = bytes.split_first_chunk().expect("a word");
    *bytes = rest;
    u32::from_be_bytes(*word)
}

fn take_opaque<'a>(bytes: &mut &'a [u8]) -> &'a [u8] {
    let length = word(bytes) as usize;
    let opaque = &bytes[..length];
    *bytes = &bytes[length.next_multiple_of(4)..];
    opaque
}

fn call(number: u32, program: u32, procedure: u32, arguments: &[u8]) -> Vec<u8> {
    // AUTH_SYS: a stamp, the machine's name, user and group 0, no more groups.
    let credential = [&0_u32.to_be_bytes()[..], &opaque(b"client"), &[0; 12]].concat();
    let head = [number, 0, 2, program, 3, procedure, 1].map(u32::to_be_bytes).concat();
    [&head[..], &opaque(&credential), &[0; 8], arguments].concat()
}

/// The number of a reply that is a success, and what it says.
fn reply(bytes: &[u8]) -> (u32, &[u8]) {
    let mut rest = bytes;
    let number = word(&mut rest);
    assert_eq!([word(&mut rest), word(&mut rest)], [1, 0], "a reply, accepted");
    word(&mut rest);
    take_opaque(&mut rest);
    assert_eq!([word(&mut rest), word(&mut rest)], [0, 0], "executed, and its status");
    (number, rest)
}

struct Client {
    socket: UdpSocket,
    number: u32,
    /// How often it had to ask again.
    retries: usize,
}

impl Client {
    fn new(space: &Space, server: Ipv4Addr, port: u16) -> Self {
        let socket = space.run(move || {
            let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
            rustix::net::sockopt::set_socket_recv_buffer_size(&socket, 1 << 20).unwrap();
            socket.set_read_timeout(Some(Duration::from_millis(10))).unwrap();
            socket.connect((server, port)).unwrap();
            socket
        });
        Self { socket, number: 1, retries: 0 }
    }

    /// Calls until there is a reply to each of the calls, at most [`UNDER_WAY`] at a time.
    fn call_all(&mut self, program: u32, procedure: u32, calls: &[Vec<u8>], mut done: impl FnMut(usize, &[u8])) {
        struct Call {
            at: usize,
            sent: Instant,
            patience: Duration,
        }
        let (mut open, mut next, mut buffer) = (HashMap::new(), 0, vec![0; 65_535]);
        while next < calls.len() || !open.is_empty() {
            while open.len() < UNDER_WAY && next < calls.len() {
                self.socket.send(&call(self.number, program, procedure, &calls[next])).unwrap();
                open.insert(self.number, Call { at: next, sent: Instant::now(), patience: PATIENCE.0 });
                self.number += 1;
                next += 1;
            }
            if let Ok(length) = self.socket.recv(&mut buffer) {
                let (number, result) = reply(&buffer[..length]);
                if let Some(call) = open.remove(&number) {
                    done(call.at, result);
                }
            }
            for (number, late) in &mut open {
                if late.sent.elapsed() > late.patience {
                    assert!(late.patience < PATIENCE.1, "no reply to call {number}");
                    self.socket.send(&call(*number, program, procedure, &calls[late.at])).unwrap();
                    (late.sent, late.patience) = (Instant::now(), late.patience * 2);
                    self.retries += 1;
                }
            }
        }
    }

    /// Calls once; returns what is in the reply.
    fn call_once(&mut self, program: u32, procedure: u32, arguments: &[&[u8]]) -> Vec<u8> {
        let mut reply = Vec::new();
        self.call_all(program, procedure, &[arguments.concat()], |_, result| reply = result.to_vec());
        reply
    }
}

/// The handle of the export.
fn mount(space: &Space, server: Ipv4Addr) -> Vec<u8> {
    let reply = Client::new(space, server, 20_048).call_once(MOUNT, 1, &[&opaque(EXPORT.as_bytes())]);
    take_opaque(&mut &reply[..]).to_vec()
}

fn name(file: usize) -> Vec<u8> {
    opaque(format!("file-{file:02}").as_bytes())
}

/// Writes the files to a mirror, from the mirror itself.
fn write(space: &Space, files: &[u8]) {
    let folder = opaque(&mount(space, Ipv4Addr::LOCALHOST));
    let mut client = Client::new(space, Ipv4Addr::LOCALHOST, 2049);
    for (number, file) in files.chunks(FILE).enumerate() {
        // Unchecked; its mode, and nothing else.
        let attributes = [0, 1, 0o644, 0, 0, 0, 0, 0].map(u32::to_be_bytes).concat();
        let reply = client.call_once(NFS, 8, &[&folder, &name(number), &attributes]);
        let handle = opaque(take_opaque(&mut &reply[4..]));
        let part = |(at, part): (usize, &[u8])| {
            const ON_DISK: u32 = 2;
            let how = [part.len() as u32, ON_DISK].map(u32::to_be_bytes).concat();
            [&handle[..], &((at * PART) as u64).to_be_bytes(), &how, &opaque(part)].concat()
        };
        let calls: Vec<_> = file.chunks(PART).enumerate().map(part).collect();
        // The last part alone: ganesha's memory compares a file's length and sets it without a lock, so that of two writes at
        // its end the one that ends first may set the length.
        let (last, others) = calls.split_last().unwrap();
        for calls in [others, core::slice::from_ref(last)] {
            client.call_all(NFS, 7, calls, |_, result| {
                // Behind the attributes: how much is written, how safely, and a verifier of eight bytes.
                let (written, _) = result.last_chunk::<16>().unwrap().split_first_chunk().unwrap();
                assert_eq!(u32::from_be_bytes(*written) as usize, PART);
            });
        }
    }
}

/// Reads the files; returns them, how long that took, and how many calls were repeated.
fn read(space: &Space, progress: &AtomicUsize) -> (Vec<u8>, Duration, usize) {
    let folder = opaque(&mount(space, ORIGINAL));
    let mut client = Client::new(space, ORIGINAL, 2049);
    let mut handle = |number| opaque(take_opaque(&mut &client.call_once(NFS, 3, &[&folder, &name(number)])[..]));
    let handles: Vec<_> = (0..FILES).map(&mut handle).collect();
    let part = |at: usize| {
        let (file, at) = (at / FILE, at % FILE);
        [&handles[file][..], &(at as u64).to_be_bytes(), &(PART as u32).to_be_bytes()].concat()
    };
    let calls: Vec<_> = (0..LENGTH).step_by(PART).map(part).collect();
    let (mut files, start) = (vec![0; LENGTH], Instant::now());
    client.call_all(NFS, 6, &calls, |at, mut result| {
        const ATTRIBUTES: usize = 84;
        if word(&mut result) == 1 {
            result = &result[ATTRIBUTES..];
        }
        let [count, _end] = [word(&mut result), word(&mut result)];
        assert_eq!(count as usize, PART);
        files[at * PART..][..PART].copy_from_slice(take_opaque(&mut result));
        progress.fetch_add(PART, Ordering::Relaxed);
    });
    (files, start.elapsed(), client.retries)
}

/// How many bytes a mirror has sent.
fn sent(space: &Space) -> usize {
    let said = run(space, "cat /proc/net/dev");
    let line = said.lines().find(|line| line.trim_start().starts_with("eth0:")).unwrap();
    line.split_whitespace().nth(9).unwrap().parse().unwrap()
}

fn exchange_the_server(options: Options) {
    let files = content(64, LENGTH);
    let mut world = World::new(options);
    port_mapper();
    let _ganesha = [ganesha(&world.network.a, &files), ganesha(&world.network.b, &files)];
    let client = world.network.client.clone();
    let (undisturbed, alone, _) = read(&client, &AtomicUsize::new(0));
    assert!(undisturbed == files);
    let before = sent(&world.network.b);
    let progress = std::sync::Arc::new(AtomicUsize::new(0));
    let seen = progress.clone();
    let reading = std::thread::spawn(move || read(&client, &seen));
    while progress.load(Ordering::Relaxed) < LENGTH / 2 {
        assert!(!reading.is_finished());
        std::thread::sleep(Duration::from_millis(1));
    }
    let moved = world.ctl("redivert 123.45.67.89 123.45.67.90");
    assert!(moved.contains("rules' servers: 1, connections: 4;"), "{moved}");
    assert!(progress.load(Ordering::Relaxed) < LENGTH, "it is moved before the end");
    let (moved_files, time, retries) = reading.join().unwrap();
    assert!(moved_files == files, "they are the same");
    let from_b = sent(&world.network.b) - before;
    // Before and afterwards, since the machine may be busy.
    let (undisturbed, again, _) = read(&world.network.client, &AtomicUsize::new(0));
    assert!(undisturbed == files);
    let [alone, again, time] = [alone, again, time].map(|time| time.as_secs_f64());
    println!(
        "NFS, 64 MiB: {alone:.2} and {again:.2} s, and {time:.2} s ({:.2}) with the server exchanged half-way: {} MiB from the \
         second one, {retries} calls repeated",
        time * 2.0 / (alone + again),
        from_b >> 20,
    );
    assert!((1..LENGTH * 6 / 10).contains(&from_b), "{from_b} bytes from the second server");
    let counted = world.end();
    for reason in ["failed_closed", "owner_ended", "send_failed"] {
        assert_eq!(count(&counted, reason), 0, "{counted}");
    }
}

const GANESHA: &[(&str, &str)] = &[("ganesha.nfsd", "-v")];

#[test]
fn an_nfs_server_is_exchanged_half_way() {
    in_namespace_with(GANESHA, || exchange_the_server(Options::PLAIN));
}

#[test]
fn an_nfs_server_is_exchanged_half_way_without_offloads() {
    in_namespace_with(GANESHA, || {
        exchange_the_server(Options { offload: false, ..Options::PLAIN });
    });
}
