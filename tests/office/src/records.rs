//! What a blob holds: every record follows from the seed and its place, and is made when it is
//! read.
//!
//! Two fetches of a blob give the same bytes, and a blob of any size needs the memory of one piece.
//! A record's Id is its place in disguise, so the oracle knows every Id without a list of them.

mod family;
mod template;

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use serde_json::value::RawValue;

use crate::faults::{Fault, Faults};
use crate::kind::ContentType;
use crate::pool::Pool;
use crate::random::{Concern, Seed, guid, mix, unmix, version_4};
use crate::time;

/// Bytes after which a piece of a stream is handed on: large enough to be cheap, small enough to
/// forget.
const PIECE_BYTES: usize = 64 * 1_024;

/// How long before its creation the content of a blob begins, at most.
pub(crate) const LONGEST_RANGE_MS: i64 = 90_000;

/// Where a record stands: the whole of its identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Place {
    pub tenant: u16,
    pub kind: ContentType,
    pub blob: u32,
    pub record: u32,
}

const RECORD_BITS: u32 = 24;
const BLOB_BITS: u32 = 21;

impl Place {
    /// The two halves of the GUID that stands for it; the first is a check on the second.
    pub(crate) fn id(self, seed: Seed) -> (u64, u64) {
        let packed = (u64::from(self.tenant) << (64 - 16))
            | ((self.kind as u64) << (RECORD_BITS + BLOB_BITS))
            | (u64::from(self.blob) << RECORD_BITS)
            | u64::from(self.record);
        let low = mix(packed ^ seed.of(Concern::Identity).0);
        (Self::check(seed, low), low)
    }

    fn check(seed: Seed, low: u64) -> u64 {
        version_4(mix(low ^ seed.of(Concern::Identity).with(1).0))
    }

    /// The place an Id stands for, when this seed gave it out.
    pub(crate) fn from_id(seed: Seed, id: &str) -> Option<Self> {
        let digits: String = id.chars().filter(|c| *c != '-').collect();
        if id.len() != 36 || digits.len() != 32 {
            return None;
        }
        let high = u64::from_str_radix(&digits[..16], 16).ok()?;
        let low = u64::from_str_radix(&digits[16..], 16).ok()?;
        if Self::check(seed, low) != high {
            return None;
        }
        let packed = unmix(low) ^ seed.of(Concern::Identity).0;
        let bits = |shift: u32, width: u32| (packed >> shift) & ((1 << width) - 1);
        Some(Self {
            tenant: u16::try_from(bits(48, 16)).ok()?,
            kind: *ContentType::ALL.get(usize::try_from(bits(45, 3)).ok()?)?,
            blob: u32::try_from(bits(RECORD_BITS, BLOB_BITS)).ok()?,
            record: u32::try_from(bits(0, RECORD_BITS)).ok()?,
        })
    }
}

/// A content blob.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Blob {
    /// Its number in its feed, by creation.
    pub index: u32,
    pub created: i64,
    /// When it can be listed: at its creation or later.
    pub visible: i64,
    /// When the content in it begins, as its id says.
    pub first_key: i64,
    /// How many records the blobs before it hold.
    pub offset: u64,
    /// How many records it holds, copies not counted.
    pub count: u32,
}

/// Makes the records of one feed of one tenant.
#[derive(Debug)]
pub(crate) struct Maker {
    /// The office's seed: identities must be known without knowing the tenant.
    pub seed: Seed,
    pub tenant: u16,
    pub kind: ContentType,
    pub organization: String,
    pub domain: String,
    pub pool: Option<(Arc<Pool>, Vec<u32>)>,
    pub faults: Faults,
}

impl Maker {
    pub(crate) fn place(&self, blob: &Blob, record: u32) -> Place {
        Place {
            tenant: self.tenant,
            kind: self.kind,
            blob: blob.index,
            record,
        }
    }

    fn about(&self, place: Place) -> Seed {
        let feed = (u64::from(place.tenant) << 3) | place.kind as u64;
        let here = (u64::from(place.blob) << RECORD_BITS) | u64::from(place.record);
        self.seed.of(Concern::Record).with(feed).with(here)
    }

    /// Whether the record is one of the pool's own, and which.
    pub(crate) fn pooled(&self, blob: &Blob, record: u32) -> Option<usize> {
        let (_, list) = self.pool.as_ref()?;
        let at = usize::try_from(blob.offset + u64::from(record)).ok()?;
        list.get(at).and_then(|index| usize::try_from(*index).ok())
    }

    /// The record's Id as its reader sees it.
    pub(crate) fn id(&self, blob: &Blob, record: u32) -> String {
        if let (Some(index), Some((pool, _))) = (self.pooled(blob, record), &self.pool) {
            return pool.records[index].id.clone();
        }
        let (high, low) = self.place(blob, record).id(self.seed);
        let mut out = Vec::with_capacity(36);
        crate::random::push_guid(&mut out, high, low);
        String::from_utf8(out).expect("hexadecimal digits and hyphens are UTF-8")
    }

    /// How many different records carry this record's Id.
    pub(crate) fn variants(&self, blob: &Blob, record: u32) -> u8 {
        let about = self.about(self.place(blob, record));
        1 + u8::from(self.faults.hits(Fault::ChangedCopy, about))
    }

    /// Whether the record can be read at all.
    pub(crate) fn is_readable(&self, blob: &Blob, record: u32) -> bool {
        let about = self.about(self.place(blob, record));
        self.pool.is_some() || !self.faults.hits(Fault::BadText, about)
    }

    /// Appends the record.
    pub(crate) fn write(&self, out: &mut Vec<u8>, blob: &Blob, record: u32) {
        if let Some((pool, list)) = &self.pool {
            if let Some(index) = self.pooled(blob, record) {
                out.extend_from_slice(&pool.records[index].bytes);
            } else {
                let at = (blob.offset + u64::from(record)) % list.len() as u64;
                let index = list[usize::try_from(at).expect("below a list's length")];
                pool.records[index as usize].write_with_id(out, &self.id(blob, record));
            }
            return;
        }
        let place = self.place(blob, record);
        let about = self.about(place);
        // An event is a few minutes to an hour and a half old when its blob appears.
        let age =
            i64::try_from(about.of(Concern::Late).below(85 * 60_000)).unwrap_or(0) + 3 * 60_000;
        let facts = template::Facts {
            id: place.id(self.seed),
            time: &time::seconds(blob.created - age),
            organization: &self.organization,
            domain: &self.domain,
        };
        template::fill(out, self.kind, &facts, about.stream());
        self.add_odd_values(out, about);
    }

    /// Every form in which the record is issued: as it is, as a copy, changed under its Id.
    pub(crate) fn forms(&self, blob: &Blob, record: u32) -> Vec<Vec<u8>> {
        let about = self.about(self.place(blob, record));
        let mut plain = Vec::new();
        self.write(&mut plain, blob, record);
        let mut forms = Vec::new();
        let copies = [Fault::CopyInBlob, Fault::CopyInNext];
        if copies.iter().any(|fault| self.faults.hits(*fault, about)) {
            forms.push(permuted(&plain));
        }
        if self.variants(blob, record) > 1 {
            let mut changed = plain.clone();
            add_member(&mut changed, REVISION);
            forms.push(changed);
        }
        forms.push(plain);
        forms
    }

    fn add_odd_values(&self, out: &mut Vec<u8>, about: Seed) {
        if self.faults.hits(Fault::OddValue, about) {
            let deep = format!("{}{}", "[".repeat(60), "]".repeat(60));
            let odd = [
                r#""OddNumber":9007199254740993123"#.to_owned(),
                r#""OddText":"\ud83d\ude80 𝄞 \u0000 \\ \" é""#.to_owned(),
                format!(r#""OddDepth":{deep}"#),
                r#""oddCase":null,"Odd Name With Blanks":-1.5e-7"#.to_owned(),
            ];
            let member: &String = about.with(7).stream().pick(&odd);
            add_member(out, member.as_bytes());
        }
        if self.faults.hits(Fault::BadText, about) {
            add_member(out, b"\"BadText\":\"caf\xE9\"");
        }
        if self.faults.hits(Fault::LongValue, about) {
            add_member(
                out,
                format!(r#""LongText":"{}""#, "lorem ipsum ".repeat(87_382)).as_bytes(),
            );
        }
    }
}

/// What a changed copy has that the record has not.
const REVISION: &[u8] = br#""Revision":2"#;

fn add_member(record: &mut Vec<u8>, member: &[u8]) {
    record.pop();
    record.push(b',');
    record.extend_from_slice(member);
    record.push(b'}');
}

/// The records of a blob as one JSON array, in pieces, made while they are taken.
#[derive(Clone, Debug)]
pub struct RecordStream {
    maker: Arc<Maker>,
    blob: Blob,
    /// Earlier blobs of which some records come again, with the fault that decides which.
    echoes: Vec<(Blob, Fault)>,
    /// Which blob is being read: 0 the blob itself, then the echoes.
    source: usize,
    next: u32,
    /// Where the blob's own records end.
    until: u32,
    empty: bool,
    ended: bool,
}

impl RecordStream {
    pub(crate) fn new(
        maker: Arc<Maker>,
        blob: Blob,
        records: Range<u32>,
        echoes: Vec<(Blob, Fault)>,
    ) -> Self {
        let (next, until) = (records.start, records.end);
        Self {
            maker,
            blob,
            echoes,
            source: 0,
            next,
            until,
            empty: true,
            ended: false,
        }
    }

    /// How many bytes it will be, roughly.
    pub(crate) fn estimate(&self) -> u64 {
        u64::from(self.blob.count) * 1_500
    }

    /// All of it, in one piece.
    pub fn into_bytes(self) -> Bytes {
        let mut all = Vec::new();
        for piece in self {
            all.extend_from_slice(&piece);
        }
        all.into()
    }

    fn separate(&mut self, out: &mut Vec<u8>) {
        out.push(if std::mem::take(&mut self.empty) {
            b'['
        } else {
            b','
        });
    }

    fn own(&mut self, out: &mut Vec<u8>, record: u32) {
        let (maker, blob) = (Arc::clone(&self.maker), self.blob);
        self.separate(out);
        let start = out.len();
        maker.write(out, &blob, record);
        let about = maker.about(maker.place(&blob, record));
        if maker.faults.hits(Fault::CopyInBlob, about) {
            let copy = permuted(&out[start..]);
            self.separate(out);
            out.extend_from_slice(&copy);
        }
        if maker.variants(&blob, record) > 1 {
            self.separate(out);
            maker.write(out, &blob, record);
            add_member(out, REVISION);
        }
    }

    fn echo(&mut self, out: &mut Vec<u8>, (blob, fault): (Blob, Fault), record: u32) {
        let maker = Arc::clone(&self.maker);
        if maker
            .faults
            .hits(fault, maker.about(maker.place(&blob, record)))
        {
            let mut copy = Vec::new();
            maker.write(&mut copy, &blob, record);
            self.separate(out);
            out.extend_from_slice(&permuted(&copy));
        }
    }
}

impl Iterator for RecordStream {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        if self.ended {
            return None;
        }
        let mut out = Vec::with_capacity(PIECE_BYTES + 4_096);
        while out.len() < PIECE_BYTES {
            let echo = self.source.checked_sub(1).map(|index| self.echoes[index]);
            let count = echo.map_or(self.until, |(blob, _)| blob.count);
            if self.next < count {
                let record = self.next;
                self.next += 1;
                match echo {
                    None => self.own(&mut out, record),
                    Some(echo) => self.echo(&mut out, echo, record),
                }
            } else if self.source < self.echoes.len() {
                self.source += 1;
                self.next = 0;
            } else {
                self.ended = true;
                out.extend_from_slice(if self.empty { b"[]" } else { b"]" });
                break;
            }
        }
        Some(out.into())
    }
}

/// The same record with its members in the order of their names, and other white space; a record
/// that is no JSON stays as it is.
fn permuted(record: &[u8]) -> Vec<u8> {
    let members: Result<BTreeMap<&str, &RawValue>, _> = serde_json::from_slice(record);
    let Ok(members) = members else {
        return record.to_vec();
    };
    let members: Vec<String> = members
        .iter()
        .map(|(name, value)| format!("\"{name}\": {value}"))
        .collect();
    format!("{{ {} }}", members.join(", ")).into_bytes()
}

/// A GUID that belongs to a subject, the same every time.
pub(crate) fn guid_of(seed: Seed) -> String {
    let mut chance = seed.stream();
    guid(chance.next(), chance.next())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    fn maker(faults: Faults) -> Arc<Maker> {
        Arc::new(Maker {
            seed: Seed(11),
            tenant: 3,
            kind: ContentType::Exchange,
            organization: "3f2c1f5e-0b6d-4a57-9a11-7d1f6b0c9e21".into(),
            domain: "fabrikam.example".into(),
            pool: None,
            faults,
        })
    }

    fn blob(count: u32) -> Blob {
        let created = 1_768_046_681_009;
        Blob {
            index: 5,
            created,
            visible: created,
            first_key: created - 9_000,
            offset: 0,
            count,
        }
    }

    fn records(stream: RecordStream) -> Vec<Value> {
        serde_json::from_slice(&stream.into_bytes()).unwrap()
    }

    #[test]
    fn an_id_says_its_place_and_no_other_text_is_an_id() {
        let seed = Seed(11);
        let maker = maker(Faults::none());
        for record in [0, 1, 77, (1 << RECORD_BITS) - 1] {
            let id = maker.id(&blob(1), record);
            assert_eq!(
                Place::from_id(seed, &id),
                Some(maker.place(&blob(1), record)),
                "{id}"
            );
            assert_eq!(Place::from_id(Seed(12), &id), None);
            assert_eq!(Place::from_id(seed, &id.replace(&id[..1], "g")), None);
        }
        assert_eq!(Place::from_id(seed, ""), None);
    }

    #[test]
    fn a_blob_is_the_same_every_time_and_in_pieces() {
        let stream = RecordStream::new(maker(Faults::none()), blob(500), 0..500, Vec::new());
        let again = stream.clone();
        assert!(stream.clone().count() > 5);
        assert!(stream.clone().all(|piece| piece.len() < PIECE_BYTES * 2));
        assert_eq!(stream.clone().into_bytes(), again.into_bytes());
        let ids: std::collections::HashSet<String> = records(stream)
            .iter()
            .map(|r| r["Id"].as_str().unwrap().to_owned())
            .collect();
        assert_eq!(ids.len(), 500);
    }

    #[test]
    fn an_empty_blob_is_an_empty_array_and_a_tail_is_shorter() {
        let of = |count, from| {
            RecordStream::new(maker(Faults::none()), blob(count), from..count, Vec::new())
        };
        assert_eq!(of(0, 0).into_bytes(), "[]");
        assert_eq!(of(3, 3).into_bytes(), "[]");
        assert_eq!(records(of(5, 3)), records(of(5, 0))[3..]);
    }

    #[test]
    fn copies_are_equal_as_json_and_changed_copies_are_not() {
        let copies = maker(Faults::none().with(Fault::CopyInBlob, 1.0));
        let seen = records(RecordStream::new(copies, blob(2), 0..2, Vec::new()));
        assert_eq!(seen.len(), 4);
        assert_eq!(seen[0], seen[1]);
        let changed = maker(Faults::none().with(Fault::ChangedCopy, 1.0));
        assert_eq!(changed.variants(&blob(2), 0), 2);
        let seen = records(RecordStream::new(changed, blob(2), 0..2, Vec::new()));
        assert_eq!(seen[0]["Id"], seen[1]["Id"]);
        assert_ne!(seen[0], seen[1]);
    }

    #[test]
    fn an_echo_brings_records_of_an_earlier_blob_again() {
        let maker = maker(Faults::none().with(Fault::CopyInNext, 1.0));
        let earlier = Blob {
            index: 4,
            ..blob(2)
        };
        let first = records(RecordStream::new(
            Arc::clone(&maker),
            earlier,
            0..2,
            Vec::new(),
        ));
        let echoes = vec![(earlier, Fault::CopyInNext)];
        let seen = records(RecordStream::new(maker, blob(1), 0..1, echoes));
        assert_eq!(seen[1..], first);
    }

    #[test]
    fn odd_values_are_still_json() {
        let faults = Faults::none()
            .with(Fault::OddValue, 1.0)
            .with(Fault::LongValue, 1.0);
        let seen = records(RecordStream::new(
            maker(faults),
            blob(20),
            0..20,
            Vec::new(),
        ));
        assert!(
            seen.iter()
                .all(|r| r["LongText"].as_str().unwrap().len() > 1_000_000)
        );
        assert!(seen.iter().any(|r| r.get("OddDepth").is_some()));
        assert!(seen.iter().any(|r| r.get("OddText").is_some()));
    }
}
