//! Content formats and media types (RFC 8075, section 6; the registry "CoAP Content-Formats").

use std::borrow::Cow;

/// Formats and their media types. Where several formats differ only in parameters, the plain one is here.
const FORMATS: &[(u16, &str)] = &[
    (0, "text/plain; charset=utf-8"),
    (16, "application/cose; cose-type=\"cose-encrypt0\""),
    (21, "image/gif"),
    (22, "image/jpeg"),
    (23, "image/png"),
    (40, "application/link-format"),
    (41, "application/xml"),
    (42, "application/octet-stream"),
    (47, "application/exi"),
    (50, "application/json"),
    (51, "application/json-patch+json"),
    (52, "application/merge-patch+json"),
    (60, "application/cbor"),
    (61, "application/cwt"),
    (62, "application/multipart-core"),
    (63, "application/cbor-seq"),
    (101, "application/cose-key"),
    (110, "application/senml+json"),
    (111, "application/sensml+json"),
    (112, "application/senml+cbor"),
    (113, "application/sensml+cbor"),
    (310, "application/senml+xml"),
    (311, "application/sensml+xml"),
    (320, "application/senml-etch+json"),
    (322, "application/senml-etch+cbor"),
    (432, "application/td+json"),
    (11542, "application/vnd.oma.lwm2m+tlv"),
    (11543, "application/vnd.oma.lwm2m+json"),
    (11544, "application/vnd.oma.lwm2m+cbor"),
    (20000, "text/css"),
    (30000, "image/svg+xml"),
];

/// The media type for a format; `application/coap-payload` with its number if none is known (section 6.2).
#[must_use]
pub fn media_type(format: u32) -> Cow<'static, str> {
    FORMATS.iter().find(|(number, _)| u32::from(*number) == format).map_or_else(
        || Cow::Owned(format!("application/coap-payload;cf={format}")),
        |(_, media_type)| Cow::Borrowed(*media_type),
    )
}

/// The format for a media type. Parameters are ignored, except for a character set other than UTF-8, which no format
/// has. `None` if there is none: the request gets a 415.
#[must_use]
pub fn format(media_type: &str) -> Option<u16> {
    let mut parts = media_type.split(';').map(str::trim);
    let name = parts.next()?;
    let parameter = |wanted: &str| {
        parts.clone().find_map(|part| {
            let (name, value) = part.split_once('=')?;
            name.eq_ignore_ascii_case(wanted).then(|| value.trim_matches('"'))
        })
    };
    if name.eq_ignore_ascii_case("application/coap-payload") {
        return parameter("cf")?.parse().ok();
    }
    let is_utf_8 = |set: &str| set.eq_ignore_ascii_case("utf-8") || set.eq_ignore_ascii_case("us-ascii");
    if parameter("charset").is_some_and(|set| !is_utf_8(set)) {
        return None;
    }
    let is_it = |known: &str| known.split(';').next().is_some_and(|known| known.eq_ignore_ascii_case(name));
    FORMATS.iter().find(|(_, known)| is_it(known)).map(|(number, _)| *number)
}

/// What an Accept field asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accept {
    /// Anything, or a range of types: the server chooses, since CoAP can name only one format.
    Any,
    /// This format.
    Format(u16),
    /// Server-sent events: notifications.
    Events,
    /// Only types that no format is registered for: a 406.
    None,
}

/// Reads an Accept field (RFC 9110, section 12.5.1): the most preferred of the types that have a format.
#[must_use]
pub fn accept(field: &str) -> Accept {
    if field.trim().is_empty() {
        // It names nothing, and so refuses nothing.
        return Accept::Any;
    }
    let mut best = (0, Accept::None);
    for entry in field.split(',') {
        let media_type = entry.split(';').next().unwrap_or_default().trim();
        let weight = entry.split(';').skip(1).find_map(|part| part.trim().strip_prefix("q=")).map_or(1000, weight);
        let accept = if media_type.eq_ignore_ascii_case("text/event-stream") {
            Accept::Events
        } else if media_type.ends_with("/*") {
            Accept::Any
        } else if let Some(format) = format(entry.split(";q=").next().unwrap_or_default()) {
            Accept::Format(format)
        } else {
            continue;
        };
        // Accept is critical in CoAP: where anything will do, nothing is asked for.
        if weight > best.0 || (weight != 0 && accept == Accept::Any && best.1 != Accept::Events) {
            best = (weight.max(best.0), accept);
        }
    }
    best.1
}

/// A weight in thousandths. What cannot be read counts as 1, as if it were not there.
fn weight(text: &str) -> u32 {
    let (whole, fraction) = text.trim().split_once('.').unwrap_or((text.trim(), ""));
    let digits = fraction.bytes().take(3).filter(u8::is_ascii_digit);
    let thousandths = digits.zip([100, 10, 1]).map(|(digit, place)| u32::from(digit - b'0') * place).sum::<u32>();
    match whole {
        "0" => thousandths,
        _ => 1000,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_and_types_are_inverse() {
        for (number, _) in FORMATS {
            assert_eq!(format(&media_type(u32::from(*number))), Some(*number));
        }
        assert_eq!(media_type(65000), "application/coap-payload;cf=65000");
        assert_eq!(format("application/coap-payload;cf=65000"), Some(65000));
        assert_eq!(format("application/coap-payload; cf=\"7\""), Some(7));
        assert_eq!(format("TEXT/Plain"), Some(0));
        assert_eq!(format("text/plain;charset=iso-8859-1"), None);
        assert_eq!(format("application/x-www-form-urlencoded"), None);
    }

    #[test]
    fn the_most_preferred_type_with_a_format_is_asked_for() {
        let cases = [
            ("*/*", Accept::Any),
            (" ", Accept::Any),
            ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", Accept::Any),
            ("application/json", Accept::Format(50)),
            ("application/xml;q=0.5, application/cbor;q=0.8, text/html", Accept::Format(60)),
            ("application/json;q=0", Accept::None),
            ("text/html", Accept::None),
            ("text/event-stream", Accept::Events),
            ("text/event-stream, */*;q=0.1", Accept::Events),
            ("image/*", Accept::Any),
            (";;,,q=,;q=0.x", Accept::None),
        ];
        for (field, expected) in cases {
            assert_eq!(accept(field), expected, "{field}");
        }
    }
}
