//! The client of a Kafka cluster: made when it is needed, thrown away when it is lost or the password may be another.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::KafkaError;
use rdkafka::producer::{FutureProducer, Producer as _};

use crate::config::sink::kafka::Kafka;
use crate::error::Error;
use crate::secret::Redactor;

/// Longest time to see the cluster before it counts as not there.
const REACH: Duration = Duration::from_secs(10);

/// Makes producers.
pub(super) struct Producers {
    place: String,
    config: Kafka,
    redactor: Arc<Redactor>,
    together: Mutex<Option<Arc<Producer>>>,
    alone: Mutex<Option<Arc<Producer>>>,
}

/// How messages for one partition travel.
#[derive(Clone, Copy, Debug)]
pub(super) enum Packing {
    /// As many together as are there: what a broker says, it says of them all.
    Together,
    /// Each for itself.
    Alone,
}

/// One producer.
pub(super) struct Producer {
    client: FutureProducer<Ear>,
    ear: Ear,
}

/// Listens to what the client says, instead of standard error.
#[derive(Clone, Default)]
pub(super) struct Ear(Arc<Mutex<Option<String>>>);

impl Ear {
    fn heard(&self) -> MutexGuard<'_, Option<String>> {
        // What it holds is whole at every step.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ClientContext for Ear {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        tracing::debug!(?level, facility, message, "librdkafka");
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(%error, reason, "librdkafka");
        *self.heard() = Some(reason.to_owned());
    }
}

impl fmt::Debug for Producers {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Producers")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

impl Producer {
    pub fn client(&self) -> &FutureProducer<Ear> {
        &self.client
    }

    /// What the client said last of its connections.
    pub fn trouble(&self) -> Option<String> {
        self.ear.heard().clone()
    }

    /// Whether it can never send again, since it can no longer promise to be idempotent.
    pub fn is_lost(&self) -> bool {
        self.client.client().fatal_error().is_some()
    }
}

impl Producers {
    /// Reads certificates, and the password to see that it is there.
    pub fn new(name: &str, config: &Kafka, redactor: &Arc<Redactor>) -> Result<Self, Error> {
        if let Some((_, _, password)) = &config.sasl
            && let Some(warning) = password.warning()
        {
            tracing::warn!("{warning}");
        }
        let producers = Self {
            place: format!("sink `{name}`"),
            config: config.clone(),
            redactor: redactor.clone(),
            together: Mutex::default(),
            alone: Mutex::default(),
        };
        producers.settings()?;
        Ok(producers)
    }

    /// The producer, or a new one.
    pub fn get(&self, packing: Packing) -> Result<Arc<Producer>, Error> {
        let mut current = self.lock(packing);
        if let Some(producer) = &*current {
            return Ok(producer.clone());
        }
        let ear = Ear::default();
        let mut settings = self.settings()?;
        if let Packing::Alone = packing {
            settings.set("batch.num.messages", "1");
        }
        let made: Result<FutureProducer<Ear>, _> = settings.create_with_context(ear.clone());
        let client = made.map_err(|error| {
            Error::config(format!("a Kafka client cannot be made: {error}"))
                .at(&self.place)
                .help("check `tls` and `sasl`")
        })?;
        let producer = Arc::new(Producer { client, ear });
        *current = Some(producer.clone());
        Ok(producer)
    }

    /// The next request gets another producer.
    pub fn give_up(&self, producer: &Arc<Producer>) {
        for packing in [Packing::Together, Packing::Alone] {
            let mut current = self.lock(packing);
            current.take_if(|known| Arc::ptr_eq(known, producer));
        }
    }

    /// Waits until the cluster answers.
    pub async fn reach(&self) -> Result<(), Error> {
        let producer = self.get(Packing::Together)?;
        let asked = producer.clone();
        let answer = tokio::task::spawn_blocking(move || {
            let client = asked.client.client();
            client.fetch_metadata(None, REACH).map(drop)
        });
        let answer = answer
            .await
            .map_err(|error| Error::internal(format!("asking ended early: {error}")))?;
        answer.map_err(|error| {
            let said = producer.trouble();
            self.give_up(&producer);
            let said = said.map(|said| format!("; {said}")).unwrap_or_default();
            Error::unavailable(format!("cannot reach Kafka: {error}{said}"))
                .at(&self.place)
                .help("check `bootstrap_servers`, `tls` and `sasl`; secrets are read again for each try")
        })
    }

    fn lock(&self, packing: Packing) -> MutexGuard<'_, Option<Arc<Producer>>> {
        let current = match packing {
            Packing::Together => &self.together,
            Packing::Alone => &self.alone,
        };
        // What it holds is whole at every step.
        current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn settings(&self) -> Result<ClientConfig, Error> {
        let config = &self.config;
        let mut settings = ClientConfig::new();
        let timeout = config.delivery.timeout.as_millis().to_string();
        let largest = config.max_message_bytes.to_string();
        settings
            .set("client.id", "sluicegate")
            .set("bootstrap.servers", &config.bootstrap_servers)
            .set("enable.idempotence", "true")
            .set("acks", "all")
            .set("compression.codec", config.compression.name())
            .set("message.max.bytes", &largest)
            .set("message.timeout.ms", &timeout)
            // The same partition for a key as Java's own client.
            .set("partitioner", "murmur2_random")
            // Events come in batches already; this is for what is left of one.
            .set("linger.ms", "5");
        let protocol = match (&config.delivery.tls, &config.sasl) {
            (None, None) => "plaintext",
            (Some(_), None) => "ssl",
            (None, Some(_)) => "sasl_plaintext",
            (Some(_), Some(_)) => "sasl_ssl",
        };
        settings.set("security.protocol", protocol);
        if let Some(tls) = &config.delivery.tls {
            let path = |path: &std::path::Path| path.display().to_string();
            if let Some(file) = &tls.ca_file {
                settings.set("ssl.ca.location", path(file));
            }
            if let Some((certificate, key)) = &tls.identity {
                settings.set("ssl.certificate.location", path(certificate));
                settings.set("ssl.key.location", path(key));
            }
            let checked = tls.verify_certificate.to_string();
            settings.set("enable.ssl.certificate.verification", checked);
            let named = if tls.verify_hostname { "https" } else { "none" };
            settings.set("ssl.endpoint.identification.algorithm", named);
        }
        if let Some((mechanism, user, password)) = &config.sasl {
            let password = password.resolve()?;
            self.redactor.learn(&password);
            settings
                .set("sasl.mechanism", mechanism.name())
                .set("sasl.username", user)
                .set("sasl.password", password.expose());
        }
        Ok(settings)
    }
}
