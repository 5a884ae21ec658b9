//! A component's size as the compiler would meet it, looked at before anything is compiled.
//!
//! The compiler's memory grows with what a component declares, not with its bytes: a few megabytes of table elements
//! took ten gigabytes. What no plugin needs is refused here, by reading the component once.

use wasmparser::{ElementItems, Parser, Payload};

/// Slots of one table, as in the pool.
pub(super) const TABLE_SLOTS: u64 = 20_000;

/// Elements of all tables.
const ELEMENTS: u64 = 100_000;

/// Functions of all core modules; ours has two thousand.
const FUNCTIONS: u64 = 100_000;

/// Bytes of one function's code, and its locals.
const FUNCTION_BYTES: usize = 1 << 20;
const LOCALS: u64 = 10_000;

/// Components and modules inside of it.
const PARTS: u64 = 100;

/// What a component may declare in all.
#[derive(Default)]
struct Sum {
    elements: u64,
    functions: u64,
    parts: u64,
}

/// Says what is too much, if anything is. What cannot be read is left to the compiler, which says why.
pub(super) fn check(bytes: &[u8]) -> Result<(), String> {
    let mut sum = Sum::default();
    for payload in Parser::new(0).parse_all(bytes) {
        let Ok(payload) = payload else {
            return Ok(());
        };
        look(&payload, &mut sum)?;
    }
    Ok(())
}

fn look(payload: &Payload<'_>, sum: &mut Sum) -> Result<(), String> {
    match payload {
        Payload::Version { .. } => add(&mut sum.parts, 1, PARTS, "modules"),
        Payload::TableSection(tables) => {
            for table in tables.clone().into_iter().flatten() {
                add(&mut 0, table.ty.initial, TABLE_SLOTS, "slots in a table")?;
            }
            Ok(())
        }
        Payload::ElementSection(segments) => {
            for segment in segments.clone().into_iter().flatten() {
                let count = match segment.items {
                    ElementItems::Functions(items) => items.count(),
                    ElementItems::Expressions(_, items) => items.count(),
                };
                add(
                    &mut sum.elements,
                    count.into(),
                    ELEMENTS,
                    "elements of tables",
                )?;
            }
            Ok(())
        }
        Payload::CodeSectionStart { count, .. } => {
            add(&mut sum.functions, (*count).into(), FUNCTIONS, "functions")
        }
        Payload::CodeSectionEntry(body) => {
            let length = body.range().len();
            if length > FUNCTION_BYTES {
                return Err(too_many(
                    length as u64,
                    "bytes in a function",
                    FUNCTION_BYTES as u64,
                ));
            }
            let mut locals = 0;
            for declared in body.get_locals_reader().into_iter().flatten().flatten() {
                add(
                    &mut locals,
                    declared.0.into(),
                    LOCALS,
                    "locals in a function",
                )?;
            }
            Ok(())
        }
        _ => Ok(()),
    }
}

fn add(sum: &mut u64, count: u64, most: u64, what: &str) -> Result<(), String> {
    *sum = sum.saturating_add(count);
    if *sum > most {
        return Err(too_many(*sum, what, most));
    }
    Ok(())
}

fn too_many(count: u64, what: &str, most: u64) -> String {
    format!("it has {count} {what}; at most {most} are allowed")
}
