//! What became of the splits and events of each stream since the start.
//!
//! Events are counted at the commit that makes them so, therefore the sums agree with the ledger's at any moment that
//! nothing is under way. Sums over all streams are kept apart: a tenant that leaves takes its own counters with it and
//! nothing from the sums.

use std::collections::BTreeMap;
use std::ops::AddAssign;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::event::StreamKey;
use crate::ledger::Counts;
use crate::source::Failure;

/// Why a call of a source failed: Vector's words where it has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorType {
    /// The origin did not answer, or not as it should.
    Request,
    /// The origin does not let us in.
    Authentication,
    /// A person has to change something.
    Configuration,
    /// The content is gone.
    Lost,
    /// The plugin says that it has a defect.
    Plugin,
    /// The sandbox ended the call.
    Sandbox,
}

impl ErrorType {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Request,
        Self::Authentication,
        Self::Configuration,
        Self::Lost,
        Self::Plugin,
        Self::Sandbox,
    ];

    /// What it is called wherever it is exported.
    pub fn name(self) -> &'static str {
        match self {
            Self::Request => "request_failed",
            Self::Authentication => "authentication_failed",
            Self::Configuration => "configuration_failed",
            Self::Lost => "content_lost",
            Self::Plugin => "plugin_failed",
            Self::Sandbox => "sandbox_fault",
        }
    }

    /// What a failure is; being cancelled is none.
    pub(crate) fn of(failure: &Failure) -> Option<Self> {
        Some(match failure {
            Failure::Retry { .. } => Self::Request,
            Failure::Unauthorised(_) => Self::Authentication,
            Failure::Misconfigured(_) => Self::Configuration,
            Failure::SplitLost(_) => Self::Lost,
            Failure::Internal(_) => Self::Plugin,
            Failure::Fault(_) => Self::Sandbox,
            Failure::Cancelled => return None,
        })
    }
}

/// Counters of one stream, or sums over many.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StreamCounts {
    /// Events, as the ledger counts them.
    pub events: Counts,
    /// Records that the source handed over because they could not become events.
    pub rejected: u64,
    /// Bytes of events that the source handed over.
    pub read_bytes: u64,
    /// Bytes of events as the sinks got them.
    pub delivered_bytes: u64,
    /// Splits found for the first time.
    pub discovered: u64,
    /// Splits committed as delivered.
    pub delivered: u64,
    /// Splits set aside.
    pub quarantined: u64,
    /// Losses declared.
    pub lost: u64,
    /// Failed calls, in the order of [`ErrorType::ALL`].
    pub errors: [u64; ErrorType::ALL.len()],
}

impl AddAssign for StreamCounts {
    fn add_assign(&mut self, other: Self) {
        self.events += other.events;
        self.rejected += other.rejected;
        self.read_bytes += other.read_bytes;
        self.delivered_bytes += other.delivered_bytes;
        self.discovered += other.discovered;
        self.delivered += other.delivered;
        self.quarantined += other.quarantined;
        self.lost += other.lost;
        for (count, more) in self.errors.iter_mut().zip(other.errors) {
            *count += more;
        }
    }
}

impl StreamCounts {
    /// A call that failed.
    pub fn failure(failure: &Failure) -> Self {
        let mut counts = Self::default();
        if let Some(kind) = ErrorType::of(failure) {
            counts.errors[kind as usize] = 1;
        }
        counts
    }
}

/// The counters of every stream of a pipeline.
#[derive(Debug, Default)]
pub struct Streams(Mutex<Sums>);

#[derive(Debug, Default)]
struct Sums {
    streams: BTreeMap<StreamKey, StreamCounts>,
    all: StreamCounts,
}

impl Streams {
    /// Adds to a stream's counters, and to the sums.
    pub fn add(&self, stream: &StreamKey, counts: StreamCounts) {
        let mut sums = self.lock();
        sums.all += counts;
        if let Some(known) = sums.streams.get_mut(stream) {
            *known += counts;
        } else {
            sums.streams.insert(stream.clone(), counts);
        }
    }

    /// Adds to the sums what is no single stream's.
    pub fn add_to_all(&self, counts: StreamCounts) {
        self.lock().all += counts;
    }

    /// Sums over all streams, those of tenants that are gone included.
    pub fn all(&self) -> StreamCounts {
        self.lock().all
    }

    /// Each stream's counters; forgets those of tenants that `runs` denies.
    pub fn each(&self, runs: impl Fn(&str) -> bool) -> BTreeMap<StreamKey, StreamCounts> {
        let mut sums = self.lock();
        sums.streams.retain(|key, _| runs(&key.tenant));
        sums.streams.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Sums> {
        // Nothing in here can fail half-way.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenant_that_leaves_takes_its_own_counters_and_nothing_from_the_sums() {
        let streams = Streams::default();
        let counts = StreamCounts {
            discovered: 3,
            ..StreamCounts::failure(&Failure::Fault("spins".into()))
        };
        for tenant in ["contoso", "fabrikam"] {
            streams.add(&StreamKey::new(tenant, "Audit.General"), counts);
        }
        streams.add_to_all(StreamCounts::failure(&Failure::Cancelled));
        let left = streams.each(|tenant| tenant == "contoso");
        let left: Vec<_> = left.keys().map(|key| key.tenant.to_string()).collect();
        assert_eq!(left, ["contoso"]);
        assert_eq!(streams.all().discovered, 6);
        assert_eq!(streams.all().errors, [0, 0, 0, 0, 0, 2]);
    }

    #[test]
    fn each_kind_of_error_stands_at_its_own_place() {
        for (index, kind) in ErrorType::ALL.into_iter().enumerate() {
            assert_eq!(kind as usize, index, "{}", kind.name());
        }
    }
}
