//! What a Kafka source is configured with, and what it does not let anybody configure.
//!
//! Exactly-once and bounded memory rest on a dozen settings of librdkafka; those are ours. Everything else (TLS, SASL,
//! time-outs, racks) is passed through unread, except secrets, which come from files.

use std::collections::BTreeMap;
use std::path::Path;

use rdkafka::ClientConfig;
use regex::Regex;
use zeroize::Zeroizing;

use super::super::{SourceError, is_secret};

/// A Kafka source as configured.
#[derive(Clone)]
pub struct Options {
    /// The source's name in the configuration.
    pub name: String,
    /// `host:port` of some brokers.
    pub brokers: Vec<String>,
    /// Who decides which partitions are ours.
    pub assignment: Assignment,
    /// The topics to read.
    pub topics: Vec<TopicFilter>,
    /// Where to begin in a partition this log has never read.
    pub start: Start,
    /// Whether other logs read the same topics through the same group: then a partition begins at the group's
    /// committed offset where that is beyond our own, and the difference is a gap `other member`.
    pub is_shared: bool,
    /// Options of librdkafka, passed through; `x_file` names a file that holds the secret option `x`.
    pub librdkafka: BTreeMap<String, String>,
}

/// Who decides which partitions are ours.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Assignment {
    /// The broker's group protocol (cooperative-sticky).
    Group {
        /// `group.id`.
        group: String,
        /// `group.instance.id`: the same at every start of this member, another for every other member.
        instance: String,
    },
    /// All partitions of all topics, without a group: nothing is committed to the broker.
    Static,
}

/// Topics by name or by pattern.
#[derive(Clone, Debug)]
pub enum TopicFilter {
    /// Exactly this topic; that it is missing is trouble.
    Name(String),
    /// Every topic whose name matches.
    Pattern(Regex),
}

impl TopicFilter {
    /// Whether a topic of this name is meant. Topics of the broker's own (`__...`) only by their exact name.
    pub fn is_match(&self, topic: &str) -> bool {
        match self {
            TopicFilter::Name(name) => name == topic,
            TopicFilter::Pattern(pattern) => !topic.starts_with("__") && pattern.is_match(topic),
        }
    }
}

/// Where to begin in a partition this log has never read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Start {
    /// At the oldest record.
    Earliest,
    /// After the newest record.
    Latest,
    /// At the first record of this time or later, in milliseconds since the Unix epoch.
    At(i64),
}

/// Settings nobody else may set otherwise: option, our value, what breaks with another.
const FIXED: [(&str, &str, &str); 12] = [
    ("enable.auto.commit", "false", "group offsets follow the log's own positions"),
    ("enable.auto.offset.store", "false", "group offsets follow the log's own positions"),
    ("auto.offset.reset", "error", "a position never moves silently"),
    ("isolation.level", "read_committed", "aborted records are no facts"),
    ("check.crcs", "true", "what is signed must be what the producer sent"),
    ("allow.auto.create.topics", "false", "a misspelt topic must be seen, not made"),
    ("enable.partition.eof", "true", "the end of a partition decides when a log is idle"),
    ("partition.assignment.strategy", "cooperative-sticky", "partitions are handed over one by one"),
    ("group.protocol", "classic", "static membership is fenced by the classic protocol"),
    ("queued.max.messages.kbytes", "16384", "memory is bounded here"),
    ("fetch.queue.backoff.ms", "10", "the bound on memory would cost the speed"),
    ("statistics.interval.ms", "1000", "lag comes from the statistics"),
];

/// Settings that are options of the source itself, or that cannot work here.
const REFUSED: [(&str, &str); 11] = [
    ("bootstrap.servers", "use `brokers`"),
    ("metadata.broker.list", "use `brokers`"),
    ("group.id", "use `group`"),
    ("group.instance.id", "it is made from the log's origin"),
    ("auto.commit.interval.ms", "nothing is committed automatically"),
    ("queued.min.messages", "memory is bounded by bytes"),
    ("offset.store.method", "group offsets follow the log's own positions"),
    ("plugin.library.paths", "foreign code could change what is read"),
    ("interceptors", "foreign code could change what is read"),
    ("test.mock.num.brokers", "a mock broker is no evidence"),
    ("sasl.oauthbearer.config", "OAUTHBEARER is not built in"),
];

/// Defaults that suit an audit log; the configuration may set them otherwise.
const DEFAULTS: [(&str, &str); 5] = [
    ("client.id", "pinfold"),
    // A new partition or topic is noticed within this time (librdkafka: five minutes).
    ("topic.metadata.refresh.interval.ms", "10000"),
    ("reconnect.backoff.max.ms", "5000"),
    ("socket.keepalive.enable", "true"),
    ("log.connection.close", "false"),
];

/// The suffix of an option that names a file with the secret.
const FILE_SUFFIX: &str = "_file";

impl Options {
    /// The topics that are configured by name.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.topics.iter().filter_map(|filter| match filter {
            TopicFilter::Name(name) => Some(name.as_str()),
            TopicFilter::Pattern(_) => None,
        })
    }

    /// Refuses what would break exactly-once, before any connection is made; names the option.
    pub fn check(&self) -> Result<(), SourceError> {
        self.client_config().map(drop)
    }

    /// librdkafka's configuration, secrets read from their files.
    pub(super) fn client_config(&self) -> Result<ClientConfig, SourceError> {
        if self.brokers.is_empty() {
            return Err(self.refuse("brokers", "name at least one".to_owned()));
        }
        if self.topics.is_empty() {
            return Err(self.refuse("topic", "name at least one".to_owned()));
        }
        let mut config = ClientConfig::new();
        for (option, value) in DEFAULTS {
            config.set(option, value);
        }
        for (option, value) in &self.librdkafka {
            self.pass_through(&mut config, option, value)?;
        }
        for (option, value, _) in FIXED {
            config.set(option, value);
        }
        config.set("bootstrap.servers", self.brokers.join(","));
        match &self.assignment {
            Assignment::Group { group, instance } => {
                config.set("group.id", group).set("group.instance.id", instance);
            }
            // librdkafka wants a group's name for `assign`; nobody joins it.
            Assignment::Static => {
                config.set("group.id", "pinfold-static");
            }
        }
        config.create_native_config().map_err(|fault| self.refuse("librdkafka", fault.to_string()))?;
        Ok(config)
    }

    fn pass_through(&self, config: &mut ClientConfig, option: &str, value: &str) -> Result<(), SourceError> {
        if let Some((_, fixed, why)) = FIXED.iter().find(|(fixed, _, _)| *fixed == option) {
            if value != *fixed {
                return Err(self.refuse(option, format!("it is always `{fixed}`: {why}")));
            }
            return Ok(());
        }
        if let Some((_, why)) = REFUSED.iter().find(|(refused, _)| *refused == option) {
            return Err(self.refuse(option, (*why).to_owned()));
        }
        if matches!(option, "sasl.mechanisms" | "sasl.mechanism") && value.eq_ignore_ascii_case("OAUTHBEARER") {
            return Err(self.refuse(option, "OAUTHBEARER is not built in".to_owned()));
        }
        match option.strip_suffix(FILE_SUFFIX).filter(|secret| is_secret(secret)) {
            Some(secret) => {
                let value = read_secret(Path::new(value))
                    .map_err(|fault| self.refuse(option, format!("reading {value}: {fault}")))?;
                config.set(secret, value.as_str());
            }
            None => {
                config.set(option, value);
            }
        }
        Ok(())
    }

    pub(super) fn refuse(&self, option: &str, why: String) -> SourceError {
        SourceError::Option { source_name: self.name.clone(), option: option.to_owned(), why }
    }
}

/// A secret file's first line end is no part of the secret.
fn read_secret(path: &Path) -> std::io::Result<Zeroizing<String>> {
    let text = Zeroizing::new(std::fs::read_to_string(path)?);
    Ok(Zeroizing::new(text.trim_end_matches(['\r', '\n']).to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(librdkafka: &[(&str, &str)]) -> Options {
        Options {
            name: "redpanda".to_owned(),
            brokers: vec!["127.0.0.1:1".to_owned()],
            assignment: Assignment::Group { group: "pinfold".to_owned(), instance: "log-a".to_owned() },
            topics: vec![TopicFilter::Name("consent".to_owned())],
            start: Start::Earliest,
            is_shared: false,
            librdkafka: librdkafka.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
        }
    }

    fn check_refused(option: &str, value: &str, message: &str) {
        let error = options(&[(option, value)]).check().expect_err("refused");
        assert!(error.to_string().contains(message), "{error}");
        assert!(error.to_string().contains(option), "{error}");
    }

    #[test]
    fn what_breaks_exactly_once_is_refused_by_name() {
        check_refused("enable.auto.commit", "true", "always `false`");
        check_refused("auto.offset.reset", "latest", "always `error`");
        check_refused("isolation.level", "read_uncommitted", "always `read_committed`");
        check_refused("group.id", "other", "use `group`");
        check_refused("sasl.mechanisms", "OAUTHBEARER", "not built in");
        check_refused("no.such.option", "1", "No such configuration property");
    }

    #[test]
    fn our_own_value_may_be_repeated_and_the_rest_passes_through() {
        let config =
            options(&[("enable.auto.commit", "false"), ("session.timeout.ms", "7000")]).client_config().unwrap();
        assert_eq!(config.get("session.timeout.ms"), Some("7000"));
        for (option, value, _) in FIXED {
            assert_eq!(config.get(option), Some(value));
        }
    }

    #[test]
    fn a_password_comes_from_its_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("password");
        std::fs::write(&path, "s3cret\n").unwrap();
        let path = path.display().to_string();
        let config = options(&[("sasl.password_file", &path)]).client_config().unwrap();
        assert_eq!(config.get("sasl.password"), Some("s3cret"));
        check_refused("sasl.password_file", "/nonexistent", "reading /nonexistent");
    }

    #[test]
    fn patterns_are_searched_and_never_match_the_brokers_own_topics() {
        let pattern = TopicFilter::Pattern(Regex::new("data").unwrap());
        assert!(pattern.is_match("my.data.v1") && !pattern.is_match("__data"));
        assert!(TopicFilter::Name("__data".to_owned()).is_match("__data"));
    }

    #[test]
    fn the_library_has_what_the_configuration_promises() {
        let config = ClientConfig::new().create_native_config().unwrap();
        let features = config.get("builtin.features").unwrap();
        for feature in ["ssl", "sasl_scram", "sasl_plain", "zstd", "gzip", "snappy", "lz4"] {
            assert!(features.split(',').any(|one| one == feature), "{feature} is missing in {features}");
        }
    }
}
