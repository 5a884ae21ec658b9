//! `sluicegate transform`: records from anywhere, through the real component, to events.
//!
//! Reads NDJSON, one JSON array or wrapped records from standard input as they arrive; writes one event a line, in
//! the order of the records. Memory does not grow with the input: every queue here is a few batches long.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::io::{self, IsTerminal as _, Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use bytestring::ByteString;
use clap::Args;
use indicatif::ProgressBar;
use serde::de::IgnoredAny;
use sluicegate_records::{Item, Limits as SplitLimits, Splitter, Stop};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::{Done, progress};
use crate::capability::Grants;
use crate::error::Error;
use crate::event::{Event, Identity};
use crate::pipeline::Runtime;
use crate::plugin::{self, Export, Outcome, Plugin, PluginTransform, Transformed};
use crate::sandbox::Limits;
use crate::secret::Redactor;
use crate::stage::user_agent::UserAgents;

/// What is read from standard input at a time.
const CHUNK_BYTES: usize = 1 << 20;

/// Records handed to the component in one call.
const BATCH_BYTES: usize = 512 << 10;
const BATCH_RECORDS: usize = 1_000;

/// Exit code when some records could not become events (`EX_DATAERR`).
const DATA_ERROR: u8 = 65;

/// Map records on standard input to events on standard output. Exits 65 when some could not be mapped.
#[derive(Args)]
pub(super) struct Transform {
    /// `o365`, or the path of a component that exports `transform`.
    #[arg(long, default_value = "o365")]
    plugin: String,
    /// The plugin's config, one JSON object.
    #[arg(long, default_value = "{}")]
    config: String,
    /// Which mapping: newer, 1.7.1, o365beat or raw (`profile` in the config).
    #[arg(long)]
    profile: Option<String>,
    /// What happens to records that break a rule: robust or reference (`error_mode` in the config).
    #[arg(long)]
    error_mode: Option<String>,
    /// Takes user agents apart, as the stage `user_agent` does. On for the ECS profiles of `o365`.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true,
        default_missing_value = "true")]
    user_agent: Option<bool>,
    /// Where records that could not be mapped are kept, one JSON object a line.
    #[arg(long)]
    rejected: Option<PathBuf>,
}

/// What was read and written.
#[derive(Default)]
struct Sums {
    bytes: u64,
    records: u64,
    events: u64,
    dropped: u64,
    rejected: u64,
}

/// Records for one call, or bytes that are no record.
enum Piece {
    Records(Vec<Event>),
    Bad(Bytes, String),
}

impl Transform {
    pub async fn run(self, redactor: Arc<Redactor>) -> Done {
        let wrong = |error: Error| vec![error];
        let runtime = super::runtime(redactor).map_err(wrong)?;
        let mapper = Arc::new(self.mapper(&runtime).await.map_err(wrong)?);
        let rejected = match &self.rejected {
            None => None,
            Some(path) => Some(std::fs::File::create(path).map_err(|error| {
                let what = format!("cannot write `{}`: {error}", path.display());
                vec![Error::unavailable(what)]
            })?),
        };
        let started = Instant::now();
        // Events on the same terminal would run through the bar.
        let hidden = io::stdout().is_terminal();
        let bar = (!hidden).then(|| progress::bytes(input_bytes())).flatten();
        // Two batches wait while each core maps one: the reader never starves the component.
        let (sender, pieces) = mpsc::channel(4);
        let reader = tokio::task::spawn_blocking(move || read(&sender));
        let mut output = Output {
            rejected,
            sums: Sums::default(),
            started,
            bar,
        };
        let mapped = map(mapper, pieces, &mut output).await;
        if let Some(bar) = output.bar.take() {
            bar.finish_and_clear();
        }
        mapped.map_err(wrong)?;
        let ended = reader.await.map_err(|error| {
            wrong(Error::internal(format!(
                "reading standard input panicked: {error}"
            )))
        })?;
        output.finish(ended.map_err(wrong)?)
    }

    async fn mapper(&self, runtime: &Runtime) -> Result<Mapper, Error> {
        let mut config: serde_json::Map<String, serde_json::Value> =
            serde_json::from_str(&self.config).map_err(|error| {
                Error::config(format!("`--config` is not a JSON object: {error}"))
            })?;
        for (key, value) in [("profile", &self.profile), ("error_mode", &self.error_mode)] {
            if let Some(value) = value {
                config.insert(key.into(), value.as_str().into());
            }
        }
        let agents = self.user_agent.unwrap_or_else(|| {
            let profile = config
                .get("profile")
                .map_or(Some("newer"), |profile| profile.as_str());
            self.plugin == "o365" && matches!(profile, Some("newer" | "1.7.1"))
        });
        let config = serde_json::Value::Object(config).to_string();
        let bytes = plugin::read(&self.plugin, std::path::Path::new(""))?;
        // The built-in component imports HTTP for its other half; a transform has no way to use it.
        let grants = Grants {
            http: self.plugin == "o365",
            wasi: false,
        };
        let plugin = Plugin::load(&runtime.sandbox, &self.plugin, &bytes, grants).await?;
        let found = plugin.check_config(Export::Transform, &config).await?;
        if let Some(found) = found.into_iter().find(|found| found.fatal) {
            return Err(Error::config(found.what)
                .at(format!("config{}", found.pointer))
                .help(found.help));
        }
        let limits = Limits {
            memory_bytes: 256 << 20,
            ..Limits::default()
        };
        Ok(Mapper {
            transform: PluginTransform::new(plugin, config, limits, runtime.clock.clone())?,
            agents: agents.then(UserAgents::default),
            nobody: "".into(),
        })
    }
}

/// What every record goes through.
struct Mapper {
    transform: PluginTransform,
    agents: Option<UserAgents>,
    /// The records are of no tenant in particular.
    nobody: Arc<str>,
}

impl Mapper {
    async fn map(&self, records: &[Event]) -> Result<Transformed, Error> {
        let applied = self.transform.apply(&self.nobody, records).await;
        let mut transformed = applied.map_err(|failure| Error::internal(failure.to_string()))?;
        if let Some(agents) = &self.agents {
            for event in &mut transformed.events {
                if let Cow::Owned(enriched) = agents.enrich(&event.body) {
                    event.body = Bytes::from(enriched);
                }
            }
        }
        Ok(transformed)
    }
}

/// How much there is to read, where it is a file.
fn input_bytes() -> Option<u64> {
    let input = io::stdin().as_fd().try_clone_to_owned().ok()?;
    let about = std::fs::File::from(input).metadata().ok()?;
    about.is_file().then_some(about.len())
}

/// Splits standard input; returns how many bytes it had.
fn read(pieces: &mpsc::Sender<Piece>) -> Result<u64, Error> {
    let mut input = io::stdin().lock();
    let mut splitter = splitter();
    let mut gather = Gather {
        pieces,
        buffer: BytesMut::new(),
        lengths: Vec::new(),
    };
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut bytes = 0;
    let malformed = |stop: Stop<Gone>| match stop {
        Stop::Malformed(malformed) => Error::config(format!(
            "standard input cannot be split into records: {malformed}"
        )),
        Stop::Caller(Gone) => Error::internal("the mapping ended before the input"),
    };
    loop {
        let count = match input.read(&mut chunk) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => {
                return Err(Error::unavailable(format!(
                    "cannot read standard input: {error}"
                )));
            }
        };
        bytes += count as u64;
        splitter
            .push(&chunk[..count], |item| gather.take(item))
            .map_err(malformed)?;
    }
    splitter
        .finish(|item| gather.take(item))
        .map_err(malformed)?;
    gather
        .hand_over()
        .map_err(|Gone| malformed(Stop::Caller(Gone)))?;
    Ok(bytes)
}

/// Goes on behind damage: every byte comes out, as a record or as what is rejected.
fn splitter() -> Splitter {
    Splitter::new(SplitLimits {
        salvage: true,
        ..SplitLimits::default()
    })
}

/// A record or an array of them, written as a text once more.
fn json_in_text(bytes: &[u8]) -> Option<String> {
    let text: String = serde_json::from_slice(bytes).ok()?;
    let container = text.trim_start().starts_with(['{', '[']);
    let json = container.then(|| serde_json::from_str::<IgnoredAny>(&text));
    json?.ok().map(|_| text)
}

/// Nobody takes pieces any more.
struct Gone;

/// Copies records into one buffer until it is worth a call.
struct Gather<'a> {
    pieces: &'a mpsc::Sender<Piece>,
    buffer: BytesMut,
    lengths: Vec<usize>,
}

impl Gather<'_> {
    fn take(&mut self, item: Item<'_>) -> Result<(), Gone> {
        match item {
            Item::Record(bytes) | Item::Recovered(bytes) => {
                self.buffer.extend_from_slice(bytes);
                self.lengths.push(bytes.len());
                if self.buffer.len() >= BATCH_BYTES || self.lengths.len() >= BATCH_RECORDS {
                    self.hand_over()?;
                }
                Ok(())
            }
            Item::Bad {
                bytes,
                offset,
                reason,
            } => {
                if let Some(text) = json_in_text(bytes) {
                    return self.unfold(&text);
                }
                self.hand_over()?;
                let reason = format!("{reason} at byte {offset}");
                self.send(Piece::Bad(Bytes::copy_from_slice(bytes), reason))
            }
        }
    }

    /// The records in a text.
    fn unfold(&mut self, text: &str) -> Result<(), Gone> {
        let mut splitter = splitter();
        let split = splitter
            .push(text.as_bytes(), |item| self.take(item))
            .and_then(|()| splitter.finish(|item| self.take(item)));
        // The text is JSON, so nothing of it is malformed.
        split.map_err(|_| Gone)
    }

    fn hand_over(&mut self) -> Result<(), Gone> {
        if self.lengths.is_empty() {
            return Ok(());
        }
        let mut bytes = std::mem::take(&mut self.buffer).freeze();
        let records = self.lengths.drain(..).map(|length| Event {
            id: ByteString::from_static("-"),
            fingerprint: 0,
            time_ms: 0,
            body: bytes.split_to(length),
            identity: Identity([0; 16]),
        });
        let records = records.collect();
        self.send(Piece::Records(records))
    }

    fn send(&self, piece: Piece) -> Result<(), Gone> {
        self.pieces.blocking_send(piece).map_err(|_| Gone)
    }
}

type Mapping = JoinHandle<Result<(Vec<Event>, Transformed), Error>>;

/// A piece on its way, in the order of the input.
enum Waiting {
    Mapping(Mapping),
    Bad(Bytes, String),
}

/// Maps pieces on every core and writes what comes of them in order.
async fn map(
    mapper: Arc<Mapper>,
    mut pieces: mpsc::Receiver<Piece>,
    output: &mut Output,
) -> Result<(), Error> {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let mut waiting: VecDeque<Waiting> = VecDeque::new();
    loop {
        let piece = if waiting.len() <= cores {
            pieces.recv().await
        } else {
            None
        };
        match piece {
            Some(Piece::Bad(bytes, reason)) => waiting.push_back(Waiting::Bad(bytes, reason)),
            Some(Piece::Records(records)) => {
                let mapper = mapper.clone();
                waiting.push_back(Waiting::Mapping(tokio::spawn(async move {
                    let transformed = mapper.map(&records).await?;
                    Ok((records, transformed))
                })));
            }
            None => match waiting.pop_front() {
                None => return output.flush(),
                Some(Waiting::Bad(bytes, reason)) => {
                    output.sums.records += 1;
                    output.reject(&bytes, &reason)?;
                }
                Some(Waiting::Mapping(mapping)) => {
                    let mapped = mapping.await;
                    let (records, transformed) = mapped.map_err(|error| {
                        Error::internal(format!("the mapping panicked: {error}"))
                    })??;
                    output.write(&records, &transformed)?;
                }
            },
        }
    }
}

struct Output {
    rejected: Option<std::fs::File>,
    sums: Sums,
    started: Instant,
    /// Progress, when someone looks.
    bar: Option<ProgressBar>,
}

impl Output {
    fn write(&mut self, records: &[Event], transformed: &Transformed) -> Result<(), Error> {
        let Transformed { events, outcomes } = transformed;
        self.sums.records += records.len() as u64;
        self.sums.bytes += records
            .iter()
            .map(|record| record.body.len() as u64)
            .sum::<u64>();
        self.sums.events += events.len() as u64;
        for (record, outcome) in records.iter().zip(outcomes) {
            match outcome {
                Outcome::Made(_) => {}
                Outcome::Dropped(_) => self.sums.dropped += 1,
                Outcome::Rejected(reason) => self.reject(&record.body, reason)?,
            }
        }
        let size = events.iter().map(|event| event.body.len() + 1).sum();
        let mut lines = Vec::with_capacity(size);
        for event in events {
            lines.extend_from_slice(&event.body);
            lines.push(b'\n');
        }
        io::stdout()
            .write_all(&lines)
            .map_err(|error| unwritable(&error))?;
        self.show();
        Ok(())
    }

    fn reject(&mut self, bytes: &[u8], reason: &str) -> Result<(), Error> {
        self.sums.rejected += 1;
        match &mut self.rejected {
            None => tracing::error!(record = self.sums.records, "{reason}"),
            Some(file) => {
                let record = String::from_utf8_lossy(bytes);
                let line = serde_json::json!({ "reason": reason, "record": record });
                writeln!(file, "{line}").map_err(|error| unwritable(&error))?;
            }
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Error> {
        io::stdout().flush().map_err(|error| unwritable(&error))
    }

    fn show(&self) {
        if let Some(bar) = &self.bar {
            bar.set_position(self.sums.bytes + self.sums.records);
            bar.set_message(progress::rate(self.sums.events, self.started.elapsed()));
        }
    }

    #[allow(clippy::cast_precision_loss, reason = "a rate for people")]
    fn rate(&self, bytes: u64) -> f64 {
        bytes as f64 / 1e6 / self.started.elapsed().as_secs_f64().max(1e-6)
    }

    #[allow(clippy::cast_precision_loss, reason = "a size for people")]
    fn finish(self, bytes: u64) -> Done {
        let Sums {
            records,
            events,
            dropped,
            rejected,
            ..
        } = self.sums;
        eprintln!(
            "{records} record(s), {events} event(s), {dropped} dropped, {rejected} rejected, \
             {:.1} MB in {:.2} s ({:.1} MB/s)",
            bytes as f64 / 1e6,
            self.started.elapsed().as_secs_f64(),
            self.rate(bytes)
        );
        Ok(if rejected == 0 { 0 } else { DATA_ERROR })
    }
}

fn unwritable(error: &io::Error) -> Error {
    Error::unavailable(format!("cannot write what was mapped: {error}"))
}
