//! What happens to an entry between two starts, and what becomes of it then.

use std::os::unix::fs::{PermissionsExt as _, symlink};

use tempfile::TempDir;
use wasmtime::Config;

use super::*;
use crate::sandbox::Sandbox;

/// The smallest component.
const EMPTY: &[u8] = b"\0asm\x0d\0\x01\0";

/// A cache with one entry.
struct Case {
    sandbox: Sandbox,
    folder: TempDir,
    code: Vec<u8>,
}

impl Case {
    fn new() -> Self {
        let sandbox = Sandbox::without_ticks().unwrap();
        let code = sandbox.engine().precompile_component(EMPTY).unwrap();
        let folder = TempDir::new().unwrap();
        let case = Self {
            sandbox,
            folder,
            code,
        };
        case.cache().store(case.sandbox.engine(), "one", &case.code);
        case
    }

    fn cache(&self) -> Cache {
        Cache::within(&self.folder.path().join("sluicegate")).unwrap()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join("sluicegate").join(name)
    }

    fn entry(&self) -> PathBuf {
        self.path(&entry(self.sandbox.engine(), "one"))
    }

    /// What a start makes of the entry: whether it loads, or why not.
    fn found(&self) -> Result<bool, String> {
        let (engine, path) = (self.sandbox.engine(), self.entry());
        let name = entry(engine, "one");
        let found = self.cache().try_load(engine, &name, &path);
        found
            .map(|component| component.is_some())
            .map_err(|doubt| doubt.to_string())
    }

    #[track_caller]
    fn doubted(&self, why: &str) {
        let doubt = self.found().unwrap_err();
        assert!(doubt.contains(why), "{doubt}");
        // It is gone then, so that it is compiled and kept again.
        let loaded = self.cache().load(self.sandbox.engine(), "mine", "one");
        assert!(loaded.is_none());
        assert_eq!(self.found(), Ok(false));
        self.cache().store(self.sandbox.engine(), "one", &self.code);
        assert_eq!(self.found(), Ok(true));
    }

    fn allow(&self, path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }
}

#[test]
fn what_was_kept_is_loaded() {
    let case = Case::new();
    assert_eq!(case.found(), Ok(true));
    let key = fs::metadata(case.path(seal::KEY)).unwrap();
    assert_eq!((key.mode() & 0o777, key.len()), (0o600, 32));
    assert_eq!(fs::metadata(case.entry()).unwrap().mode() & 0o777, 0o600);
}

#[test]
fn a_flipped_bit_anywhere_is_seen() {
    let case = Case::new();
    let whole = fs::read(case.entry()).unwrap();
    for at in [0, 40, whole.len() / 2, whole.len() - 33, whole.len() - 1] {
        let mut bytes = whole.clone();
        bytes[at] ^= 1;
        fs::write(case.entry(), bytes).unwrap();
        case.doubted("changed after it was written");
    }
}

#[test]
fn what_is_cut_or_longer_is_seen() {
    let case = Case::new();
    let whole = fs::read(case.entry()).unwrap();
    for bytes in [&whole[..0], &whole[..31], &whole[..whole.len() - 1]] {
        fs::write(case.entry(), bytes).unwrap();
        case.doubted("changed after it was written");
    }
    fs::write(case.entry(), [whole, vec![0]].concat()).unwrap();
    case.doubted("changed after it was written");
    let huge = File::create(case.entry()).unwrap();
    huge.set_len(CODE_BYTES + 33).unwrap();
    case.doubted("has more than");
}

#[test]
fn code_of_one_component_is_not_taken_for_another() {
    let case = Case::new();
    let cache = case.cache();
    cache.store(case.sandbox.engine(), "two", &case.code);
    let two = case.path(&entry(case.sandbox.engine(), "two"));
    fs::rename(two, case.entry()).unwrap();
    case.doubted("changed after it was written");
}

#[test]
fn without_the_key_nothing_is_loaded() {
    let case = Case::new();
    fs::remove_file(case.path(seal::KEY)).unwrap();
    case.doubted("sealed with another key");
}

#[test]
fn a_key_that_others_may_know_is_replaced() {
    let case = Case::new();
    let key = case.path(seal::KEY);
    let before = fs::read(&key).unwrap();
    case.allow(&key, 0o640);
    case.doubted("sealed with another key");
    assert_ne!(fs::read(&key).unwrap(), before);
    assert_eq!(fs::metadata(&key).unwrap().mode() & 0o777, 0o600);

    fs::write(&key, b"short").unwrap();
    case.doubted("sealed with another key");
    let elsewhere = case.folder.path().join("elsewhere");
    fs::write(&elsewhere, [7; 32]).unwrap();
    fs::remove_file(&key).unwrap();
    symlink(&elsewhere, &key).unwrap();
    case.doubted("sealed with another key");
    assert!(fs::symlink_metadata(&key).unwrap().is_file());
}

#[test]
fn code_of_another_version_does_not_load_even_with_our_seal() {
    let case = Case::new();
    let mut config = Config::new();
    config.epoch_interruption(false);
    let other = Engine::new(&config).unwrap();
    let code = other.precompile_component(EMPTY).unwrap();
    case.cache().store(case.sandbox.engine(), "one", &code);
    case.doubted("does not load");
    // And stands under a name of its own.
    assert_ne!(entry(&other, "one"), entry(case.sandbox.engine(), "one"));
}

#[test]
fn what_others_can_write_is_not_used() {
    let case = Case::new();
    case.allow(&case.entry(), 0o666);
    case.doubted("is not a file of this user alone");
    let elsewhere = case.folder.path().join("elsewhere");
    fs::rename(case.entry(), &elsewhere).unwrap();
    symlink(&elsewhere, case.entry()).unwrap();
    case.doubted("cannot be read");
    let folder = case.path("");
    case.allow(&folder, 0o777);
    let refused = Cache::within(&folder).err().unwrap().to_string();
    assert!(
        refused.contains("not a folder of this user alone"),
        "{refused}"
    );
}

#[test]
fn of_many_that_start_at_once_all_have_the_same_key() {
    let folder = TempDir::new().unwrap();
    let folder = folder.path().join("sluicegate");
    let made: Vec<_> = std::thread::scope(|scope| {
        let starts: Vec<_> = (0..16)
            .map(|_| scope.spawn(|| Cache::within(&folder).unwrap().seal.make("one", b"code")))
            .collect();
        starts
            .into_iter()
            .map(|start| start.join().unwrap())
            .collect()
    });
    assert!(made.iter().all(|seal| *seal == made[0]));
}
