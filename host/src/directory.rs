//! A directory of small files, looked at again and again: what was added, changed or removed, once it is settled.
//!
//! Plain looking works everywhere: on network file systems, and where Kubernetes swaps what a link leads to. A change
//! counts when two looks in a row agree about it, so a file that is being copied, or that an editor takes away for a
//! moment, is left alone until it is whole.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, ErrorKind, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::secret::plain;

/// A tenant's file has a kilobyte; one that is far larger is something else.
const MOST_BYTES: u64 = 256 << 10;

/// The files of a directory by their names.
pub type Look = BTreeMap<String, File>;

/// A file as it was seen.
#[derive(Clone, Debug)]
pub struct File {
    stamp: Stamp,
    /// Whether it was read again after the stamp was seen first: clocks of file systems tick slowly, and a second
    /// change within a tick leaves the stamp as it is.
    confirmed: bool,
    /// What it holds.
    pub content: Arc<Content>,
}

/// What a file holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// Text.
    Text(String),
    /// It cannot be read, for this reason.
    Unreadable(String),
    /// Something else than text, in a sentence.
    Odd(String),
}

/// What changes when a file is written or replaced: it saves reading what stays the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    length: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

/// A change that has settled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A file is new, or holds something else.
    Put(String, Arc<Content>),
    /// A file is gone.
    Gone(String),
}

/// Whether a file of this name is meant. Editors and tools name what is not yet, or no longer, a file's content
/// otherwise: `.a.yaml.swp`, `a.yaml~`, `#a.yaml#`, `..data`.
fn is_meant(name: &str) -> bool {
    let end = Path::new(name).extension();
    !name.starts_with(['.', '#']) && end.is_some_and(|end| end == "yaml" || end == "yml")
}

/// Looks at a directory; what has not been touched since `before` is not read again.
pub fn look(folder: &Path, before: &Look) -> Result<Look, String> {
    let mut files = Look::new();
    for entry in fs::read_dir(folder).map_err(|error| plain(&error))? {
        let entry = entry.map_err(|error| plain(&error))?;
        let Ok(name) = entry.file_name().into_string() else {
            continue;
        };
        if is_meant(&name)
            && let Some(file) = see(&entry.path(), before.get(&name))
        {
            files.insert(name, file);
        }
    }
    Ok(files)
}

/// One file; `None` when it is gone by now, or no file.
fn see(path: &Path, before: Option<&File>) -> Option<File> {
    // Follows links: what counts is where they lead now.
    let found = match fs::metadata(path) {
        Ok(found) => found,
        Err(error) if error.kind() == ErrorKind::NotFound => return None,
        Err(error) => return Some(unreadable(Stamp::default(), &error)),
    };
    if !found.is_file() {
        return None;
    }
    let stamp = Stamp::of(&found);
    let known = before.filter(|before| before.stamp == stamp);
    if let Some(known) = known.filter(|known| known.confirmed) {
        return Some(known.clone());
    }
    match read(path, stamp.length) {
        Ok(content) => Some(File {
            stamp,
            confirmed: known.is_some(),
            content: Arc::new(content),
        }),
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        Err(error) => Some(unreadable(stamp, &error)),
    }
}

fn read(path: &Path, length: u64) -> io::Result<Content> {
    if length > MOST_BYTES {
        let what = format!("the file has {length} bytes; a tenant's has at most {MOST_BYTES}");
        return Ok(Content::Odd(what));
    }
    let mut bytes = Vec::new();
    // It may have grown since.
    fs::File::open(path)?
        .take(MOST_BYTES)
        .read_to_end(&mut bytes)?;
    Ok(match String::from_utf8(bytes) {
        Ok(text) => Content::Text(text),
        Err(_) => Content::Odd("the file is not UTF-8 text".into()),
    })
}

fn unreadable(stamp: Stamp, error: &io::Error) -> File {
    File {
        stamp,
        // Permissions of a folder on the way may change and leave no trace on the file.
        confirmed: false,
        content: Arc::new(Content::Unreadable(plain(error))),
    }
}

impl Stamp {
    fn of(found: &fs::Metadata) -> Self {
        Self {
            device: found.dev(),
            inode: found.ino(),
            length: found.len(),
            modified: (found.mtime(), found.mtime_nsec()),
            changed: (found.ctime(), found.ctime_nsec()),
        }
    }
}

/// A directory under watch.
pub struct Watch {
    folder: PathBuf,
    /// What was reported last of each file.
    reported: BTreeMap<String, Arc<Content>>,
    before: Look,
}

impl Watch {
    /// A watch that reports what differs from this look.
    pub fn new(folder: &Path, since: &Look) -> Self {
        let content = |(name, file): (&String, &File)| (name.clone(), file.content.clone());
        Self {
            folder: folder.to_owned(),
            reported: since.iter().map(content).collect(),
            before: since.clone(),
        }
    }

    /// Looks once more. A directory that cannot be read has not changed.
    pub fn look(&mut self) -> Result<Vec<Change>, String> {
        let now = look(&self.folder, &self.before)?;
        let changes = settled(&self.reported, &self.before, &now);
        for change in &changes {
            match change {
                Change::Put(name, content) => {
                    self.reported.insert(name.clone(), content.clone());
                }
                Change::Gone(name) => {
                    self.reported.remove(name);
                }
            }
        }
        self.before = now;
        Ok(changes)
    }
}

/// What differs from what was reported, as far as two looks agree about it.
fn settled(reported: &BTreeMap<String, Arc<Content>>, before: &Look, now: &Look) -> Vec<Change> {
    let put = now.iter().filter_map(|(name, file)| {
        let lasts = before.get(name).is_some_and(|b| b.content == file.content);
        let news = reported.get(name) != Some(&file.content);
        (lasts && news).then(|| Change::Put(name.clone(), file.content.clone()))
    });
    let gone = reported
        .keys()
        .filter(|name| !before.contains_key(*name) && !now.contains_key(*name))
        .map(|name| Change::Gone(name.clone()));
    put.chain(gone).collect()
}

#[cfg(test)]
mod tests;
