//! A real Kafka broker, fetched from Maven Central and started on free ports, where its tests are asked for.
//!
//! `SLUICEGATE_KAFKA=maven` fetches it once (about 40 MB; needs `mvn` and Java 17) and starts it. Without it there is
//! none, and its tests say so; the others have librdkafka's own cluster.

use std::path::Path;
use std::process::Command;

use crate::maven::{self, Artifact};
use crate::real_server::{RealServer, free_port};

const BROKER: Artifact = Artifact {
    group: "org.apache.kafka",
    name: "kafka_2.13",
    version: "4.1.0",
};

/// Any; a cluster of one has nobody to tell it from.
const CLUSTER: &str = "MkU3OEVBNTcwNTJENDM2Qg";

/// A broker, which is its own controller. Stopped with the value.
pub struct Kafka {
    server: RealServer,
}

impl Kafka {
    /// Starts one that keeps its data in `folder` and makes topics of so many partitions; `cache` keeps what was
    /// fetched, `more` are further lines of its properties.
    ///
    /// # Errors
    /// When none is asked for, or it cannot be had.
    pub fn start(cache: &Path, folder: &Path, partitions: i32, more: &str) -> Result<Self, String> {
        if std::env::var("SLUICEGATE_KAFKA").unwrap_or_default() != "maven" {
            return Err("SLUICEGATE_KAFKA is not `maven`".into());
        }
        let jars = maven::jars(cache, BROKER)?;
        let java = |class: &str, more: &[&str]| -> Vec<String> {
            let path = format!("{}/*", jars.display());
            let ours = ["-Xmx256m", "-cp", &path, class];
            let all = ours.iter().chain(more);
            all.map(|text| (*text).into()).collect()
        };
        let file = folder.join("server.properties").display().to_string();
        let server = RealServer::start("java", folder, |port| {
            let properties = properties(folder, port, partitions) + more;
            std::fs::write(&file, properties).expect("the folder can be written");
            let format = ["format", "--cluster-id", CLUSTER, "--config", &file];
            let made = Command::new("java")
                .args(java("kafka.tools.StorageTool", &format))
                .output()
                .expect("java was found");
            let said = String::from_utf8_lossy(&made.stderr);
            assert!(
                made.status.success(),
                "Kafka cannot make its folder: {said}"
            );
            java("kafka.Kafka", &[&file])
        })?;
        Ok(Self { server })
    }

    /// Its address.
    pub fn bootstrap_servers(&self) -> String {
        format!("127.0.0.1:{}", self.server.port())
    }

    /// Kills it, or starts it again.
    ///
    /// # Panics
    /// When it does not start.
    pub fn switch(&mut self, on: bool) {
        self.server.switch(on);
    }
}

fn properties(folder: &Path, port: u16, partitions: i32) -> String {
    let (data, controller) = (folder.join("kafka"), free_port());
    format!(
        "process.roles=broker,controller\n\
         node.id=1\n\
         controller.quorum.voters=1@127.0.0.1:{controller}\n\
         controller.listener.names=CONTROLLER\n\
         listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}\n\
         listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT\n\
         log.dirs={}\n\
         num.partitions={partitions}\n\
         offsets.topic.replication.factor=1\n",
        data.display()
    )
}
