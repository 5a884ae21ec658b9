//! What crosses between a client and the office: a request, and a reply with the way it is to be
//! sent.
//!
//! A reply is a plan, not bytes on a socket: the loopback server plays it, a simulation under
//! virtual time reads it. `Reply::received` says what a client gets to see of it.

use bytes::Bytes;

use crate::records::RecordStream;

/// A request as the office sees it.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// `GET` or `POST`.
    pub method: String,
    /// Scheme, host and port the request was sent to, such as `http://127.0.0.1:8080`.
    pub origin: String,
    /// The path as sent, percent-encoding included.
    pub path: String,
    /// The query as sent, without the question mark; empty when there is none.
    pub query: String,
    /// Headers; names compare without case.
    pub headers: Vec<(String, String)>,
    /// The body, complete.
    pub body: Bytes,
}

impl Request {
    /// A `GET` of an absolute URL.
    pub fn get(url: &str) -> Self {
        Self::new("GET", url)
    }

    /// A `POST` to an absolute URL, with an empty body.
    pub fn post(url: &str) -> Self {
        Self::new("POST", url)
    }

    fn new(method: &str, url: &str) -> Self {
        let after_scheme = url.find("://").map_or(0, |at| at + 3);
        let path_at = url[after_scheme..]
            .find(['/', '?'])
            .map_or(url.len(), |at| at + after_scheme);
        let (path, query) = url[path_at..]
            .split_once('?')
            .unwrap_or((&url[path_at..], ""));
        Self {
            method: method.into(),
            origin: url[..path_at].into(),
            path: path.into(),
            query: query.into(),
            ..Self::default()
        }
    }

    /// The request with one more header.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// The request with this body.
    #[must_use]
    pub fn with_body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self
    }

    /// A header's value, its name compared without case.
    pub fn find_header(&self, name: &str) -> Option<&str> {
        find(&self.headers, name)
    }

    /// A query parameter, decoded, its name compared without case as the service does.
    pub(crate) fn parameter(&self, name: &str) -> Option<String> {
        form_value(&self.query, name)
    }
}

fn find<'a>(headers: &'a [(String, String)], name: &str) -> Option<&'a str> {
    headers
        .iter()
        .find(|(n, _)| n.eq_ignore_ascii_case(name))
        .map(|(_, value)| value.as_str())
}

/// A member of a form or query, decoded; names compare without case.
pub(crate) fn form_value(form: &str, name: &str) -> Option<String> {
    form.split('&').find_map(|pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        percent_decode(key, true)
            .eq_ignore_ascii_case(name)
            .then(|| percent_decode(value, true))
    })
}

/// Undoes percent-encoding; in forms and queries a plus sign is a blank.
pub(crate) fn percent_decode(text: &str, plus: bool) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'%' => {
                let mut ahead = bytes.clone();
                let pair = (ahead.next().and_then(hex), ahead.next().and_then(hex));
                if let (Some(high), Some(low)) = pair {
                    out.push(high << 4 | low);
                    bytes = ahead;
                } else {
                    out.push(byte);
                }
            }
            b'+' if plus => out.push(b' '),
            _ => out.push(byte),
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit)
        .to_digit(16)
        .and_then(|value| u8::try_from(value).ok())
}

/// What a reply carries.
#[derive(Clone, Debug)]
pub enum Content {
    /// Bytes that are at hand.
    Bytes(Bytes),
    /// The records of a blob, made while they are read; the same every time.
    Records(Box<RecordStream>),
}

impl Content {
    /// All of it, in one piece.
    pub fn into_bytes(self) -> Bytes {
        match self {
            Self::Bytes(bytes) => bytes,
            Self::Records(stream) => stream.into_bytes(),
        }
    }
}

/// How the length of the body is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// `Content-Length` with the body's length.
    Length,
    /// `Content-Length` that promises this many bytes more than will come; the connection ends
    /// early.
    LengthPlus(u64),
    /// Chunked: no length is told.
    Chunked,
}

/// How the reply ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// As it should.
    Complete,
    /// The connection is reset and no byte of the reply is sent.
    ResetBeforeHeaders,
    /// The connection is reset after this many bytes of the body; the framing promised the whole.
    ResetAfter(u64),
    /// After this many bytes of the body nothing more comes, for this long; then the connection is
    /// reset.
    StallAfter {
        /// Bytes of the body sent before.
        bytes: u64,
        /// How long nothing comes, in milliseconds.
        stall_ms: u32,
    },
}

/// How a reply is to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transport {
    /// Time until the first byte of the reply, in milliseconds.
    pub delay_ms: u64,
    /// How the length of the body is told.
    pub framing: Framing,
    /// Sends the body slowly: this many bytes every so many milliseconds.
    pub trickle: Option<(u32, u32)>,
    /// How the reply ends.
    pub end: End,
    /// Closes the connection after the reply.
    pub close: bool,
}

impl Default for Transport {
    fn default() -> Self {
        let (framing, end) = (Framing::Length, End::Complete);
        Self {
            delay_ms: 0,
            framing,
            trickle: None,
            end,
            close: false,
        }
    }
}

/// An answer of the office, and how it is to be sent.
#[derive(Clone, Debug)]
pub struct Reply {
    /// The HTTP status.
    pub status: u16,
    /// Headers, without `Content-Length` and `Transfer-Encoding`, which follow from the framing.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub content: Content,
    /// How it is sent.
    pub transport: Transport,
}

impl Reply {
    pub(crate) fn new(status: u16, content: Content) -> Self {
        Self {
            status,
            headers: Vec::new(),
            content,
            transport: Transport::default(),
        }
    }

    pub(crate) fn json(status: u16, body: impl Into<Bytes>) -> Self {
        Self::new(status, Content::Bytes(body.into()))
            .with("Content-Type", "application/json; charset=utf-8")
    }

    #[must_use]
    pub(crate) fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// A header's value, its name compared without case.
    pub fn find_header(&self, name: &str) -> Option<&str> {
        find(&self.headers, name)
    }

    /// What a client gets to see of the body, and whether it ended as its framing promised; `None`
    /// when not even headers come. A client that gives up during a stall or a delay sees less.
    pub fn received(self) -> Option<(Bytes, bool)> {
        let whole = match (self.transport.end, self.transport.framing) {
            (End::ResetBeforeHeaders, _) => return None,
            (End::ResetAfter(n) | End::StallAfter { bytes: n, .. }, _) => Some(n),
            (End::Complete, Framing::LengthPlus(_)) => Some(u64::MAX),
            (End::Complete, _) => None,
        };
        let bytes = self.content.into_bytes();
        Some(
            match whole.map(|n| usize::try_from(n).unwrap_or(usize::MAX)) {
                Some(cut) => (bytes.slice(..cut.min(bytes.len())), false),
                None => (bytes, true),
            },
        )
    }
}

/// Bytes as a gzip stream of stored blocks: nothing gets smaller, every reader reads it.
pub(crate) fn gzip(bytes: &[u8]) -> Bytes {
    const BLOCK: usize = 65_535;
    let mut out = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
    let blocks = bytes.len().div_ceil(BLOCK).max(1);
    for index in 0..blocks {
        let block = &bytes[index * BLOCK..bytes.len().min((index + 1) * BLOCK)];
        let length = u16::try_from(block.len()).expect("a block is at most 65535 bytes");
        out.push(u8::from(index + 1 == blocks));
        out.extend_from_slice(&length.to_le_bytes());
        out.extend_from_slice(&(!length).to_le_bytes());
        out.extend_from_slice(block);
    }
    out.extend_from_slice(&crc32(bytes).to_le_bytes());
    // The format keeps the length modulo 2^32.
    let length = u32::try_from(bytes.len() & 0xFFFF_FFFF).expect("masked to 32 bits");
    out.extend_from_slice(&length.to_le_bytes());
    out.into()
}

fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |mut crc, byte| {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ (0xEDB8_8320 * (crc & 1));
        }
        crc
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_split_where_they_should_be() {
        let check = |url: &str, expected: (&str, &str, &str)| {
            let request = Request::get(url);
            assert_eq!(
                (&*request.origin, &*request.path, &*request.query),
                expected,
                "{url}"
            );
        };
        check("http://h:1/a/b?c=d", ("http://h:1", "/a/b", "c=d"));
        check("https://h/a$b", ("https://h", "/a$b", ""));
        check("http://h", ("http://h", "", ""));
    }

    #[test]
    fn parameters_are_found_in_any_case_and_decoded() {
        let request = Request::get("http://h/p?ContentType=Audit.Exchange&endtime=a%3Ab+c&x=%zz");
        assert_eq!(
            request.parameter("contenttype").as_deref(),
            Some("Audit.Exchange")
        );
        assert_eq!(request.parameter("endTime").as_deref(), Some("a:b c"));
        assert_eq!(request.parameter("x").as_deref(), Some("%zz"));
        assert_eq!(request.parameter("y"), None);
    }

    #[test]
    fn gzip_has_the_checksum_of_the_standard() {
        assert_eq!(crc32(b"123456789"), 0xCBF4_3926);
        let packed = gzip(b"ab");
        assert_eq!(packed[10..17], [1, 2, 0, 0xFD, 0xFF, b'a', b'b']);
        assert_eq!(packed.len(), 25);
    }

    #[test]
    fn a_reply_shows_what_arrives() {
        let check = |transport: Transport, expected: Option<(&[u8], bool)>| {
            let mut reply = Reply::json(200, "[1,2]");
            reply.transport = transport;
            let received = reply.received();
            assert_eq!(
                received.as_ref().map(|(bytes, whole)| (&bytes[..], *whole)),
                expected
            );
        };
        let plain = Transport::default();
        check(plain, Some((b"[1,2]", true)));
        check(
            Transport {
                end: End::ResetAfter(2),
                ..plain
            },
            Some((b"[1", false)),
        );
        check(
            Transport {
                end: End::ResetBeforeHeaders,
                ..plain
            },
            None,
        );
        check(
            Transport {
                framing: Framing::LengthPlus(9),
                ..plain
            },
            Some((b"[1,2]", false)),
        );
        let end = End::StallAfter {
            bytes: 1,
            stall_ms: 5,
        };
        check(Transport { end, ..plain }, Some((b"[", false)));
    }
}
