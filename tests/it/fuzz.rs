//! Whatever reads bytes of others is fed with damage: known inputs, changed by a seeded hand, a bounded number
//! of times.
//!
//! `SLUICEGATE_CASES=1000000` makes a long run of the same; `SLUICEGATE_SEED=N` begins elsewhere.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::Duration;

use sluicegate::config::Config;
use sluicegate::dead_letter::letter::Letter;
use sluicegate::ledger::sqlite::SqliteLedger;
use sluicegate_fuzz::{address, cursor, error_body, map_record, next_page, plugin_config, split};

use crate::{folder, root};

/// Inputs of each target beside those that are damaged.
const CASES: u64 = 1_500;

/// What numbers, texts and lists are most often read wrongly as.
const PIECES: [&[u8]; 18] = [
    b"null",
    b"-1",
    b"9223372036854775807",
    b"-9223372036854775808",
    b"1e400",
    b"\"\"",
    b"[]",
    b"{}",
    b"\\ud800",
    b"\xff",
    b"\0",
    b"\xef\xbb\xbf",
    b"//evil.example",
    b"@evil",
    b"%2e%2e/",
    b"::ffff:",
    b"\r\n",
    b"\\",
];

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// One of the inputs with a few changes.
fn damaged(inputs: &[Vec<u8>], random: &mut fastrand::Rng) -> Vec<u8> {
    let mut bytes = random.choice(inputs).cloned().unwrap_or_default();
    for _ in 0..random.usize(1..6) {
        let at = random.usize(..=bytes.len());
        let end = (at + random.usize(..30)).min(bytes.len());
        match random.u8(..8) {
            0 if at < bytes.len() => bytes[at] ^= 1 << random.u8(..8),
            1 if at < bytes.len() => bytes[at] = random.u8(..),
            2 => drop(bytes.drain(at..end)),
            3 => drop(bytes.splice(at..at, bytes[at..end].to_vec())),
            4 => drop(bytes.splice(at..end, random.choice(&PIECES).unwrap().to_vec())),
            5 => bytes.truncate(at),
            6 => {
                let other = random.choice(inputs).cloned().unwrap_or_default();
                let from = random.usize(..=other.len());
                drop(bytes.splice(at.., other[from..].to_vec()));
            }
            _ => drop(bytes.splice(at..at, [random.u8(b' '..b'~')])),
        }
    }
    bytes
}

/// Each input as it is and then damaged; a failure says which.
#[track_caller]
fn feed(inputs: &[Vec<u8>], share: u64, check: impl Fn(&[u8])) {
    assert!(!inputs.is_empty(), "there is something to begin with");
    let first = number("SLUICEGATE_SEED").unwrap_or(1);
    let cases = (number("SLUICEGATE_CASES").unwrap_or(CASES) / share).max(1);
    let whole = inputs.iter().cloned().map(|input| (None, input));
    let seeds = first..first.saturating_add(cases);
    let broken = seeds.map(|seed| {
        (
            Some(seed),
            damaged(inputs, &mut fastrand::Rng::with_seed(seed)),
        )
    });
    for (seed, input) in whole.chain(broken) {
        if catch_unwind(AssertUnwindSafe(|| check(&input))).is_err() {
            let shown = String::from_utf8_lossy(&input).into_owned();
            panic!(
                "with {} bytes (SLUICEGATE_SEED={}):\n{shown}",
                input.len(),
                seed.unwrap_or(0)
            );
        }
    }
}

/// Every record of the fixtures that is not too long to be changed often.
fn records() -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    files(&root().join("tests/fixtures/o365"), ".json", &mut found);
    found.retain(|(name, bytes)| {
        !name.contains(".ecs.") && !name.contains(".options.") && bytes.len() < 8_192
    });
    found.into_iter().map(|(_, bytes)| bytes).collect()
}

fn files(folder: &Path, ending: &str, found: &mut Vec<(String, Vec<u8>)>) {
    let mut entries: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            files(&path, ending, found);
        } else if path.to_string_lossy().ends_with(ending) {
            found.push((
                path.to_string_lossy().into_owned(),
                std::fs::read(&path).unwrap(),
            ));
        }
    }
}

fn texts(list: &[&str]) -> Vec<Vec<u8>> {
    list.iter().map(|text| text.as_bytes().to_vec()).collect()
}

#[test]
fn records_become_one_event_or_one_rejection() {
    feed(&records(), 1, map_record::check);
}

#[test]
fn blobs_fall_into_the_same_records_however_they_arrive() {
    let blobs: Vec<Vec<u8>> = records()
        .chunks(2)
        .map(|pair| [b"[", pair.concat().as_slice(), b"]\n"].concat())
        .collect();
    feed(&blobs, 1, split::check);
}

#[test]
fn refusals_are_one_decision_and_one_line() {
    feed(
        &texts(&[
            "120\n{\"error\":{\"code\":\"AF429\",\"message\":\"Too many requests\"}}\x7f",
            "Fri, 31 Dec 9999 23:59:59 GMT\n{\"error\":{\"code\":\"AF20022\",\"message\":\"No subscription\"}}d",
            "-1\n<html><body>Sign in</body></html>\x01",
            "0\n{\"Message\":\"Authorization has been denied for this request.\"}e",
            "\n{\"error\":{\"code\":50000,\"innererror\":{\"code\":\"AF50000\"}}}d",
        ]),
        1,
        error_body::check,
    );
}

#[test]
fn next_pages_lead_to_the_tenants_own_service_or_nowhere() {
    let feed_of = "api/v1.0/11111111-2222-3333-4444-555555555555/activity/feed";
    let page = format!(
        "https://manage.office.com/{feed_of}/subscriptions/content?contentType=Audit.General"
    );
    feed(
        &texts(&[
            &format!("{page}&nextPage=2026011008000000&startTime=2026-01-10T00:00"),
            &format!("{page}\n{page}"),
            &format!("https://manage.office.com:443/{feed_of}/audit/2026$audit_general$x"),
            &format!("/{feed_of}/audit/1"),
            "https://manage.office.com@evil.example/",
            "//evil.example/api",
            "https://manage.office.com.evil.example:444/?nextPage=1",
            "http://[::ffff:127.0.0.1]/\\..\\#",
        ]),
        1,
        next_page::check,
    );
}

#[test]
fn a_plugins_config_is_one_or_has_findings() {
    feed(
        &texts(&[
            r#"{"content_types":["Audit.General","DLP.All"],"interval":"1m","lookback":"7d","relist":["1h","24h"]}"#,
            r#"{"settle":"10m","window":"6h","since":"2026-01-01T00:00:00Z","until":"2026-01-02T00:00:00Z"}"#,
            r#"{"tenant":{"id":"t","directory_id":"11111111-2222-3333-4444-555555555555",
                "resource_url":"https://manage.office.com"},"publisher_id":"x","attempt":3,"unsubscribe":true}"#,
        ]),
        1,
        plugin_config::check,
    );
}

#[test]
fn a_stored_cursor_is_one_or_is_refused() {
    feed(
        &texts(&[
            r#"{"next":1768003200000,"windows":[],"watermark":1768003200000}"#,
            r#"{"next":1768003200000,"windows":[{"s":1767999600000,"e":1768003200000,"l":1768003800000}],
                "watermark":1767999600000,"skew":-3,"begun":true,"subscribed":{"c":1,"t":"a","a":2,"d":3,"u":4}}"#,
            r#"{"next":0,"windows":[{"s":-9223372036854775808,"e":0,"h":9223372036854775807}],"watermark":0}"#,
        ]),
        1,
        cursor::check,
    );
}

#[test]
fn addresses_of_clients_are_addresses_or_none() {
    feed(
        &texts(&[
            "0192.0.2.1:5678",
            "1[2001:db8::1]:443",
            "2::ffff:192.0.2.1",
            "0fe80::1%eth0",
            "1<null>",
            "2example.com",
            "0192.0.2.1, 198.51.100.2",
            "12001:db8::1",
            "2192.0.2.300",
        ]),
        1,
        address::check,
    );
}

#[test]
fn a_pipeline_file_is_one_or_has_errors_with_a_place() {
    let mut found = Vec::new();
    files(&root().join("pipelines"), ".yaml", &mut found);
    files(&root().join("tests/fixtures/config"), ".yaml", &mut found);
    let inputs: Vec<Vec<u8>> = found
        .into_iter()
        .map(|(_, bytes)| bytes)
        .filter(|bytes| bytes.len() < 4_096)
        .collect();
    feed(&inputs, 3, |bytes| {
        let text = String::from_utf8_lossy(bytes);
        if let Err(errors) = Config::parse(Path::new("fuzz.yaml"), &text, None) {
            assert!(!errors.is_empty(), "a refusal says why");
            for error in errors {
                assert!(!error.what.is_empty());
                assert!(!error.what.contains('\u{1b}'), "{}", error.what);
            }
        }
    });
}

#[test]
fn a_line_of_the_dead_letters_is_a_letter_or_none() {
    feed(
        &texts(&[
            r#"{"time":"2026-01-10T08:41:07Z","tenant":"t","stream":"s","split":"1","by":"source","reason":"no",
                "identity":"00112233445566778899aabbccddeeff","encoding":"text","body":"not JSON"}"#,
            r#"{"time":"2026-01-10T08:41:07Z","tenant":"t","stream":"s","by":"elasticsearch","reason":"400",
                "identity":"00112233445566778899aabbccddeeff","event":{"id":"1","fingerprint":1,"time_ms":-1},
                "encoding":"json","body":{"a":1}}"#,
            r#"{"time":"x","tenant":"t","stream":"s","by":"y","reason":"","identity":"",
                "encoding":"base64","body":"AA=="}"#,
        ]),
        1,
        |line| {
            if let Some(letter) = Letter::read(line) {
                assert_eq!(
                    letter.event().body,
                    letter.refused.body,
                    "what was kept is what is sent again"
                );
            }
        },
    );
}

#[test]
fn a_damaged_ledger_is_opened_or_set_aside_by_the_second_start() {
    let kept = folder();
    drop(SqliteLedger::open(kept.path(), Duration::from_secs(60)).unwrap());
    let mut found = Vec::new();
    files(kept.path(), "", &mut found);
    let (name, whole) = found
        .into_iter()
        .max_by_key(|(_, bytes)| bytes.len())
        .unwrap();
    let name = Path::new(&name).file_name().unwrap().to_owned();
    // A start writes and syncs, so these are few.
    feed(&[whole], 50, |bytes| {
        let damaged = folder();
        std::fs::write(damaged.path().join(&name), bytes).unwrap();
        // Damage that is met later than at once is set aside by the next start.
        let open = || SqliteLedger::open(damaged.path(), Duration::from_secs(60));
        open().or_else(|_| open()).unwrap();
    });
}
