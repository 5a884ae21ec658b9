//! Events into streams and lists of Redis, in pipelines.
//!
//! A pipeline's commands succeed and fail one by one, and so do the events. Redis gives the entries of a stream their
//! own ids, so an event that comes again can be known only by a mark beside it: a script adds the event and the mark,
//! or neither, since Redis runs and writes a script as one.

mod link;

use std::sync::Arc;

use async_trait::async_trait;
use redis::{Pipeline, RedisError, Value};
use tokio::time::Instant;

use super::request::{Again, Fate, Outgoing, Reply, RequestSink};
use crate::config::HttpConfig;
use crate::config::sink::redis::{Adding, ListMethod, Redis};
use crate::config::sink::template::Template;
use crate::error::Error;
use crate::secret::Redactor;
use link::Links;

/// Runs a command for the first key unless the second one is there, and sets that for some seconds. The mark comes
/// last: a command that fails leaves none.
const ONCE: &str = "if redis.call('EXISTS',KEYS[2])==1 then return 0 end \
                    redis.call(ARGV[2],KEYS[1],unpack(ARGV,3)) \
                    redis.call('SET',KEYS[2],'','EX',ARGV[1]) return 1";

/// Delivers to Redis.
#[derive(Debug)]
pub struct RedisSink {
    name: String,
    links: Links,
    key: Template,
    adding: Adding,
    /// Seconds.
    remembered: Option<u64>,
}

impl RedisSink {
    /// A sink called `name`, as the config wants it; reads secrets and certificates.
    pub fn new(
        name: &str,
        config: &Redis,
        http: &HttpConfig,
        redactor: &Arc<Redactor>,
    ) -> Result<Self, Error> {
        Ok(Self {
            name: name.to_owned(),
            links: Links::new(name, config, http, redactor)?,
            key: config.key.clone(),
            adding: config.adding,
            remembered: config.deduplicate.map(|time| time.as_secs().max(1)),
        })
    }

    fn pipeline(&self, events: &[Outgoing]) -> Pipeline {
        let mut pipeline = Pipeline::with_capacity(events.len());
        for Outgoing { stream, event, .. } in events {
            let key = self.key.fill(stream, |letter| !letter.is_control());
            let id = event.identity.delivery_id();
            let (command, options) = match self.adding {
                Adding::Stream(None) => ("XADD", Vec::new()),
                Adding::Stream(Some(most)) => {
                    ("XADD", vec!["MAXLEN".into(), "~".into(), most.to_string()])
                }
                Adding::List(ListMethod::Rpush) => ("RPUSH", Vec::new()),
                Adding::List(ListMethod::Lpush) => ("LPUSH", Vec::new()),
            };
            match self.remembered {
                None => pipeline.cmd(command).arg(key),
                Some(seconds) => {
                    let mark = format!("{key}:sent:{id}");
                    let once = pipeline.cmd("EVAL").arg(ONCE).arg(2).arg(key).arg(mark);
                    once.arg(seconds).arg(command)
                }
            };
            pipeline.arg(options);
            if let Adding::Stream(_) = self.adding {
                pipeline.arg("*").arg("id").arg(id).arg("event");
            }
            pipeline.arg(&event.body[..]);
        }
        pipeline.ignore_errors();
        pipeline
    }
}

#[async_trait]
impl RequestSink for RedisSink {
    fn name(&self) -> &str {
        &self.name
    }

    async fn prepare(&self) -> Result<(), Error> {
        self.links.get().await.map(drop)
    }

    async fn send(&self, events: &[Outgoing]) -> Reply {
        let link = match self.links.get().await {
            Ok(link) => link,
            Err(error) => return Reply::Again(Again::trouble(error)),
        };
        let asked_at = Instant::now();
        let pipeline = self.pipeline(events);
        let mut connection = link.connection();
        let answers: Result<Vec<Result<Value, RedisError>>, _> =
            pipeline.query_async(&mut connection).await;
        let answers = match answers {
            Ok(answers) if answers.len() == events.len() => answers,
            Ok(answers) => {
                link.give_up();
                let (some, all) = (answers.len(), events.len());
                let what = format!("the server answers {some} of {all} commands");
                let error = Error::unavailable(what).at(self.links.place());
                return Reply::Again(Again::trouble(error));
            }
            Err(error) => {
                link.give_up();
                let overloaded = error.is_timeout();
                let error = Error::unavailable(format!("the connection fails: {error}"));
                return Reply::Again(Again {
                    error: error.at(self.links.place()),
                    overloaded,
                    retry_after: None,
                });
            }
        };
        let failed: Vec<_> = answers
            .into_iter()
            .enumerate()
            .filter_map(|(index, answer)| answer.err().map(|error| (index, fate(&error))))
            .collect();
        if failed.len() == events.len() {
            // Another server may have taken its place, or what we may do may have changed.
            link.give_up();
        }
        Reply::Taken {
            failed,
            latency: asked_at.elapsed(),
        }
    }
}

/// What becomes of an event that the server did not add. Nothing that Redis complains of is the event's own fault: it
/// is the key, our rights, or the server's state.
fn fate(error: &RedisError) -> Fate {
    let code = error.code().unwrap_or_default();
    let help = match code {
        "WRONGTYPE" => "; the key has something else: check `key` and `data_type`",
        "NOPERM" => "; give the user the right to it",
        "MOVED" | "ASK" => "; this is a cluster: name the node that has the key",
        "READONLY" => "; this is a replica: name the primary",
        _ => "",
    };
    let detail = error.detail().unwrap_or_default();
    Fate::Again {
        reason: format!("the server answers {code} {detail}{help}"),
        overloaded: matches!(code, "OOM" | "BUSY" | "LOADING"),
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::config::{Config, SinkKind};
    use crate::event::{Event, Identity, StreamKey};

    fn check(keys: &str, expected: &[&str]) {
        let text = format!(
            "source: {{ plugin: o365, tenants: [{{ id: a }}] }}\n\
             sinks: [redis: {{ endpoint: 'redis://localhost', key: 'logs:{{tenant}}', {keys} }}]\n"
        );
        let config = Config::parse(std::path::Path::new("a.yaml"), &text, None).unwrap();
        let SinkKind::Redis(redis) = &config.sinks[0].kind else {
            panic!("{config:?}")
        };
        let redactor = Arc::default();
        let sink = RedisSink::new("redis", redis, &config.http, &redactor).unwrap();
        let event = Outgoing {
            stream: StreamKey::new("contoso", "Audit.General"),
            event: Event {
                id: "1".into(),
                fingerprint: 0,
                time_ms: 0,
                body: Bytes::from_static(b"{}"),
                identity: Identity([0; 16]),
            },
            rewritten: None,
        };
        let packed = sink.pipeline(&[event]).get_packed_pipeline();
        let packed = String::from_utf8(packed).unwrap();
        let words: Vec<_> = packed
            .split("\r\n")
            .filter(|word| !word.is_empty() && !word.starts_with(['*', '$']) || *word == "*")
            .collect();
        assert_eq!(words, expected, "{keys}");
    }

    #[test]
    fn an_event_is_an_entry_of_a_stream_or_an_element_of_a_list() {
        let id = "AAAAAAAAAAAAAAAAAAAAAA";
        let key = "logs:contoso";
        check("", &["XADD", key, "*", "id", id, "event", "{}"]);
        check(
            "max_length: 9",
            &[
                "XADD", key, "MAXLEN", "~", "9", "*", "id", id, "event", "{}",
            ],
        );
        check("data_type: list", &["RPUSH", key, "{}"]);
        check("data_type: list, method: lpush", &["LPUSH", key, "{}"]);
        let mark = format!("{key}:sent:{id}");
        check(
            "data_type: list, deduplicate: 1h",
            &["EVAL", ONCE, "2", key, &mark, "3600", "RPUSH", "{}"],
        );
    }
}
