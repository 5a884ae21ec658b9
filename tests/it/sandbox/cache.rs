//! Compiled code that was tampered with between two starts: it is compiled again, loudly, and never run.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::PathBuf;

use sluicegate_tests::{Ended, Sluicegate};
use tempfile::TempDir;

use crate::{folder, guest, program};

const ALARM: &str = "in the cache of compiled plugins";

/// A cache of its own, in which one plugin has been compiled.
struct Case {
    folder: TempDir,
}

impl Case {
    fn new() -> Self {
        let case = Self { folder: folder() };
        let first = case.start();
        assert!(!first.stderr.contains(ALARM), "{}", first.stderr);
        case
    }

    fn start(&self) -> Ended {
        let folder = self.folder.path();
        let command = Sluicegate::new(program(), folder, folder);
        command.args("inspect").arg(guest("calm")).run().expect(0)
    }

    fn file(&self, end: &str) -> PathBuf {
        let kept = std::fs::read_dir(self.folder.path().join("sluicegate")).unwrap();
        let mut paths = kept.map(|entry| entry.unwrap().path());
        let found = paths.find(|path| path.to_string_lossy().ends_with(end));
        found.expect("the plugin and the key are kept")
    }

    /// Which file stands there: one that is written anew is another.
    fn inode(&self) -> u64 {
        std::fs::metadata(self.file(".sealed")).unwrap().ino()
    }

    /// The next start says why and compiles again; the one after it is as if nothing had happened.
    #[track_caller]
    fn compiles_again(&self, why: &str) {
        // Kept open, so that no other file gets its number.
        let before = std::fs::File::open(self.file(".sealed")).unwrap();
        let loud = self.start();
        loud.says(&[ALARM, why, "plugin", "is compiled again"]);
        assert!(loud.stderr.contains("WARN"), "{}", loud.stderr);
        assert_ne!(self.inode(), before.metadata().unwrap().ino());
        self.loads();
    }

    #[track_caller]
    fn loads(&self) {
        let before = self.inode();
        let quiet = self.start();
        assert!(!quiet.stderr.contains(ALARM), "{}", quiet.stderr);
        assert_eq!(self.inode(), before);
    }
}

#[test]
fn what_was_compiled_is_not_compiled_again() {
    let case = Case::new();
    case.loads();
    let mode = |end: &str| std::fs::metadata(case.file(end)).unwrap().mode() & 0o777;
    assert_eq!((mode("key"), mode(".sealed")), (0o600, 0o600));
}

#[test]
fn a_flipped_byte_is_seen() {
    let case = Case::new();
    let path = case.file(".sealed");
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x10;
    std::fs::write(&path, bytes).unwrap();
    case.compiles_again("changed after it was written");
}

#[test]
fn machine_code_from_elsewhere_is_not_run() {
    let (case, other) = (Case::new(), Case::new());
    // The same plugin, sealed with the key of another folder.
    std::fs::copy(other.file(".sealed"), case.file(".sealed")).unwrap();
    case.compiles_again("sealed with another key");
    std::fs::write(case.file(".sealed"), b"\x7fELF of another version").unwrap();
    case.compiles_again("changed after it was written");
}

#[test]
fn without_its_key_nothing_of_a_cache_is_used() {
    let case = Case::new();
    std::fs::remove_file(case.file("key")).unwrap();
    case.compiles_again("sealed with another key");
    let key = case.file("key");
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).unwrap();
    case.compiles_again("can be read by others");
}
