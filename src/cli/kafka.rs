//! From `[source.NAME]` to an attached Kafka source.

use std::sync::Arc;

use super::Failure;
use crate::config::{self, Config};
use crate::core::decode::Format;
use crate::core::time::Timestamp;
use crate::ingest::kafka::{Assignment, Kafka, Options, Start, TopicFilter};
use crate::sidecar::{Sidecar, SidecarError, TopicRule, Which};

/// Starts the source and gives it to the loop.
pub(super) fn attach(sidecar: &mut Sidecar, config: &Config, name: &str, kafka: &config::Kafka) -> Result<(), Failure> {
    let options = options(config, name, kafka)?;
    let rules: Arc<[TopicRule]> = kafka.topic.iter().map(rule).collect::<Result<Vec<_>, _>>()?.into();
    let positions = Arc::new(sidecar.positions(&rules));
    let source = Kafka::start(options, positions).map_err(SidecarError::from)?;
    sidecar.attach(Box::new(source), rules);
    Ok(())
}

fn pattern(pattern: &str) -> Result<regex::Regex, Failure> {
    regex::Regex::new(pattern).map_err(|e| Failure::new(2, "config", format!("pattern {pattern}: {e}")))
}

fn rule(topic: &config::Topic) -> Result<TopicRule, Failure> {
    let which = match (&topic.name, &topic.pattern) {
        (Some(name), _) => Which::Named(name.clone()),
        (None, Some(text)) => Which::Matching(pattern(text)?),
        (None, None) => Which::All,
    };
    let format = match topic.decode {
        config::Decode::Auto => Format::Auto,
        config::Decode::Protobuf => Format::Protobuf,
        config::Decode::Cloudevents => Format::CloudEvents,
        config::Decode::Raw => Format::Raw,
    };
    Ok(TopicRule { which, alias: topic.alias.clone(), format, class: topic.retention_class.clone() })
}

pub(super) fn options(config: &Config, name: &str, kafka: &config::Kafka) -> Result<Options, Failure> {
    let instance = if kafka.instance.is_empty() {
        // The same at every start of this member: made from what does not change with the process.
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        format!("{host}-{}", config.log.origin.replace('/', "-"))
    } else {
        kafka.instance.clone()
    };
    let filter = |topic: &config::Topic| match (&topic.name, &topic.pattern) {
        (Some(name), _) => Ok(TopicFilter::Name(name.clone())),
        (None, text) => pattern(text.as_deref().unwrap_or_default()).map(TopicFilter::Pattern),
    };
    let start = match kafka.start.as_str() {
        "earliest" => Start::Earliest,
        "latest" => Start::Latest,
        time => Start::At(Timestamp::parse_rfc3339(time).map_or(0, |at| i64::try_from(at.0 / 1000).unwrap_or(0))),
    };
    let mut librdkafka = kafka.librdkafka.clone();
    match (&kafka.password, &kafka.password_file) {
        (Some(password), _) => drop(librdkafka.insert("sasl.password".to_owned(), password.reveal().to_owned())),
        (None, Some(path)) => drop(librdkafka.insert("sasl.password_file".to_owned(), path.display().to_string())),
        (None, None) => {}
    }
    Ok(Options {
        name: name.to_owned(),
        brokers: kafka.brokers.clone(),
        assignment: match kafka.assignment {
            config::Assignment::Group => Assignment::Group { group: kafka.group.clone(), instance },
            config::Assignment::Static => Assignment::Static,
        },
        topics: kafka.topic.iter().map(filter).collect::<Result<_, _>>()?,
        start,
        is_shared: kafka.topic.iter().any(|topic| topic.shared),
        librdkafka,
    })
}
