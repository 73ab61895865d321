//! Files for Wireshark: what each side of the proxy saw.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use byway::Instant;
use smoltcp::phy::{PcapLinkType, PcapSink};

use crate::proxy::Side;

/// A file for each side; none if nobody asked for them.
#[derive(Default)]
pub(crate) struct Captures(Option<[Capture; 2]>);

impl Captures {
    pub(crate) fn create(folder: &Path) -> Result<Self, String> {
        if folder.exists() && !folder.is_dir() {
            return Err(format!("--pcap {}: this is no folder", folder.display()));
        }
        fs::create_dir_all(folder).map_err(|error| describe(folder, &error))?;
        let [client, server] = ["client-side.pcap", "server-side.pcap"].map(|name| Capture::create(folder.join(name)));
        Ok(Self(Some([client?, server?])))
    }

    pub(crate) fn write(&mut self, now: Instant, side: Side, packet: &[u8]) {
        if let Some(captures) = &mut self.0 {
            let micros = i64::try_from(now.as_micros()).unwrap_or(i64::MAX);
            captures[side as usize].packet(smoltcp::time::Instant::from_micros(micros), packet);
        }
    }

    pub(crate) fn finish(self) -> Result<(), String> {
        self.0.into_iter().flatten().try_for_each(Capture::finish)
    }
}

/// A file of raw IPv4 packets. An error is kept for the end: the sink's methods return none.
struct Capture {
    path: PathBuf,
    file: BufWriter<File>,
    written: io::Result<()>,
}

impl Capture {
    fn create(path: PathBuf) -> Result<Self, String> {
        let file = File::create(&path).map_err(|error| describe(&path, &error))?;
        let mut capture = Self { path, file: BufWriter::new(file), written: Ok(()) };
        capture.global_header(PcapLinkType::Ip);
        Ok(capture)
    }

    fn finish(self) -> Result<(), String> {
        let Self { path, mut file, written } = self;
        written.and_then(|()| Write::flush(&mut file)).map_err(|error| describe(&path, &error))
    }
}

impl PcapSink for Capture {
    fn write(&mut self, data: &[u8]) {
        if self.written.is_ok() {
            self.written = self.file.write_all(data);
        }
    }
}

fn describe(path: &Path, error: &io::Error) -> String {
    format!("cannot write {}: {error}", path.display())
}
