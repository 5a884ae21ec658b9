//! The forms of an address text and their order.
//!
//! The first form that fits decides, so the order is part of every document: a text without white
//! space is a name unless it is an address, `host:port` included.

use std::net::Ipv6Addr;

use bumpalo::Bump;
use bumpalo::collections::Vec as ArenaVec;

use crate::bytes::any;
use crate::ip;

/// What a client text holds.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Parts<'a> {
    pub(crate) address: Option<&'a [u8]>,
    pub(crate) domain: Option<&'a [u8]>,
    pub(crate) port: Option<&'a [u8]>,
}

/// A strictly written IPv4 or IPv6 address, with or without a zone id.
pub(crate) fn is_ip(text: &[u8]) -> bool {
    if ip::strict_v4(text, 0, &mut |end| end == text.len()) {
        return true;
    }
    if !any(text, |byte| byte == b':') {
        return false;
    }
    let Ok(text) = str::from_utf8(text) else {
        return false;
    };
    let address = match text.split_once('%') {
        Some((address, zone)) if !zone.is_empty() => address,
        Some(_) => return false,
        None => text,
    };
    address.parse::<Ipv6Addr>().is_ok()
}

/// Takes `::ffff:` from before IPv4 addresses.
pub(crate) fn unmap<'a>(arena: &'a Bump, text: &'a [u8], newer: bool) -> &'a [u8] {
    const PREFIX: &[u8] = b"::ffff:";
    let found = |text: &[u8]| {
        text.windows(PREFIX.len())
            .position(|window| window == PREFIX)
    };
    if found(text).is_none() {
        return text;
    }
    if newer {
        return unmap_whole(arena, text).unwrap_or(text);
    }
    let mut out = ArenaVec::with_capacity_in(text.len(), arena);
    let mut rest = text;
    while let Some(at) = found(rest) {
        let behind = &rest[at + PREFIX.len()..];
        let kept = if dotted(behind).is_some() {
            at
        } else {
            at + PREFIX.len()
        };
        out.extend_from_slice(&rest[..kept]);
        rest = behind;
    }
    out.extend_from_slice(rest);
    out.into_bump_slice()
}

/// The whole text is a mapped address, perhaps in brackets and with a port.
fn unmap_whole<'a>(arena: &'a Bump, text: &'a [u8]) -> Option<&'a [u8]> {
    let bare = text
        .strip_prefix(b"[")
        .unwrap_or(text)
        .strip_prefix(b"::ffff:")?;
    let length = dotted(bare)?;
    let (address, rest) = bare.split_at(length);
    let (rest, feed) = match rest {
        [rest @ .., b'\n'] => (rest, &b"\n"[..]),
        rest => (rest, &b""[..]),
    };
    let port = match rest {
        [] | [b']'] => &rest[..0],
        [b']', b':', digits @ ..]
            if !digits.is_empty() && digits.iter().all(u8::is_ascii_digit) =>
        {
            &rest[1..]
        }
        _ => return None,
    };
    Some(arena.alloc_slice_copy(&[address, port, feed].concat()))
}

/// The length of four groups of digits joined by dots at the start of the text.
fn dotted(text: &[u8]) -> Option<usize> {
    let mut at = 0;
    for group in 0..4 {
        if group > 0 {
            if text.get(at) != Some(&b'.') {
                return None;
            }
            at += 1;
        }
        let digits = text[at..]
            .iter()
            .take_while(|byte| byte.is_ascii_digit())
            .count();
        if digits == 0 {
            return None;
        }
        at += digits;
    }
    Some(at)
}

/// The first form that fits; the order decides, see the spec of the forms in MAPPING.md.
pub(crate) fn parse(text: &[u8]) -> Parts<'_> {
    if is_ip(text) && !text.contains(&b'\n') {
        return Parts {
            address: Some(text),
            ..Parts::default()
        };
    }
    let line = text.split(|&byte| byte == b'\n').next().unwrap_or_default();
    bracketed_port(line)
        .or_else(|| whole_address(line))
        .or_else(|| bracketed_whole(line))
        .or_else(|| address_port(line))
        .or_else(|| no_space(line))
        .or_else(|| host_port(line.strip_prefix(b"[")?, b"]:"))
        .or_else(|| host_port(line, b":"))
        .or_else(|| host_text(text, true))
        .or_else(|| host_text(text, false))
        .unwrap_or(Parts {
            address: Some(line),
            ..Parts::default()
        })
}

/// `[IP]:PORT`, whatever follows.
fn bracketed_port(line: &[u8]) -> Option<Parts<'_>> {
    if line.first() != Some(&b'[') {
        return None;
    }
    let mut found = None;
    ip::ends(line, 1, &mut |end| {
        let port = line[end..].strip_prefix(b"]:").and_then(port);
        found = port.map(|port| (end, port));
        found.is_some()
    });
    let (end, port) = found?;
    Some(Parts {
        address: Some(&line[1..end]),
        port: Some(port),
        domain: None,
    })
}

/// `IP`.
fn whole_address(line: &[u8]) -> Option<Parts<'_>> {
    let whole = ip::ends(line, 0, &mut |end| end == line.len());
    whole.then_some(Parts {
        address: Some(line),
        ..Parts::default()
    })
}

/// `[IP]`.
fn bracketed_whole(line: &[u8]) -> Option<Parts<'_>> {
    let inner = line.strip_prefix(b"[")?.strip_suffix(b"]")?;
    let whole = ip::ends(inner, 0, &mut |end| end == inner.len());
    whole.then_some(Parts {
        address: Some(inner),
        ..Parts::default()
    })
}

/// `IP:PORT`, whatever follows.
fn address_port(line: &[u8]) -> Option<Parts<'_>> {
    let mut found = None;
    ip::ends(line, 0, &mut |end| {
        found = line[end..]
            .strip_prefix(b":")
            .and_then(port)
            .map(|port| (end, port));
        found.is_some()
    });
    let (end, port) = found?;
    Some(Parts {
        address: Some(&line[..end]),
        port: Some(port),
        domain: None,
    })
}

/// A text without white space is a name, whatever it looks like.
fn no_space(line: &[u8]) -> Option<Parts<'_>> {
    let spaced = line.is_empty() || line.iter().any(|&byte| is_space(byte));
    (!spaced).then_some(Parts {
        domain: Some(line),
        ..Parts::default()
    })
}

/// `HOST:PORT` or `HOST]:PORT`, whatever follows; HOST is as long as it can be.
fn host_port<'a>(line: &'a [u8], separator: &[u8]) -> Option<Parts<'a>> {
    let run = line
        .iter()
        .position(|&byte| is_space(byte))
        .unwrap_or(line.len());
    (1..run).rev().find_map(|end| {
        let port = line[end..].strip_prefix(separator).and_then(port)?;
        Some(Parts {
            domain: Some(&line[..end]),
            port: Some(port),
            address: None,
        })
    })
}

/// `HOST (TEXT)` or `[HOST (TEXT)]`, up to the end of a line.
fn host_text(text: &[u8], bracketed: bool) -> Option<Parts<'_>> {
    let inner = if bracketed {
        text.strip_prefix(b"[")?
    } else {
        text
    };
    let (host, address, rest) = host_and_text(inner)?;
    let rest = if bracketed {
        rest.strip_prefix(b"]")?
    } else {
        rest
    };
    let ends = matches!(rest.first(), None | Some(b'\n'));
    ends.then_some(Parts {
        domain: Some(host),
        address: Some(address),
        port: None,
    })
}

/// `HOST (TEXT)` at the start: the host, the text, what follows.
pub(crate) fn host_and_text(text: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let end = text
        .iter()
        .position(|&byte| is_space(byte))
        .filter(|&end| end > 0)?;
    let rest = text[end..].strip_prefix(b" (")?;
    let close = rest
        .iter()
        .position(|&byte| byte == b')')
        .filter(|&close| close > 0)?;
    Some((&text[..end], &rest[..close], &rest[close + 1..]))
}

/// A port: digits, no zero in front, no letter or digit of any script behind.
fn port(text: &[u8]) -> Option<&[u8]> {
    let digits = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (port, rest) = text.split_at(digits);
    let behind = rest
        .utf8_chunks()
        .next()
        .and_then(|chunk| chunk.valid().chars().next());
    let word = behind.is_some_and(|behind| behind.is_alphanumeric() || behind == '_');
    (digits > 0 && text[0] != b'0' && !word).then_some(port)
}

fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t'..=b'\r')
}

/// Splits `host:port` and `[host]:port` that passed as a name.
pub(crate) fn split_host(parts: &mut Parts<'_>) {
    let Some(domain) = parts
        .domain
        .filter(|_| parts.address.is_none() && parts.port.is_none())
    else {
        return;
    };
    let Some(colon) = domain.iter().rposition(|&byte| byte == b':') else {
        return;
    };
    let host = &domain[..colon];
    let host = host
        .strip_prefix(b"[")
        .and_then(|host| host.strip_suffix(b"]"))
        .unwrap_or(host);
    let number =
        port(&domain[colon + 1..]).filter(|digits| digits.len() + colon + 1 == domain.len());
    if number.is_some() && !host.is_empty() && !host.contains(&b':') {
        parts.domain = Some(host);
        parts.port = number;
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn addresses_are_what_the_standard_library_reads() {
        let numbers = [
            "", "0", "00", "01", "9", "10", "099", "255", "256", "1000", "a", "1 ", "\u{e9}",
        ];
        let mut texts = vec![
            String::new(),
            ".".into(),
            "1.2.3.4.5".into(),
            "1.2.3.4.".into(),
        ];
        for one in numbers {
            for other in numbers {
                texts.push(format!("{one}.{other}.3.4"));
                texts.push(format!("1.2.{one}.{other}"));
                texts.push(format!("1.{one}.{other}"));
            }
        }
        for text in texts {
            assert_eq!(
                is_ip(text.as_bytes()),
                text.parse::<Ipv4Addr>().is_ok(),
                "{text}"
            );
        }
    }

    fn check(text: &str, newer: bool, expected: &str) {
        let arena = Bump::new();
        let parts = parse(unmap(&arena, text.as_bytes(), newer));
        let mut found = String::new();
        for (name, part) in [("A", parts.address), ("D", parts.domain), ("P", parts.port)] {
            if let Some(part) = part {
                found += &[name, "=", str::from_utf8(part).unwrap(), " "].concat();
            }
        }
        assert_eq!(found.strip_suffix(' '), Some(expected), "{text}");
    }

    #[test]
    fn addresses() {
        for text in [
            "198.51.100.4",
            "2001:db8::7",
            "::",
            "fe80::1%eth0",
            "::FFFF:198.51.100.4",
        ] {
            check(text, true, &format!("A={text}"));
            check(&format!("[{text}]"), true, &format!("A={text}"));
        }
        check("198.51.100.4:50001", true, "A=198.51.100.4 P=50001");
        check("[2001:db8::7]:443", true, "A=2001:db8::7 P=443");
        check("[fe80::1%3]:443", true, "A=fe80::1%3 P=443");
        check("2001:db8::7:51000", true, "A=2001:db8::7 P=51000");
        check("2001:db8::7:443", true, "A=2001:db8::7:443");
        check(
            "2001:db8:0:0:0:0:0:1:443",
            true,
            "A=2001:db8:0:0:0:0:0:1 P=443",
        );
        check("198.51.100.4:443 more", true, "A=198.51.100.4 P=443");
        check("010.1.1.1", true, "A=010.1.1.1");
    }

    #[test]
    fn mapped_addresses() {
        check("::ffff:198.51.100.4", true, "A=198.51.100.4");
        check("[::ffff:198.51.100.4]:99", true, "A=198.51.100.4 P=99");
        check("::ffff:198.51.100.4:51000", true, "A=::ffff P=198");
        check("::ffff:198.51.100.4:51000", false, "A=198.51.100.4 P=51000");
        check("::ffff:198.51.100.4]:80", true, "A=198.51.100.4 P=80");
        check("::ffff:198.51.100.4]:80", false, "D=198.51.100.4]:80");
        check(
            "2001:db8::ffff:198.51.100.4",
            true,
            "A=2001:db8::ffff:198.51.100.4",
        );
        check(
            "2001:db8::ffff:198.51.100.4",
            false,
            "D=2001:db8198.51.100.4",
        );
        check(
            "2001:db8::198.51.100.4:443",
            true,
            "A=2001:db8::198.51.100.4 P=443",
        );
    }

    #[test]
    fn names_and_the_rest() {
        for text in [
            "localhost",
            "localhost:443",
            "[localhost]",
            "-",
            "198.51.100.4:0",
            "198.51.100.4:051",
            "198.51.100.256",
            "198.51.100.4,198.51.100.5",
            "198.51.100.4:443x",
        ] {
            check(text, true, &format!("D={text}"));
        }
        check("198.51.100.4 ", true, "A=198.51.100.4 ");
        check(
            "mail.example.com (198.51.100.4)",
            true,
            "A=198.51.100.4 D=mail.example.com",
        );
        check(
            "[mail.example.com (198.51.100.4)]",
            true,
            "A=198.51.100.4 D=mail.example.com",
        );
        check(
            "mail.example.com:25 (198.51.100.4)",
            true,
            "D=mail.example.com P=25",
        );
        check("[198.51.100.4] (x)", true, "A=x D=[198.51.100.4]");
        check("a:1:2 x", true, "D=a:1 P=2");
        check("[a]:1]:2 x", true, "D=a]:1 P=2");
        check("198.51.100.4\nx", true, "A=198.51.100.4");
        check("x y\n198.51.100.4", true, "A=x y");
        check("two words", true, "A=two words");
    }

    #[test]
    fn tidied_hosts() {
        let tidy = |text: &'static str| {
            let mut parts = parse(text.as_bytes());
            split_host(&mut parts);
            (
                parts.domain.map(<[u8]>::to_vec),
                parts.port.map(<[u8]>::to_vec),
            )
        };
        assert_eq!(
            tidy("localhost:443"),
            (Some(b"localhost".to_vec()), Some(b"443".to_vec()))
        );
        assert_eq!(
            tidy("[pc.example.com]:9"),
            (Some(b"pc.example.com".to_vec()), Some(b"9".to_vec()))
        );
        assert_eq!(tidy("pc:0"), (Some(b"pc:0".to_vec()), None));
    }
}
