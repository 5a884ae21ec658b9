//! Any bytes as a record, under any options: one event that is one line of JSON, or one rejection.

use serde::de::IgnoredAny;
use sluicegate_ecs::{BeatMode, BeatNameValues, ErrorMode, Mapper, Options, Profile};

/// See the head of the file.
pub fn check(data: &[u8]) {
    // The options stand behind the record, so that a file with a record is a good seed.
    let Some((choice, record)) = data.split_last() else {
        return;
    };
    let mut mapper = Mapper::new(options(*choice));
    mapper.set_arrival_ms(1_768_034_467_000);
    let mut first = b"before".to_vec();
    let outcome = mapper.map(record, &mut first);
    let id = mapper.id().to_owned();
    let event = first
        .strip_prefix(b"before")
        .expect("what was there before stays");
    match &outcome {
        Ok(_) => {
            assert!(
                event.starts_with(b"{") && event.ends_with(b"}"),
                "one object"
            );
            assert!(!event.contains(&b'\n') && !event.contains(&0), "one line");
            serde_json::from_slice::<IgnoredAny>(event).expect("JSON");
            std::str::from_utf8(event).expect("UTF-8");
            assert!(!id.is_empty() && id.len() <= 512, "an id that can be used");
        }
        Err(rejected) => {
            assert!(event.is_empty(), "a rejection leaves nothing behind");
            assert!(!rejected.reason.is_empty(), "and says why");
        }
    }
    // What the mapper keeps from one record to the next does not show.
    let mut second = b"before".to_vec();
    assert_eq!(mapper.map(record, &mut second), outcome);
    assert_eq!((mapper.id(), second), (id.as_str(), first));
}

/// Every profile, error mode and switch, by the bits of one byte. A line feed, which ends most
/// files, means the default ones.
fn options(choice: u8) -> Options {
    let choice = choice ^ b'\n';
    let bit = |at: u8| choice >> at & 1 == 1;
    let mut options = Options {
        profile: [
            Profile::Newer,
            Profile::V1_7_1,
            Profile::O365beat,
            Profile::Raw,
        ][usize::from(choice & 3)],
        error_mode: if bit(2) {
            ErrorMode::Reference
        } else {
            ErrorMode::Robust
        },
        preserve_original_event: bit(3),
        tidy: bit(4),
        later_record_types: bit(5),
        string_numbers: bit(6).then_some(bit(7)),
        directory_id: bit(7).then(|| "11111111-2222-3333-4444-555555555555".to_owned()),
        ..Options::default()
    };
    options.o365beat.processed = bit(4);
    options.o365beat.mode = if bit(5) {
        BeatMode::Rename
    } else {
        BeatMode::Copy
    };
    options.o365beat.name_values = [
        BeatNameValues::Text,
        BeatNameValues::Json,
        BeatNameValues::Objects,
        BeatNameValues::Arrays,
    ][usize::from(choice >> 6)];
    options
}
