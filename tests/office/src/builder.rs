//! How an office is described: so many tenants, so much content, which faults.

use std::sync::Arc;
use std::time::Duration;

use crate::faults::Faults;
use crate::kind::ContentType;
use crate::office::Office;
use crate::pool::Pool;
use crate::random::Seed;
use crate::records::Maker;
use crate::tenant::{Feed, Plan, Tenant, deal};

/// Content ids carry a blob's number in six digits.
const MOST_BLOBS_PER_FEED: u32 = 999_999;

/// Describes an office; `build` opens it.
#[derive(Debug)]
pub struct Builder {
    pub(crate) seed: u64,
    tenants: u16,
    blobs: u32,
    events_per_blob: u32,
    mixed: bool,
    kinds: Vec<ContentType>,
    span: Duration,
    later: (u32, Duration),
    pub(crate) latency: Duration,
    pub(crate) page_size: u32,
    pub(crate) token_life: Duration,
    pub(crate) faults: Faults,
    pool: Option<Pool>,
    subscribed: bool,
}

impl Builder {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            seed,
            tenants: 1,
            blobs: 100,
            events_per_blob: 50,
            mixed: false,
            kinds: ContentType::ALL.to_vec(),
            span: Duration::from_hours(24),
            later: (0, Duration::ZERO),
            latency: Duration::ZERO,
            page_size: 20,
            token_life: Duration::from_secs(3_599),
            faults: Faults::none(),
            pool: None,
            subscribed: false,
        }
    }

    /// How many tenants (default 1).
    #[must_use]
    pub fn tenants(mut self, number: u16) -> Self {
        self.tenants = number.max(1);
        self
    }

    /// How many blobs each tenant has at the start, over all content types (default 100).
    #[must_use]
    pub fn blobs(mut self, number: u32) -> Self {
        self.blobs = number;
        self
    }

    /// How many records a blob holds (default 50).
    #[must_use]
    pub fn events_per_blob(mut self, number: u32) -> Self {
        self.events_per_blob = number;
        self
    }

    /// Blobs hold different numbers of records: some none, some one, the others up to so many.
    #[must_use]
    pub fn up_to_events_per_blob(mut self, number: u32) -> Self {
        (self.events_per_blob, self.mixed) = (number, true);
        self
    }

    /// Which content types have content (default all five).
    #[must_use]
    pub fn content_types(mut self, kinds: &[ContentType]) -> Self {
        self.kinds = kinds.to_vec();
        self
    }

    /// The time before the start over which the blobs are spread (default 24 h).
    #[must_use]
    pub fn span(mut self, span: Duration) -> Self {
        self.span = span;
        self
    }

    /// So many more blobs for each tenant, appearing over this time after the start (default none).
    #[must_use]
    pub fn later(mut self, blobs: u32, over: Duration) -> Self {
        self.later = (blobs, over);
        self
    }

    /// The time every answer takes (default 0).
    #[must_use]
    pub fn latency(mut self, latency: Duration) -> Self {
        self.latency = latency;
        self
    }

    /// How many blobs a page lists (default 20).
    #[must_use]
    pub fn page_size(mut self, number: u32) -> Self {
        self.page_size = number.max(1);
        self
    }

    /// How long a token lives (default 3599 s).
    #[must_use]
    pub fn token_life(mut self, life: Duration) -> Self {
        self.token_life = life;
        self
    }

    /// What goes wrong (default nothing).
    #[must_use]
    pub fn faults(mut self, faults: Faults) -> Self {
        self.faults = faults;
        self
    }

    /// Serves these records, each once, instead of invented ones.
    #[must_use]
    pub fn records(mut self, pool: Pool) -> Self {
        self.pool = Some(pool);
        self
    }

    /// Every subscription is already enabled (default: the client must start them).
    #[must_use]
    pub fn subscribed(mut self) -> Self {
        self.subscribed = true;
        self
    }

    /// Opens the office at this instant.
    pub fn build(mut self, now_ms: i64) -> Office {
        let seed = Seed(self.seed);
        let pool = self.pool.take().map(Arc::new);
        let mut hands = pool
            .as_ref()
            .map(|p| deal(p, usize::from(self.tenants), &self.kinds));
        let tenants = (0..self.tenants).map(|index| {
            let mut tenant = Tenant::new(seed, index);
            for (at, kind) in self.kinds.iter().enumerate() {
                let take =
                    |h: &mut Vec<Vec<Vec<u32>>>| std::mem::take(&mut h[usize::from(index)][at]);
                let maker = Maker {
                    seed,
                    tenant: index,
                    kind: *kind,
                    organization: tenant.directory_id.clone(),
                    domain: tenant.domain.clone(),
                    pool: pool.clone().zip(hands.as_mut().map(take)),
                    faults: self.faults.clone(),
                };
                tenant.feeds.push(Feed::new(maker, &self.plan(at, now_ms)));
            }
            tenant
        });
        let tenants = tenants.collect();
        Office::open(self, tenants)
    }

    fn plan(&self, at: usize, now_ms: i64) -> Plan {
        let kinds = u32::try_from(self.kinds.len()).expect("there are five content types");
        let at = u32::try_from(at).expect("there are five content types");
        let share =
            |of: u32| (of / kinds + u32::from(at < of % kinds)).min(MOST_BLOBS_PER_FEED / 2);
        let ms = |time: Duration| i64::try_from(time.as_millis()).unwrap_or(i64::MAX);
        let span_ms = ms(self.span);
        Plan {
            blobs: share(self.blobs),
            events_per_blob: self.events_per_blob,
            mixed: self.mixed,
            from: now_ms - span_ms,
            span_ms,
            later: (share(self.later.0), ms(self.later.1)),
            subscribed: self.subscribed,
        }
    }
}
