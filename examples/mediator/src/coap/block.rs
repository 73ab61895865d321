//! The value of a Block option (RFC 7959, section 2.2): which block, whether more follow, and how large blocks are.

/// The exponent of the largest block, 1024 bytes. 7 is reserved.
pub const MAX_SIZE: u8 = 6;

/// The largest number of a block: 20 bits.
pub const MAX_NUMBER: u32 = (1 << 20) - 1;

/// One block of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block {
    /// Its number, from zero, in blocks of this size.
    pub number: u32,
    /// Whether more blocks follow.
    pub more: bool,
    /// The exponent of the size: a block has `2^(size + 4)` bytes, 16 to 1024.
    pub size: u8,
}

impl Block {
    /// The block that begins so many bytes into the body. `None` if no block of this size begins there, or one that has
    /// no number any more.
    #[must_use]
    pub fn at(offset: u64, more: bool, size: u8) -> Option<Self> {
        let length = u64::from(16_u16 << size.min(MAX_SIZE));
        let number = u32::try_from(offset / length).ok().filter(|number| *number <= MAX_NUMBER)?;
        offset.is_multiple_of(length).then_some(Self { number, more, size: size.min(MAX_SIZE) })
    }

    /// Reads an option's value. `None` if it is longer than three bytes or has the reserved size.
    #[must_use]
    pub fn parse(value: &[u8]) -> Option<Self> {
        if value.len() > 3 {
            return None;
        }
        let bits = value.iter().fold(0, |sum, byte| (sum << 8) | u32::from(*byte));
        let size = (bits & 7) as u8;
        (size <= MAX_SIZE).then_some(Self { number: bits >> 4, more: bits & 8 != 0, size })
    }

    /// The option's value as an unsigned integer.
    #[must_use]
    pub const fn value(self) -> u32 {
        (self.number << 4) | ((self.more as u32) << 3) | self.size as u32
    }

    /// How many bytes a block has, unless it is the last one.
    #[must_use]
    pub const fn length(self) -> usize {
        16 << self.size
    }

    /// Where it begins in the body, in bytes.
    #[must_use]
    pub const fn offset(self) -> u64 {
        self.number as u64 * self.length() as u64
    }
}
