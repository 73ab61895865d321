//! Methods and status codes (RFC 8075, sections 5 and 7).

use crate::coap::message::Code;

/// The CoAP method for one of HTTP. `None`: there is none, and the request gets a 501.
#[must_use]
pub fn method(name: &str) -> Option<Code> {
    Some(match name {
        "GET" | "HEAD" => Code::GET,
        "POST" => Code::POST,
        "PUT" => Code::PUT,
        "DELETE" => Code::DELETE,
        "PATCH" => Code::PATCH,
        _ => return None,
    })
}

/// The HTTP status for a response code: RFC 8075, table 2, and the codes that were registered since.
///
/// `has_payload` decides between 200 and 204 where the table leaves both.
#[must_use]
pub const fn status(code: Code, has_payload: bool) -> u16 {
    match (code.class(), code.detail()) {
        (2, 1) => 201,
        (2, 2 | 4) if !has_payload => 204,
        (2, 2 | 4 | 5) => 200,
        (2, 3) => 304,
        // A CoAP server has not authenticated the HTTP client, so a 401 with its challenge would be of no use (note 5).
        (4, 1 | 3) => 403,
        (4, 4) => 404,
        // Not 405, which must name the methods that are allowed, and CoAP does not say them (note 7).
        (4, 0 | 2 | 5 | 8) => 400,
        (4, 6) => 406,
        // RFC 8132, section 4.
        (4, 9) => 409,
        (4, 12) => 412,
        (4, 13) => 413,
        (4, 15) => 415,
        (4, 22) => 422,
        // RFC 8516.
        (4, 29) => 429,
        (5, 1) => 501,
        (5, 3) => 503,
        (5, 4) => 504,
        (5, 0) => 500,
        // 5.05 included: the server expects the proxy to do what it does not.
        (5, 2 | 5) => 502,
        // An unrecognised code is its class's x.00 (RFC 7252, section 5.9).
        (4, _) => 400,
        (5, _) => 500,
        _ => 502,
    }
}

/// What a status is called (RFC 9110, section 15).
#[must_use]
pub const fn phrase(status: u16) -> &'static str {
    match status {
        100 => "Continue",
        200 => "OK",
        201 => "Created",
        204 => "No Content",
        304 => "Not Modified",
        400 => "Bad Request",
        403 => "Forbidden",
        404 => "Not Found",
        406 => "Not Acceptable",
        408 => "Request Timeout",
        409 => "Conflict",
        412 => "Precondition Failed",
        413 => "Content Too Large",
        414 => "URI Too Long",
        415 => "Unsupported Media Type",
        417 => "Expectation Failed",
        421 => "Misdirected Request",
        422 => "Unprocessable Content",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 8075, table 2, row by row: code, status with and without a payload.
    #[test]
    fn statuses_are_those_of_the_table() {
        let table = [
            (2, 1, 201, 201),
            (2, 2, 200, 204),
            (2, 3, 304, 304),
            (2, 4, 200, 204),
            (2, 5, 200, 200),
            (4, 0, 400, 400),
            (4, 1, 403, 403),
            (4, 2, 400, 400),
            (4, 3, 403, 403),
            (4, 4, 404, 404),
            (4, 5, 400, 400),
            (4, 6, 406, 406),
            (4, 8, 400, 400),
            (4, 12, 412, 412),
            (4, 13, 413, 413),
            (4, 15, 415, 415),
            (5, 0, 500, 500),
            (5, 1, 501, 501),
            (5, 2, 502, 502),
            (5, 3, 503, 503),
            (5, 4, 504, 504),
            (5, 5, 502, 502),
        ];
        for (class, detail, with, without) in table {
            let code = Code::new(class, detail);
            assert_eq!((status(code, true), status(code, false)), (with, without), "{code:?}");
            assert_ne!(phrase(with), "", "{with}");
        }
        // Every code has a status that can be sent.
        for code in 0..=255 {
            assert_ne!(phrase(status(Code(code), true)), "");
        }
    }
}
