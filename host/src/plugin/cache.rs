//! Compiled machine code, kept between starts.
//!
//! Loading machine code is running it. So an entry is loaded only when its seal is right: a keyed hash over its name
//! (the component's own hash, and everything that the compiler depends on) and its bytes, with a key that only this
//! user can read. What is checked is what is loaded: the bytes are read once. Anything odd about the folder, the key
//! or an entry means compiling again, never failing; what somebody else may have done is said aloud.

mod seal;

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::hash::{Hash as _, Hasher as _};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use wasmtime::Engine;
use wasmtime::component::Component;

use crate::sandbox::compiler::CODE_BYTES;
use seal::Seal;

/// How the names of entries end; what older versions left under another name is not looked at.
const SUFFIX: &str = "sealed";

/// The folder that compiled code is kept in.
pub(super) struct Cache {
    folder: PathBuf,
    seal: Seal,
}

impl Cache {
    /// This user's cache, if there can be one that nobody else writes to.
    pub fn open() -> Option<Self> {
        let base = match std::env::var_os("XDG_CACHE_HOME") {
            Some(base) => PathBuf::from(base),
            None => PathBuf::from(std::env::var_os("HOME")?).join(".cache"),
        };
        Self::within(&base.join("sluicegate"))
            .inspect_err(|why| tracing::debug!(%why, "compiled plugins are not kept"))
            .ok()
    }

    fn within(folder: &Path) -> Result<Self, Doubt> {
        let made = fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder);
        made.map_err(|error| Doubt::new(folder, format!("cannot be made: {error}")))?;
        let found = fs::symlink_metadata(folder)
            .map_err(|error| Doubt::new(folder, format!("cannot be looked at: {error}")))?;
        if !found.is_dir() || !ours(&found) {
            return Err(Doubt::new(folder, "is not a folder of this user alone"));
        }
        let seal = Seal::of(folder)?;
        let folder = folder.to_owned();
        Ok(Self { folder, seal })
    }

    /// The compiled code of a component, if it was kept and is as it was written.
    pub fn load(&self, engine: &Engine, plugin: &str, digest: &str) -> Option<Component> {
        let name = entry(engine, digest);
        let path = self.folder.join(&name);
        match self.try_load(engine, &name, &path) {
            Ok(found) => found,
            Err(doubt) => {
                doubt.alarm();
                tracing::warn!(%plugin, "plugin `{plugin}` is compiled again");
                // Nobody is to stumble over it twice; where that fails, the next start says so again.
                let _ = fs::remove_file(&path);
                None
            }
        }
    }

    fn try_load(
        &self,
        engine: &Engine,
        name: &str,
        path: &Path,
    ) -> Result<Option<Component>, Doubt> {
        let Some((sealed, _)) = read_ours(path, CODE_BYTES + seal::BYTES as u64)? else {
            return Ok(None);
        };
        let Some(code) = self.seal.open(name, &sealed) else {
            let why = "was changed after it was written, or sealed with another key";
            return Err(Doubt::new(path, why));
        };
        machine_code(engine, code)
            .map(Some)
            .map_err(|error| Doubt::new(path, format!("does not load: {error:#}")))
    }

    /// Keeps compiled code for the next start.
    pub fn store(&self, engine: &Engine, digest: &str, code: &[u8]) {
        let name = entry(engine, digest);
        if let Err(error) = self.try_store(&name, code) {
            let path = self.folder.join(name);
            tracing::debug!(%error, path = %path.display(), "cannot keep compiled code");
        }
    }

    fn try_store(&self, name: &str, code: &[u8]) -> io::Result<()> {
        let seal = self.seal.make(name, code);
        let mut beside = tempfile::NamedTempFile::new_in(&self.folder)?;
        beside.write_all(code)?;
        beside.write_all(&seal)?;
        beside.as_file().sync_all()?;
        // Beside and renamed, so that a crash leaves no half file under the name.
        beside.persist(self.folder.join(name))?;
        Ok(())
    }
}

/// The code as a component of this engine. It has to be what the compiler made: no check sees through it.
pub(super) fn machine_code(engine: &Engine, code: &[u8]) -> wasmtime::Result<Component> {
    // SAFETY: the bytes come from our own compiler just now, or from an entry whose seal only this user can make.
    #[allow(
        unsafe_code,
        reason = "loading machine code cannot be checked by the compiler"
    )]
    unsafe {
        Component::deserialize(engine, code)
    }
}

fn entry(engine: &Engine, digest: &str) -> String {
    let mut hasher = std::hash::DefaultHasher::new();
    engine.precompile_compatibility_hash().hash(&mut hasher);
    format!("{digest}-{:016x}.{SUFFIX}", hasher.finish())
}

/// Whether something belongs to this process's user and nobody else can write to it.
fn ours(found: &fs::Metadata) -> bool {
    found.uid() == rustix::process::geteuid().as_raw() && found.mode() & 0o022 == 0
}

/// The bytes of a file of ours, read once, and what it is; none where there is no such file.
fn read_ours(path: &Path, most: u64) -> Result<Option<(Vec<u8>, fs::Metadata)>, Doubt> {
    let cannot = |error: io::Error| Doubt::new(path, format!("cannot be read: {error}"));
    let opened = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(path);
    let file: File = match opened {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened.map_err(cannot)?,
    };
    let found = file.metadata().map_err(cannot)?;
    if !found.is_file() || !ours(&found) {
        return Err(Doubt::new(path, "is not a file of this user alone"));
    }
    let length = usize::try_from(found.len().min(most)).unwrap_or(0);
    let mut bytes = Vec::with_capacity(length + 1);
    file.take(most + 1)
        .read_to_end(&mut bytes)
        .map_err(cannot)?;
    if bytes.len() as u64 > most {
        return Err(Doubt::new(path, format!("has more than {most} bytes")));
    }
    Ok(Some((bytes, found)))
}

/// Why something in the cache is not used.
#[derive(Debug)]
struct Doubt {
    path: PathBuf,
    why: String,
}

impl Doubt {
    fn new(path: &Path, why: impl Into<String>) -> Self {
        let (path, why) = (path.to_owned(), why.into());
        Self { path, why }
    }

    fn alarm(&self) {
        tracing::warn!(alarm = "code_cache", "{self}, so it is not used");
    }
}

impl fmt::Display for Doubt {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, why } = self;
        write!(
            formatter,
            "`{}` in the cache of compiled plugins {why}",
            path.display()
        )
    }
}

#[cfg(test)]
mod tests;
