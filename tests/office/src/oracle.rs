//! Knows what a client owes its sinks: every record that could be had, each as often as it differs.
//!
//! It asks only the office's own model, never the code under test. A record is owed when its blob
//! was sent whole, or can be had now: visible, not expired, not hidden, not withheld, its type
//! permitted. What expired before anybody got it is counted as lost, not as missing.

use std::collections::HashMap;

use crate::kind::ContentType;
use crate::office::Office;
use crate::records::{Blob, Place};
use crate::tenant::{Feed, State, Tenant};
use crate::time::DAY_MS;

/// How many identities of each sort a verdict names.
const SAMPLES: usize = 10;

/// Judges what was delivered, as of one instant.
#[derive(Debug)]
pub struct Oracle<'a> {
    office: &'a Office,
    now: i64,
    only: Option<usize>,
}

/// What came of a delivery.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Events owed, copies not counted.
    pub owed: u64,
    /// Events delivered, each once.
    pub delivered: u64,
    /// Owed and not delivered.
    pub missing: u64,
    /// Delivered more often than there are different records of that Id.
    pub duplicated: u64,
    /// Delivered and never issued to that tenant.
    pub invented: u64,
    /// Expired before anybody got them: not missing, but to be reported as lost.
    pub lost: u64,
    /// Each blob of which something is missing or lost.
    pub absent: Vec<Absent>,
    /// Some of those missing: tenant, content type, number of the blob, event id.
    pub missing_samples: Vec<String>,
    /// Some of those duplicated or invented.
    pub odd_samples: Vec<String>,
}

/// A blob of which something was not delivered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Absent {
    /// The name of its tenant.
    pub tenant: String,
    /// Its content type.
    pub kind: ContentType,
    /// Its number in its feed, which stands in the id that it is listed under.
    pub number: u32,
    /// When it was created.
    pub created_ms: i64,
    /// When listings began to show it.
    pub visible_ms: i64,
    /// Whether the service has forgotten it.
    pub expired: bool,
}

impl Verdict {
    /// Nothing is missing, repeated or invented.
    pub fn is_clean(&self) -> bool {
        self.missing == 0 && self.duplicated == 0 && self.invented == 0
    }

    /// As one JSON object.
    pub fn to_json(&self) -> serde_json::Value {
        serde_json::json!({
            "owed": self.owed, "delivered": self.delivered, "missing": self.missing,
            "duplicated": self.duplicated, "invented": self.invented, "lost": self.lost,
            "missing_samples": self.missing_samples, "odd_samples": self.odd_samples,
        })
    }
}

/// How often each record came: tenant, content type, blob, record.
type Seen = HashMap<(u16, ContentType, u32), Vec<u8>>;

impl<'a> Oracle<'a> {
    pub(crate) fn new(office: &'a Office, now: i64) -> Self {
        Self {
            office,
            now,
            only: None,
        }
    }

    /// The same oracle for one tenant alone; what was delivered for the others is passed over.
    #[must_use]
    pub fn of_tenant(mut self, index: usize) -> Self {
        self.only = Some(index);
        self
    }

    /// How many events are owed now, over all tenants it judges.
    pub fn owed(&self) -> u64 {
        self.check(std::iter::empty::<(&str, &str)>()).owed
    }

    /// Judges deliveries: pairs of tenant and event id.
    ///
    /// A tenant is its name or its directory's GUID. An empty tenant stands for any, for sinks that
    /// do not say it; so does an unknown one when there is a pool, whose records name tenants of
    /// their own.
    pub fn check<T, I>(&self, delivered: impl IntoIterator<Item = (T, I)>) -> Verdict
    where
        T: AsRef<str>,
        I: AsRef<str>,
    {
        let mut verdict = Verdict::default();
        let pooled = self.pooled();
        let mut seen = Seen::new();
        for (tenant, id) in delivered {
            let (tenant, id) = (tenant.as_ref(), id.as_ref());
            let Some(place) = self.place(tenant, id, &pooled, &seen) else {
                verdict.invented += 1;
                note(&mut verdict.odd_samples, || {
                    format!("invented: {tenant} {id}")
                });
                continue;
            };
            if !self.judges(usize::from(place.tenant)) {
                continue;
            }
            let (feed, blob) = self.find(place).expect("place found the blob");
            let counts = seen.entry((place.tenant, place.kind, place.blob));
            let counts = counts.or_insert_with(|| vec![0; blob.count as usize]);
            let count = &mut counts[place.record as usize];
            *count = count.saturating_add(1);
            if *count > feed.maker.variants(blob, place.record) {
                verdict.duplicated += 1;
                note(&mut verdict.odd_samples, || {
                    format!("duplicated: {tenant} {id}")
                });
            } else {
                verdict.delivered += 1;
            }
        }
        self.count_owed(&mut verdict, &seen);
        verdict
    }

    /// When the blob with this number in a feed was created.
    pub fn created(&self, tenant: &str, content_type: &str, number: u32) -> Option<i64> {
        let tenant = self.office.tenants.iter().find(|it| it.name == tenant)?;
        let feeds = &mut tenant.feeds.iter();
        let feed = feeds.find(|feed| feed.maker.kind.name() == content_type)?;
        Some(feed.blobs.get(number as usize)?.created)
    }

    /// The record of a delivered event in every form in which the service issues it, and when its blob was created.
    pub fn issued(&self, tenant: &str, id: &str) -> Option<(i64, Vec<Vec<u8>>)> {
        let place = self.place(tenant, id, &HashMap::new(), &Seen::new())?;
        let (feed, blob) = self.find(place)?;
        Some((blob.created, feed.maker.forms(blob, place.record)))
    }

    fn count_owed(&self, verdict: &mut Verdict, seen: &Seen) {
        let tenants = self.office.tenants.iter().enumerate();
        for (number, tenant) in tenants.filter(|(number, _)| self.judges(*number)) {
            for feed in &tenant.feeds {
                for blob in &feed.blobs {
                    let number = u16::try_from(number).expect("tenants are counted in 16 bits");
                    let counts = seen.get(&(number, feed.maker.kind, blob.index));
                    self.count_blob(verdict, (tenant, feed, blob), counts);
                }
            }
        }
    }

    fn count_blob(
        &self,
        verdict: &mut Verdict,
        (tenant, feed, blob): (&Tenant, &Feed, &Blob),
        counts: Option<&Vec<u8>>,
    ) {
        let owed = self.owes(tenant, feed, blob);
        let lost = !owed && self.lost(tenant, feed, blob);
        if !owed && !lost {
            return;
        }
        let mut absent = false;
        for record in (0..blob.count).filter(|record| feed.maker.is_readable(blob, *record)) {
            let variants = feed.maker.variants(blob, record);
            let count = counts
                .map_or(0, |counts| counts[record as usize])
                .min(variants);
            let short = u64::from(variants - count);
            absent |= short > 0;
            if !owed {
                verdict.lost += short;
                continue;
            }
            verdict.owed += u64::from(variants);
            verdict.missing += short;
            if short > 0 {
                let id = || feed.maker.id(blob, record);
                let (name, kind) = (&tenant.name, feed.maker.kind.name());
                note(&mut verdict.missing_samples, || {
                    format!("{name} {kind} blob {} {}", blob.index, id())
                });
            }
        }
        if absent {
            verdict.absent.push(Absent {
                tenant: tenant.name.clone(),
                kind: feed.maker.kind,
                number: blob.index,
                created_ms: blob.created,
                visible_ms: blob.visible,
                expired: self.now >= blob.created + 7 * DAY_MS,
            });
        }
    }

    fn judges(&self, tenant: usize) -> bool {
        self.only.is_none_or(|only| only == tenant)
    }

    fn owes(&self, tenant: &Tenant, feed: &Feed, blob: &Blob) -> bool {
        let served = &feed.served[blob.index as usize];
        let permitted = Self::permitted(tenant, feed);
        served.whole > 0 || (permitted && feed.offers(blob, self.now) && !feed.withholds(blob))
    }

    fn lost(&self, tenant: &Tenant, feed: &Feed, blob: &Blob) -> bool {
        let expired = self.now >= blob.created + 7 * DAY_MS;
        expired && Self::permitted(tenant, feed) && !feed.hides(blob)
    }

    fn permitted(tenant: &Tenant, feed: &Feed) -> bool {
        let kind = feed.maker.kind;
        feed.subscription.state == State::Enabled
            && tenant.roles.iter().any(|role| role == kind.role())
            && !tenant.denied.contains(&kind)
    }

    /// The places of the pool's Ids: several when two records share one.
    fn pooled(&self) -> HashMap<&'a str, Vec<Place>> {
        let mut places: HashMap<&str, Vec<Place>> = HashMap::new();
        for feed in self.office.tenants.iter().flat_map(|tenant| &tenant.feeds) {
            let Some((pool, _)) = &feed.maker.pool else {
                continue;
            };
            for blob in &feed.blobs {
                for record in 0..blob.count {
                    if let Some(index) = feed.maker.pooled(blob, record) {
                        let place = feed.maker.place(blob, record);
                        places
                            .entry(&pool.records[index].id)
                            .or_default()
                            .push(place);
                    }
                }
            }
        }
        places
    }

    fn place(
        &self,
        tenant: &str,
        id: &str,
        pooled: &HashMap<&str, Vec<Place>>,
        seen: &Seen,
    ) -> Option<Place> {
        let wanted = self
            .office
            .tenants
            .iter()
            .position(|t| t.name == tenant || t.directory_id.eq_ignore_ascii_case(tenant));
        let fits = |place: &Place| wanted.is_none_or(|index| index == usize::from(place.tenant));
        if let Some(places) = pooled.get(id) {
            // Of records that share an Id, the next that has not come yet.
            let fresh = |p: &&Place| {
                let counts = seen.get(&(p.tenant, p.kind, p.blob));
                counts.is_none_or(|counts| counts[p.record as usize] == 0)
            };
            let fitting = || places.iter().filter(|place| fits(place));
            return fitting().find(fresh).or_else(|| fitting().next()).copied();
        }
        if wanted.is_none() && !tenant.is_empty() && pooled.is_empty() {
            return None;
        }
        let place = Place::from_id(self.office.seed, id).filter(fits)?;
        let (feed, blob) = self.find(place)?;
        let issued = place.record < blob.count && feed.maker.pooled(blob, place.record).is_none();
        // A record of a blob that nobody can have seen yet was not issued.
        (issued && blob.visible <= self.now).then_some(place)
    }

    fn find(&self, place: Place) -> Option<(&'a Feed, &'a Blob)> {
        let feed = self
            .office
            .tenants
            .get(usize::from(place.tenant))?
            .feed(place.kind)?;
        Some((feed, feed.blobs.get(place.blob as usize)?))
    }
}

fn note(samples: &mut Vec<String>, text: impl FnOnce() -> String) {
    if samples.len() < SAMPLES {
        samples.push(text());
    }
}
