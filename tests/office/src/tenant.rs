//! The customers of the office: their identity, their application, and their feeds of content.

use std::sync::Arc;

use crate::faults::{Fault, Faults, Late};
use crate::kind::ContentType;
use crate::pool::Pool;
use crate::random::{Concern, Seed};
use crate::records::{Blob, LONGEST_RANGE_MS, Maker, guid_of};
use crate::time::DAY_MS;

/// What has become of a tenant's application.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Application {
    /// It works.
    Active,
    /// Its secret has expired (AADSTS7000222).
    SecretExpired,
    /// It was disabled (AADSTS7000112).
    Disabled,
    /// It was never consented to in this tenant (AADSTS700016).
    Absent,
    /// It is known, but has no service principal in this tenant (AADSTS7000229).
    NotConsented,
    /// It belongs to another cloud (AADSTS900382).
    OtherCloud,
}

/// One customer and the application that reads its audit log.
#[derive(Debug)]
pub struct Tenant {
    /// A short name, such as `tenant-07`.
    pub name: String,
    /// The directory's GUID.
    pub directory_id: String,
    /// The application's GUID.
    pub client_id: String,
    /// The application's secret; changing it rotates it.
    pub client_secret: String,
    /// A verified domain, accepted by the login host in place of the GUID.
    pub domain: String,
    /// What has become of the application.
    pub application: Application,
    /// The app roles granted; a token carries those granted when it was issued.
    pub roles: Vec<String>,
    /// Content types that answer AF10001 whatever the roles are.
    pub denied: Vec<ContentType>,
    /// Thumbprints of registered certificates (base64url, SHA-256 or SHA-1 of the DER).
    pub thumbprints: Vec<String>,
    /// Tokens of another issuer that stand for the application, word by word.
    pub federated_tokens: Vec<String>,
    /// From when auditing has taken effect; before, a start finds no such tenant.
    pub auditing_from_ms: i64,
    pub(crate) tag: String,
    pub(crate) feeds: Vec<Feed>,
}

impl Tenant {
    pub(crate) fn new(seed: Seed, index: u16) -> Self {
        let of = seed.of(Concern::Tenant).with(u64::from(index));
        let region = if of.chance(0.5) { "na" } else { "emea" };
        let mut secret = of.with(3).stream();
        Self {
            name: format!("tenant-{index:02}"),
            directory_id: guid_of(of.with(1)),
            client_id: guid_of(of.with(2)),
            // With the characters that a client must encode in a form.
            client_secret: format!("{:x}~+={:x}&%", secret.next(), secret.next()),
            domain: format!("tenant-{index:02}.example.com"),
            application: Application::Active,
            roles: vec!["ActivityFeed.Read".into(), "ActivityFeed.ReadDlp".into()],
            denied: Vec::new(),
            thumbprints: Vec::new(),
            federated_tokens: Vec::new(),
            auditing_from_ms: i64::MIN,
            tag: format!("{region}{:04}", of.with(4).below(90)),
            feeds: Vec::new(),
        }
    }

    pub(crate) fn feed(&self, kind: ContentType) -> Option<&Feed> {
        self.feeds.iter().find(|feed| feed.maker.kind == kind)
    }

    pub(crate) fn feed_mut(&mut self, kind: ContentType) -> Option<&mut Feed> {
        self.feeds.iter_mut().find(|feed| feed.maker.kind == kind)
    }

    /// Gives a subscription a webhook, as another collector of the same application can.
    pub fn set_webhook(&mut self, kind: ContentType, address: &str) {
        if let Some(feed) = self.feed_mut(kind) {
            feed.subscription.webhook = Some(address.to_owned());
        }
    }

    /// Whether the subscription of a content type is enabled.
    pub fn is_subscribed(&self, kind: ContentType) -> bool {
        self.feed(kind)
            .is_some_and(|feed| feed.subscription.state == State::Enabled)
    }

    /// Enables a subscription, as another collector of the same application can.
    pub fn subscribe(&mut self, kind: ContentType) {
        if let Some(feed) = self.feed_mut(kind) {
            feed.subscription.state = State::Enabled;
        }
    }

    /// Disables the subscription of a content type, as an administrator can (AF20023 until started
    /// again).
    pub fn disable(&mut self, kind: ContentType) {
        if let Some(feed) = self.feed_mut(kind) {
            feed.subscription.state = State::Disabled;
        }
    }
}

/// The state of a subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Absent,
    Enabled,
    Disabled,
}

/// One application's subscription to one content type.
#[derive(Clone, Debug)]
pub(crate) struct Subscription {
    pub state: State,
    /// The last start that changed something.
    pub started: i64,
    /// From when its first blobs can be listed.
    pub listed_from: i64,
    /// The last call of start, whatever came of it.
    pub start_called: Option<i64>,
    pub stopped: Option<i64>,
    /// The address of its webhook.
    pub webhook: Option<String>,
    /// Times in which content became available that is never listed.
    pub hidden: Vec<(i64, i64)>,
}

/// What a blob's readers got of it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Served {
    pub whole: u32,
    pub broken: u32,
}

/// One content type of one tenant.
#[derive(Debug)]
pub(crate) struct Feed {
    pub maker: Arc<Maker>,
    /// By creation; a blob's index is its position.
    pub blobs: Vec<Blob>,
    pub served: Vec<Served>,
    pub subscription: Subscription,
}

impl Feed {
    /// Whether the blob can be listed and fetched now.
    pub(crate) fn offers(&self, blob: &Blob, now: i64) -> bool {
        let begun = self.subscription.listed_from <= now;
        begun && blob.visible <= now && now < blob.created + 7 * DAY_MS && !self.hides(blob)
    }

    /// Whether the blob became available while nobody was subscribed.
    pub(crate) fn hides(&self, blob: &Blob) -> bool {
        let within = |(from, to): &(i64, i64)| (*from..*to).contains(&blob.created);
        let open = self
            .subscription
            .stopped
            .is_some_and(|stopped| blob.created >= stopped);
        open || self.subscription.hidden.iter().any(within)
    }

    pub(crate) fn hits(&self, fault: Fault, blob: &Blob) -> bool {
        let feed = (u64::from(self.maker.tenant) << 3) | self.maker.kind as u64;
        let of = self
            .maker
            .seed
            .of(Concern::Blob)
            .with(feed)
            .with(u64::from(blob.index));
        self.maker.faults.hits(fault, of)
    }

    /// Whether the service will never give the blob out, although it lists it.
    pub(crate) fn withholds(&self, blob: &Blob) -> bool {
        [Fault::PoisonError, Fault::PoisonBody, Fault::Gone]
            .iter()
            .any(|f| self.hits(*f, blob))
    }

    /// The earlier blobs of which this one repeats records.
    pub(crate) fn echoes(&self, blob: &Blob) -> Vec<(Blob, Fault)> {
        let mut echoes = Vec::new();
        let faults = &self.maker.faults;
        let at = usize::try_from(blob.index).expect("an index in memory fits usize");
        if faults.rate(Fault::CopyInNext) > 0.0 && at > 0 {
            echoes.push((self.blobs[at - 1], Fault::CopyInNext));
        }
        if faults.rate(Fault::Republished) > 0.0 {
            let edge = |b: &Blob| b.created < blob.created - 5 * DAY_MS;
            let old = self.blobs.partition_point(edge);
            // When the feed is younger than five days, its last blob repeats the first.
            let old = if at + 1 == self.blobs.len() && old == 0 {
                1
            } else {
                old
            };
            if (1..=at).contains(&old) {
                echoes.push((self.blobs[old - 1], Fault::Republished));
            }
        }
        echoes
    }
}

/// How much content a feed gets, and when.
pub(crate) struct Plan {
    pub blobs: u32,
    pub events_per_blob: u32,
    /// Blobs of none, one, and up to so many records, instead of all alike.
    pub mixed: bool,
    pub from: i64,
    pub span_ms: i64,
    /// Blobs after the first `blobs`, spread over this time after `from + span_ms`.
    pub later: (u32, i64),
    pub subscribed: bool,
}

impl Feed {
    pub(crate) fn new(maker: Maker, plan: &Plan) -> Self {
        let (counts, total) = counts(&maker, plan);
        let mut feed = Self {
            maker: Arc::new(maker),
            blobs: Vec::with_capacity(counts.len()),
            served: vec![Served::default(); counts.len()],
            subscription: Subscription {
                state: if plan.subscribed {
                    State::Enabled
                } else {
                    State::Absent
                },
                started: i64::MIN,
                listed_from: i64::MIN,
                start_called: None,
                stopped: None,
                webhook: None,
                hidden: Vec::new(),
            },
        };
        let mut offset = 0;
        for (index, count) in counts.into_iter().enumerate() {
            let index =
                u32::try_from(index).expect("a feed has fewer blobs than a content id counts");
            let blob = feed.blob(index, total, plan, count, offset);
            offset += u64::from(blob.count);
            feed.blobs.push(blob);
        }
        feed
    }

    fn blob(&self, index: u32, total: u32, plan: &Plan, count: u32, offset: u64) -> Blob {
        let maker = &self.maker;
        let feed = (u64::from(maker.tenant) << 3) | maker.kind as u64;
        let of = maker
            .seed
            .of(Concern::Blob)
            .with(feed)
            .with(u64::from(index));
        let (position, number, from, span) = if index < total {
            (index, total, plan.from, plan.span_ms)
        } else {
            (
                index - total,
                plan.later.0,
                plan.from + plan.span_ms,
                plan.later.1,
            )
        };
        // One slot per blob and a place inside it: ordered by index without sorting.
        let slot = span / i64::from(number.max(1));
        let jitter = of.with(9).below(u64::try_from(slot.max(1)).unwrap_or(1));
        let mut created = from + slot * i64::from(position) + i64::try_from(jitter).unwrap_or(0);
        let blank = Blob {
            index,
            created,
            visible: created,
            first_key: created,
            offset,
            count,
        };
        if self.hits(Fault::SameMillisecond, &blank) {
            created = self.blobs.last().map_or(created, |before| before.created);
        }
        let longest = LONGEST_RANGE_MS.unsigned_abs();
        let range = 1 + i64::try_from(of.with(10).below(longest)).unwrap_or(0);
        let visible = created + lag(&maker.faults, of.of(Concern::Late));
        let pooled = maker.pool.is_some();
        let count = if !pooled && self.hits(Fault::EmptyBlob, &blank) {
            0
        } else {
            count
        };
        Blob {
            created,
            visible,
            first_key: created - range,
            count,
            ..blank
        }
    }
}

fn lag(faults: &Faults, of: Seed) -> i64 {
    let below = |bound: i64| {
        let bound = u64::try_from(bound).unwrap_or(1).max(1);
        i64::try_from(of.with(2).below(bound)).unwrap_or(0)
    };
    match faults.late {
        Late::Never => 0,
        Late::Usual if of.with(1).chance(0.95) => below(2_000),
        Late::Usual => below(600_000),
        Late::UpTo(_) if of.with(1).chance(0.8) => below(10_000),
        Late::UpTo(longest) => below(longest),
    }
}

/// How many records each blob holds, and how many of the blobs exist at the start.
fn counts(maker: &Maker, plan: &Plan) -> (Vec<u32>, u32) {
    let wanted = plan.blobs + plan.later.0;
    let Some((pool, list)) = &maker.pool else {
        let of = |index: u32| {
            if plan.mixed {
                mixed(maker, index, plan.events_per_blob)
            } else {
                plan.events_per_blob
            }
        };
        return ((0..wanted).map(of).collect(), plan.blobs);
    };
    let records = u32::try_from(list.len()).expect("a pool in memory is smaller than 2^32 records");
    if records == 0 {
        return (Vec::new(), 0);
    }
    if pool.repeat && u64::from(wanted) * u64::from(plan.events_per_blob) > u64::from(records) {
        return (vec![plan.events_per_blob; wanted as usize], plan.blobs);
    }
    // Every record comes out once: in as many blobs as asked for, more when they would be too
    // large.
    let number = wanted
        .min(records)
        .max(records.div_ceil(plan.events_per_blob.max(1)));
    let of = |index: u32| records / number + u32::from(index < records % number);
    let later = if wanted == 0 {
        0
    } else {
        plan.later.0.min(number - 1)
    };
    ((0..number).map(of).collect(), number - later)
}

/// How many records a blob holds where they differ: one in ten none, one in ten one.
fn mixed(maker: &Maker, index: u32, most: u32) -> u32 {
    let feed = (u64::from(maker.tenant) << 3) | maker.kind as u64;
    let of = maker
        .seed
        .of(Concern::Size)
        .with(feed)
        .with(u64::from(index));
    match of.below(10) {
        0 => 0,
        1 => 1,
        _ => 1 + u32::try_from(of.with(1).below(u64::from(most.max(1)))).unwrap_or(0),
    }
}

/// Deals the pool's records to the tenants' feeds, so that each comes out once.
pub(crate) fn deal(pool: &Pool, tenants: usize, kinds: &[ContentType]) -> Vec<Vec<Vec<u32>>> {
    let mut hands = vec![vec![Vec::new(); kinds.len()]; tenants];
    let general = kinds
        .iter()
        .position(|kind| *kind == ContentType::General)
        .unwrap_or(0);
    for (index, record) in pool.records.iter().enumerate() {
        let kind = kinds
            .iter()
            .position(|kind| *kind == record.kind)
            .unwrap_or(general);
        let index = u32::try_from(index).expect("a pool in memory is smaller than 2^32 records");
        let tenant = index as usize % tenants;
        hands[tenant][kind].push(index);
    }
    hands
}
