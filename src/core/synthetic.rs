//! Synthetic events: seeded, mixed, about nobody real. For the demo, benches, tests and the dictionary.
//!
//! Not a source of keys or of anything secret: the generator of numbers is splitmix64, so who knows the seed knows all.
//! **Frozen where the dictionary is made from it** (`proto/README.md`): other output here is another dictionary, so
//! new shapes of events go beside it, not into it.

mod encode;

use crate::core::record::Record;
use crate::core::time::Timestamp;
use crate::proto::v1::envelope::Body;
use crate::proto::v1::{
    Actor, ConsentEvent, DataAction, DataEvent, DatasetRef, Decision, DsrEvent, DsrKind, Envelope, Identifier,
    LawfulBasis, NoticeRef, Preference, PurposeDecision, SignalString, Subject,
};
use crate::proto::{CONSENT_TYPE, DATA_TYPE, DSR_TYPE};

/// How a record carries its event.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Encoding {
    /// A serialised Envelope.
    Protobuf,
    /// A CloudEvent as one JSON object.
    CloudEventsJson,
    /// A CloudEvent in Kafka binary mode, its data in protobuf.
    CloudEventsBinary,
}

/// The three encodings, in turn.
pub const ENCODINGS: [Encoding; 3] = [Encoding::Protobuf, Encoding::CloudEventsJson, Encoding::CloudEventsBinary];

/// Purposes, each with its version and basis.
const PURPOSES: [(&str, &str, LawfulBasis); 6] = [
    ("newsletter", "2026-01", LawfulBasis::Consent),
    ("analytics", "3", LawfulBasis::Consent),
    ("profiling", "2", LawfulBasis::ExplicitConsent),
    ("personalised-ads", "7", LawfulBasis::Consent),
    ("service-messages", "1", LawfulBasis::Contract),
    ("fraud-prevention", "4", LawfulBasis::LegitimateInterest),
];
const JURISDICTIONS: [(&str, &str, &str); 5] = [
    ("gdpr", "DE", "de-DE"),
    ("gdpr", "FR", "fr-FR"),
    ("uk-gdpr", "GB", "en-GB"),
    ("ccpa", "US", "en-US"),
    ("lgpd", "BR", "pt-BR"),
];
const DATASETS: [&str; 6] =
    ["crm.contacts", "crm.segments", "warehouse.profile", "warehouse.events", "mail.outbox", "ads.audience"];

/// An endless stream of events about `people` people.
#[derive(Clone, Debug)]
pub struct Generator {
    state: u64,
    people: u64,
    next: u64,
    at: Timestamp,
}

impl Generator {
    /// The stream of this seed; the first event is of `start`, each later one of a moment after. At least one person.
    pub fn new(seed: u64, people: u64, start: Timestamp) -> Generator {
        Generator { state: seed, people: people.max(1), next: 0, at: start }
    }

    /// The next event: six in ten are consents, three uses of data, one a request of a person.
    pub fn envelope(&mut self) -> Envelope {
        self.at = self.at.plus(1_000 + self.below(400_000));
        let (r#type, source, body) = match self.below(10) {
            0..=5 => (CONSENT_TYPE, "https://consent.example.com/collect", self.consent()),
            6..=8 => (DATA_TYPE, "https://pipeline.example.com/runs", self.data()),
            _ => (DSR_TYPE, "https://privacy.example.com/requests", self.dsr()),
        };
        let id = format!("{}-{:08}", self.uuid(), self.next);
        self.next += 1;
        let traceparent = format!("00-{:016x}{:016x}-{:016x}-01", self.random(), self.random(), self.random());
        Envelope {
            id,
            source: source.to_owned(),
            r#type: r#type.to_owned(),
            time: Some(moment(self.at)),
            traceparent,
            sequence: self.next,
            tenant_id: "tenant-a".to_owned(),
            body: Some(body),
            ..Envelope::default()
        }
    }

    /// The next event as a record: its key is the first person's reference, so that one person is in one partition.
    pub fn record(&mut self, encoding: Encoding) -> Record {
        let envelope = self.envelope();
        encode::record(&envelope, encoding, self.at)
    }

    fn consent(&mut self) -> Body {
        let (jurisdiction, country, language) = self.one_of(&JURISDICTIONS);
        let is_given = self.below(4) > 0;
        let first = self.below(PURPOSES.len() as u64);
        let purposes = (0..1 + self.below(2)).map(|i| self.purpose(first + i, is_given)).collect();
        let signals = match self.below(3) {
            0 => vec![SignalString { kind: "gpc".into(), value: "1".into(), version: "1".into() }],
            _ => Vec::new(),
        };
        Body::Consent(ConsentEvent {
            receipt_id: self.uuid(),
            subject: Some(self.subject()),
            purposes,
            collection_point_id: format!("signup-form-{}", self.below(8)),
            collection_method: "web-form".into(),
            interaction_type: if is_given { "accept" } else { "reject" }.into(),
            interaction_time: Some(moment(self.at)),
            jurisdiction: jurisdiction.into(),
            country: country.into(),
            language: language.into(),
            signals,
            source_authn: "mtls".into(),
            ..ConsentEvent::default()
        })
    }

    fn purpose(&mut self, at: u64, is_given: bool) -> PurposeDecision {
        let (purpose_id, version, basis) = PURPOSES.iter().cycle().nth(index(at)).copied().unwrap_or(PURPOSES_FIRST);
        let decision = match (is_given, self.below(3)) {
            (true, _) => Decision::Given,
            (false, 0) => Decision::Refused,
            (false, _) => Decision::Withdrawn,
        };
        let preferences = match self.below(3) {
            0 => vec![Preference {
                group_id: "channel".into(),
                option_id: "email".into(),
                decision: decision.into(),
                ..Preference::default()
            }],
            _ => Vec::new(),
        };
        PurposeDecision {
            purpose_id: purpose_id.into(),
            purpose_version: version.into(),
            decision: decision.into(),
            basis: basis.into(),
            valid_from: Some(moment(self.at)),
            preferences,
            notice: Some(NoticeRef {
                notice_id: "privacy-notice".into(),
                version: "2026-01".into(),
                language: "en".into(),
                ..NoticeRef::default()
            }),
            source_code: if is_given { "OPT_IN" } else { "HARD_OPT_OUT" }.into(),
            ..PurposeDecision::default()
        }
    }

    /// One in ten is about nobody, one in ten about several people.
    fn data(&mut self) -> Body {
        let subjects = match self.below(10) {
            0 => Vec::new(),
            1 => (0..2 + self.below(3)).map(|_| self.subject()).collect(),
            _ => vec![self.subject()],
        };
        let (purpose_id, purpose_version, basis) = self.one_of(&PURPOSES);
        let actions = [DataAction::Accessed, DataAction::Shared, DataAction::Transformed, DataAction::Exported];
        let action = self.one_of(&actions);
        let input = self.dataset();
        let output = self.dataset();
        Body::Data(DataEvent {
            action: action.into(),
            subjects,
            jurisdiction: self.one_of(&JURISDICTIONS).0.into(),
            purpose_version: purpose_version.into(),
            run_id: self.uuid(),
            job_namespace: "airflow".into(),
            job_name: format!("daily_{purpose_id}_build"),
            run_state: "COMPLETE".into(),
            producer: "https://pipeline.example.com/agent/1.0".into(),
            inputs: vec![input],
            outputs: vec![output],
            purpose_id: purpose_id.into(),
            basis: basis.into(),
            recipient: if action == DataAction::Shared { "mail-provider" } else { "" }.into(),
            actor: Some(Actor { r#type: "service".into(), id: "batch-runner".into(), ..Actor::default() }),
            record_count: 1 + self.below(500),
            outcome: "done".into(),
            ..DataEvent::default()
        })
    }

    fn dataset(&mut self) -> DatasetRef {
        DatasetRef {
            namespace: "postgres://warehouse.example.com".into(),
            name: self.one_of(&DATASETS).into(),
            version: format!("v{}", self.below(30)),
            fields: vec!["id".into(), "email".into(), "country".into()],
            ..DatasetRef::default()
        }
    }

    fn dsr(&mut self) -> Body {
        let kinds = [DsrKind::Access, DsrKind::Erase, DsrKind::Rectify, DsrKind::Object, DsrKind::OptOutSale];
        Body::Dsr(DsrEvent {
            dsr_id: format!("DSR-{:08}", self.next),
            kind: self.one_of(&kinds).into(),
            subject: Some(self.subject()),
            requested_at: Some(moment(self.at)),
            manner: "web-portal".into(),
            due_at: Some(moment(self.at.plus(30 * 86_400_000_000))),
            verified_identity: true,
            handler: Some(Actor { r#type: "team".into(), id: "privacy-desk".into(), ..Actor::default() }),
            jurisdiction: self.one_of(&JURISDICTIONS).0.into(),
            ticket: format!("PRIV-{}", self.next),
            ..DsrEvent::default()
        })
    }

    fn subject(&mut self) -> Subject {
        let person = self.below(self.people);
        let identifier = |kind: &str, value: String| Identifier { r#type: kind.to_owned(), value };
        let mut identifiers = vec![
            identifier("external", format!("customer-{person:09}")),
            identifier("email", format!("person.{person}@example.com")),
        ];
        if person.is_multiple_of(4) {
            identifiers.push(identifier("phone", format!("+4930{:08}", person % 100_000_000)));
        }
        Subject { identifiers }
    }

    fn uuid(&mut self) -> String {
        let (a, b) = (self.random(), self.random());
        format!(
            "{:08x}-{:04x}-4{:03x}-a{:03x}-{:012x}",
            a >> 32,
            (a >> 16) & 0xffff,
            a & 0xfff,
            b >> 52,
            b & 0xffff_ffff_ffff
        )
    }

    fn one_of<T: Copy>(&mut self, choices: &[T]) -> T {
        let at = index(self.below(choices.len() as u64));
        #[expect(clippy::indexing_slicing, reason = "`below` is below the length of these constant lists")]
        choices[at]
    }

    /// A number below `n`, which is not 0; as even as a demo needs.
    fn below(&mut self, n: u64) -> u64 {
        self.random() % n
    }

    /// splitmix64 (Steele, Lea, Flood 2014).
    fn random(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

const PURPOSES_FIRST: (&str, &str, LawfulBasis) = ("newsletter", "2026-01", LawfulBasis::Consent);

fn index(n: u64) -> usize {
    usize::try_from(n).unwrap_or(0)
}

fn moment(at: Timestamp) -> prost_types::Timestamp {
    prost_types::Timestamp {
        seconds: i64::try_from(at.0 / 1_000_000).unwrap_or(0),
        nanos: i32::try_from(at.0 % 1_000_000 * 1_000).unwrap_or(0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::decode::{Format, Limits, decode};

    #[test]
    fn the_same_seed_gives_the_same_records_and_all_of_them_decode() {
        let start = Timestamp(1_767_225_600_000_000);
        let (mut one, mut two) = (Generator::new(7, 50, start), Generator::new(7, 50, start));
        let (mut people, mut nobody) = (0, 0);
        for i in 0..600 {
            let encoding = ENCODINGS[i % 3];
            let record = one.record(encoding);
            assert!(record == two.record(encoding), "record {i}");
            let event =
                decode(&record, Format::Auto, &Limits::default()).unwrap_or_else(|r| panic!("record {i}: {r:?}"));
            people += event.slices.len();
            nobody += usize::from(event.nobody.is_some());
        }
        assert!(people > 550 && nobody > 5, "{people} {nobody}");
    }
}
