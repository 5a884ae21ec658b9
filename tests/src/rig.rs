//! The kill rig: the command on real files, killed, frozen and stopped at random moments, on a full disk, with a
//! state that was damaged or put back from a copy; judged by the office's oracle and by the clock.
//!
//! A campaign is one office, one folder and one seed. It ends with a run that is left alone.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use fastrand::Rng;
use sluicegate_office::{Fault, Faults, Office};
use tempfile::TempDir;

use crate::http_server::dawdle;
use crate::shipped::percentile;
use crate::{Delivered, Ended, Pipeline, Running, Simulated, Sluicegate};

/// Of every answer: a run takes much longer than it lives.
const LATENCY: Duration = Duration::from_millis(15);

/// From the start of a run to its end by force, at most.
const LONGEST_LIFE_MS: u64 = 2_000;

/// One run of so many is watched until it delivers again, however long that takes.
const WATCHED: u32 = 4;

/// How long a watched run may take; one that does not deliver by then has not recovered.
const PATIENCE: Duration = Duration::from_mins(1);

/// Room on the disk that runs full.
const DISK: &str = "96m";

/// What else happens to a campaign.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// Nothing but what the signals do.
    None,
    /// The disk with state and output is full for a while.
    FullDisk,
    /// The first half of the ledger's file is overwritten.
    DamagedState,
    /// The ledger of an earlier moment is put back.
    OlderState,
}

impl Trouble {
    /// All of them.
    pub const ALL: [Self; 4] = [
        Self::None,
        Self::FullDisk,
        Self::DamagedState,
        Self::OlderState,
    ];

    /// Whether events may come twice: what the state knew of them is gone.
    fn forgets(self) -> bool {
        matches!(self, Self::DamagedState | Self::OlderState)
    }
}

/// One campaign.
#[derive(Clone, Debug)]
pub struct Campaign {
    /// Decides everything that is random.
    pub seed: u64,
    /// Kills, at most: it ends earlier when all is delivered.
    pub kills: u32,
    /// Content blobs, of four events each.
    pub blobs: u32,
    /// Whether the service fails as well.
    pub faults: bool,
    /// What else happens.
    pub trouble: Trouble,
}

/// What came of one campaign or of several.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Kills.
    pub kills: u32,
    /// Times that the process was frozen.
    pub freezes: u32,
    /// Orderly stops.
    pub stops: u32,
    /// Times that the command complained of a full disk.
    pub full_disks: u32,
    /// Events that had to be delivered.
    pub owed: u64,
    /// Of these, not delivered.
    pub missing: u64,
    /// Delivered and never issued.
    pub invented: u64,
    /// Lines beyond the first for an event.
    pub repeated: u64,
    /// Of these, not excused by a lost state.
    pub repeated_without_reason: u64,
    /// From the start of each watched run to its first new line, where the state knows what there is to read.
    pub recoveries: Vec<Duration>,
    /// The same where it does not, at first and when it was spoilt: such a run lists seven days before it reads.
    pub first_starts: Vec<Duration>,
    /// What else is wrong, a sentence each.
    pub wrong: Vec<String>,
}

impl Report {
    /// Nothing lost, invented, or repeated without a reason, and nothing else wrong.
    pub fn is_clean(&self) -> bool {
        self.missing == 0
            && self.invented == 0
            && self.repeated_without_reason == 0
            && self.wrong.is_empty()
    }

    /// Adds another's counts.
    pub fn add(&mut self, other: Self) {
        self.kills += other.kills;
        self.freezes += other.freezes;
        self.stops += other.stops;
        self.full_disks += other.full_disks;
        self.owed += other.owed;
        self.missing += other.missing;
        self.invented += other.invented;
        self.repeated += other.repeated;
        self.repeated_without_reason += other.repeated_without_reason;
        self.recoveries.extend(other.recoveries);
        self.first_starts.extend(other.first_starts);
        self.wrong.extend(other.wrong);
    }

    /// Percentiles and number of some of its times.
    pub fn times(times: &[Duration]) -> String {
        let mut sorted = times.to_vec();
        sorted.sort_unstable();
        let at = |percent| percentile(&sorted, percent).unwrap_or_default();
        let number = sorted.len();
        format!(
            "p50 {:?}, p99 {:?}, longest {:?}, {number} runs",
            at(50),
            at(99),
            at(100)
        )
    }
}

/// The program that is tried.
#[derive(Clone, Debug)]
pub struct Rig {
    /// The command.
    pub program: PathBuf,
    /// Where it keeps compiled plugins.
    pub cache: PathBuf,
}

impl Rig {
    /// Runs a campaign; why not, where the machine does not allow it.
    ///
    /// # Errors
    /// When a small disk cannot be mounted: that takes root.
    ///
    /// # Panics
    /// When the machine gives no folders, ports or processes.
    pub fn run(&self, campaign: &Campaign) -> Result<Report, String> {
        let folder = TempDir::new().expect("a test may make a temporary folder");
        let disk = match campaign.trouble {
            Trouble::FullDisk => Some(Disk::mount(folder.path())?),
            _ => None,
        };
        let mut builder = Office::builder(campaign.seed)
            .blobs(campaign.blobs)
            .events_per_blob(4)
            .latency(LATENCY)
            .page_size(100);
        if campaign.faults {
            builder = builder.faults(faults());
        }
        let office = Simulated::start(builder);
        let pipeline =
            Pipeline::o365("rig", &office).limits("requests_per_minute: 1000000, in_flight: 2");
        let mut run = Run {
            rig: self,
            campaign,
            random: Rng::with_seed(campaign.seed),
            file: folder.path().join("rig.ndjson"),
            state: folder.path().join("state/rig"),
            folder: folder.path(),
            anew: true,
            older: None,
            disk,
            pipeline: &pipeline,
            report: Report::default(),
        };
        run.under_attack();
        let ended = run.to_the_end();
        let mut report = run.report;
        judge(&mut report, campaign, &office, folder.path(), &ended);
        Ok(report)
    }
}

fn faults() -> Faults {
    Faults::none()
        .with(Fault::ServerError, 0.05)
        .with(Fault::Truncate, 0.05)
        .with(Fault::TruncateChunked, 0.03)
        .with(Fault::CopyInNext, 0.02)
        .with(Fault::ListedTwice, 0.1)
}

/// A campaign under way.
struct Run<'a> {
    rig: &'a Rig,
    campaign: &'a Campaign,
    random: Rng,
    folder: &'a Path,
    file: PathBuf,
    state: PathBuf,
    /// Nothing was delivered since the state was empty, or was spoilt.
    anew: bool,
    /// A copy of the state from some moment between two runs.
    older: Option<TempDir>,
    disk: Option<Disk>,
    pipeline: &'a Pipeline,
    report: Report,
}

impl Run<'_> {
    fn start(&self) -> Running {
        let command = Sluicegate::new(&self.rig.program, self.folder, &self.rig.cache);
        self.pipeline.give(command.args("run --once")).start()
    }

    fn under_attack(&mut self) {
        // Each trouble comes twice: early, and when most is done.
        let troubled = [self.campaign.kills / 4, self.campaign.kills * 3 / 4];
        let mut round = 0;
        while self.report.kills < self.campaign.kills {
            round += 1;
            let before = length(&self.file);
            let running = self.start();
            if round % WATCHED == 0 && self.watch(&running) {
                return;
            }
            if troubled.contains(&self.report.kills)
                && let Some(disk) = &self.disk
            {
                disk.fill();
                let over = running.ends_within(Duration::from_millis(self.random.u64(200..1_500)));
                disk.free();
                let words = running.stderr();
                let noticed = ["No space left", "disk is full"]
                    .iter()
                    .any(|sentence| words.contains(sentence));
                self.report.full_disks += u32::from(noticed);
                if over {
                    continue;
                }
            }
            let life = Duration::from_millis(self.random.u64(30..LONGEST_LIFE_MS));
            if running.ends_within(life) {
                return;
            }
            self.end(running);
            self.anew &= length(&self.file) <= before;
            if troubled.contains(&self.report.kills) {
                self.spoil();
            }
            if self.campaign.trouble == Trouble::OlderState && round == 2 {
                let copy = TempDir::new().expect("a test may make a temporary folder");
                copy_files(&self.state, copy.path());
                self.older = Some(copy);
            }
        }
    }

    /// Waits for the first new line and notes how long it took. True when the run came to its end instead.
    fn watch(&mut self, running: &Running) -> bool {
        let started = Instant::now();
        let mut before = length(&self.file);
        while started.elapsed() < PATIENCE {
            if running.ends_within(Duration::from_millis(2)) {
                return true;
            }
            let now = length(&self.file);
            if now > before {
                let taken = if self.anew {
                    &mut self.report.first_starts
                } else {
                    &mut self.report.recoveries
                };
                taken.push(started.elapsed());
                return false;
            }
            // What was written and not committed has been cut off.
            before = now;
        }
        let seed = self.campaign.seed;
        let what = format!("seed {seed}: nothing was delivered within {PATIENCE:?}");
        self.report.wrong.push(what);
        false
    }

    fn end(&mut self, running: Running) {
        match self.random.u32(0..10) {
            0 => {
                running.signal("TERM");
                let ended = running.end();
                self.report.stops += 1;
                // A single pass that was stopped is not complete; one that has only begun just dies.
                if !matches!(ended.code, None | Some(0 | 75)) {
                    let what = format!("a stop ended with {:?}: {}", ended.code, ended.stderr);
                    self.report.wrong.push(what);
                }
                return;
            }
            1 | 2 => {
                running.signal("STOP");
                dawdle(Duration::from_millis(self.random.u64(20..600)));
                running.signal("CONT");
                self.report.freezes += 1;
                let _ = running.ends_within(Duration::from_millis(self.random.u64(0..100)));
            }
            _ => {}
        }
        let _ = running.kill();
        self.report.kills += 1;
    }

    fn spoil(&mut self) {
        self.anew |= self.campaign.trouble.forgets();
        match self.campaign.trouble {
            Trouble::None | Trouble::FullDisk => {}
            Trouble::DamagedState => {
                let path = self.state.join("ledger.db");
                if let Ok(mut bytes) = fs::read(&path) {
                    let half = bytes.len() / 2;
                    bytes[..half].fill(0xa5);
                    fs::write(&path, bytes).expect("the state can be written");
                }
            }
            Trouble::OlderState => {
                if let Some(older) = &self.older {
                    fs::remove_dir_all(&self.state).expect("the state can be removed");
                    copy_files(older.path(), &self.state);
                }
            }
        }
    }

    /// Runs until all is done. What the service did to a split may have set it aside for a while: then it is asked for
    /// again at once, as an operator would.
    fn to_the_end(&self) -> Ended {
        let mut ended = self.start().end();
        for _ in 0..5 {
            if ended.code != Some(75) {
                break;
            }
            let command = Sluicegate::new(&self.rig.program, self.folder, &self.rig.cache);
            let _ = self.pipeline.give(command.args("retry --all")).run();
            ended = self.start().end();
        }
        ended
    }
}

fn judge(
    report: &mut Report,
    campaign: &Campaign,
    office: &Simulated,
    folder: &Path,
    ended: &Ended,
) {
    let seed = campaign.seed;
    if ended.code != Some(0) {
        let what = format!(
            "seed {seed}: the last run ended with {:?}: {}",
            ended.code, ended.stderr
        );
        report.wrong.push(what);
    }
    let delivered = Delivered::read(&folder.join("rig.ndjson"));
    let verdict = office.judge(&delivered);
    let repeated = delivered.repeated().len() as u64;
    report.owed += verdict.owed;
    report.missing += verdict.missing;
    report.invented += verdict.invented;
    report.repeated += repeated;
    if !campaign.trouble.forgets() {
        report.repeated_without_reason += repeated;
    }
    if verdict.owed == 0 {
        report.wrong.push(format!("seed {seed}: nothing was owed"));
    }
    let odd = verdict
        .missing_samples
        .into_iter()
        .chain(verdict.odd_samples);
    if verdict.missing + verdict.invented > 0 {
        report
            .wrong
            .extend(odd.map(|sample| format!("seed {seed}: {sample}")));
    }
    for secret in office.tenants(|tenant| tenant.client_secret.clone()) {
        let leaked = files_with(folder, secret.as_bytes());
        let leaked = leaked
            .into_iter()
            .map(|path| path.display().to_string())
            .chain(ended.stderr.contains(&secret).then(|| "the log".to_owned()));
        report
            .wrong
            .extend(leaked.map(|place| format!("seed {seed}: a secret stands in {place}")));
    }
}

fn length(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |file| file.len())
}

fn copy_files(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder of our own can be made");
    let Ok(entries) = fs::read_dir(from) else {
        return;
    };
    for entry in entries.flatten() {
        let path = entry.path();
        if path.is_file() {
            fs::copy(&path, to.join(entry.file_name())).expect("a file of our own can be copied");
        }
    }
}

/// Every file below `folder` that holds these bytes.
fn files_with(folder: &Path, needle: &[u8]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(files_with(&path, needle));
        } else if let Ok(bytes) = fs::read(&path)
            && bytes.windows(needle.len()).any(|window| window == needle)
        {
            found.push(path);
        }
    }
    found
}

/// A small file system in memory, mounted over a folder.
struct Disk(PathBuf);

impl Disk {
    fn mount(folder: &Path) -> Result<Self, String> {
        let size = format!("size={DISK}");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &size, "tmpfs"])
            .arg(folder)
            .output();
        match mounted {
            Ok(output) if output.status.success() => Ok(Self(folder.to_owned())),
            Ok(output) => {
                let words = String::from_utf8_lossy(&output.stderr).trim().to_owned();
                Err(format!("no small disk can be mounted ({words})"))
            }
            Err(error) => Err(format!("there is no `mount` ({error})")),
        }
    }

    fn ballast(&self) -> PathBuf {
        self.0.join("ballast")
    }

    /// Takes all room that is left.
    fn fill(&self) {
        let mut file = fs::File::create(self.ballast()).expect("a new disk has room for a name");
        let piece = vec![0; 64 << 10];
        while file.write_all(&piece).is_ok() {}
        while file.write_all(&[0]).is_ok() {}
    }

    fn free(&self) {
        fs::remove_file(self.ballast()).expect("the ballast is ours");
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Lazily: the folder itself is removed after this, and must not be busy.
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}
