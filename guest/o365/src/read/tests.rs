//! Reading: what comes out of every kind of answer.

use proptest::prelude::*;

use super::*;
use crate::fake::{Answer, Fake, NOW, STREAM, TENANT, config, limits};

const URI: &str = concat!(
    "https://manage.example.com/api/v1.0/3f2c1f5e-0b6d-4a57-9a11-7d1f6b0c9e21",
    "/activity/feed/audit/2026$1$audit_exchange$Audit_Exchange$na0044"
);

fn record(id: &str) -> String {
    format!(
        r#"{{"CreationTime":"2026-01-10T08:41:07","Id":"{id}","Operation":"Set-Mailbox",
            "OrganizationId":"{TENANT}","RecordType":1,"UserId":"ana@example.com"}}"#
    )
}

fn body(ids: &[&str]) -> String {
    let records: Vec<String> = ids.iter().map(|id| record(id)).collect();
    format!("[{}]", records.join(","))
}

fn split_at(uri: &str) -> Split {
    let payload = serde_json::to_vec(&Payload { uri: uri.into() }).expect("plain text");
    let created = NOW - HOUR;
    Split {
        id: "blob-1".into(),
        payload,
        created,
        expires: Some(created + 7 * DAY),
    }
}

fn read_at(attempt: u32, answer: &Result<Answer, Broken>) -> (Fake, Result<(), Failure>) {
    let mut fake = Fake::new();
    let config = config(&format!(r#""profile":"raw","attempt":{attempt}"#));
    let result = fake.call(
        |_, _| answer.clone(),
        |world| read(world, &config, STREAM, &split_at(URI), limits()),
    );
    (fake, result)
}

fn read_body(attempt: u32, body: &str) -> (Fake, Result<(), Failure>) {
    read_at(attempt, &Ok(Answer::new(200, body)))
}

fn is_retry(result: &Result<(), Failure>) -> bool {
    matches!(
        result,
        Err(Failure::Retry {
            affects: Scope::Split,
            ..
        })
    )
}

#[test]
fn a_blob_becomes_events() {
    let (fake, result) = read_body(0, &body(&["a", "b", "c"]));
    assert_eq!(result, Ok(()));
    assert_eq!(fake.output.ids(), ["a", "b", "c"]);
    assert_eq!(fake.sent.len(), 1);
    let sent = fake.sent[0].url.to_string();
    assert_eq!(sent, format!("{URI}?PublisherIdentifier={TENANT}"));
    let (_, _, entry) = fake.output.batches[0].events().next().expect("three");
    assert_eq!(time::show(entry.time), "2026-01-10T08:41:07Z");
    assert_eq!(fake.count("records_read"), 3);
    assert_eq!(fake.count("tenant_mismatch"), 0);
}

#[test]
fn odd_but_whole_bodies_are_read() {
    for (text, count) in [
        ("[]".to_owned(), 0),
        (" [ ]\r\n".to_owned(), 0),
        (format!("\u{feff}{}", body(&["a"])), 1),
        (format!("[[{}],[]]", record("a")), 1),
    ] {
        let (fake, result) = read_body(0, &text);
        assert_eq!((result, fake.output.ids().len()), (Ok(()), count), "{text}");
    }
}

#[test]
fn what_is_no_list_is_fetched_again() {
    for text in [
        "",
        "  ",
        "null",
        "{}",
        "<html>503</html>",
        "\"x\"",
        "5",
        r#"{"error":{"code":"AF50000","message":"m"}}"#,
        "\u{1f}\u{8b}gzip",
    ] {
        for attempt in [0, 5] {
            let (fake, result) = read_body(attempt, text);
            assert!(is_retry(&result), "{text:?}: {result:?}");
            assert!(fake.output.batches.is_empty() && fake.output.rejected.is_empty());
        }
    }
}

#[test]
fn a_cut_body_is_fetched_again() {
    let whole = body(&["a", "b"]);
    for end in 1..whole.len() {
        let (_, result) = read_body(0, &whole[..end]);
        assert!(is_retry(&result), "{}", &whole[..end]);
    }
    let mut answer = Answer::new(200, &whole[..whole.len() / 2]);
    answer
        .body
        .push_back(Err(Broken::Transport("connection reset".into())));
    for attempt in [0, 5] {
        // Cut by the network: no salvage, however often it happens.
        assert!(is_retry(&read_at(attempt, &Ok(answer.clone())).1));
    }
    assert!(is_retry(
        &read_at(0, &Err(Broken::Transport("no route".into()))).1
    ));
    let denied = read_at(0, &Err(Broken::Denied("not granted".into()))).1;
    assert!(matches!(denied, Err(Failure::Misconfigured(_))));
}

#[test]
fn a_damaged_blob_is_salvaged_after_some_tries() {
    let broken = r#"{"Id":"b","x":[}"#;
    let text = format!("[{},{broken},{}]", record("a"), record("c"));
    for attempt in 0..SALVAGE_FROM {
        assert!(is_retry(&read_body(attempt, &text).1));
    }
    let (fake, result) = read_body(SALVAGE_FROM, &text);
    assert_eq!(result, Ok(()));
    assert_eq!(fake.output.ids(), ["a", "a", "c"]);
    assert_eq!(fake.output.rejected.len(), 1);
    assert!(
        fake.output.rejected[0].0.starts_with(broken),
        "{:?}",
        fake.output.rejected
    );
    assert!(fake.output.rejected[0].1.contains("blob-1"));
    assert_eq!(fake.sent.len(), 3, "read, probed, salvaged");
}

#[test]
fn only_damage_that_stays_is_salvaged() {
    let broken = format!(r#"[{},{{"Id":"b","x":[}}]"#, record("a"));
    let other = format!(r#"[{},{{"Id":"b","x":}}]"#, record("a"));
    for copies in [[&broken, &other], [&broken, &body(&["a", "b"])]] {
        let mut fake = Fake::new();
        let config = config(&format!(r#""profile":"raw","attempt":{SALVAGE_FROM}"#));
        let mut copies = copies.into_iter();
        let result = fake.call(
            |_, _| Ok(Answer::new(200, copies.next().expect("two are asked for"))),
            |world| read(world, &config, STREAM, &split_at(URI), limits()),
        );
        assert!(is_retry(&result), "{result:?}");
        assert_eq!(fake.output.ids(), ["a"], "what is good is not held back");
        assert_eq!(fake.output.rejected, []);
    }
}

#[test]
fn a_cut_blob_is_never_salvaged() {
    // The same cut every time, and garbage behind it: the rest exists and is not forgotten.
    let whole = body(&["a", "b"]);
    for tail in ["", "garbage", "}"] {
        let text = format!("{}{tail}", &whole[..whole.len() - 20]);
        let (fake, result) = read_body(9, &text);
        assert!(is_retry(&result), "{tail}");
        assert_eq!(
            (fake.output.ids(), fake.sent.len()),
            (vec!["a".to_owned()], 1)
        );
        assert_eq!(fake.output.rejected, []);
    }
}

#[test]
fn a_fragment_is_never_taken_for_a_record() {
    // A quote is missing: the inner objects of the broken record look like records.
    let broken = r#"{"Id":"b,"List":[{"Name":"x"},{"Name":"y"}]}"#;
    let text = format!("[{},{broken},{}]", record("a"), record("c"));
    let (fake, result) = read_body(SALVAGE_FROM, &text);
    assert_eq!(result, Ok(()));
    assert_eq!(fake.output.ids(), ["a", "a", "c"]);
}

#[test]
fn overwritten_bytes_are_no_record() {
    let halves = "{\"Id\":\"b\u{1}\u{1}\u{1}\u{1}ana@example.com\"}";
    let text = format!("[{},{halves}]", record("a"));
    let (fake, result) = read_body(0, &text);
    assert!(is_retry(&result) && fake.output.rejected.is_empty());
    let (fake, result) = read_body(SALVAGE_FROM, &text);
    assert_eq!((result, fake.output.rejected.len()), (Ok(()), 1));
    // Behind it, a piece of the second record stands where a record should.
    let text = format!("[{halves},{{\"Name\":\"x\"}},{}]", record("a"));
    for attempt in [0, SALVAGE_FROM] {
        let (fake, _) = read_body(attempt, &text);
        assert!(
            fake.output.ids().iter().all(|id| id == "a"),
            "{:?}",
            fake.output.ids()
        );
        assert_eq!(fake.output.rejected.len(), if attempt == 0 { 0 } else { 2 });
    }
    // A whole record with a stray byte in a text is kept, in the end.
    let text = format!("[{}]", record("a").replace("ana@", "a\u{1}na@"));
    let (fake, result) = read_body(SALVAGE_FROM, &text);
    assert_eq!((result, fake.output.rejected.len()), (Ok(()), 0));
    assert_eq!(fake.output.ids(), ["a"]);
}

#[test]
fn what_is_no_record_is_set_aside() {
    let text = format!(r#"[5,{},"x",null,{{"a" 1}}]"#, record("a"));
    let (fake, result) = read_body(0, &text);
    assert!(
        is_retry(&result) && fake.output.rejected.is_empty(),
        "perhaps the network"
    );
    assert_eq!(fake.output.ids(), ["a"], "what is good is not held back");
    let (fake, result) = read_body(SALVAGE_FROM, &text);
    assert_eq!(result, Ok(()));
    // Delivered by the reading and by the salvage: the host knows it the second time.
    assert_eq!(fake.output.ids(), ["a", "a"]);
    let rejected: Vec<_> = fake
        .output
        .rejected
        .iter()
        .map(|(body, _)| body.as_str())
        .collect();
    assert_eq!(rejected, ["5", "\"x\"", "null", r#"{"a" 1}"#]);
    assert_eq!(fake.count("records_rejected"), 4);
}

#[test]
fn records_of_another_tenant_are_kept_and_said() {
    let other = record("x").replace(TENANT, "00000000-0000-0000-0000-000000000001");
    let (fake, result) = read_body(0, &format!("[{},{other}]", record("a")));
    assert_eq!(result, Ok(()));
    assert_eq!(fake.output.ids(), ["a", "x"]);
    assert_eq!(fake.count("tenant_mismatch"), 1);
}

#[test]
fn a_url_elsewhere_is_never_asked() {
    for uri in [
        "https://attacker.example/api/v1.0/3f2c1f5e-0b6d-4a57-9a11-7d1f6b0c9e21/x",
        "http://manage.example.com/api/v1.0/3f2c1f5e-0b6d-4a57-9a11-7d1f6b0c9e21/x",
        "https://manage.example.com:444/api/v1.0/3f2c1f5e-0b6d-4a57-9a11-7d1f6b0c9e21/x",
        "https://u@manage.example.com/api/v1.0/3f2c1f5e-0b6d-4a57-9a11-7d1f6b0c9e21/x",
        "https://manage.example.com/api/v1.0/00000000-0000-0000-0000-000000000001/x",
        "nonsense",
    ] {
        let mut fake = Fake::new();
        let config = config("");
        let result = fake.call(
            |_, _| panic!("a request was sent"),
            |world| read(world, &config, STREAM, &split_at(uri), limits()),
        );
        assert!(is_retry(&result), "{uri}");
        assert_eq!(fake.alarms(), 1, "{uri}");
    }
}

#[test]
fn a_url_elsewhere_is_healed_by_the_listing() {
    let mut fake = Fake::new();
    let config = config(r#""profile":"raw","attempt":1"#);
    let listed = format!(r#"[{{"contentId":"blob-1","contentUri":"{URI}"}}]"#);
    let foreign = split_at("https://attacker.example/x");
    let result = fake.call(
        |request, _| {
            let listing = request.url.path.contains("/subscriptions/content");
            Ok(Answer::new(
                200,
                if listing {
                    listed.clone()
                } else {
                    body(&["a"])
                }
                .as_str(),
            ))
        },
        |world| read(world, &config, STREAM, &foreign, limits()),
    );
    assert_eq!((result, fake.output.ids()), (Ok(()), vec!["a".to_owned()]));
    assert!(
        fake.sent
            .iter()
            .all(|sent| sent.url.origin() == "https://manage.example.com")
    );
}

/// A clock that runs ahead takes a window for too old to ask for; the service's own time decides.
#[test]
fn a_url_elsewhere_is_lost_only_once_the_service_says_that_it_has_expired() {
    let foreign = split_at("https://attacker.example/x");
    for (date, lost) in [
        ("Sat, 10 Jan 2026 12:00:00 GMT", false),
        ("Sat, 10 Jan 2099 12:00:00 GMT", true),
    ] {
        let mut fake = Fake::new();
        fake.clock.now.set(NOW + 400 * DAY);
        let config = config(r#""profile":"raw","attempt":9"#);
        let result = fake.call(
            |_, _| Ok(Answer::new(200, "[]").with("date", date)),
            |world| read(world, &config, STREAM, &foreign, limits()),
        );
        assert_eq!(
            matches!(result, Err(Failure::SplitLost(_))),
            lost,
            "{result:?}"
        );
        assert!(lost || is_retry(&result), "{result:?}");
    }
}

#[test]
fn refusals_of_a_blob_become_failures() {
    let error = |code: &str| format!(r#"{{"error":{{"code":"{code}","message":"m"}}}}"#);
    let failure = |status, body: &str| {
        read_at(0, &Ok(Answer::new(status, body)))
            .1
            .expect_err("refused")
    };
    assert!(matches!(
        failure(400, &error("AF20051")),
        Failure::SplitLost(_)
    ));
    assert!(matches!(failure(410, ""), Failure::SplitLost(_)));
    // A denial without a code is tried once more.
    assert!(is_retry(&Err(failure(401, ""))));
    let again = read_at(1, &Ok(Answer::new(401, ""))).1;
    assert!(matches!(again, Err(Failure::Unauthorised(_))));
    assert!(matches!(
        failure(401, &error("AF10001")),
        Failure::Unauthorised(_)
    ));
    let throttled = failure(403, "{'error':{'code':'AF429','message':'m'}}");
    assert!(matches!(
        throttled,
        Failure::Retry {
            affects: Scope::Tenant,
            ..
        }
    ));
    for (status, body) in [
        (500, error("AF50000")),
        (503, "<html>".into()),
        (400, error("AF20099")),
    ] {
        assert!(is_retry(&Err(failure(status, &body))), "{status} {body}");
    }
    for (status, body) in [
        (404, String::new()),
        (400, error("AF20050")),
        (400, error("AF20052")),
    ] {
        let failure = failure(status, &body);
        let after = Some(MISSING_RETRY_MS);
        assert!(matches!(failure, Failure::Retry { after_ms, .. } if after_ms == after));
    }
}

/// A blob that is not there at a late try: what its window lists decides.
fn missing_with(attempt: u32, listed: &str, expired: bool) -> (Fake, Result<(), Failure>) {
    let mut fake = Fake::new();
    if expired {
        fake.clock.now.set(NOW + 8 * DAY);
    }
    let config = config(&format!(r#""profile":"raw","attempt":{attempt}"#));
    let result = fake.call(
        |request, _| {
            Ok(if request.url.path.contains("/subscriptions/content") {
                Answer::new(200, listed)
            } else if request.url.path.contains("fresh") {
                Answer::new(200, &body(&["a"]))
            } else {
                Answer::new(404, "")
            })
        },
        |world| read(world, &config, STREAM, &split_at(URI), limits()),
    );
    (fake, result)
}

#[test]
fn a_missing_blob_is_looked_for_before_it_is_lost() {
    let element = |uri: &str| format!(r#"[{{"contentId":"blob-1","contentUri":"{uri}"}}]"#);
    let (_, result) = missing_with(SALVAGE_FROM, "[]", false);
    assert!(is_retry(&result), "one listing is no proof: {result:?}");
    for (attempt, expired) in [(SALVAGE_FROM + 1, false), (SALVAGE_FROM, true)] {
        let (_, result) = missing_with(attempt, "[]", expired);
        assert!(matches!(result, Err(Failure::SplitLost(_))), "{result:?}");
    }
    let (_, result) = missing_with(9, &element(URI), false);
    assert!(
        is_retry(&result),
        "still listed under the same URL: {result:?}"
    );
    let (_, result) = missing_with(9, "<html>", false);
    assert!(is_retry(&result), "not known: {result:?}");
    let (fake, result) = missing_with(SALVAGE_FROM, &element(&format!("{URI}fresh")), false);
    assert_eq!((result, fake.output.ids()), (Ok(()), vec!["a".to_owned()]));
}

/// A split that expired by our clock an hour ago; what its service says, and when it says that it is.
fn read_expired(answer: Answer, date: &str) -> Result<(), Failure> {
    let mut fake = Fake::new();
    fake.clock.now.set(NOW + 7 * DAY);
    let config = config(r#""profile":"raw","attempt":9"#);
    let answer = if date.is_empty() {
        answer
    } else {
        answer.with("date", date)
    };
    fake.call(
        |_, _| Ok(answer.clone()),
        |world| read(world, &config, STREAM, &split_at(URI), limits()),
    )
}

#[test]
fn what_cannot_be_had_is_lost_when_both_clocks_say_that_it_has_expired() {
    let (later, earlier) = (
        "Sat, 17 Jan 2026 09:00:30 GMT",
        "Fri, 16 Jan 2026 09:00:30 GMT",
    );
    let cut = body(&["a", "b"]).replace("}]", "");
    for answer in [
        Answer::new(500, ""),
        Answer::new(404, ""),
        Answer::new(200, "<html>"),
        Answer::new(200, &cut),
    ] {
        let lost = read_expired(answer.clone(), later);
        let Err(Failure::SplitLost(reason)) = lost else {
            panic!("{lost:?}")
        };
        assert!(reason.contains("it expired at 2026-01-17"), "{reason}");
        // Our clock may be the one that is wrong.
        let kept = read_expired(answer.clone(), earlier);
        assert!(is_retry(&kept), "{kept:?}");
        // Without another there is only ours.
        let lost = read_expired(answer, "");
        assert!(matches!(lost, Err(Failure::SplitLost(_))), "{lost:?}");
    }
    // What is still there is taken, and what only a person or time can change waits for them.
    assert_eq!(read_expired(Answer::new(200, &body(&["a"])), later), Ok(()));
    let denied = read_expired(Answer::new(403, ""), later);
    assert!(
        matches!(denied, Err(Failure::Unauthorised(_))),
        "{denied:?}"
    );
    let busy = read_expired(Answer::new(429, ""), later);
    assert!(
        matches!(
            busy,
            Err(Failure::Retry {
                affects: Scope::Tenant,
                ..
            })
        ),
        "{busy:?}"
    );
}

#[test]
fn a_drain_ends_the_call_between_batches() {
    let ids: Vec<String> = (0..9_000).map(|index| format!("id-{index}")).collect();
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    let mut fake = Fake::new();
    fake.output.draining = true;
    let config = config(r#""profile":"raw""#);
    let text = body(&ids);
    let result = fake.call(
        |_, _| Ok(Answer::new(200, &text)),
        |world| read(world, &config, STREAM, &split_at(URI), limits()),
    );
    assert_eq!(result, Err(Failure::Cancelled));
}

#[test]
fn an_event_over_the_limit_is_set_aside() {
    let mut fake = Fake::new();
    let config = config(&format!(r#""attempt":{SALVAGE_FROM}"#));
    let long = record(&"x".repeat(3_000));
    let text = format!("[{},{long}]", record("a"));
    let small = Limits {
        event_bytes: 2_000,
        ..limits()
    };
    let result = fake.call(
        |_, _| Ok(Answer::new(200, &text)),
        |world| read(world, &config, STREAM, &split_at(URI), small),
    );
    assert_eq!(result, Ok(()));
    assert_eq!(
        (fake.output.ids().len(), fake.output.rejected.len()),
        (2, 1)
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// However a blob arrives: each event once, in order, in batches within the limits.
    #[test]
    fn batches_keep_every_event(
        count in 0_usize..400,
        piece in 1_usize..5_000,
        batch_bytes in 200_u32..20_000,
        batch_events in 1_u32..50,
    ) {
        let ids: Vec<String> = (0..count).map(|index| format!("id-{index}")).collect();
        let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
        let text = body(&ids);
        let mut answer = Answer::new(200, "");
        answer.body = text.as_bytes().chunks(piece).map(|piece| Ok(piece.to_vec())).collect();
        let mut fake = Fake::new();
        let config = config(r#""profile":"raw""#);
        let limits = Limits { batch_bytes, batch_events, ..limits() };
        let result = fake.call(
            |_, _| Ok(answer.clone()),
            |world| read(world, &config, STREAM, &split_at(URI), limits),
        );
        prop_assert_eq!(result, Ok(()));
        prop_assert_eq!(fake.output.ids(), ids);
        for batch in &fake.output.batches {
            let single = batch.entries.len() == 1;
            prop_assert!(single || batch.bytes.len() <= batch_bytes as usize);
            prop_assert!(batch.entries.len() <= batch_events as usize);
        }
    }
}
