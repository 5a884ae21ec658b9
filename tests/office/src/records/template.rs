//! Fills the slots of a record family: the record is the same each time it is made from the same
//! seed.

use std::io::Write;
use std::sync::LazyLock;

use super::family::FAMILIES;
use crate::kind::ContentType;
use crate::random::{Stream, mix, push_guid, version_4};

/// What a record needs to know besides chance.
pub(super) struct Facts<'a> {
    pub id: (u64, u64),
    /// The event time, as records carry it.
    pub time: &'a str,
    pub organization: &'a str,
    pub domain: &'a str,
}

/// Appends one invented record of the content type.
pub(super) fn fill(out: &mut Vec<u8>, kind: ContentType, facts: &Facts<'_>, mut chance: Stream) {
    let templates = &TEMPLATES[kind.index()];
    let mut left = chance.below(templates.weight);
    let (_, template) = templates
        .rows
        .iter()
        .find(|(weight, _)| {
            let here = left < *weight;
            left = left.saturating_sub(*weight);
            here
        })
        .expect("the draw is below the sum of the weights");
    let person = chance.below(PEOPLE.len() as u64 * 40);
    for piece in template {
        match piece {
            Piece::Text(text) => out.extend_from_slice(text.as_bytes()),
            Piece::Slot(slot) => fill_slot(out, *slot, facts, person, &mut chance),
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum Slot {
    Time,
    Id,
    Org,
    Domain,
    Upn,
    Upn2,
    Name,
    Display,
    UserId,
    Puid,
    Guid,
    App,
    Ip,
    Ip6,
    Agent,
    Os,
    Word,
    Sha,
    Digits(u32),
}

enum Piece {
    Text(String),
    Slot(Slot),
}

struct Templates {
    weight: u64,
    rows: Vec<(u64, Vec<Piece>)>,
}

static TEMPLATES: LazyLock<Vec<Templates>> = LazyLock::new(|| {
    let of = |kind| {
        let rows = FAMILIES.iter().filter(|family| family.kind == kind);
        let rows: Vec<_> = rows
            .map(|family| (family.weight, compile(family.text)))
            .collect();
        Templates {
            weight: rows.iter().map(|row| row.0).sum(),
            rows,
        }
    };
    ContentType::ALL.into_iter().map(of).collect()
});

fn compile(text: &str) -> Vec<Piece> {
    let text: String = text.lines().map(str::trim).collect();
    let mut pieces = Vec::new();
    for (index, part) in text.split('%').enumerate() {
        if index % 2 == 0 {
            pieces.push(Piece::Text(part.to_owned()));
        } else {
            pieces.push(Piece::Slot(
                slot(part).expect("every slot in the table is known"),
            ));
        }
    }
    pieces
}

fn slot(name: &str) -> Option<Slot> {
    Some(match name {
        "time" => Slot::Time,
        "id" => Slot::Id,
        "org" => Slot::Org,
        "domain" => Slot::Domain,
        "upn" => Slot::Upn,
        "upn2" => Slot::Upn2,
        "name" => Slot::Name,
        "display" => Slot::Display,
        "userid" => Slot::UserId,
        "puid" => Slot::Puid,
        "guid" => Slot::Guid,
        "app" => Slot::App,
        "ip" => Slot::Ip,
        "ip6" => Slot::Ip6,
        "agent" => Slot::Agent,
        "os" => Slot::Os,
        "word" => Slot::Word,
        "sha" => Slot::Sha,
        _ => Slot::Digits(name.strip_prefix('n')?.parse().ok()?),
    })
}

fn fill_slot(out: &mut Vec<u8>, slot: Slot, facts: &Facts<'_>, person: u64, chance: &mut Stream) {
    match slot {
        Slot::Time => out.extend_from_slice(facts.time.as_bytes()),
        Slot::Id => push_guid(out, facts.id.0, facts.id.1),
        Slot::Org => out.extend_from_slice(facts.organization.as_bytes()),
        Slot::Domain => out.extend_from_slice(facts.domain.as_bytes()),
        Slot::Upn => push_address(out, person, facts),
        Slot::Upn2 => push_address(out, chance.below(PEOPLE.len() as u64 * 40), facts),
        Slot::Name => push_name(out, person),
        Slot::Display => out.extend_from_slice(someone(person).as_bytes()),
        Slot::UserId => push_guid(out, version_4(mix(person)), mix(person ^ 0xA5) | 1 << 63),
        Slot::Puid => write(out, format_args!("1003{:012X}", mix(person) >> 16)),
        Slot::Guid => push_guid(out, version_4(chance.next()), chance.next() | 1 << 63),
        Slot::App => out.extend_from_slice(chance.pick(APPS).as_bytes()),
        Slot::Ip => push_ip(out, chance),
        Slot::Ip6 => write(
            out,
            format_args!(
                "2001:db8:{:x}::{:x}",
                chance.below(65_536),
                chance.below(65_535) + 1
            ),
        ),
        Slot::Agent => out.extend_from_slice(chance.pick(AGENTS).as_bytes()),
        Slot::Os => out.extend_from_slice(chance.pick(SYSTEMS).as_bytes()),
        Slot::Word => out.extend_from_slice(chance.pick(WORDS).as_bytes()),
        Slot::Sha => (0..4).for_each(|_| write(out, format_args!("{:016x}", chance.next()))),
        Slot::Digits(width) => push_digits(out, width, chance),
    }
}

fn write(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("writing to memory succeeds");
}

fn push_ip(out: &mut Vec<u8>, chance: &mut Stream) {
    const NETS: [&str; 3] = ["192.0.2.", "198.51.100.", "203.0.113."];
    out.extend_from_slice(chance.pick(&NETS).as_bytes());
    write(out, format_args!("{}", chance.below(254) + 1));
}

/// A number of exactly this width, so without a leading zero: it may stand bare in JSON.
fn push_digits(out: &mut Vec<u8>, width: u32, chance: &mut Stream) {
    let low = 10_u64.pow(width - 1);
    write(out, format_args!("{}", low + chance.below(low * 9)));
}

fn someone(person: u64) -> &'static str {
    let index = person % PEOPLE.len() as u64;
    PEOPLE[usize::try_from(index).expect("an index below a table's length fits usize")]
}

fn push_name(out: &mut Vec<u8>, person: u64) {
    let first = someone(person).split(' ').next().unwrap_or_default();
    out.extend(first.bytes().map(|byte| byte.to_ascii_lowercase()));
    write(out, format_args!("{}", person / PEOPLE.len() as u64));
}

fn push_address(out: &mut Vec<u8>, person: u64, facts: &Facts<'_>) {
    push_name(out, person);
    out.push(b'@');
    out.extend_from_slice(facts.domain.as_bytes());
}

const PEOPLE: &[&str] = &[
    "Ana Prata",
    "Bo Lind",
    "Chidi Obi",
    "Dana Weiss",
    "Eva Horn",
    "Femi Ade",
    "Gus Tal",
    "Hana Mori",
    "Ines Rey",
    "Jon Fell",
    "Kim Sato",
    "Lea Brandt",
    "Mio Kari",
    "Nils Berg",
    "Olga Vos",
    "Pia Stern",
];
const WORDS: &[&str] = &[
    "alder", "basalt", "cobalt", "delta", "ember", "fjord", "granite", "harbour", "indigo",
    "juniper", "kestrel", "lantern", "meadow", "nimbus", "orchard", "pepper", "quartz", "rowan",
    "saffron", "tundra",
];
const APPS: &[&str] = &[
    "5d0a8f43-6e1b-4c72-b3a9-0c4de2f81955",
    "7b1f0c52-21de-4a90-8f35-64ce0a1d7e02",
    "c2a96e10-94b7-4f0e-a1d8-3b5f27e0d4c6",
];
const SYSTEMS: &[&str] = &[
    "Windows 11",
    "Windows 10",
    "MacOs",
    "Android",
    "Ios 18",
    "Linux",
];
const AGENTS: &[&str] = &[
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) \
    Chrome/131.0.0.0 \
     Safari/537.36 Edg/131.0.0.0",
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) \
     Version/18.1 Safari/605.1.15",
    "Mozilla/5.0 (X11; Linux x86_64; rv:132.0) Gecko/20100101 Firefox/132.0",
    "Microsoft Office/16.0 (Windows NT 10.0; Microsoft Outlook 16.0.17928; Pro)",
    "ExampleSync/3.2",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_family_is_json_of_the_right_size_with_the_common_members() {
        let facts = Facts {
            id: (1, 2),
            time: "2026-01-10T08:15:42",
            organization: "3f2c1f5e-0b6d-4a57-9a11-7d1f6b0c9e21",
            domain: "fabrikam.example",
        };
        for (index, family) in FAMILIES.iter().enumerate() {
            let mut out = Vec::new();
            let mut chance = crate::random::Seed(7).with(index as u64).stream();
            for piece in compile(family.text) {
                match piece {
                    Piece::Text(text) => out.extend_from_slice(text.as_bytes()),
                    Piece::Slot(slot) => fill_slot(&mut out, slot, &facts, 3, &mut chance),
                }
            }
            let record: serde_json::Value = serde_json::from_slice(&out).unwrap_or_else(|e| {
                panic!("family {index}: {e}: {}", String::from_utf8_lossy(&out))
            });
            for member in [
                "Id",
                "RecordType",
                "CreationTime",
                "Operation",
                "OrganizationId",
                "UserType",
                "UserKey",
                "UserId",
                "Workload",
            ] {
                assert!(
                    record.get(member).is_some(),
                    "family {index} lacks {member}"
                );
            }
            let record_type = record["RecordType"].as_i64().unwrap();
            assert_eq!(
                ContentType::of_record_type(record_type),
                family.kind,
                "{record_type}"
            );
            assert!(
                (500..=3_000).contains(&out.len()),
                "type {record_type}: {} bytes",
                out.len()
            );
        }
    }
}
