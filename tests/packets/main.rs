//! What is read from packets and written into them: headers, checksums, fragments, ICMP, metadata.

mod checksums;
mod fragment_identifications;
mod fragmented_echo;
mod fragments;
mod headers;
mod icmp;
mod meta;
mod zero_echo;
