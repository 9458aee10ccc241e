//! Three brokers on loopback, so that a leader can be lost and a partition's history be cut.
//!
//! What one broker cannot show: an unclean election. A node that hangs (SIGSTOP) is out of sync after two seconds and
//! out of the cluster after three. They end with the test process, also when that is killed.

use std::fs;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer, ThreadedProducer};
use rustix::process::Signal;
use tempfile::TempDir;

use super::kafka::{free_ports, java, libs, run};

const NODES: usize = 3;
const PATIENCE: Duration = Duration::from_secs(120);

/// Three nodes, each broker and controller.
pub(crate) struct Cluster {
    _dir: TempDir,
    ports: [u16; NODES],
    nodes: Vec<Child>,
}

impl Cluster {
    /// Three new nodes, answering.
    pub(crate) fn start() -> Cluster {
        let dir = tempfile::Builder::new().prefix("pinfold-cluster-").tempdir().expect("a temporary directory");
        let all = free_ports::<{ NODES * 2 }>();
        let (ports, controllers) = all.split_at(NODES);
        let voters: Vec<String> = (1..).zip(controllers).map(|(id, port)| format!("{id}@127.0.0.1:{port}")).collect();
        let id = format!("MkU3OEVBNTcwNT{:06}Qg", ports[0]);
        let mut nodes = Vec::new();
        for node in 0..NODES {
            let place = dir.path().join(format!("node-{}", node + 1));
            fs::create_dir(&place).expect("a directory");
            let shown = place.display();
            let (port, controller) = (ports[node], controllers[node]);
            let server = format!(
                "process.roles=broker,controller\nnode.id={}\ncontroller.quorum.voters={}\n\
                 controller.listener.names=CONTROLLER\n\
                 listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}\n\
                 advertised.listeners=PLAINTEXT://127.0.0.1:{port}\nlog.dirs={shown}/data\n\
                 replica.lag.time.max.ms=2000\nbroker.session.timeout.ms=3000\nbroker.heartbeat.interval.ms=300\n\
                 auto.create.topics.enable=false\noffsets.topic.replication.factor=1\n\
                 share.coordinator.state.topic.replication.factor=1\nshare.coordinator.state.topic.min.isr=1\n",
                node + 1,
                voters.join(",")
            );
            let config = place.join("server.properties");
            fs::write(&config, server).expect("a file");
            let log4j = "status=error\nrootLogger.level=off\n";
            fs::write(place.join("log4j2.properties"), log4j).expect("a file");
            run(java(&["kafka.tools.StorageTool", "format", "-t", &id, "-c"]).arg(&config));
            let log4j = format!("-Dlog4j2.configurationFile={shown}/log4j2.properties");
            let mut server = Command::new("setpriv");
            server.args(["--pdeathsig", "KILL", "java", "-Xmx384m", "-XX:TieredStopAtLevel=1", &log4j]);
            server.arg("-cp").arg(libs()).arg("kafka.Kafka").arg(&config);
            server.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            nodes.push(server.spawn().expect("java starts"));
        }
        let ports = ports.try_into().expect("as many ports as nodes");
        let cluster = Cluster { _dir: dir, ports, nodes };
        cluster.wait("three brokers", |consumer| {
            consumer.fetch_metadata(None, Duration::from_secs(2)).is_ok_and(|found| found.brokers().len() == NODES)
        });
        cluster
    }

    /// `host:port` of all nodes.
    pub(crate) fn brokers(&self) -> Vec<String> {
        self.ports.iter().map(|port| format!("127.0.0.1:{port}")).collect()
    }

    /// A topic of one partition on these nodes, the first its leader; the next may be one that lacks records.
    pub(crate) fn create_unclean_topic(&self, name: &str, replicas: &[i32]) {
        let topic = NewTopic::new(name, 1, TopicReplication::Variable(std::slice::from_ref(&replicas)))
            .set("unclean.leader.election.enable", "true")
            .set("min.insync.replicas", "1");
        let admin: AdminClient<DefaultClientContext> = self.client().create().expect("a client");
        let options = AdminOptions::new().operation_timeout(Some(PATIENCE)).request_timeout(Some(PATIENCE));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let results = runtime.block_on(admin.create_topics([&topic], &options)).expect("an answer");
        results.into_iter().for_each(|result| drop(result.expect("a topic")));
        self.wait_leader(name, replicas[0], replicas);
    }

    /// Waits until the partition has this leader and exactly these replicas in sync.
    pub(crate) fn wait_leader(&self, topic: &str, leader: i32, in_sync: &[i32]) {
        self.wait(&format!("leader {leader} of {topic}, {in_sync:?} in sync"), |consumer| {
            let Ok(metadata) = consumer.fetch_metadata(Some(topic), Duration::from_secs(2)) else { return false };
            let Some(partition) = metadata.topics().first().and_then(|topic| topic.partitions().first()) else {
                return false;
            };
            let mut isr = partition.isr().to_vec();
            isr.sort_unstable();
            partition.leader() == leader && isr == in_sync
        });
    }

    /// Records with these values, acknowledged by the leader.
    pub(crate) fn produce(&self, topic: &str, values: &[String]) {
        let producer: ThreadedProducer<DefaultProducerContext> =
            self.client().set("acks", "1").create().expect("a producer");
        for value in values {
            let record = BaseRecord::<str, str>::to(topic).partition(0).key("k").payload(value);
            producer.send(record).map_err(|(error, _)| error).expect("queued");
        }
        producer.flush(PATIENCE).expect("acknowledged");
    }

    /// Freezes node `id` or lets it go on.
    pub(crate) fn signal(&self, id: usize, signal: Signal) {
        let pid = rustix::process::Pid::from_child(&self.nodes[id - 1]);
        rustix::process::kill_process(pid, signal).expect("it takes signals");
    }

    fn client(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", self.brokers().join(",")).set("log_level", "2");
        config.set("socket.timeout.ms", "5000").set("reconnect.backoff.max.ms", "500");
        config
    }

    fn wait(&self, what: &str, is_so: impl Fn(&BaseConsumer) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            // A new client each time: one that asks a frozen node would wait for it.
            let consumer: BaseConsumer = self.client().create().expect("a client");
            if is_so(&consumer) {
                return;
            }
            assert!(Instant::now() < deadline, "{what}: not in time");
            // The pace of asking.
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for node in &mut self.nodes {
            drop(node.kill());
            drop(node.wait());
        }
    }
}
