//! A virtio network device with its buffers.

use core::cell::UnsafeCell;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicUsize, Ordering};

use router::Wires;
use virtio_drivers::device::net::VirtIONetRaw;
use virtio_drivers::{BufferDirection, Hal, PAGE_SIZE, PhysAddr};

use crate::machine::Transport;

/// Frames on their way, in each direction: as many as QEMU takes, because it empties a queue a burst at a time.
const QUEUE: usize = 256;
/// What the driver asks for: 1526 bytes for a header of at most 12 and a frame of at most 1514.
const BUFFER: usize = 1536;

type Net = VirtIONetRaw<Dma, Transport, QUEUE>;

/// The memory of one port.
pub(crate) struct Buffers {
    receive: [[u8; BUFFER]; QUEUE],
    send: [[u8; BUFFER]; QUEUE],
}

impl Buffers {
    pub(crate) const fn new() -> Self {
        Self { receive: [[0; BUFFER]; QUEUE], send: [[0; BUFFER]; QUEUE] }
    }
}

/// A virtio network device.
pub(crate) struct Port {
    pub(crate) slot: usize,
    net: Net,
    /// The receive buffers by the token that the driver gave for them; none while its frame is being read.
    receiving: [Option<&'static mut [u8; BUFFER]>; QUEUE],
    /// The transmit buffers that the device has, by token.
    sending: [Option<&'static mut [u8; BUFFER]>; QUEUE],
    /// The transmit buffers that it does not have: the first `free_len`.
    free: [Option<&'static mut [u8; BUFFER]>; QUEUE],
    free_len: usize,
}

/// A frame that was received: it goes back to its port.
pub(crate) struct Frame {
    buffer: &'static mut [u8; BUFFER],
    start: usize,
    end: usize,
}

impl Frame {
    pub(crate) fn bytes(&mut self) -> &mut [u8] {
        self.buffer.get_mut(self.start..self.end).unwrap_or_default()
    }
}

impl Port {
    pub(crate) fn new(slot: usize, transport: Transport, buffers: &'static mut Buffers) -> Self {
        let net = Net::new(transport).expect("the network device starts");
        let mut port = Self {
            slot,
            net,
            receiving: [const { None }; QUEUE],
            sending: [const { None }; QUEUE],
            free: [const { None }; QUEUE],
            free_len: 0,
        };
        for buffer in &mut buffers.receive {
            port.offer(buffer);
        }
        for buffer in &mut buffers.send {
            port.release(buffer);
        }
        port
    }

    pub(crate) fn mac(&self) -> [u8; 6] {
        self.net.mac_address()
    }

    pub(crate) fn acknowledge(&mut self) {
        self.net.ack_interrupt();
    }

    /// The next frame that came, if any. It is to be given back.
    pub(crate) fn receive(&mut self) -> Option<Frame> {
        let token = self.net.poll_receive()?;
        let buffer = self.receiving.get_mut(usize::from(token))?.take()?;
        // SAFETY: this buffer was begun with this token: `offer` filed it there.
        match unsafe { self.net.receive_complete(token, buffer) } {
            Ok((header, len)) => Some(Frame { start: header, end: header + len, buffer }),
            // Less than a header: the device has nothing to tell us.
            Err(_) => Some(Frame { start: 0, end: 0, buffer }),
        }
    }

    pub(crate) fn give_back(&mut self, frame: Frame) {
        self.offer(frame.buffer);
    }

    /// Lets the device fill this buffer.
    fn offer(&mut self, buffer: &'static mut [u8; BUFFER]) {
        // SAFETY: the buffer lives for ever, and is filed away untouched until its token comes back.
        let token = unsafe { self.net.receive_begin(buffer) }.expect("there are as many buffers as places");
        if let Some(place) = self.receiving.get_mut(usize::from(token)) {
            *place = Some(buffer);
        }
    }

    /// A transmit buffer is not in use any more.
    fn release(&mut self, buffer: &'static mut [u8; BUFFER]) {
        if let Some(place) = self.free.get_mut(self.free_len) {
            *place = Some(buffer);
            self.free_len += 1;
        }
    }

    /// Takes back what the device has sent.
    fn reap(&mut self) {
        while let Some(token) = self.net.poll_transmit() {
            let Some(buffer) = self.sending.get_mut(usize::from(token)).and_then(Option::take) else { return };
            // SAFETY: this buffer was begun with this token: `send` filed it there. How much of it the driver was
            // told to send is no matter to it: it looks only at where the buffer starts.
            let done = unsafe { self.net.transmit_complete(token, buffer) };
            done.expect("the token has just been seen");
            self.release(buffer);
        }
    }

    fn send(&mut self, frame: &[u8]) -> bool {
        self.reap();
        let Some(last) = self.free_len.checked_sub(1) else { return false };
        let Some(buffer) = self.free.get_mut(last).and_then(Option::take) else { return false };
        self.free_len = last;
        let header = self.net.fill_buffer_header(buffer).unwrap_or(0);
        let end = header + frame.len();
        if let Some(room) = buffer.get_mut(header..end) {
            room.copy_from_slice(frame);
            // SAFETY: the buffer lives for ever, and is filed away untouched until its token comes back.
            if let Ok(token) = unsafe { self.net.transmit_begin(&buffer[..end]) } {
                if let Some(place) = self.sending.get_mut(usize::from(token)) {
                    *place = Some(buffer);
                }
                return true;
            }
        }
        self.release(buffer);
        false
    }
}

/// The two ports; the wire is the number of the port.
pub(crate) struct Ports(pub(crate) [Port; 2]);

impl Ports {
    /// Acknowledges the interrupt of the device in this place.
    pub(crate) fn acknowledge(&mut self, slot: usize) {
        for port in self.0.iter_mut().filter(|port| port.slot == slot) {
            port.acknowledge();
        }
    }
}

impl Wires for Ports {
    fn send(&mut self, wire: usize, frame: &[u8]) -> bool {
        self.0.get_mut(wire).is_some_and(|port| port.send(frame))
    }
}

/// Pages for the queues. One of ours takes two for its descriptors and what it offers, and one for what comes back; each
/// of the two ports has two of them. The source of randomness has one short queue, of a page each way.
const PAGES: usize = 2 * 2 * (2 + 1) + (1 + 1);

#[repr(align(4096))]
struct Pool(UnsafeCell<[u8; PAGES * PAGE_SIZE]>);

// SAFETY: nobody refers to the pool but through the pages that `dma_alloc` hands out, each of them once.
unsafe impl Sync for Pool {}

static POOL: Pool = Pool(UnsafeCell::new([0; PAGES * PAGE_SIZE]));
static TAKEN: AtomicUsize = AtomicUsize::new(0);

/// Memory that the devices reach: all of it, at its own address, because there is neither cache nor translation between.
pub(crate) struct Dma;

// SAFETY: the pages come from a static, are zero at first, aligned, and never handed out twice.
unsafe impl Hal for Dma {
    fn dma_alloc(pages: usize, _direction: BufferDirection) -> (PhysAddr, NonNull<u8>) {
        let first = TAKEN.fetch_add(pages, Ordering::Relaxed);
        assert!(first + pages <= PAGES, "the queues need more pages than there are");
        // SAFETY: it was just checked that the page is within the pool.
        let page = unsafe { POOL.0.get().cast::<u8>().add(first * PAGE_SIZE) };
        let page = NonNull::new(page).expect("a static is not at address zero");
        (page.expose_provenance().get() as PhysAddr, page)
    }

    /// A page is not used again: the only queue that goes away is that of the source of randomness, at the start.
    unsafe fn dma_dealloc(_address: PhysAddr, _page: NonNull<u8>, _pages: usize) -> i32 {
        0
    }

    unsafe fn mmio_phys_to_virt(address: PhysAddr, _size: usize) -> NonNull<u8> {
        NonNull::new(core::ptr::with_exposed_provenance_mut(address as usize)).expect("no device is at address zero")
    }

    unsafe fn share(buffer: NonNull<[u8]>, _direction: BufferDirection) -> PhysAddr {
        buffer.cast::<u8>().expose_provenance().get() as PhysAddr
    }

    unsafe fn unshare(_address: PhysAddr, _buffer: NonNull<[u8]>, _direction: BufferDirection) {}
}
