//! A short turn of the kill rig with each of its troubles; `kill-rig` runs it for as long as one likes.

use sluicegate_tests::rig::{Campaign, Report, Rig, Trouble};

fn survives(seed: u64, trouble: Trouble) -> Option<Report> {
    let rig = Rig {
        program: crate::program().to_owned(),
        cache: crate::cache().to_owned(),
    };
    let seed = std::env::var("SLUICEGATE_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok())
        .unwrap_or(seed);
    let campaign = Campaign {
        seed,
        kills: 8,
        blobs: 700,
        faults: true,
        trouble,
    };
    match rig.run(&campaign) {
        Ok(report) => {
            assert!(report.is_clean(), "{campaign:?}: {report:#?}");
            assert!(report.kills > 0, "{campaign:?}: {report:#?}");
            Some(report)
        }
        Err(why) => {
            println!("skipped: {why}");
            None
        }
    }
}

#[test]
fn kills_freezes_and_stops_lose_and_double_nothing() {
    let _ = survives(71, Trouble::None);
}

#[test]
fn a_full_disk_holds_back_and_loses_nothing() {
    if let Some(report) = survives(72, Trouble::FullDisk) {
        assert!(report.full_disks > 0, "it was never full: {report:#?}");
    }
}

#[test]
fn nor_does_a_damaged_state_between_kills() {
    let _ = survives(73, Trouble::DamagedState);
}

#[test]
fn nor_does_an_older_state_between_kills() {
    let _ = survives(74, Trouble::OlderState);
}
