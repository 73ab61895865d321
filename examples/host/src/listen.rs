//! Ports that are listened on.

use core::fmt::Display;
use std::io::{Error, ErrorKind};

/// Why a port cannot be opened, in one line; `field` is the field of the configuration that names it.
pub(crate) fn refusal(field: &str, at: impl Display, error: &Error) -> String {
    match error.kind() {
        ErrorKind::AddrInUse => format!("{field} {at}: another program has this port"),
        ErrorKind::AddrNotAvailable => format!("{field} {at}: this machine does not have this address"),
        _ => format!("{field} {at}: {error}"),
    }
}
