//! Files for Wireshark: what each side of the translator saw.

use core::cell::RefCell;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use smoltcp::phy::{PcapLinkType, PcapSink};
use smoltcp::time::Instant;

use byway_testing::ends;
use byway_testing::moving::net::{Tap, client};

pub(crate) struct Captures([Rc<RefCell<Capture>>; 2]);

struct Capture {
    path: PathBuf,
    file: BufWriter<File>,
    written: io::Result<()>,
}

impl PcapSink for Capture {
    fn write(&mut self, data: &[u8]) {
        if self.written.is_ok() {
            self.written = self.file.write_all(data);
        }
    }
}

impl Captures {
    pub(crate) fn create(folder: &Path) -> Result<Self, String> {
        fs::create_dir_all(folder).map_err(|error| format!("--pcap {}: {error}", folder.display()))?;
        let create = |name: &str| {
            let path = folder.join(name);
            let file = File::create(&path).map_err(|error| format!("{}: {error}", path.display()))?;
            let mut capture = Capture { path, file: BufWriter::new(file), written: Ok(()) };
            capture.global_header(PcapLinkType::Ip);
            Ok::<_, String>(Rc::new(RefCell::new(capture)))
        };
        Ok(Self([create("client-side.pcap")?, create("server-side.pcap")?]))
    }

    /// Writes each packet down on the side that it was seen on.
    pub(crate) fn tap(&self) -> Tap {
        let captures = self.0.clone();
        Box::new(move |micros, packet| {
            let (source, destination) = ends(packet);
            let is_client = [source, destination].iter().any(|end| end.ip() == client().ip());
            let side = usize::from(!is_client);
            captures[side].borrow_mut().packet(Instant::from_micros(micros as i64), packet);
        })
    }

    pub(crate) fn finish(self) -> Result<(), String> {
        for capture in self.0 {
            let mut capture = capture.borrow_mut();
            let flushed = Write::flush(&mut capture.file);
            let written = core::mem::replace(&mut capture.written, Ok(()));
            written.and(flushed).map_err(|error| format!("{}: {error}", capture.path.display()))?;
        }
        Ok(())
    }
}
