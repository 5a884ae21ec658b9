//! One record in, one event out: reading, choosing the profile, ending with what went wrong.

use bumpalo::Bump;

use crate::embedded::names_twice;
use crate::event::{Event, Failure};
use crate::options::{ErrorMode, Options, Profile};
use crate::record::Record;
use crate::scan::{self, Broken, Scanner};
use crate::steps::{self, End};
use crate::table::fields::Field;
use crate::table::members::Known;
use crate::text::Text;
use crate::value::Value;
use crate::write::{Style, write_event};
use crate::{dates, hash, o365beat, original, repair};

/// Maps records. Keeps its buffers, so one mapper should map many.
#[derive(Debug, Default)]
pub struct Mapper {
    options: Options,
    arena: Bump,
    id: String,
    arrival_ms: i64,
}

/// What is known of a mapped event beside its body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mapped {
    /// A hash of the record's content: independent of the order of members at every level and of
    /// white space, the same natively and in wasm and in every release.
    pub fingerprint: u64,
    /// When the event happened, in milliseconds since 1970; 0 when the record does not say.
    pub time_ms: i64,
    /// Whether the record says when it happened.
    pub has_time: bool,
    /// Whether the record was read to its end; one that is nested too deeply is kept as it came.
    pub whole: bool,
}

/// Why a record could not become an event at all. The caller still has its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejected {
    /// One sentence for the operator.
    pub reason: String,
}

/// The tag of events that hold their original, and of those that ask for it.
const PRESERVE: &str = "preserve_original_event";
/// Most members of a record that robust mode maps; real records have under a hundred.
const MEMBERS_LIMIT: usize = 1000;
/// Longest `Id` that is used as an identity; the plugin interface allows 512 bytes with the record
/// number.
const ID_LIMIT: usize = 480;
/// An event so much later than its arrival has a wrong clock.
const FUTURE_MS: i64 = 24 * 3_600_000;
/// An event so much earlier than its arrival too: the service keeps content for seven days.
const PAST_MS: i64 = 30 * 24 * 3_600_000;

impl Mapper {
    /// A mapper with these options.
    pub fn new(mut options: Options) -> Self {
        // Ids are compared in lower case, so that the table may be written in any.
        let tenants = std::mem::take(&mut options.tenants);
        options.tenants = tenants
            .into_iter()
            .map(|(id, name)| (id.to_lowercase(), name))
            .collect();
        options.preserve_original_event |= options.tags.iter().any(|tag| tag == PRESERVE);
        Mapper {
            options,
            ..Mapper::default()
        }
    }

    /// When the records to come have arrived: the time of an event that does not say its own, and
    /// what its clock is compared with. Without it such an event says 1970.
    pub fn set_arrival_ms(&mut self, time_ms: i64) {
        self.arrival_ms = time_ms;
    }

    /// The identity of the last mapped record: its `Id`, with `#RecordNumber` when it has one;
    /// where there is no usable `Id`, a hash of the content.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Maps one record and appends the event's body to `out`; on a rejection `out` is as before.
    ///
    /// The record is exactly one JSON object as UTF-8; white space around and inside is allowed.
    /// The body is one JSON object without a line break.
    pub fn map(&mut self, record: &[u8], out: &mut Vec<u8>) -> Result<Mapped, Rejected> {
        self.arena.reset();
        self.id.clear();
        let input = Input {
            arena: &self.arena,
            options: &self.options,
            arrival_ms: self.arrival_ms,
            bytes: record,
        };
        let start = out.len();
        let mapped = input.map(&mut self.id, out);
        if mapped.is_err() {
            out.truncate(start);
        }
        mapped
    }
}

/// One record and what it is mapped with.
struct Input<'a> {
    arena: &'a Bump,
    options: &'a Options,
    arrival_ms: i64,
    bytes: &'a [u8],
}

/// A record that can be mapped, and what had to be repaired first.
struct Readable<'a> {
    record: &'a mut Record<'a>,
    bytes: &'a [u8],
    notes: Vec<&'static str>,
    message: Option<Text<'a>>,
}

impl<'a> Input<'a> {
    fn map(&self, id: &mut String, out: &mut Vec<u8>) -> Result<Mapped, Rejected> {
        let readable = match self.read() {
            Ok(readable) => readable,
            Err(Broken::Deep) => return Ok(self.minimal(id, out)),
            Err(Broken::Syntax(at)) => {
                let reason = format!("the record is not one JSON object: byte {at} breaks it");
                return Err(Rejected { reason });
            }
        };
        identify(self.arena, readable.record, id);
        let fingerprint = readable.record.fingerprint;
        let time_ms = match self.options.profile {
            Profile::Newer | Profile::V1_7_1 => self.map_ecs(readable, out),
            Profile::O365beat => self.map_beat(readable, out),
            Profile::Raw => {
                out.extend_from_slice(trim_space(readable.bytes));
                self.creation_time(readable.record)
            }
        };
        Ok(Mapped {
            fingerprint,
            time_ms: time_ms.unwrap_or(0),
            has_time: time_ms.is_some(),
            whole: true,
        })
    }

    /// Reads the record, after repairing what can be repaired.
    fn read(&self) -> Result<Readable<'a>, Broken> {
        const REPEATED: &str = "duplicate_keys: the last value of a repeated name was mapped";
        const REPAIRED: scan::Flags = scan::CONTROL | scan::SURROGATE | scan::NEWLINE;
        let quoted = self.options.quotes_numbers();
        let bytes = self
            .bytes
            .strip_prefix(b"\xef\xbb\xbf")
            .unwrap_or(self.bytes);
        let record = Record::read(self.arena, bytes, quoted)?;
        let mut readable = Readable {
            record,
            bytes,
            notes: Vec::new(),
            message: None,
        };
        let flags = readable.record.flags;
        if flags & scan::HIGH != 0 && str::from_utf8(bytes).is_err() {
            readable
                .notes
                .push("the record is not UTF-8: U+FFFD stands for the bad bytes");
            readable.bytes = self
                .arena
                .alloc_str(&String::from_utf8_lossy(bytes))
                .as_bytes();
            readable.record = Record::read(self.arena, readable.bytes, quoted)?;
        }
        let twice = readable.record.twice
            || flags & scan::TWICE != 0
                && readable.record.members.iter().any(|member| {
                    member.flags & scan::TWICE != 0 && names_twice(self.arena, member.value)
                });
        if twice {
            readable.notes.push(REPEATED);
        }
        if flags & scan::CONTROL != 0 {
            readable
                .notes
                .push("a text holds a control byte that JSON wants escaped");
        }
        if flags & scan::SURROGATE != 0 {
            readable
                .notes
                .push("a text holds half a surrogate pair: U+FFFD stands for it");
        }
        let respelled = flags & scan::RESPELLED != 0 && self.options.profile != Profile::Raw;
        if flags & REPAIRED != 0 || twice || respelled {
            let members = readable.record.members.len();
            readable.bytes = repair::rewrite(self.arena, trim_space(readable.bytes));
            readable.record = Record::read(self.arena, readable.bytes, quoted)?;
            if !twice && readable.record.members.len() < members {
                readable.notes.push(REPEATED);
            }
        }
        self.unwrap(readable, quoted)
    }

    /// Takes the record out of `{"o365audit": {...}, "message": "..."}`.
    fn unwrap(&self, mut readable: Readable<'a>, quoted: bool) -> Result<Readable<'a>, Broken> {
        let members = &readable.record.members;
        if members.len() > 2 {
            return Ok(readable);
        }
        let Some(Value::Tree(tree)) = members
            .iter()
            .find(|member| member.name == b"o365audit")
            .map(|member| member.value)
            .filter(|value| value.is_object())
        else {
            return Ok(readable);
        };
        let message = members.iter().find(|member| member.name == b"message");
        let message = message.map(|member| member.value);
        if members.len() == 2 && message.and_then(Value::text).is_none() {
            return Ok(readable);
        }
        readable.message = message.and_then(Value::text);
        readable.record = Record::read(self.arena, tree.json, quoted)?;
        readable.bytes = tree.json;
        Ok(readable)
    }

    fn creation_time(&self, record: &Record<'a>) -> Option<i64> {
        let text = record.set_value(Known::CreationTime)?.text()?;
        dates::parse(text.decode(self.arena))
    }

    fn map_ecs(&self, mut readable: Readable<'a>, out: &mut Vec<u8>) -> Option<i64> {
        let robust = self.options.error_mode == ErrorMode::Robust;
        if robust && readable.record.members.len() > MEMBERS_LIMIT {
            readable.record.keep_first(MEMBERS_LIMIT);
            readable
                .notes
                .push("too many members: what is beyond 1000 is in event.original only");
        }
        if robust && readable.record.dotted {
            readable.record.list_dotted(self.arena);
        }
        let mut event = Event::new(self.arena, self.options, readable.record);
        for tag in &self.options.tags {
            let text = Text::encode(self.arena, tag.as_bytes());
            event.document.append(Field::Tags, Value::Text(text));
        }
        if robust {
            for note in readable.notes {
                event.note(note);
            }
            if event.set(Known::Id).is_none_or(Value::is_blank) {
                event.note("`Id` is missing");
            }
        }
        if self.options.preserve_original_event {
            tag(&mut event, PRESERVE);
            self.keep_original(&mut event, readable.message);
        }
        let end = steps::run(&mut event);
        if !event.document.has(Field::Timestamp) {
            let arrival = Text::plain(dates::format(self.arena, self.arrival_ms));
            event.document.set(Field::Timestamp, Value::Text(arrival));
        }
        self.end(&mut event, end, readable.message, out);
        event.time_ms
    }

    /// Says what went wrong and writes the event.
    fn end(&self, event: &mut Event<'a>, end: End, message: Option<Text<'a>>, out: &mut Vec<u8>) {
        let quoted = self.options.quotes_numbers();
        let (audit, complete) = match end {
            End::Complete => (Field::Audit, true),
            End::Aborted(failure) => {
                abort(event, &failure);
                (Field::Aborted, false)
            }
            End::AbortedLate(failure) => {
                abort(event, &failure);
                (Field::Audit, false)
            }
        };
        if !event.newer || !complete {
            for (parent, first) in [
                (Field::Client, Field::ClientPortScratch),
                (Field::Server, Field::ServerTempScratch),
            ] {
                let last = if parent == Field::Client {
                    Field::ClientPort
                } else {
                    Field::ServerIp
                };
                if event.document.has_any(first, last) {
                    event.document.clear(parent);
                }
            }
        } else {
            event.document.clear(Field::Client);
            event.document.clear(Field::Server);
        }
        let robust = event.robust;
        if event.document.has(Field::ErrorMessage) && (event.newer || robust) {
            event.document.set_word(Field::EventKind, "pipeline_error");
            tag(event, PRESERVE);
            let wanted = robust || message.is_some();
            if wanted && !event.document.has(Field::EventOriginal) {
                self.keep_original(event, message);
            }
        }
        self.suspect(event);
        event.document.set(audit, Value::Null);
        let style = Style {
            prune: event.newer && complete,
            quoted,
        };
        write_event(event.document, event.record, audit, style, out);
    }

    /// The record as it came, or what its collector says is the original.
    fn keep_original(&self, event: &mut Event<'a>, message: Option<Text<'a>>) {
        if let Some(message) = message {
            event
                .document
                .set(Field::EventOriginal, Value::Text(message));
            return;
        }
        let (text, coded) = original::text(self.arena, self.bytes);
        event.document.set(Field::EventOriginal, Value::Text(text));
        if coded && event.robust {
            event.note("event.original is Base64, because the record is not UTF-8");
        }
    }

    /// Tags an event whose clock or tenant cannot be right.
    fn suspect(&self, event: &mut Event<'a>) {
        if let Some(time) = event.time_ms.filter(|_| self.arrival_ms != 0)
            && (time > self.arrival_ms + FUTURE_MS || time < self.arrival_ms - PAST_MS)
        {
            tag(event, "clock_suspect");
        }
        if let Some(own) = &self.options.directory_id
            && let Some(text) = event.document.text(Field::OrganizationId)
            && !text.escaped.eq_ignore_ascii_case(own.as_bytes())
        {
            tag(event, "tenant_mismatch");
        }
    }

    fn map_beat(&self, readable: Readable<'a>, out: &mut Vec<u8>) -> Option<i64> {
        let time_ms = self.creation_time(readable.record);
        o365beat::map(
            self.arena,
            self.options,
            readable.record,
            self.arrival_ms,
            out,
        );
        time_ms
    }

    /// The event of a record nested too deeply to be read: its identity and its bytes.
    fn minimal(&self, id: &mut String, out: &mut Vec<u8>) -> Mapped {
        let fingerprint = hash::bytes(self.bytes).get();
        let own = shallow_id(self.bytes).filter(|own| own.len() <= ID_LIMIT);
        *id = own.map_or_else(|| format!("{fingerprint:016x}"), str::to_owned);
        let (text, _) = original::text(self.arena, self.bytes);
        let time = dates::format(self.arena, self.arrival_ms);
        out.extend_from_slice(b"{\"@timestamp\":\"");
        out.extend_from_slice(time);
        out.extend_from_slice(
            b"\",\"error\":{\"message\":[\"the record is nested deeper than 128\"]},",
        );
        out.extend_from_slice(b"\"event\":{\"dataset\":\"o365.audit\",\"module\":\"o365\",");
        if let Some(own) = own {
            out.extend_from_slice(format!("\"id\":\"{own}\",").as_bytes());
        }
        out.extend_from_slice(b"\"kind\":\"pipeline_error\",\"original\":\"");
        out.extend_from_slice(text.escaped);
        out.extend_from_slice(b"\"}}");
        Mapped {
            fingerprint,
            time_ms: 0,
            has_time: false,
            whole: false,
        }
    }
}

fn tag(event: &mut Event<'_>, tag: &'static str) {
    event.document.append_unique(Field::Tags, Value::word(tag));
}

fn abort(event: &mut Event<'_>, failure: &Failure) {
    if event.newer {
        let line = format!("Processor 'rule' failed with message '{}'", failure.0);
        event.note(&line);
    } else {
        let line = event.arena.alloc_str(&failure.0).as_bytes();
        let text = Text::encode(event.arena, line);
        event.document.set(Field::ErrorMessage, Value::Text(text));
    }
}

/// The identity of a record, see `Mapper::id`.
fn identify(arena: &Bump, record: &Record<'_>, id: &mut String) {
    let scalar = |known| match record.set_value(known) {
        Some(Value::Text(text)) => str::from_utf8(text.decode(arena)).ok(),
        Some(Value::Number(digits)) => str::from_utf8(digits).ok(),
        _ => None,
    };
    match scalar(Known::Id).filter(|own| !own.is_empty() && own.len() <= ID_LIMIT) {
        Some(own) => id.push_str(own),
        None => *id = format!("{:016x}", record.fingerprint),
    }
    if let Some(number) = scalar(Known::RecordNumber).filter(|number| number.len() <= 24) {
        id.push('#');
        id.push_str(number);
    }
}

/// The `Id` of a record that is nested too deeply to be read: a plain text at its top level.
fn shallow_id(bytes: &[u8]) -> Option<&str> {
    let (mut depth, mut at) = (0_u32, 0);
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.saturating_sub(1),
            b'"' => {
                let start = at + 1;
                let mut scanner = Scanner::<false>::new(bytes);
                scanner.at = start;
                scanner.string()?;
                at = scanner.at;
                if depth == 1
                    && &bytes[start..at - 1] == b"Id"
                    && let Some(value) = bytes[at..].trim_ascii_start().strip_prefix(b":")
                    && let Some(text) = value.trim_ascii_start().strip_prefix(b"\"")
                {
                    let end = text
                        .iter()
                        .position(|byte| matches!(byte, b'"' | b'\\' | 0..32))?;
                    return str::from_utf8(&text[..end])
                        .ok()
                        .filter(|id| !id.is_empty());
                }
                continue;
            }
            _ => {}
        }
        at += 1;
    }
    None
}

/// Without white space at both ends.
fn trim_space(bytes: &[u8]) -> &[u8] {
    bytes.trim_ascii()
}
