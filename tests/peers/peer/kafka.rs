//! Apache Kafka in KRaft mode, one node, on loopback: what stands for Redpanda in the tests.
//!
//! One PLAINTEXT listener and one SASL_SSL listener (SCRAM-SHA-256, certificates of our own). Its data and ports stay
//! the same over stop, kill and restart. It ends with the test process, also when that is killed.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use rdkafka::admin::{
    AdminClient, AdminOptions, AlterConfig, NewPartitions, NewTopic, ResourceSpecifier, TopicReplication,
};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer, ThreadedProducer};
use rdkafka::{ClientConfig, Message, Offset, TopicPartitionList};
use tempfile::TempDir;

const VERSION: &str = "4.3.1";
const PATIENCE: Duration = Duration::from_secs(120);

/// The user the SASL listener knows.
pub(crate) const USER: &str = "pinfold";
/// That user's password.
pub(crate) const PASSWORD: &str = "correct horse battery staple";

/// One broker.
pub(crate) struct Kafka {
    dir: TempDir,
    plain_port: u16,
    tls_port: u16,
    child: Option<Child>,
}

/// The broker that tests share; each uses topics of its own. Tests that stop a broker start one themselves.
pub(crate) fn shared() -> &'static Kafka {
    static SHARED: OnceLock<Kafka> = OnceLock::new();
    SHARED.get_or_init(|| {
        let (sender, receiver) = std::sync::mpsc::channel();
        // The broker dies with the thread that started it: this one lives as long as the process.
        std::thread::spawn(move || {
            sender.send(Kafka::start()).expect("the test waits");
            loop {
                std::thread::park();
            }
        });
        receiver.recv().expect("a started Kafka")
    })
}

impl Kafka {
    /// A new broker, answering.
    pub(crate) fn start() -> Kafka {
        let mut kafka = Kafka::prepare();
        kafka.restart();
        kafka
    }

    /// A formatted broker that does not run yet.
    pub(crate) fn prepare() -> Kafka {
        let dir = tempfile::Builder::new().prefix("pinfold-kafka-").tempdir().expect("a temporary directory");
        let [plain_port, tls_port, controller_port] = free_ports();
        make_certificates(dir.path());
        write_configuration(dir.path(), plain_port, tls_port, controller_port);
        let kafka = Kafka { dir, plain_port, tls_port, child: None };
        let scram = format!("SCRAM-SHA-256=[name={USER},password={PASSWORD}]");
        let config = kafka.path("server.properties");
        // 16 bytes in base64: every broker is a cluster of its own.
        let cluster = format!("MkU3OEVBNTcwNT{plain_port:06}Qg");
        let mut format = java(&["kafka.tools.StorageTool", "format", "-t", &cluster, "-c"]);
        run(format.arg(config).args(["--add-scram", &scram]));
        kafka
    }

    /// Starts it on its data and ports, and waits until it answers.
    pub(crate) fn restart(&mut self) {
        self.launch();
        let consumer: BaseConsumer = self.client().create().expect("a client");
        let deadline = Instant::now() + PATIENCE;
        while consumer.fetch_metadata(None, Duration::from_secs(2)).is_err() {
            let ended = self.child.as_mut().and_then(|child| child.try_wait().expect("a child"));
            assert!(ended.is_none(), "kafka ended: {}", self.log());
            assert!(Instant::now() < deadline, "kafka does not answer: {}", self.log());
        }
    }

    /// Starts it and does not wait.
    pub(crate) fn launch(&mut self) {
        assert!(self.child.is_none(), "it runs already");
        let log4j = format!("-Dlog4j2.configurationFile={}", self.path("log4j2.properties").display());
        let output = fs::File::create(self.path("output")).expect("an output file");
        // setpriv executes java in its own place: the process id is java's.
        let mut server = Command::new("setpriv");
        server.args(["--pdeathsig", "KILL", "java", "-Xmx512m", "-XX:TieredStopAtLevel=1", &log4j]);
        server.arg("-cp").arg(libs()).arg("kafka.Kafka").arg(self.path("server.properties"));
        server.stdin(Stdio::null()).stderr(output.try_clone().expect("a handle")).stdout(output);
        self.child = Some(server.spawn().expect("java starts"));
    }

    /// Ends it in order.
    pub(crate) fn stop(&mut self) {
        self.end("TERM");
    }

    /// Ends it as a power cut would, as far as the process is concerned.
    pub(crate) fn kill(&mut self) {
        self.end("KILL");
    }

    /// Sends it a signal: stopped, it is a broker that hangs.
    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(self.child.as_ref().expect("a running broker"));
        rustix::process::kill_process(pid, signal).expect("it takes signals");
    }

    fn end(&mut self, signal: &str) {
        if let Some(mut child) = self.child.take() {
            run(Command::new("kill").args(["-s", signal, &child.id().to_string()]));
            child.wait().expect("kafka ends");
        }
    }

    /// `host:port` of the PLAINTEXT listener.
    pub(crate) fn brokers(&self) -> String {
        format!("127.0.0.1:{}", self.plain_port)
    }

    /// `host:port` of the SASL_SSL listener.
    pub(crate) fn tls_brokers(&self) -> String {
        format!("localhost:{}", self.tls_port)
    }

    /// The certificate that signed the broker's.
    pub(crate) fn ca_file(&self) -> PathBuf {
        self.path("ca.crt")
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn log(&self) -> String {
        let read = |name| fs::read_to_string(self.path(name)).unwrap_or_default();
        format!("{}\n{}", read("output"), read("kafka.log"))
    }

    fn client(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", self.brokers()).set("log_level", "2");
        config
    }

    // ---- topics ----

    /// A new topic.
    pub(crate) fn create_topic(&self, name: &str, partitions: i32) {
        let topic = NewTopic::new(name, partitions, TopicReplication::Fixed(1));
        self.admin(async |admin, options| {
            let results = admin.create_topics([&topic], options).await.expect("an answer");
            results.into_iter().for_each(|result| drop(result.expect("a topic")));
        });
    }

    /// Deletes a topic and waits until it is gone.
    pub(crate) fn delete_topic(&self, name: &str) {
        self.admin(async |admin, options| {
            let results = admin.delete_topics(&[name], options).await.expect("an answer");
            results.into_iter().for_each(|result| drop(result.expect("deleted")));
        });
        let consumer: BaseConsumer = self.client().create().expect("a client");
        let is_there = || {
            let metadata = consumer.fetch_metadata(None, Duration::from_secs(10)).expect("metadata");
            metadata.topics().iter().any(|topic| topic.name() == name)
        };
        let deadline = Instant::now() + PATIENCE;
        while is_there() {
            assert!(Instant::now() < deadline, "topic {name} stays");
        }
    }

    /// More partitions for a topic.
    pub(crate) fn grow_topic(&self, name: &str, partitions: usize) {
        let grown = NewPartitions::new(name, partitions);
        self.admin(async |admin, options| {
            let results = admin.create_partitions([&grown], options).await.expect("an answer");
            results.into_iter().for_each(|result| drop(result.expect("grown")));
        });
    }

    /// Sets an option of a topic.
    pub(crate) fn set_topic(&self, name: &str, option: &str, value: &str) {
        let config = AlterConfig::new(ResourceSpecifier::Topic(name)).set(option, value);
        self.admin(async |admin, options| {
            let results = admin.alter_configs([&config], options).await.expect("an answer");
            results.into_iter().for_each(|result| drop(result.expect("set")));
        });
    }

    /// Sets several options of a topic at once: setting one alone would reset the others.
    pub(crate) fn set_topic_options(&self, name: &str, values: &[(&str, &str)]) {
        let config = AlterConfig::new(ResourceSpecifier::Topic(name));
        let config = values.iter().fold(config, |config, (option, value)| config.set(option, value));
        self.admin(async |admin, options| {
            let results = admin.alter_configs([&config], options).await.expect("an answer");
            results.into_iter().for_each(|result| drop(result.expect("set")));
        });
    }

    /// Waits until compaction has taken a record of the topic, which `touch` makes it look at.
    pub(crate) fn wait_compacted(&self, topic: &str, touch: impl Fn()) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            touch();
            let consumer: BaseConsumer = self.client().set("group.id", "looks").create().expect("a client");
            let mut list = TopicPartitionList::new();
            list.add_partition_offset(topic, 0, Offset::Beginning).expect("an offset");
            consumer.assign(&list).expect("assigned");
            let first = consumer.poll(Duration::from_secs(10)).expect("a record").expect("read");
            if first.offset() > 0 {
                return;
            }
            assert!(Instant::now() < deadline, "topic {topic} is not compacted");
            // The pace of looking.
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    /// Deletes what lies before an offset, as retention does.
    pub(crate) fn delete_records(&self, topic: &str, partition: i32, before: i64) {
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(topic, partition, Offset::Offset(before)).expect("an offset");
        self.admin(async |admin, options| {
            admin.delete_records(&list, options).await.expect("deleted");
        });
    }

    fn admin(&self, ask: impl AsyncFnOnce(&AdminClient<DefaultClientContext>, &AdminOptions)) {
        let admin: AdminClient<DefaultClientContext> = self.client().create().expect("a client");
        let options = AdminOptions::new().operation_timeout(Some(PATIENCE)).request_timeout(Some(PATIENCE));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(ask(&admin, &options));
    }

    // ---- records ----

    /// Records with these values, acknowledged.
    pub(crate) fn produce(&self, topic: &str, partition: i32, values: &[String]) {
        let producer: ThreadedProducer<DefaultProducerContext> =
            self.client().set("linger.ms", "5").create().expect("a producer");
        send(&producer, topic, partition, values);
        producer.flush(PATIENCE).expect("acknowledged");
    }

    /// Records in one transaction, committed or aborted.
    pub(crate) fn transaction(&self, topic: &str, partition: i32, values: &[String], is_committed: bool) {
        let id = format!("{topic}-{partition}");
        let producer: ThreadedProducer<DefaultProducerContext> =
            self.client().set("transactional.id", id).create().expect("a producer");
        producer.init_transactions(PATIENCE).expect("a producer id");
        producer.begin_transaction().expect("begun");
        send(&producer, topic, partition, values);
        // Without it nothing of an aborted transaction would be in the log.
        producer.flush(PATIENCE).expect("acknowledged");
        let ended =
            if is_committed { producer.commit_transaction(PATIENCE) } else { producer.abort_transaction(PATIENCE) };
        ended.expect("the transaction ended");
    }
}

impl Drop for Kafka {
    fn drop(&mut self) {
        self.kill();
    }
}

fn send(producer: &ThreadedProducer<DefaultProducerContext>, topic: &str, partition: i32, values: &[String]) {
    for value in values {
        let record = BaseRecord::<str, str>::to(topic).partition(partition).key("k").payload(value);
        producer.send(record).map_err(|(error, _)| error).expect("queued");
    }
}

/// `count` values that say where they come from.
pub(crate) fn values(prefix: &str, count: usize) -> Vec<String> {
    (0..count).map(|number| format!("{prefix}-{number}")).collect()
}

pub(super) fn libs() -> String {
    let peers = std::env::var_os("PINFOLD_PEERS").map_or_else(
        || PathBuf::from(std::env::var_os("HOME").expect("HOME")).join(".cache/pinfold-peers"),
        PathBuf::from,
    );
    let libs = peers.join(format!("kafka-{VERSION}/libs"));
    assert!(libs.is_dir(), "Kafka is not installed in {}: run scripts/peers/kafka", libs.display());
    format!("{}/*", libs.display())
}

pub(super) fn java(args: &[&str]) -> Command {
    let mut java = Command::new("java");
    java.args(["-XX:TieredStopAtLevel=1", "-cp", &libs()]).args(args);
    java
}

pub(super) fn run(command: &mut Command) {
    let output = command.output().expect("a program");
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {text}{}", String::from_utf8_lossy(&output.stdout));
}

/// Ports that were free a moment ago, all different.
pub(super) fn free_ports<const N: usize>() -> [u16; N] {
    let listeners = [(); N].map(|()| TcpListener::bind("127.0.0.1:0").expect("a port"));
    listeners.map(|listener| listener.local_addr().expect("an address").port())
}

/// A CA, and a certificate of localhost with its key in one PEM file, as Kafka wants it.
fn make_certificates(dir: &Path) {
    let openssl = |args: &str| run(Command::new("openssl").args(args.split(' ')).current_dir(dir));
    let key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
    openssl(&format!("req -x509 {key} -keyout ca.key -out ca.crt -subj /CN=pinfold-test -days 2"));
    openssl(&format!("req {key} -keyout server.key -out server.csr -subj /CN=localhost"));
    fs::write(dir.join("names"), "subjectAltName=DNS:localhost,IP:127.0.0.1").expect("a file");
    openssl("x509 -req -in server.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 2 -extfile names -out server.crt");
    let read = |name| fs::read_to_string(dir.join(name)).expect("made by openssl");
    fs::write(dir.join("server.pem"), read("server.key") + &read("server.crt") + &read("ca.crt")).expect("a file");
}

fn write_configuration(dir: &Path, plain: u16, tls: u16, controller: u16) {
    let shown = dir.display();
    let listeners = format!("PLAINTEXT://127.0.0.1:{plain},SASL_SSL://localhost:{tls}");
    let server = format!(
        "process.roles=broker,controller\nnode.id=1\n\
         controller.quorum.voters=1@127.0.0.1:{controller}\ncontroller.listener.names=CONTROLLER\n\
         listeners={listeners},CONTROLLER://127.0.0.1:{controller}\nadvertised.listeners={listeners}\n\
         listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SASL_SSL:SASL_SSL\n\
         inter.broker.listener.name=PLAINTEXT\nlog.dirs={shown}/data\n\
         sasl.enabled.mechanisms=SCRAM-SHA-256\n\
         listener.name.sasl_ssl.scram-sha-256.sasl.jaas.config=\
         org.apache.kafka.common.security.scram.ScramLoginModule required;\n\
         ssl.keystore.type=PEM\nssl.keystore.location={shown}/server.pem\n\
         offsets.topic.replication.factor=1\noffsets.topic.num.partitions=1\n\
         transaction.state.log.replication.factor=1\ntransaction.state.log.min.isr=1\n\
         transaction.state.log.num.partitions=1\n\
         share.coordinator.state.topic.replication.factor=1\nshare.coordinator.state.topic.min.isr=1\n\
         group.initial.rebalance.delay.ms=0\ngroup.min.session.timeout.ms=1000\n\
         auto.create.topics.enable=false\nlog.cleaner.backoff.ms=300\n\
         broker.session.timeout.ms=1000\nbroker.heartbeat.interval.ms=200\n"
    );
    fs::write(dir.join("server.properties"), server).expect("a file");
    let log4j = format!(
        "status=error\nappender.file.type=File\nappender.file.name=F\nappender.file.fileName={shown}/kafka.log\n\
         appender.file.layout.type=PatternLayout\nappender.file.layout.pattern=%d %p %m (%c)%n\n\
         rootLogger.level=warn\nrootLogger.appenderRef.f.ref=F\n"
    );
    fs::write(dir.join("log4j2.properties"), log4j).expect("a file");
}
