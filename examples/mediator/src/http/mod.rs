//! HTTP/1.1, a server's side of it: RFC 9110 and RFC 9112.

pub mod answer;
pub mod body;
pub mod head;
pub mod host;
