//! The real command against the mock cluster of librdkafka, which speaks the real protocol: nothing is missing whatever
//! breaks, and what comes again is known by its id.

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
use sluicegate_office::Office;
use sluicegate_tests::real_server::{patient_office, torment};
use sluicegate_tests::{Delivered, Ended, Pipeline, Simulated};
use tempfile::TempDir;

use crate::{folder, sluicegate};

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

fn consumer(cluster: &Cluster) -> BaseConsumer {
    ClientConfig::new()
        .set("bootstrap.servers", cluster.bootstrap_servers())
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

fn read(cluster: &Cluster) -> (Delivered, Vec<Known>) {
    let consumer = consumer(cluster);
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

fn pipeline(name: &str, office: &Simulated, cluster: &Cluster, keys: &str) -> Pipeline {
    let servers = cluster.bootstrap_servers();
    Pipeline::o365(name, office).only(&format!(
        "kafka: {{ bootstrap_servers: '{servers}', topic: {TOPIC}, {QUICK}, {keys} }}"
    ))
}

fn once(pipeline: &Pipeline, folder: &TempDir) -> Ended {
    pipeline.give(sluicegate(folder).args("run --once")).run()
}

#[test]
fn every_event_is_one_message_and_a_key_has_one_partition() {
    let (cluster, folder) = (cluster(), folder());
    let office = Simulated::start(
        Office::builder(151)
            .tenants(2)
            .blobs(30)
            .events_per_blob(10),
    );
    let keys = "key_field: user.id, compression: gzip";
    once(&pipeline("whole", &office, &cluster, keys), &folder)
        .expect(0)
        .says(&["600 event(s) delivered", "0 dead letter(s)"]);
    let (delivered, known) = read(&cluster);
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

#[test]
fn kills_of_us_and_of_the_broker_lose_nothing_and_what_comes_again_is_known() {
    let (cluster, folder) = (cluster(), folder());
    let office = patient_office(152);
    let consumer = consumer(&cluster);
    torment(
        || sluicegate(&folder),
        &pipeline("killed", &office, &cluster, ""),
        |on| {
            if on {
                cluster.broker_up(1).unwrap();
            } else {
                cluster.broker_down(1).unwrap();
            }
        },
        || count(&consumer),
    );
    let (delivered, known) = read(&cluster);
    let verdict = office.judge(&delivered);
    assert_eq!((verdict.missing, verdict.invented), (0, 0), "{verdict:?}");
    // What was under way at a kill comes again, and nothing else does.
    assert!(verdict.duplicated < verdict.owed, "{verdict:?}");
    let ids: HashSet<_> = known.iter().map(|known| &known.id).collect();
    assert_eq!(ids.len(), 2_400);
}

#[test]
fn a_message_that_is_too_large_is_a_dead_letter() {
    let (cluster, folder) = (cluster(), folder());
    let office = Simulated::start(Office::builder(153).blobs(20).events_per_blob(10));
    let keys = "max_message_bytes: 2100B";
    let ended = once(&pipeline("large", &office, &cluster, keys), &folder).expect(0);
    let letters = folder
        .path()
        .join("state/large/dead-letters/large.rejected.ndjson");
    let letters = Delivered::read(&letters).events;
    assert!((1..200).contains(&letters.len()), "{}", letters.len());
    ended.says(&[&format!("{} dead letter(s)", letters.len())]);
    let (mut all, _) = read(&cluster);
    all.events
        .extend(letters.into_iter().map(|mut letter| letter["body"].take()));
    let verdict = office.judge(&all);
    assert!(verdict.is_clean() && verdict.owed == 200, "{verdict:?}");
}

#[test]
fn a_topic_that_may_not_be_written_to_is_waited_for() {
    let (cluster, folder) = (cluster(), folder());
    let refused = RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED;
    cluster.topic_error(TOPIC, refused).unwrap();
    let office = Simulated::start(Office::builder(154).blobs(10).events_per_blob(10));
    let running = pipeline("rights", &office, &cluster, "")
        .give(sluicegate(&folder).args("run --once"))
        .start();
    running.must_wait("the right to write");
    let fine = RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR;
    cluster.topic_error(TOPIC, fine).unwrap();
    running
        .end()
        .expect(0)
        .says(&["the right to write", "100 event(s) delivered"]);
    let verdict = office.judge(&read(&cluster).0);
    assert!(verdict.is_clean() && verdict.owed == 100, "{verdict:?}");
}
