//! Compiled machine code, kept between starts.
//!
//! Loading machine code is running it, so only files in a folder that belongs to us alone are loaded, under names that
//! nobody else can make: the hash of the component and of everything the compiler depends on. Anything odd about
//! the folder or a file means compiling again, never failing.

use std::fs;
use std::hash::{Hash as _, Hasher as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use wasmtime::Engine;
use wasmtime::component::Component;

/// Compiles a component, or loads what an earlier start compiled.
pub(super) fn compile(engine: &Engine, digest: &str, bytes: &[u8]) -> Result<Component, String> {
    super::shape::check(bytes)?;
    let path = folder().map(|folder| folder.join(file_name(engine, digest)));
    if let Some(component) = path.as_deref().and_then(|path| load(engine, path)) {
        return Ok(component);
    }
    let component = Component::from_binary(engine, bytes).map_err(|error| format!("{error:#}"))?;
    if let Some(path) = path
        && let Err(error) = store(&component, &path)
    {
        tracing::debug!(%error, path = %path.display(), "cannot cache compiled code");
    }
    Ok(component)
}

fn file_name(engine: &Engine, digest: &str) -> String {
    let mut hasher = std::hash::DefaultHasher::new();
    engine.precompile_compatibility_hash().hash(&mut hasher);
    format!("{digest}-{:016x}.cwasm", hasher.finish())
}

/// The cache folder, if there can be one that is ours alone.
fn folder() -> Option<PathBuf> {
    let base = match std::env::var_os("XDG_CACHE_HOME") {
        Some(base) => PathBuf::from(base),
        None => PathBuf::from(std::env::var_os("HOME")?).join(".cache"),
    };
    let folder = base.join("sluicegate");
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&folder)
        .ok()?;
    ours(&folder).then_some(folder)
}

/// Whether a path belongs to this process's user and nobody else can write to it.
fn ours(path: &Path) -> bool {
    // The owner of our own process's entry is the effective user; no need for unsafe calls.
    let Ok(process) = fs::metadata("/proc/self") else {
        return false;
    };
    fs::symlink_metadata(path).is_ok_and(|found| {
        !found.file_type().is_symlink() && found.uid() == process.uid() && found.mode() & 0o022 == 0
    })
}

fn load(engine: &Engine, path: &Path) -> Option<Component> {
    if !ours(path) {
        return None;
    }
    // SAFETY: the file stands in a folder and under a name that only this user can write (`ours`), and was
    // written by `store` below, whole or not at all.
    #[allow(
        unsafe_code,
        reason = "loading machine code cannot be checked by the compiler"
    )]
    let loaded = unsafe { Component::deserialize_file(engine, path) };
    loaded
        .inspect_err(|error| tracing::debug!(%error, "compiled code does not load; compiling"))
        .ok()
}

/// Writes beside and renames, so that a crash leaves no half file under the name.
fn store(component: &Component, path: &Path) -> std::io::Result<()> {
    let code = component.serialize().map_err(std::io::Error::other)?;
    let beside = path.with_extension(format!("{}.tmp", std::process::id()));
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&beside)?;
    std::io::Write::write_all(&mut file, &code)?;
    file.sync_all()?;
    fs::rename(&beside, path)
}
