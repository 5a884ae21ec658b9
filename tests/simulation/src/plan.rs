//! What a seed is made of: sizes, faults, crashes. Drawn once, so that a shrinker can take parts of it away.

use sluicegate_office::{Fault, Faults, Late, Order, Paging, Waits};

use crate::chance::{Concern, Stream};
use crate::effects::CrashPlan;
use crate::time::{HOUR_MS, MINUTE_MS};

/// As far as a clock is ever off.
pub(crate) const LONGEST_SKEW_MS: i64 = 3 * HOUR_MS;

/// A kind of trouble that is on or off for a whole run. The service's own faults come on top.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Trouble {
    /// Connections are refused.
    Refusals,
    /// Connections are reset.
    Resets,
    /// Names are not found.
    NoNames,
    /// Certificates are not accepted.
    BadCertificates,
    /// Answers take up to ten minutes.
    SlowAnswers,
    /// Bodies come in pieces.
    Pieces,
    /// Tokens are revoked.
    Revocations,
    /// The application is disabled for a while.
    Suspension,
    /// A content type is denied for a while.
    Denial,
    /// A subscription is disabled.
    Unsubscribed,
    /// The clock jumps forward and comes back.
    ClockForward,
    /// The clock jumps back and comes forward.
    ClockBack,
    /// The ledger has errors.
    LedgerErrors,
    /// The ledger reports errors for what it has done.
    LedgerLies,
    /// Files cannot be written for a while.
    DiskFull,
    /// The document store is down for a while.
    SinkDown,
    /// The document store is slow.
    SinkSlow,
    /// The document store takes parts.
    SinkPartial,
    /// The document store refuses some events for ever.
    SinkRefusals,
    /// The document store refuses whole requests.
    SinkSplits,
    /// The document store's answers get lost.
    AcksLost,
    /// A blob that was listed is not there yet, for the first requests.
    NotThereYet,
    /// The process is stopped gracefully and started again.
    Restarts,
    /// The process stays away for a day or more.
    Absence,
}

impl Trouble {
    /// All of them.
    pub const ALL: [Self; 24] = [
        Self::Refusals,
        Self::Resets,
        Self::NoNames,
        Self::BadCertificates,
        Self::SlowAnswers,
        Self::Pieces,
        Self::Revocations,
        Self::Suspension,
        Self::Denial,
        Self::Unsubscribed,
        Self::ClockForward,
        Self::ClockBack,
        Self::LedgerErrors,
        Self::LedgerLies,
        Self::DiskFull,
        Self::SinkDown,
        Self::SinkSlow,
        Self::SinkPartial,
        Self::SinkRefusals,
        Self::SinkSplits,
        Self::AcksLost,
        Self::NotThereYet,
        Self::Restarts,
        Self::Absence,
    ];
}

/// Which ledger remembers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Memory {
    /// The model: committed transactions as a value.
    Model,
    /// The real one, in files that are copied when the process dies.
    Sqlite,
}

/// One run, whole.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Where every draw comes from.
    pub seed: u64,
    /// Tenants.
    pub tenants: u16,
    /// Content types of each.
    pub streams: usize,
    /// Blobs of each tenant that are there at the start.
    pub blobs: u32,
    /// Blobs that come later.
    pub later: u32,
    /// Most records in a blob.
    pub records: u32,
    /// Over how much time before the start the blobs are spread.
    pub span_ms: i64,
    /// How long things go wrong.
    pub safety_ms: i64,
    /// Requests a minute.
    pub budget: u32,
    /// Requests at once.
    pub in_flight: usize,
    /// Blobs on a page.
    pub page_size: u32,
    /// How often is listed, in seconds.
    pub interval_s: u32,
    /// Life of a token, in seconds.
    pub token_life_s: u64,
    /// What the service does wrong, and how often.
    pub faults: Vec<(Fault, f64)>,
    /// How late blobs are listed at most.
    pub late_ms: i64,
    /// How long the process stays away, with [`Trouble::Absence`].
    pub away_ms: i64,
    /// Over how much time after the start the blobs come that come later.
    pub later_ms: i64,
    /// What else goes wrong.
    pub troubles: Vec<Trouble>,
    /// When the process dies.
    pub crashes: CrashPlan,
    /// Which ledger remembers.
    pub memory: Memory,
    /// Whether there is a document store beside the file.
    pub documents: bool,
    /// Keeps a line for each effect.
    pub log: bool,
    /// What a component that was built for it decides wrong.
    pub mutant: Option<&'static str>,
}

/// How large runs are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    /// A few blobs in an hour.
    Small,
    /// Some hundred blobs in a day.
    Large,
}

/// Faults that a careful client survives without loss, at the rate of a bad day.
const FAULTS: &[Fault] = &[
    Fault::ServerError,
    Fault::Throttle,
    Fault::Unauthorized,
    Fault::ResetBeforeHeaders,
    Fault::ResetAfterHeaders,
    Fault::SlowHeaders,
    Fault::Redirect,
    Fault::BadToken,
    Fault::OddExpiry,
    Fault::Truncate,
    Fault::TruncateChunked,
    Fault::LengthShort,
    Fault::LengthLong,
    Fault::Stall,
    Fault::ErrorWith200,
    Fault::NullBody,
    Fault::EmptyBody,
    Fault::HtmlBody,
    Fault::GarbageTail,
    Fault::DoubleBody,
    Fault::FalseEncoding,
    Fault::ByteOrderMark,
    Fault::OctetStream,
    Fault::Gzip,
    Fault::TruncateGzip,
    Fault::EmptyPage,
    Fault::EmptyLastPage,
    Fault::PageLoop,
    Fault::ForeignPage,
    Fault::ForeignBlob,
    Fault::ListedTwice,
    Fault::ListedAgain,
    Fault::SameMillisecond,
    Fault::EmptyBlob,
    Fault::CopyInBlob,
    Fault::CopyInNext,
    Fault::ChangedCopy,
    Fault::OddValue,
    Fault::BadText,
    Fault::BarePage,
    Fault::BadPage,
    Fault::BadItem,
    Fault::ListedLater,
];

impl Plan {
    /// The plan of a seed.
    pub fn of(seed: u64, size: Size) -> Self {
        let mut chance = Stream::new(seed, Concern::Plan);
        let calm = Self::calm(seed);
        let (blobs, later, records, safety) = match size {
            Size::Small => (
                chance.between(1, 6),
                chance.below(4),
                3,
                chance.between(5, 20),
            ),
            Size::Large => (
                chance.between(20, 150),
                chance.below(60),
                12,
                chance.between(60, 720),
            ),
        };
        let mut plan = Self {
            tenants: if chance.per_mille(250) { 2 } else { 1 },
            streams: if chance.per_mille(400) { 2 } else { 1 },
            blobs: small(blobs),
            later: small(later),
            records,
            span_ms: chance.pick(&[10, 60, 300]) * MINUTE_MS,
            safety_ms: i64::try_from(safety).unwrap_or(1) * MINUTE_MS,
            budget: chance.pick(&[12, 60, 2_000]),
            in_flight: chance.pick(&[1, 3, 32]),
            page_size: chance.pick(&[1, 3, 20]),
            interval_s: chance.pick(&[300, 600, 900]),
            token_life_s: chance.pick(&[300, 900, 3_599]),
            documents: chance.per_mille(700),
            ..calm
        };
        for fault in FAULTS {
            let rate = chance.between(5, 150);
            if chance.per_mille(250) {
                #[expect(
                    clippy::cast_precision_loss,
                    reason = "a rate below one in a thousand parts"
                )]
                plan.faults.push((*fault, rate as f64 / 1_000.0));
            }
        }
        for trouble in Trouble::ALL {
            if chance.per_mille(rarity(trouble)) {
                plan.troubles.push(trouble);
            }
        }
        if chance.per_mille(300) {
            plan.late_ms = chance.pick(&[5, 20, 70]) * MINUTE_MS;
        }
        plan.later_ms = plan.safety_ms;
        if chance.per_mille(600) {
            plan.crashes = CrashPlan {
                random: u32::try_from(chance.between(1, 8)).unwrap_or(1),
                per_mille: chance.pick(&[5, 20, 60]),
                ..CrashPlan::default()
            };
        }
        if plan.has(Trouble::Absence) {
            plan.away_ms = chance.pick(&[1, 3, 6, 9]) * 24 * HOUR_MS;
            if chance.flip() {
                plan.later_ms = plan.away_ms;
            }
        }
        plan
    }

    /// A run in which nothing goes wrong.
    pub fn calm(seed: u64) -> Self {
        Self {
            seed,
            tenants: 1,
            streams: 1,
            blobs: 3,
            later: 0,
            records: 3,
            span_ms: 10 * MINUTE_MS,
            safety_ms: 2 * MINUTE_MS,
            budget: 2_000,
            in_flight: 32,
            page_size: 20,
            interval_s: 300,
            token_life_s: 3_599,
            faults: Vec::new(),
            late_ms: 0,
            away_ms: 0,
            later_ms: 2 * MINUTE_MS,
            troubles: Vec::new(),
            crashes: CrashPlan::default(),
            memory: Memory::Model,
            documents: true,
            log: false,
            mutant: None,
        }
    }

    /// Whether a kind of trouble is on.
    pub fn has(&self, trouble: Trouble) -> bool {
        self.troubles.contains(&trouble)
    }

    /// Whether the service does this wrong.
    pub fn has_fault(&self, fault: Fault) -> bool {
        self.faults.iter().any(|(known, _)| *known == fault)
    }

    /// The service's faults.
    pub fn office_faults(&self) -> Faults {
        let mut chance = Stream::new(self.seed, Concern::Network);
        let mut faults = Faults::none();
        for (fault, rate) in &self.faults {
            faults.set(*fault, *rate);
        }
        faults.slow_ms = chance.between(100, 90_000);
        faults.stall_ms = chance.pick(&[500, 90_000]);
        faults.late = match self.late_ms {
            0 => Late::Never,
            late => Late::UpTo(late),
        };
        if !self.faults.is_empty() {
            faults.order = chance.pick(&[Order::Sorted, Order::ShuffledPages, Order::Shuffled]);
            faults.waits = chance.pick(&[Waits::Short, Waits::Odd]);
            faults.paging = chance.pick(&[Paging::Live, Paging::Snapshot]);
            faults.random_pages = chance.flip();
            faults.odd_header_case = chance.flip();
            faults.status_missing = chance.flip();
            faults.start_lag_ms = chance.pick(&[0, 30_000, 5 * MINUTE_MS]);
        }
        faults
    }

    /// How far back the first listing goes: an hour further than the oldest blob, by a clock that may be ahead.
    pub fn lookback_minutes(&self) -> i64 {
        let ahead = if self.has(Trouble::ClockForward) {
            LONGEST_SKEW_MS
        } else {
            0
        };
        (self.span_ms + HOUR_MS + ahead) / MINUTE_MS
    }

    /// How long everything may take to arrive once nothing goes wrong any more: the longest wait that the product
    /// ever imposes on itself, and the latest blob.
    pub fn patience_ms(&self) -> i64 {
        self.late_ms + 8 * HOUR_MS
    }
}

fn small(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

/// In how many of a thousand runs a kind of trouble is on.
fn rarity(trouble: Trouble) -> u64 {
    match trouble {
        Trouble::Suspension | Trouble::Denial | Trouble::Unsubscribed => 60,
        Trouble::ClockForward | Trouble::ClockBack => 100,
        Trouble::LedgerLies | Trouble::SlowAnswers => 80,
        Trouble::Absence => 30,
        _ => 200,
    }
}
