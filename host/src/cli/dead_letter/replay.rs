//! `sluicegate dead-letter replay`: dead letters through stages and sinks once more.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use serde_json::{Value, json};

use super::super::Done;
use super::super::run::stop_on_signal;
use super::{Which, print};
use crate::config::Config;
use crate::dead_letter::letter::Letter;
use crate::error::Kind;
use crate::line::replay::Fate;
use crate::pipeline::replay::{Options, Outcome, Replayer, Target};
use crate::secret::Redactor;

/// Send dead letters again, and take out those that are delivered.
///
/// What a sink refused goes to that sink alone; what a stage refused goes through that stage and those behind it; a
/// record that the source could not map is mapped again. Sinks know the events by the identities that they always had.
/// A letter that is refused again, or that cannot be sent now, stays. A sink that is down is waited for; stop at any
/// time. Runs beside a collector, but for sinks that write files: those need the collector stopped. Exits 0 when all
/// that were meant are gone, 75 when some stay.
#[derive(Args)]
pub(super) struct Replay {
    /// Pipeline files.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    #[command(flatten)]
    which: Which,
    /// To this sink, whoever refused them.
    #[arg(long, value_name = "NAME")]
    sink: Option<String>,
    /// What a sink refused goes through all stages first, such as one that was added to put it right.
    #[arg(long)]
    through_stages: bool,
    /// Only say what would be sent where.
    #[arg(long)]
    dry_run: bool,
    /// As one JSON object for each file.
    #[arg(long)]
    json: bool,
}

/// What became of all letters of a file.
#[derive(Default)]
struct Sums {
    delivered: u64,
    left_out: u64,
    /// Why letters stay, with how many.
    stay: BTreeMap<String, u64>,
    names: Vec<Value>,
}

impl Replay {
    pub async fn run(self, redactor: Arc<Redactor>) -> Done {
        let runtime = crate::cli::runtime(redactor).map_err(|error| vec![error])?;
        let options = Options {
            through_stages: self.through_stages,
            sink: self.sink.clone(),
        };
        let mut replayers = Vec::new();
        for file in &self.files {
            let config = Config::load(file)?;
            let name = config.name.clone();
            let replayer = Replayer::new(config, &runtime, options.clone()).await?;
            replayers.push((name, replayer));
        }
        let stop = stop_on_signal().map_err(|error| vec![error])?;
        let mut code = 0;
        for (name, replayer) in replayers {
            if self.dry_run {
                self.plan(&name, &replayer)?;
                continue;
            }
            let mut sums = Sums::default();
            let meant = self.which.clone().meant();
            let tell = |letter, outcome| sums.add(&letter, outcome);
            let whole = replayer.run(meant, &stop, tell).await?;
            if self.json {
                print(&sums.json(&name, whole).to_string());
            } else {
                sums.show(&name, whole);
            }
            if !whole || !sums.stay.is_empty() {
                code = Kind::Temporary.code();
            }
        }
        Ok(code)
    }

    /// Says what would be sent where.
    fn plan(&self, name: &str, replayer: &Replayer) -> Result<(), Vec<crate::error::Error>> {
        let meant = self.which.clone().meant();
        let mut plan: BTreeMap<String, u64> = BTreeMap::new();
        let look = |letter: Letter| {
            if meant(&letter) {
                let way = match replayer.target(&letter) {
                    Ok(target) => way(&target),
                    Err(why) => format!("stays: {why}"),
                };
                *plan.entry(way).or_default() += 1;
            }
            Ok(true)
        };
        replayer.store().each(look).map_err(|error| vec![error])?;
        if self.json {
            print(&json!({ "pipeline": name, "plan": plan }).to_string());
        } else {
            let all: u64 = plan.values().sum();
            print(&format!("{name}: {all} dead letter(s) would be sent"));
            for (way, count) in &plan {
                print(&format!("  {count} {way}"));
            }
        }
        Ok(())
    }
}

/// A letter's way in words.
fn way(target: &Target) -> String {
    let mapped = if target.mapped {
        "through the mapping, "
    } else {
        ""
    };
    let stages = match target.from_stage {
        Some(0) => "through all stages, ".to_owned(),
        Some(number) => format!("through the stages from number {} on, ", number + 1),
        None => String::new(),
    };
    let sink = match &target.sink {
        Some(name) => format!("to sink `{name}`"),
        None => "to every sink whose condition holds".to_owned(),
    };
    format!("{mapped}{stages}{sink}")
}

impl Sums {
    fn add(&mut self, letter: &Letter, outcome: Outcome) {
        let why = match outcome {
            Outcome::Sent(Fate::Delivered) => return self.delivered += 1,
            Outcome::Sent(Fate::LeftOut) => return self.left_out += 1,
            Outcome::Sent(Fate::Refused { by, reason }) => format!("{by}: {reason}"),
            Outcome::Skipped(why) => why,
        };
        self.names
            .push(json!({ "letter": letter.name.to_string(), "reason": &why }));
        *self.stay.entry(why).or_default() += 1;
    }

    fn show(&self, name: &str, whole: bool) {
        let stay: u64 = self.stay.values().sum();
        let Self {
            delivered,
            left_out,
            ..
        } = self;
        print(&format!(
            "{name}: {delivered} dead letter(s) delivered, {left_out} left out by stages or conditions, {stay} stay"
        ));
        for (why, count) in &self.stay {
            print(&format!("  {count} stay: {}", why.escape_debug()));
        }
        if !whole {
            print("  stopped before the end; what is not delivered stays");
        }
    }

    fn json(&self, name: &str, whole: bool) -> Value {
        json!({
            "pipeline": name,
            "delivered": self.delivered,
            "left_out": self.left_out,
            "stay": self.names,
            "stopped": !whole,
        })
    }
}
