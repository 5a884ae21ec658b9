//! What counts as a change, and what is seen of real files.

use std::os::unix::fs::symlink;

use super::*;

type Texts<'a> = &'a [(&'a str, &'a str)];

fn content(text: &str) -> Arc<Content> {
    Arc::new(Content::Text(text.into()))
}

fn seen(files: Texts<'_>) -> Look {
    let file = |text: &str| File {
        stamp: Stamp::default(),
        confirmed: true,
        content: content(text),
    };
    files
        .iter()
        .map(|(name, text)| ((*name).to_owned(), file(text)))
        .collect()
}

#[track_caller]
fn check(reported: Texts<'_>, before: Texts<'_>, now: Texts<'_>, put: Texts<'_>, gone: &[&str]) {
    let known = reported
        .iter()
        .map(|(name, text)| ((*name).to_owned(), content(text)))
        .collect();
    let put = put
        .iter()
        .map(|(name, text)| Change::Put((*name).to_owned(), content(text)));
    let gone = gone.iter().map(|name| Change::Gone((*name).to_owned()));
    let expected: Vec<_> = put.chain(gone).collect();
    assert_eq!(settled(&known, &seen(before), &seen(now)), expected);
}

#[test]
fn a_change_counts_when_two_looks_agree_about_it() {
    let (one, other) = (&[("a", "1")][..], &[("a", "2")][..]);
    check(&[], &[], &[], &[], &[]);
    check(one, one, one, &[], &[]);
    check(&[], &[], one, &[], &[]);
    check(&[], one, one, one, &[]);
    check(one, one, other, &[], &[]);
    check(one, other, other, other, &[]);
    check(one, other, &[("a", "3")], &[], &[]);
    // There and back again: nothing happened.
    check(one, other, one, &[], &[]);
}

#[test]
fn a_file_is_gone_when_two_looks_miss_it() {
    let one = &[("a", "1")][..];
    check(one, one, &[], &[], &[]);
    check(one, &[], &[], &[], &["a"]);
    check(one, &[], one, &[], &[]);
    // Replaced by an editor that takes it away for a moment.
    check(one, &[], &[("a", "2")], &[], &[]);
}

#[test]
fn each_file_is_looked_at_by_itself() {
    check(
        &[("a", "1"), ("b", "1"), ("c", "1")],
        &[("a", "1"), ("b", "2"), ("d", "1")],
        &[("a", "1"), ("b", "2"), ("d", "1"), ("e", "1")],
        &[("b", "2"), ("d", "1")],
        &["c"],
    );
}

#[test]
fn names_that_editors_and_tools_give_are_not_meant() {
    for name in ["a.yaml", "contoso.example.yml", "_.yaml"] {
        assert!(is_meant(name), "{name}");
    }
    for name in [
        ".a.yaml",
        ".a.yaml.swp",
        "a.yaml~",
        "#a.yaml#",
        "#a.yaml",
        ".#a.yaml",
        "..data",
        "a.yaml.tmp",
        "a.json",
        "4913",
        "yaml",
    ] {
        assert!(!is_meant(name), "{name}");
    }
}

/// A watched directory of a test.
struct Case {
    folder: tempfile::TempDir,
    watch: Watch,
}

impl Case {
    fn new(files: Texts<'_>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            fs::write(folder.path().join(name), text).unwrap();
        }
        let since = look(folder.path(), &Look::new()).unwrap();
        let watch = Watch::new(folder.path(), &since);
        Self { folder, watch }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    /// Has `..data` lead to a new folder with these files.
    fn swap(&self, version: &str, files: Texts<'_>) {
        let folder = self.path(version);
        fs::create_dir(&folder).unwrap();
        for (name, text) in files {
            fs::write(folder.join(name), text).unwrap();
        }
        symlink(version, self.path("..next")).unwrap();
        fs::rename(self.path("..next"), self.path("..data")).unwrap();
    }

    #[track_caller]
    fn sees(&mut self, put: Texts<'_>, gone: &[&str]) {
        let put = put
            .iter()
            .map(|(name, text)| Change::Put((*name).to_owned(), content(text)));
        let gone = gone.iter().map(|name| Change::Gone((*name).to_owned()));
        let expected: Vec<_> = put.chain(gone).collect();
        assert_eq!(self.watch.look().unwrap(), expected);
    }
}

#[test]
fn files_are_added_changed_and_removed() {
    let mut case = Case::new(&[("a.yaml", "1"), ("b.yml", "1")]);
    case.sees(&[], &[]);
    case.write("a.yaml", "2");
    case.write("c.yaml", "1");
    fs::remove_file(case.path("b.yml")).unwrap();
    case.sees(&[], &[]);
    case.sees(&[("a.yaml", "2"), ("c.yaml", "1")], &["b.yml"]);
    case.sees(&[], &[]);
}

#[test]
fn a_file_that_still_grows_is_left_alone() {
    let mut case = Case::new(&[]);
    for text in ["id: a", "id: abc", "id: abc\nauth:"] {
        case.write("a.yaml", text);
        case.sees(&[], &[]);
    }
    case.sees(&[("a.yaml", "id: abc\nauth:")], &[]);
}

#[test]
fn a_file_that_is_only_touched_has_not_changed() {
    let mut case = Case::new(&[("a.yaml", "1")]);
    for _ in 0..3 {
        case.write("a.yaml", "1");
        case.sees(&[], &[]);
    }
}

/// Two changes between two ticks of the file system's clock, neither of which changes the length.
#[test]
fn a_change_that_leaves_no_trace_but_its_bytes_is_seen() {
    let mut case = Case::new(&[("a.yaml", "1")]);
    case.write("a.yaml", "2");
    case.sees(&[], &[]);
    let stamp = case.watch.before["a.yaml"].stamp;
    case.write("a.yaml", "3");
    // Whatever the clock of this machine does: the stamp that the watch knows is the file's.
    let now = Stamp::of(&fs::metadata(case.path("a.yaml")).unwrap());
    let file = case.watch.before.get_mut("a.yaml").unwrap();
    assert_eq!((file.stamp, file.confirmed), (stamp, false));
    file.stamp = now;
    case.sees(&[], &[]);
    case.sees(&[("a.yaml", "3")], &[]);
}

/// As Kubernetes mounts a config map: names lead to `..data/NAME`, and `..data` is replaced in one step.
#[test]
fn a_swapped_link_changes_all_that_it_leads_to() {
    let mut case = Case::new(&[]);
    case.swap("..1", &[("a.yaml", "1"), ("b.yaml", "1")]);
    for name in ["a.yaml", "b.yaml"] {
        symlink(format!("..data/{name}"), case.path(name)).unwrap();
    }
    case.sees(&[], &[]);
    case.sees(&[("a.yaml", "1"), ("b.yaml", "1")], &[]);
    // The name of `b` leads nowhere for as long as nobody has cleaned it up.
    case.swap("..2", &[("a.yaml", "2")]);
    case.sees(&[], &[]);
    case.sees(&[("a.yaml", "2")], &["b.yaml"]);
}

#[test]
fn what_is_no_text_is_said_and_what_is_no_file_is_not_seen() {
    let mut case = Case::new(&[]);
    fs::create_dir(case.path("folder.yaml")).unwrap();
    fs::write(case.path("bytes.yaml"), b"\xff\xfe").unwrap();
    fs::write(case.path("long.yaml"), vec![b'#'; 300_000]).unwrap();
    case.sees(&[], &[]);
    let changes = case.watch.look().unwrap();
    let odd = |what: &str| Arc::new(Content::Odd(what.into()));
    let long = "the file has 300000 bytes; a tenant's has at most 262144";
    assert_eq!(
        changes,
        [
            Change::Put("bytes.yaml".into(), odd("the file is not UTF-8 text")),
            Change::Put("long.yaml".into(), odd(long)),
        ]
    );
}

#[test]
fn a_directory_that_cannot_be_read_has_not_changed() {
    let mut case = Case::new(&[("a.yaml", "1")]);
    let (here, away) = (case.path(""), case.folder.path().with_extension("away"));
    fs::rename(&here, &away).unwrap();
    for _ in 0..3 {
        assert!(case.watch.look().unwrap_err().contains("no such file"));
    }
    fs::rename(&away, &here).unwrap();
    case.sees(&[], &[]);
    case.sees(&[], &[]);
}
