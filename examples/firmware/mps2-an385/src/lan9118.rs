//! The SMSC LAN9118 Ethernet controller, by its data sheet: everything goes through two FIFOs, a word at a time.

use core::ptr;
use core::sync::atomic::{AtomicBool, Ordering};

use cortex_m::interrupt::{self, InterruptNumber};
use cortex_m::peripheral::NVIC;
use cortex_m_rt::exception;

const BASE: usize = 0x4020_0000;
const RX_DATA: usize = 0x00;
const TX_DATA: usize = 0x20;
const RX_STATUS: usize = 0x40;
const TX_STATUS: usize = 0x48;
const IRQ_CFG: usize = 0x54;
const INT_STS: usize = 0x58;
const INT_EN: usize = 0x5c;
const BYTE_TEST: usize = 0x64;
const TX_CFG: usize = 0x70;
const HW_CFG: usize = 0x74;
const RX_FIFO_INF: usize = 0x7c;
const TX_FIFO_INF: usize = 0x80;
const MAC_CSR_CMD: usize = 0xa4;
const MAC_CSR_DATA: usize = 0xa8;

/// `IRQ_CFG`: enabled, active high, push-pull.
const IRQ_ON: u32 = 1 << 8 | 1 << 4 | 1;
/// `INT_STS` and `INT_EN`: more frames are waiting than the level, which is 0 after a reset.
const RSFL: u32 = 1 << 3;
const HW_RESET: u32 = 1;
/// `HW_CFG`: must be one; and 5 KiB for sending, as after a reset.
const HW_STORE_AND_FORWARD: u32 = 1 << 20 | 5 << 16;
const TX_ON: u32 = 1 << 1;
const RX_ERROR: u32 = 1 << 15;
const CSR_BUSY: u32 = 1 << 31;
const CSR_READ: u32 = 1 << 30;

/// Registers behind `MAC_CSR_CMD`.
const MAC_CR: u32 = 1;
const MAC_ADDRH: u32 = 2;
const MAC_ADDRL: u32 = 3;
const MII_ACC: u32 = 6;
const MII_DATA: u32 = 7;
/// `MAC_CR`: full duplex, send, receive; for our own address and broadcasts.
const MAC_ON: u32 = 1 << 20 | 1 << 3 | 1 << 2;
/// `MII_ACC`: write register 0 of the internal PHY, which has address 1.
const PHY_CONTROL: u32 = 1 << 11 | 1 << 1 | 1;
/// Register 0 of the PHY: negotiate, from the beginning.
const PHY_NEGOTIATE: u32 = 0x1200;

/// How often a register is asked before the controller counts as dead.
const PATIENCE: usize = 1_000_000;

/// The room for a frame and its check sequence; more than the longest that is legal, so that a longer one shows.
pub(crate) const RECEIVE: usize = 1536;

#[derive(Clone, Copy)]
struct Ethernet;

// SAFETY: 13 is the Ethernet controller's interrupt in AN385, and never changes.
unsafe impl InterruptNumber for Ethernet {
    fn number(self) -> u16 {
        13
    }
}

/// The only interrupt that is enabled beside the timer's: it ends the sleep, and then keeps quiet until the next one.
#[exception]
unsafe fn DefaultHandler(_number: i16) {
    NVIC::mask(Ethernet);
}

fn read(register: usize) -> u32 {
    // SAFETY: the controller is always at this address, and every register is a word; reading touches no memory of ours.
    unsafe { ptr::with_exposed_provenance::<u32>(BASE + register).read_volatile() }
}

fn write(register: usize, value: u32) {
    // SAFETY: as for `read`; the controller has no access to memory.
    unsafe { ptr::with_exposed_provenance_mut::<u32>(BASE + register).write_volatile(value) }
}

/// Waits until these bits of a register are clear.
fn until_clear(register: usize, bits: u32) -> Option<()> {
    (0..PATIENCE).any(|_| read(register) & bits == 0).then_some(())
}

fn read_mac(register: u32) -> Option<u32> {
    write(MAC_CSR_CMD, CSR_BUSY | CSR_READ | register);
    until_clear(MAC_CSR_CMD, CSR_BUSY)?;
    Some(read(MAC_CSR_DATA))
}

fn write_mac(register: u32, value: u32) -> Option<()> {
    write(MAC_CSR_DATA, value);
    write(MAC_CSR_CMD, CSR_BUSY | register);
    until_clear(MAC_CSR_CMD, CSR_BUSY)
}

/// The controller, started.
pub(crate) struct Lan9118 {
    mac: [u8; 6],
}

impl Lan9118 {
    /// Starts the controller. `None` if it does not answer, or was taken before.
    pub(crate) fn take() -> Option<Self> {
        static TAKEN: AtomicBool = AtomicBool::new(false);
        if TAKEN.swap(true, Ordering::Relaxed) || read(BYTE_TEST) != 0x8765_4321 {
            return None;
        }
        write(HW_CFG, HW_RESET);
        until_clear(HW_CFG, HW_RESET)?;
        write(HW_CFG, HW_STORE_AND_FORWARD);
        // The reset has fetched the address from the EEPROM.
        let [a, b, c, d] = read_mac(MAC_ADDRL)?.to_le_bytes();
        let [e, f, ..] = read_mac(MAC_ADDRH)?.to_le_bytes();
        write_mac(MII_DATA, PHY_NEGOTIATE)?;
        write_mac(MII_ACC, PHY_CONTROL)?;
        write(TX_CFG, TX_ON);
        write_mac(MAC_CR, MAC_ON)?;
        write(INT_STS, u32::MAX);
        write(INT_EN, RSFL);
        write(IRQ_CFG, IRQ_ON);
        Some(Self { mac: [a, b, c, d, e, f] })
    }

    pub(crate) fn mac(&self) -> [u8; 6] {
        self.mac
    }

    /// Takes the next frame that came, and returns its length without the check sequence. One that is too long is cut
    /// to the length of the buffer; one that was damaged on the wire is thrown away.
    pub(crate) fn receive(&mut self, frame: &mut [u8; RECEIVE]) -> Option<usize> {
        while read(RX_FIFO_INF) >> 16 & 0xff != 0 {
            let status = read(RX_STATUS);
            let len = (status >> 16 & 0x3fff) as usize;
            let (words, _) = frame.as_chunks_mut::<4>();
            let mut words = words.iter_mut();
            for _ in 0..len.div_ceil(4) {
                let data = read(RX_DATA).to_le_bytes();
                if let Some(word) = words.next() {
                    *word = data;
                }
            }
            if status & RX_ERROR == 0 {
                return Some(len.saturating_sub(4).min(RECEIVE));
            }
        }
        None
    }

    /// Sends a frame; the controller pads it and adds the check sequence. False if there is no room for it now.
    pub(crate) fn send(&mut self, frame: &[u8]) -> bool {
        let info = read(TX_FIFO_INF);
        for _ in 0..info >> 16 & 0xff {
            read(TX_STATUS);
        }
        // Two words of command, and the last word of the frame may be a part.
        if (info & 0xffff) as usize <= frame.len() + 12 {
            return false;
        }
        let len = frame.len() as u32;
        // First and last segment, and how much; then how much in all.
        write(TX_DATA, 1 << 13 | 1 << 12 | len);
        write(TX_DATA, len);
        let (words, rest) = frame.as_chunks::<4>();
        for word in words {
            write(TX_DATA, u32::from_le_bytes(*word));
        }
        if !rest.is_empty() {
            let mut last = [0; 4];
            last[..rest.len()].copy_from_slice(rest);
            write(TX_DATA, u32::from_le_bytes(last));
        }
        true
    }

    /// Sleeps until a frame comes or the timer ticks.
    pub(crate) fn wait(&mut self) {
        interrupt::free(|_| {
            // What is pending here ends the sleep at once, and is handled after it: nothing comes in between unseen.
            write(INT_STS, RSFL);
            NVIC::unpend(Ethernet);
            // SAFETY: the handler only masks the interrupt again, and no critical section relies on its being masked.
            unsafe { NVIC::unmask(Ethernet) };
            if read(RX_FIFO_INF) >> 16 & 0xff == 0 {
                cortex_m::asm::wfi();
            }
        });
    }
}
