//! The key of a cache folder, and the seals made with it.
//!
//! The key is made at the first use and is readable by this user alone. One that others may have seen, or of another
//! length, is replaced: then every entry is compiled again.

use std::fs::Permissions;
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;

use ring::hmac;
use ring::rand::{SecureRandom as _, SystemRandom};

use super::{Doubt, read_ours};

/// The file of the key.
pub(super) const KEY: &str = "key";

const KEY_BYTES: usize = 32;

/// Bytes of a seal, which stands behind what it seals.
pub(super) const BYTES: usize = 32;

/// What a seal of ours is for, so that the key is good for nothing else.
const PURPOSE: &[u8] = b"sluicegate compiled plugin 1\0";

/// What seals with a folder's key.
pub(super) struct Seal(hmac::Key);

impl Seal {
    /// The seal of a folder; its key is made when there is none.
    pub fn of(folder: &Path) -> Result<Self, Doubt> {
        let path = folder.join(KEY);
        let key = match read_key(&path) {
            Ok(Some(key)) => key,
            Ok(None) => make_key(folder, false)?,
            Err(doubt) => {
                doubt.alarm();
                make_key(folder, true)?
            }
        };
        Ok(Self(hmac::Key::new(hmac::HMAC_SHA256, &key)))
    }

    /// The seal of an entry.
    pub fn make(&self, name: &str, code: &[u8]) -> [u8; BYTES] {
        let mut context = hmac::Context::with_key(&self.0);
        context.update(&self.bound(name));
        context.update(code);
        let mut seal = [0; BYTES];
        seal.copy_from_slice(context.sign().as_ref());
        seal
    }

    /// What an entry holds, when its seal is right.
    pub fn open<'e>(&self, name: &str, sealed: &'e [u8]) -> Option<&'e [u8]> {
        let (code, seal) = sealed.split_last_chunk::<BYTES>()?;
        let made = self.make(name, code);
        // In the same time whatever differs: both are hashed with the key once more.
        let tag = hmac::sign(&self.0, &made);
        hmac::verify(&self.0, seal, tag.as_ref())
            .is_ok()
            .then_some(code)
    }

    /// Code under another name is other code, so the name is sealed as well.
    fn bound(&self, name: &str) -> Vec<u8> {
        [PURPOSE, name.as_bytes(), b"\0"].concat()
    }
}

fn read_key(path: &Path) -> Result<Option<[u8; KEY_BYTES]>, Doubt> {
    let Some((bytes, found)) = read_ours(path, KEY_BYTES as u64)? else {
        return Ok(None);
    };
    if found.mode() & 0o077 != 0 {
        return Err(Doubt::new(path, "can be read by others"));
    }
    let length = bytes.len();
    let key = <[u8; KEY_BYTES]>::try_from(bytes);
    key.map(Some)
        .map_err(|_| Doubt::new(path, format!("has {length} bytes instead of {KEY_BYTES}")))
}

/// Makes the key. Of several that start at once one makes it and the others take it over.
fn make_key(folder: &Path, replace: bool) -> Result<[u8; KEY_BYTES], Doubt> {
    let path = folder.join(KEY);
    let cannot = |error: std::io::Error| Doubt::new(&path, format!("cannot be made: {error}"));
    let mut key = [0; KEY_BYTES];
    SystemRandom::new()
        .fill(&mut key)
        .map_err(|_| Doubt::new(&path, "cannot be made: there are no random numbers"))?;
    let mut beside = tempfile::Builder::new()
        .permissions(Permissions::from_mode(0o600))
        .tempfile_in(folder)
        .map_err(cannot)?;
    beside.write_all(&key).map_err(cannot)?;
    beside.as_file().sync_all().map_err(cannot)?;
    if replace {
        beside.persist(&path).map_err(|error| cannot(error.error))?;
        return Ok(key);
    }
    match beside.persist_noclobber(&path) {
        Ok(_) => Ok(key),
        Err(error) if error.error.kind() == std::io::ErrorKind::AlreadyExists => {
            read_key(&path)?.ok_or_else(|| Doubt::new(&path, "comes and goes"))
        }
        Err(error) => Err(cannot(error.error)),
    }
}
