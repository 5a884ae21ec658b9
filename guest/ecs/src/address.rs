//! Address texts: what `ClientIP` and its relatives and `OriginatingServer` say.
//!
//! The service writes addresses with ports, brackets, host names, zone ids and mistakes. The forms
//! and their order are those of the reference mapping, in which one backtracking expression
//! decides; `ip.rs` keeps that order.

mod forms;

use bumpalo::collections::Vec as ArenaVec;

pub(crate) use forms::is_ip;
use forms::{host_and_text, parse, split_host, unmap};

use crate::bytes::{any, same};
use crate::event::{Event, Failure, Step, describe, fail};
use crate::print::print;
use crate::table::fields::Field;
use crate::table::members::Known;
use crate::text::Text;
use crate::value::{Kind, Value};

/// Moves the first client text there is: `ClientIPAddress`, `ClientIP`, `ActorIpAddress`.
pub(crate) fn choose(event: &mut Event<'_>) -> Step {
    for known in [
        Known::ClientIPAddress,
        Known::ClientIP,
        Known::ActorIpAddress,
    ] {
        if event.document.is_set(Field::ClientTempScratch) {
            return Ok(());
        }
        let Some(value) = event.get(known) else {
            continue;
        };
        if event.document.has(Field::ClientTempScratch) && !event.robust {
            return fail("field [client._temp] already exists");
        }
        let empty = value.elements().next().is_none();
        if event.robust && (value.is_object() || value.is_array() && !empty) {
            let kind = describe(value);
            event.note(&format!(
                "`{}` is {kind}, not a text: kept as it is",
                known.name()
            ));
            continue;
        }
        event.document.set(Field::ClientTempScratch, value);
        event.record.remove(known);
    }
    Ok(())
}

/// The text in a scratch field; an empty array counts as empty.
fn scratch<'a>(event: &mut Event<'a>, field: Field) -> Result<Option<Text<'a>>, Failure> {
    let Some(value) = event.document.get(field) else {
        return Ok(None);
    };
    match value.kind() {
        Kind::Text => Ok(value.text()),
        Kind::Array if value.elements().next().is_none() => Ok(None),
        Kind::Bool | Kind::Number if event.robust => Ok(Some(print(event.arena, value))),
        _ if event.robust => {
            event.note(&format!("`{}` is no text: read as it prints", field.name()));
            Ok(Some(print(event.arena, value)))
        }
        _ => fail(format!("field [{}] is no text", field.name())).map(|()| None),
    }
}

/// `client.*` from the client text.
pub(crate) fn client(event: &mut Event<'_>) -> Step {
    let Some(text) = scratch(event, Field::ClientTempScratch)? else {
        return Ok(());
    };
    let arena = event.arena;
    let given = text.decode(arena);
    let text = unmap(arena, given, event.newer);
    let value = |bytes| Value::Text(Text::encode(arena, bytes));
    if !same(text, given) {
        event.document.set(Field::ClientTempScratch, value(text));
    }
    if text.is_empty() {
        return Ok(());
    }
    let mut parts = parse(text);
    if event.options.tidy {
        split_host(&mut parts);
    }
    for (field, part) in [
        (Field::ClientDomain, parts.domain),
        (Field::ClientAddress, parts.address),
        (Field::ClientPortScratch, parts.port),
    ] {
        if let Some(part) = part {
            event.document.set(field, value(part));
        }
    }
    Ok(())
}

/// `client.ip` and `client.port`, when the text of the server was read too.
pub(crate) fn client_ip(event: &mut Event<'_>) -> Step {
    if let Some(text) = event.document.text(Field::ClientAddress) {
        let address = text.decode(event.arena);
        if is_ip(address) {
            let zone = address.iter().position(|&byte| byte == b'%');
            let cut = zone.filter(|_| event.options.tidy).unwrap_or(address.len());
            let ip = Text::encode(event.arena, &address[..cut]);
            event.document.set(Field::ClientIp, Value::Text(ip));
        }
    }
    let Some(port) = event.document.text(Field::ClientPortScratch) else {
        return Ok(());
    };
    if str::from_utf8(port.escaped).is_ok_and(|port| port.parse::<i64>().is_ok()) {
        event
            .document
            .set(Field::ClientPort, Value::Number(port.escaped));
        return Ok(());
    }
    fail("the port of the client address does not fit 64 bits")
}

/// `server.*` from `OriginatingServer`.
pub(crate) fn server(event: &mut Event<'_>) -> Step {
    let Some(value) = event.document.get(Field::ServerTempScratch) else {
        return Ok(());
    };
    if value.is_array() {
        let texts = value.elements().all(|element| element.kind() == Kind::Text);
        return if texts || event.robust {
            Ok(())
        } else {
            fail("a server text is no text")
        };
    }
    let Some(text) = scratch(event, Field::ServerTempScratch)? else {
        return Ok(());
    };
    let arena = event.arena;
    let value = |bytes| Value::Text(Text::encode(arena, bytes));
    let mut text = text.decode(arena);
    let breaks = |byte: u8| matches!(byte, b'\r' | b'\n');
    if any(text, breaks) {
        let mut line = ArenaVec::with_capacity_in(text.len(), arena);
        line.extend(text.iter().copied().filter(|&byte| !breaks(byte)));
        text = line.into_bump_slice();
        event.document.set(Field::ServerTempScratch, value(text));
    }
    if text.is_empty() {
        return Ok(());
    }
    let bracketed = text
        .strip_prefix(b"[")
        .and_then(|rest| rest.strip_suffix(b"]"));
    let parts = bracketed
        .and_then(|inner| host_and_text(inner).filter(|(_, _, rest)| rest.is_empty()))
        .or_else(|| host_and_text(text));
    let address = parts.map_or(text, |(_, address, _)| address);
    if let Some((host, _, _)) = parts {
        event.document.set(Field::ServerDomain, value(host));
    }
    event.document.set(Field::ServerAddress, value(address));
    Ok(())
}

/// Ends with the scratch texts: `server.ip`, the copies at `source` and `destination`.
pub(crate) fn copies(event: &mut Event<'_>) -> Step {
    if let Some(text) = event.document.text(Field::ServerAddress)
        && is_ip(text.decode(event.arena))
    {
        event.document.set(Field::ServerIp, Value::Text(text));
    }
    for (scratch, parent) in [
        (Field::ClientTempScratch, Field::Client),
        (Field::ServerTempScratch, Field::Server),
    ] {
        if event.document.has(scratch) {
            event.document.clear(scratch);
            event.document.set(parent, Value::Pairs(&[]));
        }
    }
    event.document.clear(Field::ClientPortScratch);
    for (from, to) in [
        (Field::ClientIp, Field::SourceIp),
        (Field::ClientPort, Field::SourcePort),
        (Field::ServerIp, Field::DestinationIp),
    ] {
        if let Some(value) = event.document.get(from) {
            event.document.set(to, value);
        }
    }
    Ok(())
}

/// `network.type` of the client.
pub(crate) fn network(event: &mut Event<'_>) -> Step {
    if let Some(ip) = event.document.text(Field::ClientIp) {
        let kind = if any(ip.escaped, |byte| byte == b':') {
            "ipv6"
        } else {
            "ipv4"
        };
        event.document.set_word(Field::NetworkType, kind);
    }
    Ok(())
}
