//! Which rows there are.

use std::rc::Rc;

use crate::labels::Protocol;
use crate::limits;
use crate::timed::Row;

/// The rows of one size and protocol, which take turns: the limits, then byway.
pub(crate) fn all(connections: u32, protocol: Protocol) -> Result<Vec<Box<dyn Row>>, String> {
    let flows = Rc::new(limits::flows(connections, protocol)?);
    Ok(limits::rows(&flows))
}

/// The row that each thread of `--cores` runs.
pub(crate) fn of_shard(connections: u32, protocol: Protocol) -> Result<Box<dyn Row>, String> {
    let flows = Rc::new(limits::flows(connections, protocol)?);
    let last = limits::rows(&flows).pop();
    last.ok_or_else(|| "no row".into())
}
