//! Where an address at some place of a text can end, in the order the reference expression tries.
//!
//! The reference cuts an address by a backtracking expression: the first alternative that lets the
//! rest of the form fit wins, not the longest. So this module enumerates ends and asks the caller
//! about each.

/// Offers every end of an address that starts at `at`; true as soon as the caller accepts one.
pub(crate) fn ends(text: &[u8], at: usize, accept: &mut dyn FnMut(usize) -> bool) -> bool {
    let colon = text[at..].iter().take(5).any(|&byte| byte == b':');
    if colon && v6_with_zone(text, at, accept) {
        return true;
    }
    v4(text, at).is_some_and(accept)
}

/// The one end of an IPv4 address: four octets up to 255, leading zeros allowed, no digit behind.
fn v4(text: &[u8], at: usize) -> Option<usize> {
    let mut end = at;
    for group in 0..4 {
        if group > 0 {
            if text.get(end) != Some(&b'.') {
                return None;
            }
            end += 1;
        }
        let digits = text[end..]
            .iter()
            .take_while(|byte| byte.is_ascii_digit())
            .count();
        if !(1..=3).contains(&digits) || number(&text[end..end + digits]) > 255 {
            return None;
        }
        end += digits;
    }
    Some(end)
}

fn number(digits: &[u8]) -> u32 {
    digits
        .iter()
        .fold(0, |number, digit| number * 10 + u32::from(digit - b'0'))
}

type Accept<'f> = &'f mut dyn FnMut(usize) -> bool;

/// An IPv6 address with its zone id, longest first, or without.
fn v6_with_zone(text: &[u8], at: usize, accept: Accept<'_>) -> bool {
    v6(text, at, &mut |end| {
        if text.get(end) == Some(&b'%') {
            let line = text[end..].iter().position(|&byte| byte == b'\n');
            let last = line.map_or(text.len(), |length| end + length);
            for zone_end in (end + 2..=last).rev() {
                if accept(zone_end) {
                    return true;
                }
            }
        }
        accept(end)
    })
}

/// The alternatives in order: seven groups before the gap, six, ... none.
fn v6(text: &[u8], at: usize, accept: Accept<'_>) -> bool {
    (0..=7)
        .rev()
        .any(|groups| leading(text, at, groups, groups, accept))
}

/// `left` more times `h:`, then what may follow `groups` of them.
fn leading(text: &[u8], at: usize, groups: usize, left: usize, accept: Accept<'_>) -> bool {
    if left == 0 {
        return following(text, at, groups, accept);
    }
    let count = hex_digits(text, at);
    (1..=count).rev().any(|length| {
        text.get(at + length) == Some(&b':')
            && leading(text, at + length + 1, groups, left - 1, accept)
    })
}

fn following(text: &[u8], at: usize, groups: usize, accept: Accept<'_>) -> bool {
    let colon = |at: usize| text.get(at) == Some(&b':');
    match groups {
        7 => group(text, at, accept) || (colon(at) && accept(at + 1)),
        6 => {
            (colon(at) && group(text, at + 1, accept))
                || strict_v4(text, at, accept)
                || (colon(at) && accept(at + 1))
        }
        0 if !colon(at) => false,
        _ => {
            // With no group in front the address begins with a colon of its own.
            let at = if groups == 0 { at + 1 } else { at };
            (1..=7 - groups)
                .rev()
                .any(|count| trailing(text, at, count, accept))
                || (0..=5 - groups).rev().any(|count| {
                    trailing(text, at, count, &mut |end| {
                        colon(end) && strict_v4(text, end + 1, accept)
                    })
                })
                || (colon(at) && accept(at + 1))
        }
    }
}

/// `count` times `:h`.
fn trailing(text: &[u8], at: usize, count: usize, accept: Accept<'_>) -> bool {
    if count == 0 {
        return accept(at);
    }
    text.get(at) == Some(&b':')
        && group(text, at + 1, &mut |end| {
            trailing(text, end, count - 1, accept)
        })
}

/// One to four hex digits, longest first.
fn group(text: &[u8], at: usize, accept: Accept<'_>) -> bool {
    (1..=hex_digits(text, at))
        .rev()
        .any(|length| accept(at + length))
}

fn hex_digits(text: &[u8], at: usize) -> usize {
    let rest = text.get(at..).unwrap_or_default();
    rest.iter()
        .take(4)
        .take_while(|byte| byte.is_ascii_hexdigit())
        .count()
}

/// Four octets without leading zeros; the last one may end early.
pub(crate) fn strict_v4(text: &[u8], at: usize, accept: Accept<'_>) -> bool {
    octets(text, at, 4, accept)
}

fn octets(text: &[u8], at: usize, left: usize, accept: Accept<'_>) -> bool {
    let rest = text.get(at..).unwrap_or_default();
    let digits = rest
        .iter()
        .take(3)
        .take_while(|byte| byte.is_ascii_digit())
        .count();
    (1..=digits).rev().any(|length| {
        let octet = &rest[..length];
        let strict = number(octet) <= 255 && (length == 1 || octet[0] != b'0');
        let end = at + length;
        strict
            && if left == 1 {
                accept(end)
            } else {
                text.get(end) == Some(&b'.') && octets(text, end + 1, left - 1, accept)
            }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv6Addr;

    fn whole(text: &str) -> bool {
        ends(text.as_bytes(), 0, &mut |end| end == text.len())
    }

    #[test]
    fn agrees_with_the_standard_library_on_whole_addresses() {
        for text in [
            "::",
            "::1",
            "1::",
            "2001:db8::7",
            "1:2:3:4:5:6:7:8",
            "1:2:3:4:5:6:7::",
            "::2:3:4:5:6:7:8",
            "1::8",
            "::ffff:192.0.2.1",
            "1:2:3:4:5:6:192.0.2.1",
            "a::192.0.2.1",
            "fe80::a:b:c:d",
        ] {
            assert!(text.parse::<Ipv6Addr>().is_ok() && whole(text), "{text}");
        }
        for text in [
            "1:2:3:4:5:6:7",
            "1:2:3:4:5:6:7:8:9",
            "::1::",
            "12345::",
            ":::",
            "g::",
            ":1",
            "1:2:3:4:5:6:7:192.0.2.1",
            "::192.0.2.256",
            "",
        ] {
            assert!(text.parse::<Ipv6Addr>().is_err() && !whole(text), "{text}");
        }
    }

    #[test]
    fn an_adversarial_text_does_not_take_long() {
        let text = "a:".repeat(2000);
        assert!(!whole(&text));
        let zones = format!("::1%{}", "%".repeat(20_000));
        assert!(!ends(zones.as_bytes(), 0, &mut |end| end > zones.len()));
    }
}
