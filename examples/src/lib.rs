//! The examples are targets of this package; the library itself is empty.
