//! `[source.NAME]`: where records come from, and how each topic is read.

use std::collections::BTreeMap;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Secret, defaults};

/// `[source.NAME]`
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Source {
    /// Redpanda or Apache Kafka.
    Kafka(Kafka),
}

/// `[source.NAME]` with `kind = "kafka"`
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Kafka {
    /// Addresses to begin with.
    pub brokers: Vec<String>,
    /// How partitions come to this member.
    #[serde(default = "defaults::assignment")]
    pub assignment: Assignment,
    /// The consumer group.
    #[serde(default = "defaults::group")]
    pub group: String,
    /// The stable member name; the host name and the origin where empty.
    #[serde(default)]
    pub instance: String,
    /// Where to begin in a partition we hold no position of: `earliest`, `latest` or a time (RFC 3339).
    #[serde(default = "defaults::start")]
    pub start: String,
    /// The file with the SASL password.
    #[serde(default)]
    pub password_file: Option<PathBuf>,
    /// The SASL password; only as a variable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<Secret>,
    /// Passed to librdkafka, minus what breaks exactly-once.
    #[serde(default)]
    pub librdkafka: BTreeMap<String, String>,
    /// The topics.
    #[serde(default)]
    pub topic: Vec<Topic>,
}

/// How partitions come to a member.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Assignment {
    /// By the consumer group.
    Group,
    /// All of them, without a group.
    Static,
}

/// `[[source.NAME.topic]]`
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Topic {
    /// The topic, or none where `pattern` is given.
    #[serde(default)]
    pub name: Option<String>,
    /// A regular expression over topic names.
    #[serde(default)]
    pub pattern: Option<String>,
    /// The public name of the topic in the log; its own where empty. Only with `name`.
    #[serde(default)]
    pub alias: String,
    /// How its records are read.
    #[serde(default = "defaults::decode")]
    pub decode: Decode,
    /// The retention class of what it holds.
    #[serde(default = "defaults::retention_class")]
    pub retention_class: String,
    /// Whether other logs fold it too.
    #[serde(default)]
    pub shared: bool,
}

/// How records are read.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Decode {
    /// By content type, headers and first byte.
    Auto,
    /// The protobuf envelope.
    Protobuf,
    /// CloudEvents 1.0, structured, batch or binary.
    Cloudevents,
    /// Not at all.
    Raw,
}
