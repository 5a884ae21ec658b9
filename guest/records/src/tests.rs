//! Splitting: by cases, and by property over every way to cut the input into chunks.

use proptest::prelude::*;

use super::*;

/// What came out, owned.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Got {
    Record(String),
    Recovered(String),
    Bad(String, u64, Reason),
}

fn split(limits: Limits, chunks: &[&[u8]]) -> (Vec<Got>, Result<(), Malformed>) {
    let mut got = Vec::new();
    let mut splitter = Splitter::new(limits);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let mut each = |item: Item<'_>| {
        got.push(match item {
            Item::Record(bytes) => Got::Record(text(bytes)),
            Item::Recovered(bytes) => Got::Recovered(text(bytes)),
            Item::Bad {
                bytes,
                offset,
                reason,
            } => Got::Bad(text(bytes), offset, reason),
        });
        Ok::<(), ()>(())
    };
    let mut result = Ok(());
    for chunk in chunks {
        result = result.and_then(|()| splitter.push(chunk, &mut each));
    }
    result = result.and_then(|()| splitter.finish(&mut each));
    let result = result.map_err(|stop| match stop {
        Stop::Malformed(malformed) => malformed,
        Stop::Caller(()) => unreachable!("the caller never stops"),
    });
    (got, result)
}

fn strict() -> Limits {
    Limits::default()
}

fn salvage() -> Limits {
    Limits {
        salvage: true,
        ..Limits::default()
    }
}

/// Splits whole and byte by byte; both must agree.
fn both(limits: Limits, input: &str) -> (Vec<Got>, Result<(), Malformed>) {
    let whole = split(limits, &[input.as_bytes()]);
    let bytes: Vec<&[u8]> = input.as_bytes().chunks(1).collect();
    let single = split(limits, &bytes);
    assert_eq!(whole, single, "whole and byte by byte differ on {input:?}");
    whole
}

fn check(input: &str, expected: &[&str]) {
    let (got, result) = both(strict(), input);
    assert_eq!(result, Ok(()), "{input:?}");
    let expected: Vec<Got> = expected
        .iter()
        .map(|text| Got::Record((*text).into()))
        .collect();
    assert_eq!(got, expected, "{input:?}");
}

fn check_malformed(input: &str, offset: u64, reason: Reason) {
    assert_eq!(
        both(strict(), input).1,
        Err(Malformed { offset, reason }),
        "{input:?}"
    );
}

#[test]
fn every_container_is_taken() {
    check("[]", &[]);
    check("", &[]);
    check(" \r\n\t", &[]);
    check(r#"[{"a":1},{"b":2}]"#, &[r#"{"a":1}"#, r#"{"b":2}"#]);
    check(" [ {} , { } ] \n", &["{}", "{ }"]);
    check(r#"{"a":1}"#, &[r#"{"a":1}"#]);
    check("{\"a\":1}\n{\"b\":2}\n", &[r#"{"a":1}"#, r#"{"b":2}"#]);
    check(r#"{"a":1}{"b":2}"#, &[r#"{"a":1}"#, r#"{"b":2}"#]);
    check(r#"[[{"a":1}],[[],{"b":2}]]"#, &[r#"{"a":1}"#, r#"{"b":2}"#]);
    check("\u{feff}[{}]", &["{}"]);
    check("[{}]\n[{\"a\":[]}]", &["{}", r#"{"a":[]}"#]);
}

#[test]
fn brackets_in_strings_are_text() {
    check(
        r#"[{"a":"]}[{\"}"},{"b":"\\"}]"#,
        &[r#"{"a":"]}[{\"}"}"#, r#"{"b":"\\"}"#],
    );
    let long = format!(r#"{{"a":"{}","b":[{{}}]}}"#, r#"\\\"}"#.repeat(100));
    check(&format!("[{long},{long}]"), &[&long, &long]);
}

#[test]
fn a_body_that_ends_too_early_is_an_error() {
    for input in [
        "[",
        "[{}",
        "[{},",
        r#"[{"a":1"#,
        r#"[{"a":"x"#,
        r#"[{"a":"\"#,
        "{",
        r#"["x"#,
    ] {
        let length = input.len() as u64;
        check_malformed(input, length, Reason::Truncated);
    }
}

#[test]
fn damage_between_records_is_an_error() {
    check_malformed("[{}]x", 4, Reason::Garbage);
    check_malformed("[{}] 1", 5, Reason::Garbage);
    check_malformed("[{}]}", 4, Reason::Garbage);
    check_malformed("[{} {}]", 4, Reason::Comma);
    check_malformed("[,{}]", 1, Reason::Comma);
    check_malformed("[{},]", 4, Reason::Comma);
    check_malformed("[{},,{}]", 4, Reason::Comma);
    check_malformed("]", 0, Reason::Garbage);
    check_malformed("<html>", 0, Reason::Garbage);
    check_malformed(r#"[{"a":[}]"#, 7, Reason::Mismatch);
}

fn check_salvaged(input: &str, expected: &[Got]) {
    let (got, result) = both(salvage(), input);
    assert_eq!(result, Ok(()), "{input:?}");
    assert_eq!(got, expected, "{input:?}");
}

fn bad(text: &str, offset: u64, reason: Reason) -> Got {
    Got::Bad(text.into(), offset, reason)
}

fn good(text: &str) -> Got {
    Got::Record(text.into())
}

fn recovered(text: &str) -> Got {
    Got::Recovered(text.into())
}

#[test]
fn what_is_no_object_is_reported() {
    let input = r#"[1,"a\"b",null,{"a":1},-2.5e3,true]"#;
    let expected = [
        bad("1", 1, Reason::NotAnObject),
        bad(r#""a\"b""#, 3, Reason::NotAnObject),
        bad("null", 10, Reason::NotAnObject),
        good(r#"{"a":1}"#),
        bad("-2.5e3", 23, Reason::NotAnObject),
        bad("true", 30, Reason::NotAnObject),
    ];
    let (got, result) = both(strict(), input);
    assert_eq!((got.as_slice(), result), (&expected[..], Ok(())));
    let (got, result) = both(strict(), "null");
    assert_eq!(
        (got, result),
        (vec![bad("null", 0, Reason::NotAnObject)], Ok(()))
    );
}

#[test]
fn salvage_loses_no_good_record() {
    let truncated = Reason::Truncated;
    check_salvaged(
        r#"[{"a":1},x{"b":2}]"#,
        &[
            good(r#"{"a":1}"#),
            bad("x", 9, Reason::NotAnObject),
            bad("", 10, Reason::Comma),
            good(r#"{"b":2}"#),
        ],
    );
    check_salvaged(
        r#"[{"a":1}#?,{"b":2}]"#,
        &[
            good(r#"{"a":1}"#),
            bad("#?,", 8, Reason::Garbage),
            recovered(r#"{"b":2}"#),
        ],
    );
    check_salvaged(
        r#"[{"a":1},{"b":[2},{"c":3}]"#,
        &[
            good(r#"{"a":1}"#),
            bad(r#"{"b":[2},"#, 9, Reason::Mismatch),
            recovered(r#"{"c":3}"#),
        ],
    );
    // A missing quote turns the rest of the body inside out until the end says so.
    check_salvaged(
        r#"[{"a":1},{"b":"2},{"c":3},{"d":4}]"#,
        &[
            good(r#"{"a":1}"#),
            bad(r#"{"b":"2},"#, 9, truncated),
            recovered(r#"{"c":3}"#),
            recovered(r#"{"d":4}"#),
        ],
    );
    check_salvaged(
        r#"[{"a":1},{"b":2"#,
        &[
            good(r#"{"a":1}"#),
            bad(r#"{"b":2"#, 9, truncated),
            bad("", 15, truncated),
        ],
    );
    check_salvaged("[{}", &[good("{}"), bad("", 3, truncated)]);
}

#[test]
fn a_bad_line_costs_no_other_line() {
    for stray in ["\"", "oops \"unterminated", "x\"", "\"\\"] {
        let (got, result) = both(salvage(), &format!("{stray}\n{{\"a\":1}}\n{{\"b\":2}}\n"));
        assert_eq!(result, Ok(()));
        let good = got.iter().filter(|got| matches!(got, Got::Record(_)));
        assert_eq!(good.count(), 2, "{stray} {got:?}");
    }
    let lines = "{\"a\":\"cut\"\n{\"b\":1}\n{\"c\":{\n{\"d\":2}\n{\"e\":3}\n";
    check_salvaged(
        lines,
        &[
            bad("{\"a\":\"cut\"\n", 0, Reason::Truncated),
            recovered("{\"b\":1}"),
            bad("{\"c\":{\n", 19, Reason::Truncated),
            recovered("{\"d\":2}"),
            recovered("{\"e\":3}"),
        ],
    );
    // Also when the end of the input is far away.
    let small = Limits {
        element_bytes: 64,
        salvage: true,
    };
    let line = "{\"b\":\"0123456789\"}\n";
    let (got, result) = both(small, &format!("{{\"a\":\n{}", line.repeat(100)));
    assert_eq!(result, Ok(()));
    assert_eq!(got[0], bad("{\"a\":\n", 0, Reason::Truncated));
    assert_eq!(got.len(), 101);
    assert!(
        got[1..]
            .iter()
            .all(|got| *got == recovered(line.trim_end()))
    );
}

#[test]
fn nesting_has_a_limit() {
    let nested = |depth: usize| {
        format!(
            r#"{{"a":{}{}}}"#,
            "[".repeat(depth - 1),
            "]".repeat(depth - 1)
        )
    };
    check(&nested(128), &[&nested(128)]);
    let deep = format!("[{},{{}}]", nested(129));
    let (got, result) = both(strict(), &deep);
    assert_eq!(result, Ok(()));
    assert_eq!(got, [bad(&nested(129), 1, Reason::TooDeep), good("{}")]);
    // A million levels cost no stack.
    let (got, _) = split(strict(), &[nested(1_000_000).as_bytes()]);
    assert!(matches!(got[..], [Got::Bad(_, 0, Reason::TooDeep)]));
}

#[test]
fn a_record_over_the_limit_is_named_with_its_size() {
    let limits = Limits {
        element_bytes: 64,
        salvage: false,
    };
    let long = format!(r#"{{"a":"{}"}}"#, "x".repeat(93));
    let input = format!("[{long},{{}}]");
    let (_, result) = split(limits, &[input.as_bytes()]);
    let reason = Reason::TooLarge {
        size: 101,
        limit: 64,
    };
    assert_eq!(result, Err(Malformed { offset: 1, reason }));
    let (got, result) = both(
        Limits {
            salvage: true,
            ..limits
        },
        &input,
    );
    assert_eq!(result, Ok(()));
    assert_eq!(got.len(), 2);
    assert!(matches!(
        &got[0],
        Got::Bad(
            _,
            1,
            Reason::TooLarge {
                size: 101,
                limit: 64
            }
        )
    ));
    assert_eq!(got[1], good("{}"));
}

#[test]
fn hostile_damage_ends_in_bounded_time() {
    let input = format!("[{}", r#"{"a":"x},"#.repeat(20_000));
    let (got, result) = split(salvage(), &[input.as_bytes()]);
    assert_eq!(result, Ok(()));
    let kept: usize = got
        .iter()
        .map(|got| match got {
            Got::Record(text) | Got::Recovered(text) | Got::Bad(text, ..) => text.len(),
        })
        .sum();
    // What did not come out is the bracket at the beginning and commas between records.
    assert!(
        kept + got.len() >= input.len(),
        "{kept} of {} bytes came out",
        input.len()
    );
}

/// JSON text of any value.
fn value() -> impl Strategy<Value = String> {
    let text = prop::collection::vec(
        prop_oneof![
            Just("a"),
            Just("\\\""),
            Just("\\\\"),
            Just("{"),
            Just("}"),
            Just("["),
            Just("]"),
            Just(","),
            Just("é"),
            Just("\\u0000"),
            Just("},{"),
            Just(" ")
        ],
        0..30,
    )
    .prop_map(|parts| format!("\"{}\"", parts.concat()));
    let leaf = prop_oneof![Just("null".to_owned()), Just("-1.5e3".to_owned()), text];
    leaf.prop_recursive(5, 40, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(|v| format!("[{}]", v.join(","))),
            prop::collection::vec(inner, 0..5).prop_map(|v| object(&v)),
        ]
    })
}

fn object(values: &[String]) -> String {
    let members: Vec<String> = values
        .iter()
        .enumerate()
        .map(|(index, v)| format!("\"k{index}\":{v}"))
        .collect();
    format!("{{{}}}", members.join(","))
}

fn records() -> impl Strategy<Value = Vec<String>> {
    let record = prop::collection::vec(value(), 0..6).prop_map(|values| object(&values));
    prop::collection::vec(record, 0..12)
}

/// Cuts bytes at arbitrary places.
fn cut<'a>(bytes: &'a [u8], places: &[usize]) -> Vec<&'a [u8]> {
    let mut places: Vec<usize> = places
        .iter()
        .map(|place| place % (bytes.len() + 1))
        .collect();
    places.sort_unstable();
    let mut chunks = Vec::new();
    let mut from = 0;
    for place in places {
        chunks.push(&bytes[from..place]);
        from = place;
    }
    chunks.push(&bytes[from..]);
    chunks
}

proptest! {
    #[test]
    fn any_chunking_gives_the_same_records(
        records in records(),
        places in prop::collection::vec(any::<usize>(), 0..20),
        lines in any::<bool>(),
    ) {
        let input = if lines { records.join("\n") } else { format!("[{}]", records.join(" , ")) };
        let (got, result) = split(strict(), &cut(input.as_bytes(), &places));
        prop_assert_eq!(result, Ok(()));
        let expected: Vec<Got> = records.into_iter().map(Got::Record).collect();
        prop_assert_eq!(got, expected);
    }

    #[test]
    fn a_cut_body_is_never_taken_for_whole(records in records(), at in any::<usize>()) {
        let input = format!("[{}]", records.join(","));
        let end = at % input.len();
        prop_assume!(end > 0);
        let (_, result) = split(strict(), &[&input.as_bytes()[..end]]);
        prop_assert!(result.is_err(), "{:?}", &input.as_bytes()[..end]);
    }

    #[test]
    fn any_bytes_end_well_and_alike(
        bytes in prop::collection::vec(
            prop_oneof![
                Just(b'{'), Just(b'}'), Just(b'['), Just(b']'), Just(b'"'), Just(b'\\'),
                Just(b','), Just(b'1'), Just(b' '), Just(b'\n'), any::<u8>()
            ],
            0..300,
        ),
        places in prop::collection::vec(any::<usize>(), 0..10),
    ) {
        for limits in [strict(), salvage()] {
            let whole = split(limits, &[&bytes]);
            if limits.salvage {
                prop_assert_eq!(whole.1, Ok(()));
            }
            prop_assert_eq!(whole, split(limits, &cut(&bytes, &places)));
        }
    }

    #[test]
    fn salvage_keeps_the_records_before_the_damage(
        records in records(),
        at in any::<usize>(),
        byte in any::<u8>(),
    ) {
        let mut input = format!("[{}]", records.join(",")).into_bytes();
        let at = at % input.len();
        input[at] = byte;
        let (got, result) = split(salvage(), &[&input]);
        prop_assert_eq!(result, Ok(()));
        let mut end = 1;
        let intact = records.iter().take_while(|record| {
            end += record.len() + 1;
            end - 1 <= at
        });
        for (got, record) in got.iter().zip(intact) {
            prop_assert_eq!(got, &Got::Record(record.clone()));
        }
    }
}
