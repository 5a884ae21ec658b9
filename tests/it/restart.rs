//! The real command, killed at random moments, loses nothing and leaves no event twice in its file.
//!
//! The moments come from a seed that a failure prints; `SLUICEGATE_SEED` sets it.

use std::time::Duration;

use sluicegate_office::{Builder, Fault, Faults, Office};
use sluicegate_tests::{Delivered, Pipeline, Simulated};

use crate::api::FREE;
use crate::{folder, sluicegate};

/// How often the command is killed while it works, at most.
const KILLS: u32 = 12;

/// And at least: a fast machine may come to the end between kills.
const FEWEST_KILLS: u32 = 8;

/// From the start of a run to its kill, at most: some die before their first request, most in the middle.
const LONGEST_MS: u64 = 2_500;

/// Of every answer: a run takes much longer than it lives.
const LATENCY: Duration = Duration::from_millis(15);

/// Kills the command again and again, then lets it come to its end, and asks the oracle.
fn killed_again_and_again(builder: Builder, seed: u64) {
    let seed = std::env::var("SLUICEGATE_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok())
        .unwrap_or(seed);
    let mut random = fastrand::Rng::with_seed(seed);
    let office = Simulated::start(builder.latency(LATENCY).page_size(1_000));
    let folder = folder();
    let pipeline =
        Pipeline::o365("killed", &office).limits("requests_per_minute: 1000000, in_flight: 2");
    let file = folder.path().join("killed.ndjson");
    let mut kills = 0;
    let mut grew = 0;
    let mut length = 0;
    while kills < KILLS {
        let running = pipeline
            .give(sluicegate(&folder).args("run --once"))
            .start();
        let size = || std::fs::metadata(&file).map_or(0, |file| file.len());
        let mut ended = running.ends_within(Duration::from_millis(random.u64(50..LONGEST_MS)));
        // Every other time in the middle of the work, however slow the machine is.
        while !ended && kills % 2 == 1 && size() <= length {
            ended = running.ends_within(Duration::from_millis(50));
        }
        if ended {
            let _ = running.end().expect(0);
            break;
        }
        let _ = running.kill();
        kills += 1;
        grew += u32::from(size() > length);
        length = size();
    }
    assert!(
        kills >= FEWEST_KILLS && grew >= 4,
        "seed {seed}: {kills} kills, and only {grew} of the killed runs had written anything"
    );
    let ended = pipeline
        .give(sluicegate(&folder).args("run --once"))
        .run()
        .expect(0);
    let delivered = Delivered::read(&file);
    let verdict = office.judge(&delivered);
    assert!(
        verdict.is_clean() && verdict.owed > 0,
        "seed {seed}: {verdict:?}\n{}",
        ended.stderr
    );
    let repeated = delivered.repeated();
    assert!(
        repeated.is_empty(),
        "seed {seed}: twice in the file: {repeated:?}"
    );
}

#[test]
fn no_event_is_lost_or_doubled_by_kills() {
    killed_again_and_again(Office::builder(21).blobs(2_000).events_per_blob(4), 21);
}

#[test]
fn nor_when_the_service_fails_as_well() {
    let faults = Faults::none()
        .with(Fault::ServerError, 0.05)
        .with(Fault::Truncate, 0.05)
        .with(Fault::TruncateChunked, 0.03)
        .with(Fault::CopyInNext, 0.02)
        .with(Fault::ListedTwice, 0.1);
    let office = Office::builder(22)
        .blobs(2_000)
        .events_per_blob(4)
        .faults(faults);
    killed_again_and_again(office, 22);
}

#[test]
fn a_term_signal_ends_what_is_under_way_and_exits_0() {
    let builder = Office::builder(23).blobs(300).events_per_blob(10);
    let office = Simulated::start(builder.latency(Duration::from_millis(60)));
    let folder = folder();
    let pipeline =
        Pipeline::o365("drained", &office).limits("requests_per_minute: 1000000, in_flight: 4");
    let running = pipeline.give(sluicegate(&folder).args("run")).start();
    let file = folder.path().join("drained.ndjson");
    running.until("it is at work", || {
        !Delivered::so_far(&file).events.is_empty()
    });
    running.signal("TERM");
    let ended = running.end().expect(0);
    ended.says(&["stopping after what is under way"]);
    let before = Delivered::read(&file).events.len();
    let _ = pipeline
        .give(sluicegate(&folder).args("run --once"))
        .run()
        .expect(0);
    let delivered = Delivered::read(&file);
    let verdict = office.judge(&delivered);
    assert!(verdict.is_clean(), "{verdict:?}");
    assert!(
        delivered.events.len() > before,
        "the stop came before the end"
    );
    // What was delivered before the stop was committed before it, too; four requests are five reads.
    assert!(
        office.stats().repeated_downloads <= 5,
        "{:?}",
        office.stats()
    );
}

#[test]
fn a_single_pass_that_is_stopped_says_that_it_is_not_complete() {
    let builder = Office::builder(24).blobs(300).events_per_blob(2);
    let office = Simulated::start(builder.latency(Duration::from_millis(60)));
    let folder = folder();
    let pipeline =
        Pipeline::o365("short", &office).limits("requests_per_minute: 1000000, in_flight: 2");
    let running = pipeline
        .give(sluicegate(&folder).args("run --once"))
        .start();
    running.until("it is at work", || office.stats().fetch_requests > 0);
    running.signal("TERM");
    running
        .end()
        .expect(75)
        .says(&["incomplete: it was stopped"]);
}

#[test]
fn a_stop_within_an_endless_call_is_not_delayed_by_it() {
    let folder = folder();
    let spin = crate::guest("spin");
    let pipeline = Pipeline::plugin("spinning", &spin.to_string_lossy())
        .limits("cpu_timeout: 1h, call_timeout: 1h")
        .sink("stdout: {}")
        .section(FREE);
    let pipeline = Pipeline::give(&pipeline, sluicegate(&folder).args("run"));
    let running = pipeline.start();
    // From here on it computes, and says nothing more.
    let _ = running.api();
    assert!(!running.ends_within(Duration::from_secs(1)));
    running.signal("TERM");
    let _ = running.end().expect(0);
}
