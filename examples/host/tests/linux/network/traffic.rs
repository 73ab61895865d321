//! Connections and files that go through, and come as they are.

use core::net::{Ipv4Addr, SocketAddrV4};
use core::sync::atomic::{AtomicUsize, Ordering};
use core::time::Duration;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;

use byway_host::lab::network::ORIGINAL;
use byway_host::lab::space::Space;
use rustix::event::epoll;

use super::{content, www};

/// A file that takes its time.
pub(crate) fn slow_file(length: usize) -> Vec<u8> {
    let file = content(length as u64, length);
    std::fs::create_dir_all(www().join("slow")).unwrap();
    std::fs::write(www().join("slow/file"), &file).unwrap();
    file
}

/// A server that returns what it gets, with one thread for all.
pub(crate) struct Echo(Arc<AtomicUsize>);

impl Echo {
    pub(crate) fn start(space: &Space, port: u16) -> Self {
        let accepted = Arc::new(AtomicUsize::new(0));
        let count = accepted.clone();
        space.run(move || {
            let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).unwrap();
            rustix::net::listen(&listener, 4096).unwrap();
            std::thread::spawn(move || echo(&listener, &count));
        });
        Self(accepted)
    }

    pub(crate) fn accepted(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

fn echo(listener: &TcpListener, accepted: &AtomicUsize) {
    const LISTENER: u64 = u64::MAX;
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).unwrap();
    epoll::add(&epoll, listener, epoll::EventData::new_u64(LISTENER), epoll::EventFlags::IN).unwrap();
    let (mut streams, mut buffer): (Vec<TcpStream>, _) = (Vec::new(), [0; 4096]);
    loop {
        let mut events = Vec::with_capacity(64);
        epoll::wait(&epoll, rustix::buffer::spare_capacity(&mut events), None).unwrap();
        for event in events {
            let number = event.data.u64();
            if number == LISTENER {
                let (stream, _) = listener.accept().unwrap();
                let data = epoll::EventData::new_u64(streams.len() as u64);
                epoll::add(&epoll, &stream, data, epoll::EventFlags::IN).unwrap();
                streams.push(stream);
                accepted.fetch_add(1, Ordering::Relaxed);
                continue;
            }
            let stream = &mut streams[number as usize];
            match stream.read(&mut buffer) {
                Ok(length @ 1..) => stream.write_all(&buffer[..length]).unwrap(),
                Ok(0) | Err(_) => epoll::delete(&epoll, &*stream).unwrap(),
            }
        }
    }
}

pub(crate) fn connect(space: &Space, port: u16, count: usize) -> Vec<TcpStream> {
    space.run(move || {
        let connect = || {
            let stream = TcpStream::connect_timeout(&SocketAddrV4::new(ORIGINAL, port).into(), Duration::from_secs(5));
            let stream = stream.expect("a connection");
            stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
            stream
        };
        (0..count).map(|_| connect()).collect()
    })
}

/// Each connection carries something there and back; a few at a time, so that no queue is too short for them.
pub(crate) fn exchange(streams: &mut [TcpStream], text: &[u8]) {
    for (part, streams) in streams.chunks_mut(100).enumerate() {
        for stream in streams.iter_mut() {
            stream.write_all(text).expect("the line is good");
        }
        for (number, stream) in streams.iter_mut().enumerate() {
            let mut answer = vec![0; text.len()];
            let read = stream.read_exact(&mut answer);
            read.unwrap_or_else(|error| panic!("connection {}: {error}", part * 100 + number));
            assert_eq!(answer, text);
        }
    }
}

/// Answers with its name and the question.
pub(crate) fn answer_udp(space: &Space, port: u16) {
    let name = space.name();
    space.run(move || {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port)).unwrap();
        std::thread::spawn(move || {
            let mut question = vec![0; 65_535];
            while let Ok((length, from)) = socket.recv_from(&mut question) {
                let answer = [name.as_bytes(), &question[..length]].concat();
                let _ = socket.send_to(&answer, from);
            }
        });
    });
}

/// What nginx has for [`fetch`].
pub(crate) fn small_file() {
    std::fs::create_dir_all(www()).unwrap();
    std::fs::write(www().join("small"), SMALL).unwrap();
}

const SMALL: &[u8] = b"ten bytes\n";

/// Each connection fetches a file and stays open; a few at a time, as above.
pub(crate) fn fetch(streams: &mut [TcpStream]) {
    let mut buffer = [0; 1_000];
    for (part, streams) in streams.chunks_mut(100).enumerate() {
        for stream in streams.iter_mut() {
            stream.write_all(b"GET /small HTTP/1.1\r\nHost: original\r\n\r\n").expect("the line is good");
        }
        for (number, stream) in streams.iter_mut().enumerate() {
            let mut answer = Vec::new();
            while !answer.ends_with(SMALL) {
                let read = stream.read(&mut buffer);
                let length = read.unwrap_or_else(|error| panic!("connection {}: {error}", part * 100 + number));
                assert_ne!(length, 0, "connection {} has ended: {}", part * 100 + number, answer.escape_ascii());
                answer.extend_from_slice(&buffer[..length]);
            }
            assert!(answer.starts_with(b"HTTP/1.1 200 "), "{}", answer.escape_ascii());
        }
    }
}
