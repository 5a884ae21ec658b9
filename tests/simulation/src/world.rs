//! What outlives a crash: the service, the disk, the document store, the ledger's durable image, and the oracle.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sluicegate::error::Error;
use sluicegate::ledger::Ledger;
use sluicegate::ledger::memory::MemoryLedger;
use sluicegate::ledger::sqlite::SqliteLedger;
use sluicegate_office::{ContentType, Faults, Office};
use tempfile::TempDir;

use crate::chance::{Concern, Stream};
use crate::coverage::{Coverage, Point};
use crate::effects::Effects;
use crate::oracle::Witness;
use crate::plan::{Memory, Plan, Trouble};
use crate::time::{START_MS, VirtualClock};

/// How long identities are remembered: the default of a pipeline.
pub const HORIZON: Duration = Duration::from_secs(8 * 24 * 60 * 60);

/// A document as the store holds it.
#[derive(Clone, Debug)]
pub struct Document {
    /// The tenant's directory or name.
    pub tenant: String,
    /// The event's id.
    pub event: String,
    /// The body as it came first.
    pub body: bytes::Bytes,
    /// How often it came.
    pub copies: u32,
}

/// Everything around the process.
pub struct World {
    /// What the run is made of.
    pub plan: Plan,
    /// The time.
    pub clock: Arc<VirtualClock>,
    /// The numbered effects.
    pub effects: Effects,
    /// What came up.
    pub coverage: Arc<Coverage>,
    /// What the oracle has seen.
    pub witness: Witness,
    /// Files: the sink's, the dead letters, the secrets, the ledger.
    pub folder: TempDir,
    office: Mutex<Office>,
    documents: Mutex<BTreeMap<String, Document>>,
    model: Arc<MemoryLedger>,
    chances: Mutex<BTreeMap<u8, Stream>>,
    /// Whether things still go wrong.
    troubled: Mutex<bool>,
    /// Which life of the process this is, from zero.
    life: Mutex<u32>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The content types of a plan with so many streams.
pub fn kinds(streams: usize) -> &'static [ContentType] {
    const KINDS: [ContentType; 4] = [
        ContentType::AzureActiveDirectory,
        ContentType::Exchange,
        ContentType::SharePoint,
        ContentType::General,
    ];
    &KINDS[..streams.clamp(1, KINDS.len())]
}

/// A folder in memory where there is one: thousands of runs would wear a disk for nothing.
fn folder() -> std::io::Result<TempDir> {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() {
        tempfile::tempdir_in(memory)
    } else {
        tempfile::tempdir()
    }
}

/// Nobody else may read it, or the process would say so each time.
fn write_secret(path: &Path, secret: &str) -> std::io::Result<()> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(secret.as_bytes())
}

impl World {
    /// The world of a plan, before anything happens.
    pub fn new(plan: Plan) -> std::io::Result<Self> {
        let (clock, coverage) = (Arc::<VirtualClock>::default(), Arc::<Coverage>::default());
        let ms = |ms: i64| Duration::from_millis(u64::try_from(ms).unwrap_or(0));
        let builder = Office::builder(plan.seed)
            .tenants(plan.tenants)
            .content_types(kinds(plan.streams))
            .blobs(plan.blobs + plan.later)
            .later(plan.later, ms(plan.later_ms))
            .up_to_events_per_blob(plan.records)
            .span(ms(plan.span_ms))
            .page_size(plan.page_size)
            .token_life(Duration::from_secs(plan.token_life_s))
            .faults(plan.office_faults());
        let builder = if plan.has(Trouble::Unsubscribed) {
            builder
        } else {
            builder.subscribed()
        };
        let office = builder.build(START_MS);
        let folder = folder()?;
        for tenant in office.tenants() {
            write_secret(&folder.path().join(&tenant.name), &tenant.client_secret)?;
        }
        let effects = Effects::new(
            plan.seed,
            plan.crashes.clone(),
            plan.log,
            clock.clone(),
            coverage.clone(),
        );
        let witness = Witness::new(&office, &plan);
        if plan.tenants > 1 {
            coverage.mark(Point::TwoTenants);
        }
        Ok(Self {
            plan,
            clock,
            effects,
            coverage,
            witness,
            folder,
            office: Mutex::new(office),
            documents: Mutex::default(),
            model: Arc::new(MemoryLedger::new(HORIZON)),
            chances: Mutex::default(),
            troubled: Mutex::new(true),
            life: Mutex::new(0),
        })
    }

    /// The service.
    pub fn office(&self) -> MutexGuard<'_, Office> {
        lock(&self.office)
    }

    /// The document store, by delivery id.
    pub fn documents(&self) -> MutexGuard<'_, BTreeMap<String, Document>> {
        lock(&self.documents)
    }

    /// Draws from a concern's stream.
    pub fn draw<T>(&self, concern: Concern, draw: impl FnOnce(&mut Stream) -> T) -> T {
        let mut chances = lock(&self.chances);
        let fresh = || Stream::new(self.plan.seed ^ 0x5349_4D00, concern);
        draw(chances.entry(concern as u8).or_insert_with(fresh))
    }

    /// Whether a kind of trouble strikes now: in so many of a thousand cases, while things go wrong.
    pub fn strikes(&self, trouble: Trouble, concern: Concern, per_mille: u64) -> bool {
        *lock(&self.troubled)
            && self.plan.has(trouble)
            && self.draw(concern, |chance| chance.per_mille(per_mille))
    }

    /// Whether things still go wrong.
    pub fn is_troubled(&self) -> bool {
        *lock(&self.troubled)
    }

    /// Nothing goes wrong any more.
    pub fn calm(&self) {
        *lock(&self.troubled) = false;
        self.effects.calm();
        self.clock.set_skew(0);
        let mut office = self.office();
        let faults = office.faults_mut();
        // How it orders and pages is no fault, and does not change between two pages.
        let before = std::mem::replace(faults, Faults::none());
        faults.order = before.order;
        faults.paging = before.paging;
        faults.random_pages = before.random_pages;
    }

    /// Which life of the process this is.
    pub fn life(&self) -> u32 {
        *lock(&self.life)
    }

    /// Another life begins.
    pub fn next_life(&self) {
        *lock(&self.life) += 1;
    }

    /// Where the file sink writes.
    pub fn events_file(&self) -> PathBuf {
        self.folder.path().join("events.ndjson")
    }

    /// Where dead letters are kept.
    pub fn letters_file(&self) -> PathBuf {
        self.folder.path().join("simulation.rejected.ndjson")
    }

    /// The ledger as a new process finds it.
    pub fn open_ledger(&self) -> Result<Arc<dyn Ledger>, Error> {
        match self.plan.memory {
            Memory::Model => {
                self.model.crash();
                Ok(self.model.clone())
            }
            Memory::Sqlite => {
                let state = self.folder.path().join(format!("state-{}", self.life()));
                Ok(Arc::new(SqliteLedger::open(&state, HORIZON)?))
            }
        }
    }

    /// The process is dead: what its ledger had on the disk is all that the next one finds.
    pub fn keep_ledger(&self) -> std::io::Result<()> {
        if self.plan.memory == Memory::Model {
            return Ok(());
        }
        let state = |life: u32| self.folder.path().join(format!("state-{life}"));
        let (from, to) = (state(self.life()), state(self.life() + 1));
        std::fs::create_dir_all(&to)?;
        let files = match std::fs::read_dir(&from) {
            Ok(files) => files,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        };
        for file in files {
            let file = file?;
            std::fs::copy(file.path(), to.join(file.file_name()))?;
        }
        Ok(())
    }
}
