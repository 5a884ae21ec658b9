//! Adds where addresses are, from `MaxMind` databases: `geo` and `as` beside the `ip` of `source`,
//! `client` and `destination`.
//!
//! A database is read again when its file changes; while it is missing or broken the stage goes on
//! with what it had, or without, and says so once. Private addresses are nowhere. What an event
//! already says is never overwritten, and downloading databases is left to others.

use std::borrow::Cow;
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use async_trait::async_trait;
use maxminddb::geoip2::{Asn, City};
use serde_json::value::RawValue;

use super::json::{self, Additions};
use super::{Stage, Staged, change};
use crate::clock::SharedClock;
use crate::event::Batch;

/// The longest time for which a changed file goes unnoticed: databases change twice a week, looking
/// costs a system call.
const LOOK_EVERY_MS: i64 = 1_000;

/// The objects that have an address of the outer world.
const SIDES: [&str; 3] = ["source", "client", "destination"];

type Reader = maxminddb::Reader<Vec<u8>>;

/// The stage `geoip`.
#[derive(Debug)]
pub struct GeoipStage {
    city: Option<Arc<Database>>,
    asn: Option<Arc<Database>>,
    clock: SharedClock,
}

impl GeoipStage {
    /// Reads the databases: a City or Country database, and one of autonomous systems.
    pub fn new(city: Option<PathBuf>, asn: Option<PathBuf>, clock: SharedClock) -> Self {
        let open = |path: PathBuf| Arc::new(Database::open(path, clock.now_ms()));
        Self {
            city: city.map(open),
            asn: asn.map(open),
            clock,
        }
    }

    async fn current(&self) -> Databases {
        let now_ms = self.clock.now_ms();
        Databases {
            city: match &self.city {
                Some(database) => Database::current(database, now_ms).await,
                None => None,
            },
            asn: match &self.asn {
                Some(database) => Database::current(database, now_ms).await,
                None => None,
            },
        }
    }
}

#[async_trait]
impl Stage for GeoipStage {
    fn name(&self) -> &'static str {
        "geoip"
    }

    async fn apply(&self, batch: Batch) -> Staged {
        let databases = self.current().await;
        change(batch, |body| {
            let added = databases.enrich(body);
            added.map_err(|error| format!("the event is not a JSON object: {error}"))
        })
    }
}

/// A file, and what was read from it last.
#[derive(Debug)]
struct Database {
    path: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    reader: Option<Arc<Reader>>,
    /// What the file was when it was last tried, whether or not that went well.
    stamp: Result<Stamp, String>,
    looked_ms: i64,
}

/// Tells one version of a file from the next.
#[derive(Clone, Debug, PartialEq)]
struct Stamp {
    modified: Option<SystemTime>,
    bytes: u64,
    /// A file that is moved to its place may be as old and as long as the one before.
    inode: u64,
}

impl Stamp {
    fn of(path: &Path) -> Result<Self, String> {
        let found = fs::metadata(path).map_err(|error| error.to_string())?;
        #[cfg(unix)]
        let inode = std::os::unix::fs::MetadataExt::ino(&found);
        #[cfg(not(unix))]
        let inode = 0;
        Ok(Self {
            modified: found.modified().ok(),
            bytes: found.len(),
            inode,
        })
    }
}

impl Database {
    fn open(path: PathBuf, now_ms: i64) -> Self {
        let state = State {
            reader: None,
            stamp: Err(String::new()),
            looked_ms: now_ms,
        };
        let database = Self {
            path,
            state: Mutex::new(state),
        };
        database.look();
        database
    }

    /// The newest database that could be read. Looks at the file when that was not done for a
    /// while.
    async fn current(database: &Arc<Self>, now_ms: i64) -> Option<Arc<Reader>> {
        let due = {
            let mut state = database.state();
            // A clock that was turned back must not stop the looking.
            let due = (now_ms - state.looked_ms).unsigned_abs() >= LOOK_EVERY_MS.unsigned_abs();
            if due {
                state.looked_ms = now_ms;
            }
            due
        };
        if due {
            let database = database.clone();
            // A database has 100 MB: reading it here would hold up everything else. When the look
            // panics, the old database stays.
            let _ = tokio::task::spawn_blocking(move || database.look()).await;
        }
        database.state().reader.clone()
    }

    /// Reads the file when it is not what it was; keeps the old database when the new one cannot be
    /// used.
    fn look(&self) {
        // Before reading: when the file changes meanwhile, the next look sees another stamp.
        let stamp = Stamp::of(&self.path);
        if self.state().stamp == stamp {
            return;
        }
        let read = match &stamp {
            Ok(_) => Reader::open_readfile(&self.path).map_err(|error| error.to_string()),
            Err(error) => Err(error.clone()),
        };
        let mut state = self.state();
        state.stamp = stamp;
        let path = self.path.display();
        match read {
            Ok(reader) => {
                let (kind, made) = (
                    &reader.metadata().database_type,
                    reader.metadata().build_epoch,
                );
                tracing::info!(kind, made, "read the database `{path}`");
                state.reader = Some(Arc::new(reader));
            }
            Err(error) => {
                let instead = match state.reader {
                    Some(_) => "the one read before stays in use",
                    None => "events get nothing from it until it is there",
                };
                tracing::warn!("cannot use the database `{path}`: {error}; {instead}");
            }
        }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The databases that one batch is enriched from.
#[derive(Debug)]
struct Databases {
    city: Option<Arc<Reader>>,
    asn: Option<Arc<Reader>>,
}

impl Databases {
    /// The completed event; `None` when there is nothing to add. Refuses what is no JSON object.
    fn enrich(&self, body: &[u8]) -> Result<Option<Vec<u8>>, serde_json::Error> {
        let mut additions = Additions::new(body);
        for side in json::members(body, SIDES)?.into_iter().flatten() {
            let [ip, geo, system] = json::inner(side, ["ip", "geo", "as"]);
            let Some(address) = ip.and_then(address) else {
                continue;
            };
            let mut members = Vec::new();
            if let (None, Some(city)) = (geo, &self.city) {
                write_geo(&mut members, city, address);
            }
            if let (None, Some(asn)) = (system, &self.asn) {
                write_system(&mut members, asn, address);
            }
            additions.append(side, &members);
        }
        Ok(additions.splice())
    }
}

/// The address of a member `ip`, when it can be somewhere.
fn address(written: &RawValue) -> Option<IpAddr> {
    #[derive(serde::Deserialize)]
    struct Text<'a>(#[serde(borrow)] Cow<'a, str>);
    let Text(text) = serde_json::from_str(written.get()).ok()?;
    let address = text.parse::<IpAddr>().ok()?.to_canonical();
    let nowhere = match address {
        IpAddr::V4(v4) => {
            v4.is_private() || v4.is_loopback() || v4.is_link_local() || v4.is_unspecified()
        }
        IpAddr::V6(v6) => {
            v6.is_unique_local()
                || v6.is_loopback()
                || v6.is_unicast_link_local()
                || v6.is_unspecified()
        }
    };
    (!nowhere).then_some(address)
}

/// What a database has about an address. Damage inside it costs the fields, never the event.
fn look_up<'a, T: serde::Deserialize<'a>>(reader: &'a Reader, address: IpAddr) -> Option<T> {
    match reader.lookup(address).and_then(|found| found.decode()) {
        Ok(found) => found,
        Err(error) => {
            tracing::debug!("a database has an entry that cannot be read: {error}");
            None
        }
    }
}

fn write_geo(out: &mut Vec<u8>, reader: &Reader, address: IpAddr) {
    let Some(found) = look_up::<City<'_>>(reader, address) else {
        return;
    };
    let start = out.len();
    json::name(out, "geo");
    out.push(b'{');
    let empty = out.len();
    let country = found.country.iso_code;
    // The last one is the smallest: counties stand behind their country.
    let region = found.subdivisions.last();
    let member = |out: &mut Vec<u8>, name: &str, value: Option<&str>| {
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            json::text(out, name, value);
        }
    };
    member(out, "city_name", found.city.names.english);
    member(out, "continent_name", found.continent.names.english);
    member(out, "country_iso_code", country);
    member(out, "country_name", found.country.names.english);
    if let (Some(lat), Some(lon)) = (found.location.latitude, found.location.longitude)
        && lat.is_finite()
        && lon.is_finite()
    {
        json::name(out, "location");
        out.extend_from_slice(
            serde_json::json!({ "lat": lat, "lon": lon })
                .to_string()
                .as_bytes(),
        );
    }
    if let (Some(country), Some(region)) = (country, region.and_then(|region| region.iso_code)) {
        member(out, "region_iso_code", Some(&format!("{country}-{region}")));
    }
    member(
        out,
        "region_name",
        region.and_then(|region| region.names.english),
    );
    if out.len() == empty {
        out.truncate(start);
    } else {
        out.push(b'}');
    }
}

fn write_system(out: &mut Vec<u8>, reader: &Reader, address: IpAddr) {
    let Some(found) = look_up::<Asn<'_>>(reader, address) else {
        return;
    };
    let organization = found.autonomous_system_organization;
    if found.autonomous_system_number.is_none() && organization.is_none() {
        return;
    }
    json::name(out, "as");
    out.push(b'{');
    if let Some(number) = found.autonomous_system_number {
        json::name(out, "number");
        out.extend_from_slice(number.to_string().as_bytes());
    }
    if let Some(organization) = organization {
        json::name(out, "organization");
        out.push(b'{');
        json::text(out, "name", organization);
        out.push(b'}');
    }
    out.push(b'}');
}

#[cfg(test)]
mod tests;
