//! A corpus as one file: a length of four bytes in network byte order and so many bytes, again and again.

/// Puts inputs into one archive.
pub fn pack<'a>(inputs: impl Iterator<Item = &'a [u8]>) -> Vec<u8> {
    let mut archive = Vec::new();
    for input in inputs {
        archive.extend((input.len() as u32).to_be_bytes());
        archive.extend(input);
    }
    archive
}

/// The inputs of an archive.
pub fn unpack(mut archive: &[u8]) -> impl Iterator<Item = &[u8]> {
    core::iter::from_fn(move || {
        let (length, rest) = archive.split_first_chunk::<4>()?;
        let (input, rest) = rest.split_at_checked(u32::from_be_bytes(*length) as usize)?;
        archive = rest;
        Some(input)
    })
}
