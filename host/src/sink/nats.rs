//! Events as messages of a NATS JetStream, each once.
//!
//! Every message carries the event's identity as its `Nats-Msg-Id`, so the stream knows what it has: an answer that
//! says so is as good as any. A connection that breaks, or that the server complains on, is thrown away with all that
//! is under way on it; the next request makes a new one, with the credential as it is then.

mod answer;
mod link;

use std::sync::Arc;
use std::time::Duration;

use async_nats::{Client, HeaderMap, Request, RequestErrorKind};
use async_trait::async_trait;
use futures::future::join_all;
use tokio::time::Instant;

use super::request::{Again, Fate, Outgoing, Reply, RequestSink};
use crate::config::HttpConfig;
use crate::config::sink::nats::Nats;
use crate::config::sink::template::Template;
use crate::error::Error;
use crate::secret::Redactor;
use link::Links;

/// The header by which a stream knows a message.
const MESSAGE_ID: &str = "Nats-Msg-Id";

/// What to do when nothing listens on a subject.
const NO_STREAM: &str = "create a stream with that subject (`nats stream add`), and see that JetStream is enabled for \
                         the account";

/// Delivers to JetStream.
#[derive(Debug)]
pub struct NatsSink {
    name: String,
    links: Links,
    subject: Template,
    timeout: Duration,
}

/// Why a message was not taken.
enum Trouble {
    /// What becomes of its event.
    Fate(Fate),
    /// No stream takes this subject.
    NoStream(String),
}

impl NatsSink {
    /// A sink called `name`, as the config wants it; reads secrets and certificates.
    pub fn new(
        name: &str,
        config: &Nats,
        http: &HttpConfig,
        redactor: &Arc<Redactor>,
    ) -> Result<Self, Error> {
        Ok(Self {
            name: name.to_owned(),
            links: Links::new(name, config, http, redactor)?,
            subject: config.subject.clone(),
            timeout: config.delivery.timeout,
        })
    }

    async fn publish(&self, client: &Client, outgoing: &Outgoing) -> Result<(), Trouble> {
        let Outgoing { stream, event, .. } = outgoing;
        let subject = self.subject.fill(stream, is_token);
        let mut headers = HeaderMap::new();
        headers.insert(MESSAGE_ID, event.identity.delivery_id());
        let request = Request::new()
            .payload(event.body.clone())
            .headers(headers)
            .timeout(Some(self.timeout));
        let error = match client.send_request(subject.clone(), request).await {
            Ok(message) => return answer::read(&message.payload, &subject).map_err(Trouble::Fate),
            Err(error) => error,
        };
        Err(match error.kind() {
            RequestErrorKind::NoResponders => Trouble::NoStream(subject),
            RequestErrorKind::MaxPayloadExceeded => Trouble::Fate(Fate::Refused(format!(
                "the message is larger than the server takes (`max_payload`): {error}"
            ))),
            RequestErrorKind::TimedOut => Trouble::Fate(Fate::Again {
                reason: format!(
                    "no acknowledgement within {} seconds",
                    self.timeout.as_secs()
                ),
                overloaded: true,
            }),
            _ => Trouble::Fate(Fate::Again {
                reason: error.to_string(),
                overloaded: false,
            }),
        })
    }

    fn judge(&self, answers: Vec<Result<(), Trouble>>, latency: Duration) -> Reply {
        let none = answers.iter().all(Result::is_err);
        let mut failed = Vec::new();
        for (index, answer) in answers.into_iter().enumerate() {
            let fate = match answer {
                Ok(()) => continue,
                Err(Trouble::Fate(fate)) => fate,
                Err(Trouble::NoStream(subject)) => {
                    let reason = format!("no stream takes subject `{subject}`");
                    if none {
                        let error = Error::unavailable(reason).at(self.links.place());
                        return Reply::Again(Again::trouble(error.help(NO_STREAM)));
                    }
                    Fate::Again {
                        reason,
                        overloaded: false,
                    }
                }
            };
            failed.push((index, fate));
        }
        Reply::Taken { failed, latency }
    }
}

#[async_trait]
impl RequestSink for NatsSink {
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
        let messages = events
            .iter()
            .map(|event| self.publish(link.client(), event));
        tokio::select! {
            answers = join_all(messages) => self.judge(answers, asked_at.elapsed()),
            why = link.broken() => {
                let error = Error::unavailable(why).at(self.links.place());
                Reply::Again(Again::trouble(error))
            }
        }
    }
}

/// What a token of a subject may have.
fn is_token(letter: char) -> bool {
    letter.is_ascii_graphic() && !".*>".contains(letter)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::StreamKey;

    #[test]
    fn nothing_of_a_name_becomes_a_wildcard_or_a_token_of_its_own() {
        let stream = StreamKey::new("contoso.example", "Audit.*>ä");
        let text = "source: { plugin: o365, tenants: [{ id: a }] }\n\
            sinks: [nats: { endpoints: ['nats://localhost'], subject: 'logs.{tenant}.{stream}' }]\n";
        let file = std::path::Path::new("a.yaml");
        let config = crate::config::Config::parse(file, text, None).unwrap();
        let crate::config::SinkKind::Nats(nats) = &config.sinks[0].kind else {
            panic!("{config:?}")
        };
        assert_eq!(
            nats.subject.fill(&stream, is_token),
            "logs.contoso_example.Audit____"
        );
    }
}
