//! Writes a `MaxMind` DB (format 2.0), just enough of it for tests: a binary tree over the bits of
//! IPv6 addresses with 32-bit records, the values behind it, the metadata at the end.
//!
//! IPv4 networks stand under `::/96`, as in the databases that are sold. Values are written in full
//! each time: there are no pointers.

use std::net::IpAddr;

use serde_json::{Value, json};

/// Where a bit leads.
#[derive(Clone, Copy)]
enum Way {
    Nowhere,
    Node(usize),
    Value(usize),
}

/// A database of networks, such as `192.0.2.0/24`, and what it says about each. Networks must not
/// overlap.
pub(super) fn database(kind: &str, networks: &[(&str, Value)]) -> Vec<u8> {
    let (mut nodes, mut values) = (vec![[Way::Nowhere; 2]], Vec::new());
    for (network, value) in networks {
        let (bits, length) = bits(network);
        let mut node = 0;
        for index in 0..length - 1 {
            let bit = bit(bits, index);
            node = match nodes[node][bit] {
                Way::Node(next) => next,
                Way::Nowhere => {
                    nodes.push([Way::Nowhere; 2]);
                    let next = nodes.len() - 1;
                    nodes[node][bit] = Way::Node(next);
                    next
                }
                Way::Value(_) => panic!("`{network}` lies in another network"),
            };
        }
        nodes[node][bit(bits, length - 1)] = Way::Value(values.len());
        write(&mut values, value);
    }
    let mut file = Vec::new();
    for way in nodes.iter().flatten() {
        let record = match way {
            Way::Nowhere => nodes.len(),
            Way::Node(node) => *node,
            // Behind the nodes comes a separator of 16 bytes, which counts.
            Way::Value(offset) => nodes.len() + 16 + offset,
        };
        file.extend_from_slice(&u32::try_from(record).unwrap().to_be_bytes());
    }
    file.extend_from_slice(&[0; 16]);
    file.extend_from_slice(&values);
    file.extend_from_slice(b"\xab\xcd\xefMaxMind.com");
    write(&mut file, &metadata(kind, nodes.len()));
    file
}

fn metadata(kind: &str, node_count: usize) -> Value {
    json!({
        "binary_format_major_version": 2,
        "binary_format_minor_version": 0,
        "build_epoch": 1_700_000_000,
        "database_type": kind,
        "description": { "en": "made by a test" },
        "ip_version": 6,
        "languages": ["en"],
        "node_count": node_count,
        "record_size": 32,
    })
}

/// The bits of a network, from the left, and how many of them count.
fn bits(network: &str) -> (u128, u32) {
    let (address, length) = network.split_once('/').unwrap();
    let length: u32 = length.parse().unwrap();
    match address.parse().unwrap() {
        IpAddr::V4(v4) => (u128::from(v4.to_bits()), 96 + length),
        IpAddr::V6(v6) => (v6.to_bits(), length),
    }
}

fn bit(bits: u128, index: u32) -> usize {
    usize::from(bits >> (127 - index) & 1 == 1)
}

/// Appends a value: text, whole numbers of 32 bits, other numbers, lists and maps.
fn write(out: &mut Vec<u8>, value: &Value) {
    match value {
        Value::String(text) => {
            control(out, 2, text.len());
            out.extend_from_slice(text.as_bytes());
        }
        Value::Number(number) => {
            if let Some(whole) = number.as_u64() {
                control(out, 6, 4);
                out.extend_from_slice(&u32::try_from(whole).unwrap().to_be_bytes());
            } else {
                control(out, 3, 8);
                out.extend_from_slice(&number.as_f64().unwrap().to_be_bytes());
            }
        }
        Value::Array(elements) => {
            control(out, 11, elements.len());
            for element in elements {
                write(out, element);
            }
        }
        Value::Object(members) => {
            control(out, 7, members.len());
            for (name, member) in members {
                write(out, &name.as_str().into());
                match (whole_type(name), member.as_u64()) {
                    (Some((kind, size)), Some(whole)) => {
                        control(out, kind, size);
                        out.extend_from_slice(&whole.to_be_bytes()[8 - size..]);
                    }
                    _ => write(out, member),
                }
            }
        }
        Value::Null | Value::Bool(_) => panic!("not needed by any test"),
    }
}

/// The type and size of numbers that are not of 32 bits: readers insist on them.
fn whole_type(name: &str) -> Option<(u8, usize)> {
    match name {
        "build_epoch" => Some((9, 8)),
        "ip_version" | "record_size" => Some((5, 2)),
        name if name.starts_with("binary_format_") => Some((5, 2)),
        _ => None,
    }
}

/// The type and size in front of a value; types above 7 have a byte of their own, sizes from 29 on
/// too.
fn control(out: &mut Vec<u8>, kind: u8, size: usize) {
    let (short, long) = match u8::try_from(size) {
        Ok(size @ ..29) => (size, None),
        _ => (29, Some(u8::try_from(size - 29).unwrap())),
    };
    if kind <= 7 {
        out.push(kind << 5 | short);
    } else {
        out.extend_from_slice(&[short, kind - 7]);
    }
    out.extend(long);
}
