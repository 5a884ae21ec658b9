//! `sluicegate tap`: events of a running collector as they pass.
//!
//! The collector never waits for whoever looks: what comes faster than it is read or asked for is left out and counted.

use std::io::{self, Write as _};
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use clap::{Args, ValueEnum};
use http_body_util::BodyExt as _;
use serde_json::Value;
use serde_json::value::RawValue;
use url::form_urlencoded::Serializer;

use super::{Done, ask::Target};
use crate::config::unit::Period;
use crate::error::{Error, Kind};
use crate::secret::Redactor;

/// Longest line that is taken from the collector: the largest event, its escapes and its place.
const LINE_BYTES: usize = 256 << 20;

/// Watch events of a running collector as they pass. It needs the collector's API: `api: {}` in its file.
#[derive(Args)]
pub(super) struct Tap {
    /// Where to look: `source`, `stage_1`, the name of a sink. Without one: what any sink is given, each event once.
    #[arg(value_name = "POINT")]
    points: Vec<String>,
    /// Only this pipeline.
    #[arg(long)]
    pipeline: Option<String>,
    /// Only this tenant.
    #[arg(long)]
    tenant: Option<String>,
    /// Only this stream, such as `Audit.Exchange`.
    #[arg(long)]
    stream: Option<String>,
    /// Only events whose field has this value, such as `event.action=user-logged-in`; several must all hold.
    #[arg(long = "where", value_name = "FIELD=VALUE")]
    conditions: Vec<String>,
    /// End after so many events.
    #[arg(long, value_name = "NUMBER")]
    limit: Option<u64>,
    /// End after this time, such as `30s`; an hour at most.
    #[arg(long, value_name = "TIME")]
    duration: Option<String>,
    /// Most events a second.
    #[arg(long, value_name = "NUMBER", default_value_t = 100)]
    rate: u64,
    /// How events are written.
    #[arg(long, value_enum, default_value_t = Format::Ndjson)]
    format: Format,
    /// With each event where it was seen: pipeline, tenant, stream and point.
    #[arg(long)]
    meta: bool,
    #[command(flatten)]
    target: Target,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// One line for each.
    Ndjson,
    /// Over several lines, for people.
    Json,
}

/// What the collector says at the end.
#[derive(Debug, Default, serde::Deserialize)]
struct End {
    shown: u64,
    over_rate: u64,
    missed: u64,
}

impl Tap {
    pub async fn run(self, redactor: Arc<Redactor>) -> Done {
        let query = self.query().map_err(|error| vec![error])?;
        let collector = self.target.collector(&redactor)?;
        let path = format!("/tap?{query}");
        let response = collector.get(&path).await.map_err(|error| vec![error])?;
        tracing::info!(collector = collector.address(), "watching");
        let mut body = response.into_body();
        let mut lines = Lines::default();
        let mut shown = 0;
        loop {
            let frame = tokio::select! {
                frame = body.frame() => frame,
                _ = tokio::signal::ctrl_c() => break,
            };
            let data = match frame {
                None => break,
                Some(Ok(frame)) => frame.into_data().unwrap_or_default(),
                Some(Err(_)) => {
                    let what = format!("the collector at `{}` is gone", collector.address());
                    return Err(vec![Error::unavailable(what)]);
                }
            };
            lines.add(&data).map_err(|error| vec![error])?;
            while let Some(line) = lines.next() {
                match self.tell(&line).map_err(|error| vec![error])? {
                    Told::Event => shown += 1,
                    Told::Nothing => {}
                    Told::End(end) => {
                        summarise(&end);
                        return Ok(0);
                    }
                    Told::Closed => return Ok(0),
                }
            }
        }
        eprintln!("{shown} event(s) shown");
        Ok(0)
    }

    fn query(&self) -> Result<String, Error> {
        let mut query = Serializer::new(String::new());
        let parts = [
            ("pipeline", &self.pipeline),
            ("tenant", &self.tenant),
            ("stream", &self.stream),
        ];
        for (key, value) in parts {
            if let Some(value) = value {
                query.append_pair(key, value);
            }
        }
        self.points.iter().for_each(|point| {
            query.append_pair("at", point);
        });
        for condition in &self.conditions {
            query.append_pair("where", condition);
        }
        if let Some(limit) = self.limit {
            query.append_pair("limit", &limit.to_string());
        }
        if let Some(text) = &self.duration {
            let time = Period::parse(text).ok_or_else(|| {
                let what = format!("`{text}` is not a time");
                Error::new(Kind::Usage, what).help("write it like `30s` or `5m`")
            })?;
            query.append_pair("seconds", &time.0.as_secs().max(1).to_string());
        }
        query.append_pair("rate", &self.rate.to_string());
        Ok(query.finish())
    }

    /// Prints what a line says.
    fn tell(&self, line: &[u8]) -> Result<Told, Error> {
        #[derive(serde::Deserialize)]
        struct Line<'l> {
            #[serde(borrow)]
            event: Option<&'l RawValue>,
            end: Option<End>,
        }
        if line.is_empty() {
            return Ok(Told::Nothing);
        }
        let parsed: Line<'_> = serde_json::from_slice(line).map_err(|error| {
            Error::unavailable(format!("the collector's answer cannot be read: {error}"))
        })?;
        if let Some(end) = parsed.end {
            return Ok(Told::End(end));
        }
        let Some(event) = parsed.event else {
            return Ok(Told::Nothing);
        };
        let text = if self.meta {
            line
        } else {
            event.get().as_bytes()
        };
        let printed = match self.format {
            Format::Ndjson => print(text),
            Format::Json => match serde_json::from_slice::<Value>(text) {
                Ok(value) => print(format!("{value:#}").as_bytes()),
                Err(_) => print(text),
            },
        };
        match printed {
            Ok(()) => Ok(Told::Event),
            // Whoever reads has enough: `sluicegate tap | head`.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(Told::Closed),
            Err(error) => {
                let what = format!("cannot write to standard output: {error}");
                Err(Error::unavailable(what))
            }
        }
    }
}

enum Told {
    Event,
    Nothing,
    End(End),
    /// Nobody reads what is printed.
    Closed,
}

fn print(text: &[u8]) -> io::Result<()> {
    let mut output = io::stdout().lock();
    output.write_all(text)?;
    output.write_all(b"\n")?;
    output.flush()
}

fn summarise(end: &End) {
    let End {
        shown,
        over_rate,
        missed,
    } = end;
    eprintln!("{shown} event(s) shown");
    if over_rate + missed > 0 {
        eprintln!(
            "  {over_rate} more were over `--rate`, {missed} came faster than they could be taken; \
             the collector delivered them all the same"
        );
    }
}

/// Puts lines together from what arrives.
#[derive(Default)]
struct Lines(BytesMut);

impl Lines {
    fn add(&mut self, data: &Bytes) -> Result<(), Error> {
        if self.0.len() + data.len() > LINE_BYTES {
            return Err(Error::unavailable(
                "the collector's answer has no end of line",
            ));
        }
        self.0.extend_from_slice(data);
        Ok(())
    }

    fn next(&mut self) -> Option<Bytes> {
        let end = memchr::memchr(b'\n', &self.0)?;
        let mut line = self.0.split_to(end + 1);
        line.truncate(end);
        Some(line.freeze())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_put_together_from_pieces() {
        let mut lines = Lines::default();
        lines.add(&Bytes::from_static(b"a\n\nb")).unwrap();
        assert_eq!(lines.next().unwrap(), "a");
        assert_eq!(lines.next().unwrap(), "");
        assert!(lines.next().is_none());
        lines.add(&Bytes::from_static(b"c\n")).unwrap();
        assert_eq!(lines.next().unwrap(), "bc");
    }
}
