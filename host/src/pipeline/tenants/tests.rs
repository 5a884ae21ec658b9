//! Files of a directory come and go; what the engine is told is exactly what differs.

use tempfile::TempDir;

use super::*;
use crate::metrics::requests::Outcome;
use crate::pipeline::Runtime;
use crate::secret::Redactor;

const PIPELINE: &str = "\
source:
  plugin: o365
  config: { content_types: [Audit.General] }
  tenants: { directory: tenants.d }
sinks:
  - stdout: {}
";

const PLAIN: &str = "\
auth:
  microsoft:
    directory_id: 11111111-2222-3333-4444-555555555555
    client_id: 66666666-7777-8888-9999-000000000000
    client_secret: { file: shared.secret }
";

/// A running pipeline's directory, and what its engine is told.
struct Case {
    folder: TempDir,
    directory: Directory,
    tenants: Tenants,
    told: mpsc::Receiver<engine::Change>,
    redactor: Arc<Redactor>,
}

impl Case {
    async fn new(files: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("tenants.d")).unwrap();
        let write = |name: &str, text: &str| {
            std::fs::write(folder.path().join("tenants.d").join(name), text).unwrap();
        };
        write("shared.secret", "shared~secret");
        files.iter().for_each(|(name, text)| write(name, text));
        let config = Config::parse(&folder.path().join("many.yaml"), PIPELINE, None).unwrap();
        let config = Arc::new(config);
        let redactor = Arc::new(Redactor::default());
        let runtime = Runtime::new(redactor.clone()).unwrap();
        let maker = SourceMaker::new(&config, &runtime).await.unwrap();
        let sources = config.source.tenants.iter();
        let sources = sources
            .map(|tenant| maker.source(tenant).unwrap())
            .collect();
        let (sender, told) = mpsc::channel(64);
        let directory = config.source.directory.clone().unwrap();
        let (tenants, _) = Tenants::new(config, maker, sources, sender);
        Self {
            folder,
            directory,
            tenants,
            told,
            redactor,
        }
    }

    /// One look, with these files changed (or, without a text, gone) since the one before.
    async fn look(&mut self, files: &[(&str, &str)], retry: bool) -> Vec<String> {
        let changes = files.iter().map(|(name, text)| match *text {
            "" => directory::Change::Gone((*name).into()),
            text => directory::Change::Put((*name).into(), Arc::new(Content::Text(text.into()))),
        });
        self.tenants
            .take(&self.directory, changes.collect(), retry)
            .await;
        let mut told = Vec::new();
        while let Ok(change) = self.told.try_recv() {
            told.push(match change {
                engine::Change::Put(tenant) => format!("put {}", tenant.id),
                engine::Change::Remove(id) => format!("remove {id}"),
            });
        }
        told
    }

    /// What is wrong with a file, as far as it was said.
    fn said(&self, name: &str) -> &str {
        &self.tenants.files[name].said
    }
}

fn called(id: &str) -> String {
    format!("id: {id}\n{PLAIN}")
}

#[tokio::test]
async fn the_engine_is_told_what_differs_and_nothing_else() {
    let mut case = Case::new(&[("a.yaml", PLAIN), ("b.yaml", PLAIN)]).await;
    assert!(case.look(&[], true).await.is_empty());
    assert_eq!(case.look(&[("c.yaml", PLAIN)], false).await, ["put c"]);
    let narrow = format!("{PLAIN}limits: {{ in_flight: 2 }}\n");
    assert_eq!(case.look(&[("b.yaml", &narrow)], false).await, ["put b"]);
    assert_eq!(case.look(&[("a.yaml", "")], false).await, ["remove a"]);
    // Three at once; what only says the same in other words is no change.
    let commented = format!("# as before\n{narrow}");
    let files = [("a.yaml", PLAIN), ("b.yaml", &commented), ("c.yaml", "")];
    assert_eq!(case.look(&files, false).await, ["remove c", "put a"]);
    assert_eq!(case.tenants.tally.sums(), (2, 0));
}

#[tokio::test]
async fn requests_of_a_changed_tenant_are_carried_on_and_end_with_it() {
    let mut case = Case::new(&[("a.yaml", PLAIN), ("b.yaml", PLAIN)]).await;
    let tally = case.tenants.tally();
    let send = || tally.tenants()[0].source.egress().count(Outcome::Throttled);
    let shown = || {
        let tenants = tally.tenants().into_iter();
        let shown = tenants.map(|tenant| (tenant.id.to_string(), tenant.requests.0[2]));
        shown.collect::<Vec<_>>()
    };
    send();
    send();
    assert_eq!(shown(), [("a".into(), 2), ("b".into(), 0)]);
    let before = tally.tenants().remove(0).source;
    let narrow = format!("{PLAIN}limits: {{ in_flight: 2 }}\n");
    assert_eq!(case.look(&[("a.yaml", &narrow)], false).await, ["put a"]);
    send();
    // While the one before drains, and after.
    assert_eq!(shown(), [("a".into(), 3), ("b".into(), 0)]);
    before.egress().count(Outcome::Throttled);
    assert_eq!(shown(), [("a".into(), 4), ("b".into(), 0)]);
    drop(before);
    assert_eq!(shown(), [("a".into(), 4), ("b".into(), 0)]);
    assert_eq!(case.look(&[("a.yaml", "")], false).await, ["remove a"]);
    assert_eq!(shown(), [("b".into(), 0)]);
    assert_eq!(case.look(&[("a.yaml", PLAIN)], false).await, ["put a"]);
    assert_eq!(shown(), [("a".into(), 0), ("b".into(), 0)]);
}

#[tokio::test]
async fn a_tenant_that_moves_to_another_file_is_not_touched() {
    let mut case = Case::new(&[("a.yaml", PLAIN)]).await;
    let moved = called("a");
    let told = case
        .look(&[("a.yaml", ""), ("z.yaml", &moved)], false)
        .await;
    assert!(told.is_empty(), "{told:?}");
    assert_eq!(case.look(&[("z.yaml", "")], false).await, ["remove a"]);
}

#[tokio::test]
async fn a_file_with_another_id_is_another_tenant() {
    let mut case = Case::new(&[("a.yaml", PLAIN)]).await;
    let told = case.look(&[("a.yaml", &called("b"))], false).await;
    assert_eq!(told, ["remove a", "put b"]);
}

#[tokio::test]
async fn a_broken_file_changes_nothing_until_it_is_good() {
    let mut case = Case::new(&[("a.yaml", PLAIN)]).await;
    for broken in [
        "auth: {".to_owned(),
        "- id: a\n".to_owned(),
        PLAIN.replace("client_id", "clientid"),
        PLAIN.replace("shared.secret", "nowhere.secret"),
        format!("{PLAIN}config: {{ content_types: [Audit.Exchnage] }}\n"),
        format!("id: b\n{PLAIN}limits: {{ in_flight: many }}\n"),
    ] {
        let told = case
            .look(&[("a.yaml", &broken), ("b.yaml", &broken)], true)
            .await;
        assert!(told.is_empty(), "{broken}: {told:?}");
        assert!(
            case.said("a.yaml").contains("tenants.d/a.yaml:"),
            "{broken}"
        );
        assert!(
            case.said("b.yaml").contains("tenants.d/b.yaml:"),
            "{broken}"
        );
        assert!(case.look(&[], true).await.is_empty());
    }
    assert!(case.look(&[("a.yaml", PLAIN)], false).await.is_empty());
    assert_eq!(case.said("a.yaml"), "");
    assert_eq!(case.look(&[("b.yaml", PLAIN)], false).await, ["put b"]);
}

#[tokio::test]
async fn a_tenant_goes_on_although_its_file_names_another_that_cannot_run() {
    let mut case = Case::new(&[("a.yaml", PLAIN)]).await;
    let other = called("b").replace("shared.secret", "later.secret");
    assert!(case.look(&[("a.yaml", &other)], false).await.is_empty());
    let secret = case.folder.path().join("tenants.d/later.secret");
    std::fs::write(secret, "later~secret").unwrap();
    assert!(case.look(&[], false).await.is_empty());
    assert_eq!(case.look(&[], true).await, ["remove a", "put b"]);
    assert!(case.look(&[], true).await.is_empty());
}

#[tokio::test]
async fn a_second_file_of_a_tenant_waits_until_the_first_is_gone() {
    let mut case = Case::new(&[("z.yaml", &called("a"))]).await;
    let other = format!("{PLAIN}limits: {{ in_flight: 2 }}\n");
    assert!(case.look(&[("a.yaml", &other)], false).await.is_empty());
    let said = case.said("a.yaml");
    assert!(said.starts_with("tenant id `a` is used twice"), "{said}");
    assert!(said.contains("file `z.yaml` has it as well"), "{said}");
    assert_eq!(case.look(&[("z.yaml", "")], false).await, ["put a"]);
    assert_eq!(case.said("a.yaml"), "");
}

#[tokio::test]
async fn nothing_of_a_tenant_stays_behind() {
    let mut case = Case::new(&[("a.yaml", PLAIN)]).await;
    let known = case.redactor.len();
    assert!(known > 0);
    for number in 0..100 {
        let secret = format!("{number}.secret");
        let path = case.folder.path().join("tenants.d").join(&secret);
        std::fs::write(path, format!("secret~of~{number}")).unwrap();
        let text = PLAIN.replace("shared.secret", &secret);
        assert_eq!(case.look(&[("b.yaml", &text)], false).await, ["put b"]);
        if number % 2 == 0 {
            assert_eq!(case.look(&[("b.yaml", "")], false).await, ["remove b"]);
        }
    }
    assert_eq!(case.look(&[("b.yaml", "")], false).await, ["remove b"]);
    // The last one is still counted; the next tenant's coming lets it go.
    assert_eq!(case.look(&[("c.yaml", PLAIN)], false).await, ["put c"]);
    assert_eq!(case.redactor.len(), known);
    assert_eq!(case.redactor.scrub("shared~secret"), "[redacted]");
}
