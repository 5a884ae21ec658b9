//! The real command against the mock cluster of librdkafka, which speaks the real protocol, and a real broker where one
//! can be had (`tests/src/kafka.rs`): nothing is missing whatever breaks, and what comes again is known by its id.

use std::collections::HashSet;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaError;
use rdkafka::message::{Headers as _, Message as _};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use rdkafka::types::RDKafkaRespErr;
use serde_json::Value;
use sluicegate_office::Office;
use sluicegate_tests::kafka::Kafka;
use sluicegate_tests::real_server::{patient_office, torment};
use sluicegate_tests::{Delivered, Ended, Pipeline, Simulated};
use tempfile::TempDir;

use crate::{cache, folder, sluicegate};

const QUICK: &str = "batch: { max_events: 40, timeout: 20ms }, \
                     request: { retry_initial: 20ms, retry_max: 200ms, timeout: 10s }";

const TOPIC: &str = "o365";

const PARTITIONS: i32 = 4;

type Cluster = MockCluster<'static, DefaultProducerContext>;

fn cluster() -> Cluster {
    let cluster = MockCluster::new(1).unwrap();
    cluster.create_topic(TOPIC, PARTITIONS, 1).unwrap();
    cluster
}

/// A real one, unless there is none.
fn broker(folder: &TempDir, more: &str) -> Option<Kafka> {
    Kafka::start(cache(), folder.path(), PARTITIONS, more)
        .inspect_err(|why| eprintln!("skipped: no Kafka to test with: {why}"))
        .ok()
}

fn consumer(servers: &str) -> BaseConsumer {
    ClientConfig::new()
        .set("bootstrap.servers", servers)
        .set("group.id", "tests")
        .set("enable.partition.eof", "true")
        .create()
        .unwrap()
}

/// Messages of the topic; none while the broker is down.
fn count(consumer: &BaseConsumer) -> usize {
    let ends = (0..PARTITIONS).map(|partition| {
        let ends = consumer.fetch_watermarks(TOPIC, partition, Duration::from_secs(1));
        ends.map_or(0, |(_, end)| end)
    });
    usize::try_from(ends.sum::<i64>()).unwrap()
}

/// A message: its partition, its key, its id.
struct Known {
    partition: i32,
    key: String,
    id: String,
}

fn read(servers: &str) -> (Delivered, Vec<Known>) {
    let consumer = consumer(servers);
    let mut from = TopicPartitionList::new();
    for partition in 0..PARTITIONS {
        from.add_partition_offset(TOPIC, partition, Offset::Beginning)
            .unwrap();
    }
    consumer.assign(&from).unwrap();
    let (mut lines, mut known, mut ends) = (Vec::new(), Vec::new(), HashSet::new());
    while ends.len() < usize::try_from(PARTITIONS).unwrap() {
        match consumer.poll(Duration::from_secs(30)).expect("it answers") {
            Ok(message) => {
                lines.extend(message.payload().unwrap());
                lines.push(b'\n');
                let header = message.headers().unwrap().get(0);
                assert_eq!(header.key, "id");
                let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
                known.push(Known {
                    partition: message.partition(),
                    key: text(message.key().unwrap()),
                    id: text(header.value.unwrap()),
                });
            }
            Err(KafkaError::PartitionEOF(partition)) => {
                ends.insert(partition);
            }
            Err(error) => panic!("{error}"),
        }
    }
    (Delivered::parse(&lines), known)
}

fn pipeline(name: &str, office: &Simulated, servers: &str, keys: &str) -> Pipeline {
    Pipeline::o365(name, office).only(&format!(
        "kafka: {{ bootstrap_servers: '{servers}', topic: {TOPIC}, {QUICK}, {keys} }}"
    ))
}

fn once(pipeline: &Pipeline, folder: &TempDir) -> Ended {
    pipeline.give(sluicegate(folder).args("run --once")).run()
}

/// Every event is one message, and all of a key are on one partition.
fn is_whole(servers: &str, folder: &TempDir) {
    let office = Simulated::start(
        Office::builder(151)
            .tenants(2)
            .blobs(30)
            .events_per_blob(10),
    );
    let keys = "key_field: user.id, compression: gzip";
    once(&pipeline("whole", &office, servers, keys), folder)
        .expect(0)
        .says(&["600 event(s) delivered", "0 dead letter(s)"]);
    let (delivered, known) = read(servers);
    let verdict = office.judge(&delivered);
    assert!(verdict.is_clean() && verdict.owed == 600, "{verdict:?}");
    let ids: HashSet<_> = known.iter().map(|known| &known.id).collect();
    assert_eq!(ids.len(), 600);
    let keys: HashSet<_> = known.iter().map(|known| &known.key).collect();
    let places: HashSet<_> = known
        .iter()
        .map(|known| (&known.key, known.partition))
        .collect();
    assert!(
        keys.len() > 2 && keys.len() == places.len(),
        "{}",
        keys.len()
    );
}

/// Kills of us and of the broker lose nothing, and what comes again is known.
fn survives(servers: &str, folder: &TempDir, broker: impl FnMut(bool)) {
    let office = patient_office(152);
    let consumer = consumer(servers);
    torment(
        || sluicegate(folder),
        &pipeline("killed", &office, servers, ""),
        broker,
        || count(&consumer),
    );
    let (delivered, known) = read(servers);
    let verdict = office.judge(&delivered);
    assert_eq!((verdict.missing, verdict.invented), (0, 0), "{verdict:?}");
    // What was under way at a kill comes again, and nothing else does.
    assert!(verdict.duplicated < verdict.owed, "{verdict:?}");
    let ids: HashSet<_> = known.iter().map(|known| &known.id).collect();
    assert_eq!(ids.len(), 2_400);
}

/// Some messages are too large, and these are dead letters; with `keys` of the sink. Gives the dead letters.
fn keeps_what_is_too_large(servers: &str, folder: &TempDir, keys: &str) -> Vec<Value> {
    let office = Simulated::start(Office::builder(153).blobs(20).events_per_blob(10));
    let ended = once(&pipeline("large", &office, servers, keys), folder).expect(0);
    let letters = folder
        .path()
        .join("state/large/dead-letters/large.rejected.ndjson");
    let letters = Delivered::read(&letters).events;
    assert!((1..200).contains(&letters.len()), "{}", letters.len());
    ended.says(&[&format!("{} dead letter(s)", letters.len())]);
    let (mut all, _) = read(servers);
    let bodies = letters.iter().map(|letter| letter["body"].clone());
    all.events.extend(bodies);
    let verdict = office.judge(&all);
    assert!(verdict.is_clean() && verdict.owed == 200, "{verdict:?}");
    letters
}

#[test]
fn every_event_is_one_message_and_a_key_has_one_partition() {
    is_whole(&cluster().bootstrap_servers(), &folder());
}

#[test]
fn a_real_broker_has_every_event_once_and_a_key_on_one_partition() {
    let folder = folder();
    if let Some(broker) = broker(&folder, "") {
        is_whole(&broker.bootstrap_servers(), &folder);
    }
}

#[test]
fn kills_of_us_and_of_the_broker_lose_nothing_and_what_comes_again_is_known() {
    let cluster = cluster();
    survives(&cluster.bootstrap_servers(), &folder(), |on| {
        if on {
            cluster.broker_up(1).unwrap();
        } else {
            cluster.broker_down(1).unwrap();
        }
    });
}

#[test]
fn kills_of_us_and_of_a_real_broker_lose_nothing_and_what_comes_again_is_known() {
    let folder = folder();
    if let Some(mut broker) = broker(&folder, "") {
        survives(&broker.bootstrap_servers(), &folder, |on| broker.switch(on));
    }
}

#[test]
fn a_message_that_is_too_large_is_a_dead_letter() {
    let cluster = cluster();
    keeps_what_is_too_large(
        &cluster.bootstrap_servers(),
        &folder(),
        "max_message_bytes: 2100B",
    );
}

/// It refuses all messages of a request when together they are too large, which none of them need be.
#[test]
fn what_a_real_broker_refuses_is_the_message_that_is_too_large_by_itself() {
    let folder = folder();
    if let Some(broker) = broker(&folder, "message.max.bytes=2100\n") {
        let letters = keeps_what_is_too_large(&broker.bootstrap_servers(), &folder, "");
        for letter in letters {
            let body = letter["body"].to_string();
            assert!(body.len() > 1_900, "{}: {body}", body.len());
        }
    }
}

#[test]
fn a_topic_that_may_not_be_written_to_is_waited_for() {
    let (cluster, folder) = (cluster(), folder());
    let servers = cluster.bootstrap_servers();
    let refused = RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED;
    cluster.topic_error(TOPIC, refused).unwrap();
    let office = Simulated::start(Office::builder(154).blobs(10).events_per_blob(10));
    let running = pipeline("rights", &office, &servers, "")
        .give(sluicegate(&folder).args("run --once"))
        .start();
    running.must_wait("the right to write");
    let fine = RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR;
    cluster.topic_error(TOPIC, fine).unwrap();
    running
        .end()
        .expect(0)
        .says(&["the right to write", "100 event(s) delivered"]);
    let verdict = office.judge(&read(&servers).0);
    assert!(verdict.is_clean() && verdict.owed == 100, "{verdict:?}");
}
