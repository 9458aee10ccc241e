//! One look at a cluster: joins no group, reads no record, changes nothing. For `doctor` and `config check`, and for what
//! is missing from a partition: only a topic's settings say whether compaction may have taken it.

use std::time::{Duration, Instant};

use rdkafka::admin::{AdminClient, AdminOptions, ConfigResourceResult, ResourceSpecifier};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};

use super::super::{SourceError, Trouble, TroubleKind};
use super::assign::{ASK, Lookup};
use super::native::{Kind, Queue};
use super::options::Options;
use super::trouble::{Meaning, meaning};

/// A question whose answer decides over a halt is asked this often before it counts as not answered.
const TRIES: usize = 3;

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
    let names: Vec<&str> = seen.iter().map(|topic| topic.name.as_str()).collect();
    let policies = runtime.block_on(cleanup_policies(&admin, &names)).unwrap_or_default();
    for (topic, policy) in seen.iter_mut().zip(policies) {
        topic.cleanup_policy = policy;
    }
    Ok((seen, missing))
}

/// Whether compaction may take records of a topic; none where nobody says, after a few tries. Blocks.
pub(super) fn is_compacted(options: &Options, topic: &str) -> Option<bool> {
    let admin: AdminClient<DefaultClientContext> = options.client_config().ok()?.create().ok()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().ok()?;
    let mut answers = (0..TRIES).filter_map(|_| runtime.block_on(cleanup_policies(&admin, &[topic])));
    let policy = answers.next()?.into_iter().next()??;
    Some(policy.contains("compact"))
}

/// Which of `topics` compaction may take records from; `None` where nobody answers. Those whose settings we may not see
/// are left out. Blocks.
pub(super) fn compacted<'a>(options: &Options, topics: &[&'a str]) -> Option<Vec<&'a str>> {
    let admin: AdminClient<DefaultClientContext> = options.client_config().ok()?.create().ok()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().ok()?;
    let policies = runtime.block_on(cleanup_policies(&admin, topics))?;
    let is_compacted = |policy: &Option<String>| policy.as_ref().is_some_and(|policy| policy.contains("compact"));
    Some(topics.iter().zip(&policies).filter(|(_, policy)| is_compacted(policy)).map(|(name, _)| *name).collect())
}

/// `cleanup.policy` of each topic; none where we may not see it, which is no fault. None of them where nobody answers.
async fn cleanup_policies(admin: &AdminClient<DefaultClientContext>, topics: &[&str]) -> Option<Vec<Option<String>>> {
    let names: Vec<ResourceSpecifier<'_>> = topics.iter().map(|name| ResourceSpecifier::Topic(name)).collect();
    let answers = admin.describe_configs(&names, &AdminOptions::new().request_timeout(Some(ASK))).await.ok()?;
    let policy = |answer: ConfigResourceResult| answer.ok()?.get("cleanup.policy")?.value.clone();
    Some(answers.into_iter().map(policy).collect())
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
