//! `sluicegate hand-over`: a first start where another collector stands, without a hole.
//!
//! The other one's position is read once, a margin before it becomes the start of each stream, and that is kept in
//! the ledger. What lies between the start and the moment at which the other is switched off is delivered by both.

mod filebeat;
mod o365beat;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::Args;

use super::people::span;
use super::{Done, time_range};
use crate::clock::millis;
use crate::config::unit::Period;
use crate::config::{Auth, Config};
use crate::engine::rfc3339;
use crate::error::{Error, Kind};
use crate::event::StreamKey;
use crate::ledger::sqlite::SqliteLedger;
use crate::ledger::{Commit, Ledger as _, hand_over};
use crate::pipeline::{Prepared, prepare};
use crate::secret::Redactor;
use crate::source::Source as _;

/// Microsoft keeps content for seven days.
const KEPT_MS: i64 = 7 * 24 * 60 * 60 * 1_000;

/// Largest file of another collector that is read.
const MOST_BYTES: u64 = 64 << 20;

/// Start where another collector stands: o365beat or Filebeat. Once, before the first run; needs no network.
///
/// Both may go on side by side for as long as you like. Content published late is listed up to a day after its time,
/// so each stream starts a day (--margin) before the other collector's position: events from there on are delivered
/// by both, and none by neither. Streams for which the other has no position start as the pipeline says.
///
/// Exits 0 when every stream with a position starts there, 1 when some had begun before and were left alone.
#[derive(Args)]
pub(super) struct HandOver {
    /// The pipeline file.
    file: PathBuf,
    #[command(flatten)]
    from: From,
    /// For this tenant; needed with o365beat when the pipeline has several.
    #[arg(long, value_name = "ID")]
    tenant: Option<String>,
    /// How far before the other collector's position to start.
    #[arg(long, value_name = "SPAN", default_value = "24h", value_parser = margin)]
    margin: Duration,
    /// Show what would be done.
    #[arg(long)]
    dry_run: bool,
}

/// Where the position comes from.
#[derive(Args)]
#[group(required = true, multiple = false)]
struct From {
    /// The state file of o365beat (`registry_file_path`, by default `o365beat.state`).
    #[arg(long, value_name = "FILE")]
    o365beat: Option<PathBuf>,
    /// The registry folder of Filebeat (`data/registry/filebeat`) with positions of its `o365audit` input.
    #[arg(long, value_name = "FOLDER")]
    filebeat: Option<PathBuf>,
}

/// How far the other collector is: of which tenant and which stream, unless it is of all.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Position {
    /// The directory's id or domain, as the other was configured.
    directory: Option<String>,
    stream: Option<String>,
    ms: i64,
}

fn margin(text: &str) -> Result<Duration, String> {
    let period = Period::parse(text);
    period
        .map(|period| period.0)
        .ok_or_else(|| "a span is a whole number and one of ms, s, m, h, d, such as `24h`".into())
}

impl HandOver {
    pub async fn run(self, redactor: Arc<Redactor>) -> Done {
        let wrong = |error: Error| vec![error];
        let config = Config::load(&self.file)?;
        let positions = self.from.positions().map_err(wrong)?;
        let runtime = super::runtime(redactor).map_err(wrong)?;
        if !time_range::is_known(&config, &runtime)
            .await
            .map_err(wrong)?
        {
            let what = "the plugin has no `since` in its config, so it cannot start at a time";
            return Err(wrong(Error::config(what).at(&config.source.place)));
        }
        let (folder, horizon) = (config.state_dir.clone(), config.identity_horizon);
        let prepared = prepare(config, &runtime).await?;
        let starts = self.starts(&prepared, &positions).await.map_err(wrong)?;
        let ledger = SqliteLedger::open(&folder, horizon).map_err(wrong)?;
        let now_ms = runtime.clock.now_ms();
        let mut commit = Commit::default();
        let mut begun = false;
        for (key, position_ms) in starts {
            let status = ledger.status(&key).await.map_err(wrong)?;
            if status.watermark_ms.is_some() {
                begun = true;
                println!("{key}: left alone, it has been listed before");
                continue;
            }
            let start_ms = (position_ms - millis(self.margin)).max(0);
            commit
                .positions
                .insert(hand_over(&key), start_ms.cast_unsigned());
            let (position, start) = (rfc3339(position_ms), rfc3339(start_ms));
            println!("{key}: the other stands at {position}, this one starts at {start}");
            if now_ms - position_ms > KEPT_MS {
                let age = span(now_ms - position_ms);
                println!(
                    "  {age} ago: what the service has forgotten since is declared as lost at the \
                     first run"
                );
            }
        }
        if self.dry_run {
            println!("nothing was written");
        } else {
            ledger.commit(commit, now_ms).await.map_err(wrong)?;
        }
        Ok(u8::from(begun))
    }

    /// The other collector's position for each stream that it has one for.
    async fn starts(
        &self,
        prepared: &Prepared,
        positions: &[Position],
    ) -> Result<Vec<(StreamKey, i64)>, Error> {
        let named = |id: &str| self.tenant.as_ref().is_none_or(|tenant| tenant == id);
        let tenants: Vec<_> = prepared
            .tenants()
            .filter(|(tenant, _)| named(&tenant.id))
            .collect();
        let one = tenants.len() == 1;
        let whole = positions
            .iter()
            .any(|position| position.directory.is_none());
        if tenants.is_empty() || (whole && !one) {
            let what = if tenants.is_empty() {
                "no tenant of the pipeline has this id"
            } else {
                "o365beat collects for one tenant, the pipeline for several"
            };
            return Err(Error::new(Kind::Usage, what)
                .at(prepared.file())
                .help("name the tenant with `--tenant ID`"));
        }
        let mut starts = Vec::new();
        for (tenant, source) in tenants {
            let directory = match &tenant.auth {
                Auth::Microsoft(microsoft) => &*microsoft.directory_id,
                _ => "",
            };
            let mine = |position: &&Position| match &position.directory {
                Some(other) => other.eq_ignore_ascii_case(directory) || *other == *tenant.id,
                None => true,
            };
            let streams = source.streams().await.map_err(|failure| {
                Error::config(failure.to_string()).at(format!("tenant `{}`", tenant.id))
            })?;
            for stream in streams {
                let fits = |position: &&Position| {
                    let name = position.stream.as_ref();
                    name.is_none_or(|name| name.eq_ignore_ascii_case(&stream.name))
                };
                // Of several positions the earliest is safe.
                let fitting = positions.iter().filter(mine).filter(fits);
                if let Some(ms) = fitting.map(|position| position.ms).min() {
                    starts.push((StreamKey::new(&tenant.id, &stream.name), ms));
                }
            }
        }
        if starts.is_empty() {
            let what = "the other collector has no position for any stream of this pipeline";
            return Err(Error::config(what).at(prepared.file()).help(
                "its tenant has to be the `directory_id` (or the `id`) of a tenant here, and its \
                 content type one of those configured",
            ));
        }
        Ok(starts)
    }
}

impl From {
    fn positions(&self) -> Result<Vec<Position>, Error> {
        match (&self.o365beat, &self.filebeat) {
            (Some(path), _) => o365beat::read(path).map(|position| vec![position]),
            (None, Some(path)) => filebeat::read(path),
            (None, None) => Ok(Vec::new()),
        }
    }
}

/// Another collector's file, which must not be larger than any that one writes.
fn text(path: &Path) -> Result<String, Error> {
    let read = std::fs::metadata(path).and_then(|file| {
        if file.len() > MOST_BYTES {
            return Err(std::io::Error::other(
                "it is too large for what it should be",
            ));
        }
        std::fs::read_to_string(path)
    });
    read.map_err(|error| {
        Error::config(format!("cannot read `{}`: {error}", path.display()))
            .help("name the file or folder that the other collector keeps its position in")
    })
}
