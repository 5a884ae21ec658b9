//! `sluicegate dead-letter`: what no retry can deliver, listed, shown byte for byte, and sent again.
//!
//! Works beside a running collector. Only `replay` changes anything or needs a secret.

mod replay;

use std::io::Write as _;
use std::path::PathBuf;
use std::sync::Arc;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::Done;
use super::people::{json_time, table, time};
use super::time_range::Point;
use crate::clock::{Clock as _, SystemClock};
use crate::config::Config;
use crate::config::unit::Size;
use crate::dead_letter::letter::Letter;
use crate::dead_letter::store::Store;
use crate::error::{Error, Kind};
use crate::secret::Redactor;

/// Look at what no retry can deliver, and send it again.
#[derive(Args)]
pub(super) struct DeadLetter {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// List dead letters, oldest first: where they come from, who refused them, why.
    List(List),
    /// Print one dead letter: its exact bytes on standard output, all else on standard error.
    Show(Show),
    /// Send dead letters again, and take out those that are delivered.
    Replay(replay::Replay),
}

/// Which letters are meant; what is not named does not matter.
#[derive(Args, Clone)]
struct Which {
    /// Of this tenant.
    #[arg(long, value_name = "ID")]
    tenant: Option<String>,
    /// Of this stream, such as `Audit.Exchange`.
    #[arg(long, value_name = "NAME")]
    stream: Option<String>,
    /// Refused for a reason in which this text stands.
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// Refused by this one: `source`, or text such as `sink elasticsearch` or `stage`.
    #[arg(long, value_name = "WHO")]
    by: Option<String>,
    /// Kept since then: `2026-05-02T10:00:00Z`, `2026-05-02` (UTC), or `3d` for three days ago.
    #[arg(long, value_name = "TIME")]
    since: Option<Point>,
    /// This letter, by the name that `list` shows or the beginning of it.
    #[arg(long = "letter", value_name = "NAME")]
    letters: Vec<String>,
}

impl Which {
    fn meant(self) -> impl Fn(&Letter) -> bool + Clone + Send + 'static {
        let since_ms = self.since.map(|since| since.ms(SystemClock.now_ms()));
        move |letter| {
            let refused = &letter.refused;
            let is = |wanted: &Option<String>, value: &str| {
                wanted.as_ref().is_none_or(|wanted| wanted == value)
            };
            let has = |wanted: &Option<String>, value: &str| {
                wanted
                    .as_ref()
                    .is_none_or(|wanted| value.contains(&**wanted))
            };
            let name = || letter.name.to_string();
            is(&self.tenant, &refused.stream.tenant)
                && is(&self.stream, &refused.stream.stream)
                && has(&self.reason, &refused.reason)
                && has(&self.by, &refused.by)
                && since_ms.is_none_or(|since_ms| letter.time_ms >= since_ms)
                && (self.letters.is_empty()
                    || self
                        .letters
                        .iter()
                        .any(|wanted| name().starts_with(&**wanted)))
        }
    }
}

/// List dead letters, oldest first: where they come from, who refused them, why.
#[derive(Args)]
struct List {
    /// Pipeline files.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    #[command(flatten)]
    which: Which,
    /// As JSON, one object a line.
    #[arg(long)]
    json: bool,
}

/// Print one dead letter: its exact bytes on standard output, all else on standard error.
#[derive(Args)]
struct Show {
    /// The pipeline file.
    file: PathBuf,
    /// The letter's name, as `list` shows it, or the beginning of it.
    letter: String,
    /// All of it as one JSON object on standard output; bytes that are no text are in `body_base64`.
    #[arg(long)]
    json: bool,
}

impl DeadLetter {
    pub async fn run(self, redactor: Arc<Redactor>) -> Done {
        match self.command {
            Command::List(list) => list.run(),
            Command::Show(show) => show.run(),
            Command::Replay(replay) => replay.run(redactor).await,
        }
    }
}

/// The letters of a pipeline file.
fn store(config: &Config) -> Store {
    Store::new(&config.dead_letter_dir, &config.name)
}

/// Says that lines were met which are no letters.
fn mention(store: &Store, strange: u64) {
    if strange > 0 {
        let path = store.path().display();
        eprintln!(
            "warning: {strange} line(s) of `{path}` are no dead letters; they are left alone"
        );
    }
}

/// Whoever reads our output may have had enough of it.
fn print(text: &str) -> bool {
    writeln!(std::io::stdout(), "{text}").is_ok()
}

impl List {
    fn run(self) -> Done {
        let meant = self.which.clone().meant();
        for file in &self.files {
            let config = Config::load(file)?;
            let store = store(&config);
            let head = ["letter", "kept", "tenant", "stream", "by", "size", "reason"];
            let mut rows = vec![head.map(str::to_owned).to_vec()];
            let (mut count, mut bytes) = (0_u64, 0_u64);
            let look = |letter: Letter| {
                if !meant(&letter) {
                    return Ok(true);
                }
                count += 1;
                bytes += letter.refused.body.len() as u64;
                if self.json {
                    return Ok(print(&describe(&letter, &config.name).to_string()));
                }
                rows.push(row(&letter));
                Ok(true)
            };
            let strange = store.each(look).map_err(|error| vec![error])?;
            mention(&store, strange);
            if !self.json {
                if count > 0 {
                    print(table(&rows).trim_end());
                }
                let name = &config.name;
                print(&format!(
                    "{name}: {count} dead letter(s), {bytes} bytes in them"
                ));
            }
        }
        Ok(0)
    }
}

fn row(letter: &Letter) -> Vec<String> {
    let refused = &letter.refused;
    vec![
        letter.name.to_string(),
        time(Some(letter.time_ms)),
        refused.stream.tenant.to_string(),
        refused.stream.stream.to_string(),
        refused.by.clone(),
        Size(refused.body.len() as u64).to_string(),
        refused.reason.escape_debug().to_string(),
    ]
}

/// All but the bytes.
fn describe(letter: &Letter, pipeline: &str) -> Value {
    let refused = &letter.refused;
    json!({
        "letter": letter.name.to_string(),
        "pipeline": pipeline,
        "time": json_time(Some(letter.time_ms)),
        "tenant": &*refused.stream.tenant,
        "stream": &*refused.stream.stream,
        "split": &*refused.split,
        "by": refused.by,
        "reason": refused.reason,
        "identity": refused.identity.delivery_id(),
        "event_id": refused.event.as_ref().map(|event| &*event.id),
        "bytes": refused.body.len(),
    })
}

impl Show {
    fn run(self) -> Done {
        let config = Config::load(&self.file)?;
        let store = store(&config);
        let mut found: Option<Letter> = None;
        let look = |letter: Letter| {
            if !letter.name.to_string().starts_with(&self.letter) {
                return Ok(true);
            }
            if found
                .as_ref()
                .is_some_and(|found| found.name != letter.name)
            {
                let what = format!(
                    "several letters have names that begin with `{}`",
                    self.letter
                );
                return Err(Error::new(Kind::Usage, what).help("write more of the name"));
            }
            found = Some(letter);
            Ok(true)
        };
        store.each(look).map_err(|error| vec![error])?;
        let Some(letter) = found else {
            let what = format!("there is no dead letter `{}`", self.letter);
            let help = "`sluicegate dead-letter list FILE` shows those that are there";
            let place = store.path().display();
            return Err(vec![Error::new(Kind::Usage, what).at(place).help(help)]);
        };
        let mut shown = describe(&letter, &config.name);
        let body = &letter.refused.body;
        if self.json {
            match std::str::from_utf8(body) {
                Ok(text) => shown["body"] = text.into(),
                Err(_) => {
                    use base64::Engine as _;
                    let standard = base64::engine::general_purpose::STANDARD;
                    shown["body_base64"] = standard.encode(body).into();
                }
            }
            print(&format!("{shown:#}"));
            return Ok(0);
        }
        eprintln!("{shown:#}");
        let written = std::io::stdout().write_all(body);
        written.map_err(|error| {
            vec![Error::unavailable(format!(
                "cannot write to standard output: {error}"
            ))]
        })?;
        Ok(0)
    }
}
