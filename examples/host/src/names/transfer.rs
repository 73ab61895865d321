//! Transfers of zones, which are not relayed: a server would see this machine ask, and may permit it what it denies the client.

const HEADER: usize = 12;
/// IXFR and AXFR (RFC 1995, section 2; RFC 5936, section 2.1).
const TRANSFERS: [u16; 2] = [251, 252];
const REFUSED: u8 = 5;

/// The answer to a query for a transfer: its header and question, and REFUSED. `None` if it is another message.
pub(super) fn refuse(message: &[u8]) -> Option<Vec<u8>> {
    let mut at = HEADER;
    // The naming server has refused compression in a question, and more than one.
    loop {
        match usize::from(*message.get(at)?) {
            0 => break,
            length => at += 1 + length,
        }
    }
    let kind = message.get(at + 1..at + 3)?;
    let question = message.get(..at + 5)?;
    if !TRANSFERS.contains(&u16::from_be_bytes(kind.try_into().ok()?)) {
        return None;
    }
    let mut answer = question.to_vec();
    let [_, _, flags, code, counts @ ..] = answer.first_chunk_mut::<HEADER>()?;
    // A response, with the query's operation and RD.
    *flags = *flags & 0x79 | 0x80;
    *code = REFUSED;
    counts.copy_from_slice(&[0, 1, 0, 0, 0, 0, 0, 0]);
    Some(answer)
}
