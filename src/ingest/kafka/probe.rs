//! One look at a cluster, for `doctor` and `config check`: joins no group, reads no record, changes nothing.

use std::time::{Duration, Instant};

use rdkafka::admin::{AdminClient, AdminOptions, ResourceSpecifier};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};

use super::super::{SourceError, Trouble, TroubleKind};
use super::assign::{ASK, Lookup};
use super::native::{Kind, Queue};
use super::options::Options;
use super::trouble::{Meaning, meaning};

/// A configured topic as the broker has it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Seen {
    /// The topic.
    pub name: String,
    /// Its partitions.
    pub partitions: u32,
    /// `cleanup.policy`; none where the broker does not let us ask.
    pub cleanup_policy: Option<String>,
}

/// Why there is nothing to see.
#[derive(Debug, thiserror::Error)]
pub enum Unseen {
    /// An option is refused, here or by librdkafka.
    #[error(transparent)]
    Options(#[from] SourceError),
    /// The broker does not answer, or not us.
    #[error("{0}")]
    Trouble(Trouble),
}

/// The configured topics that exist, and what is said of those that do not.
///
/// # Errors
/// Nothing can be asked, or nobody answers within some seconds.
pub fn look(options: &Options, runtime: &tokio::runtime::Handle) -> Result<(Vec<Seen>, Option<Trouble>), Unseen> {
    let config = options.client_config()?;
    let failed = |reason: String| SourceError::Client { source_name: options.name.clone(), reason };
    let consumer: BaseConsumer = config.create().map_err(|error| failed(error.to_string()))?;
    let lookup = Lookup { consumer: &consumer, options };
    let found = lookup.configured().map_err(|trouble| Unseen::Trouble(reason(&consumer, options, trouble)))?;
    let missing = lookup.missing(&found);
    let mut seen: Vec<Seen> = found
        .into_values()
        .map(|topic| Seen { name: topic.name.clone(), partitions: topic.partitions, cleanup_policy: None })
        .collect();
    let admin: AdminClient<DefaultClientContext> = config.create().map_err(|error| failed(error.to_string()))?;
    let names: Vec<ResourceSpecifier<'_>> = seen.iter().map(|topic| ResourceSpecifier::Topic(&topic.name)).collect();
    let asking = admin.describe_configs(&names, &AdminOptions::new().request_timeout(Some(ASK)));
    // Not being allowed to read a topic's configuration is no fault: then nothing is said of it.
    let answers = runtime.block_on(asking).unwrap_or_default();
    let policies: Vec<Option<String>> = answers
        .into_iter()
        .map(|answer| answer.ok()?.get("cleanup.policy").and_then(|entry| entry.value.clone()))
        .collect();
    for (topic, policy) in seen.iter_mut().zip(policies) {
        topic.cleanup_policy = policy;
    }
    Ok((seen, missing))
}

/// A refused password looks like brokers that are down; the real reason comes as an event.
fn reason(consumer: &BaseConsumer, options: &Options, trouble: Trouble) -> Trouble {
    let Some(queue) = Queue::of_consumer(consumer.client().native_ptr()) else { return trouble };
    let until = Instant::now() + Duration::from_millis(500);
    while let Some(event) = queue.poll(until.saturating_duration_since(Instant::now())) {
        if let Kind::Error { code, reason, .. } = event.kind()
            && meaning(code, &reason) == Meaning::Trouble(TroubleKind::Authentication)
        {
            let message = format!("source {}: {}: {reason}", options.name, options.brokers.join(","));
            return Trouble { kind: TroubleKind::Authentication, message };
        }
    }
    trouble
}
