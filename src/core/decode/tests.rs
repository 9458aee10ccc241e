//! Tests of decode as a whole: data through one door.

use super::*;
use prost::Message;

use crate::core::record::Header;
use crate::proto::v1::Envelope;
use crate::proto::v1::envelope::Body;

/// What decode makes of a record, in one line: decoder, type, id, then the people of each slice, `-` for nobody's.
fn shown(record: &Record, how: Format) -> String {
    match decode(record, how, &Limits::default()) {
        Err(reason) => reason.as_str().to_owned(),
        Ok(event) => {
            let people = event.slices.iter().map(|slice| {
                let names: Vec<_> = slice.identifiers.iter().map(|i| format!("{}:{}", i.kind, i.value)).collect();
                format!(" [{}{}]", names.join(" "), if slice.raw.is_some() { " raw" } else { "" })
            });
            let nobody = if event.nobody.is_some() { " -" } else { "" };
            format!("{} {} {}{}{nobody}", event.decoder, event.event_type, event.id, people.collect::<String>())
        }
    }
}

fn check(record: &Record, expected: &str) {
    assert_eq!(shown(record, Format::Auto), expected, "auto");
}

fn record(value: impl AsRef<[u8]>) -> Record {
    Record { value: Some(value.as_ref().to_vec()), timestamp_ms: 1, ..Record::default() }
}

fn with(mut record: Record, headers: &[(&str, &str)]) -> Record {
    let header = |(name, value): &(&str, &str)| Header {
        name: name.as_bytes().to_vec(),
        value: Some(value.as_bytes().to_vec()),
    };
    record.headers.extend(headers.iter().map(header));
    record
}

/// A CloudEvent of this type, with this data.
fn json(kind: &str, data: &str) -> Record {
    record(format!(
        r#"{{"specversion":"1.0","id":"i-1","source":"/s","type":"com.maily.{kind}.v1","time":"2026-01-01T00:00:00Z","data":{data}}}"#
    ))
}

const ADA: &str = r#"{"identifiers":[{"type":"email","value":"ada@example.com"}]}"#;
const BOB: &str = r#"{"identifiers":[{"type":"email","value":"bob@example.com"}]}"#;

fn consent(purpose: &str) -> Record {
    json("consent", &format!(r#"{{"subject":{ADA},"purposes":[{purpose}]}}"#))
}

fn given() -> Record {
    consent(r#"{"purposeId":"news","decision":"DECISION_GIVEN"}"#)
}

const CONSENT: &str = "cloudevents com.maily.consent.v1 i-1 [email:ada@example.com raw]";

fn envelope_of(record: &Record) -> Envelope {
    let event = decode(record, Format::Auto, &Limits::default()).expect("an event");
    Envelope::decode(event.slices.first().map(|s| s.envelope.as_slice()).or(event.nobody.as_deref()).expect("one"))
        .expect("an Envelope")
}

#[test]
fn a_cloudevent_reads_both_spellings_of_names_and_skips_unknown_ones() {
    check(&given(), CONSENT);
    check(&consent(r#"{"purpose_id":"news","decision":"DECISION_GIVEN","new_field":[{}]}"#), CONSENT);
    check(&consent(r#"{"purposeId":"news","decision":1,"validUntil":"2027-01-01T00:00:00+01:00"}"#), CONSENT);
}

#[test]
fn codes_nobody_defined_and_values_that_cannot_be_have_their_reasons() {
    check(&consent(r#"{"purposeId":"news","decision":"DECISION_MAYBE"}"#), "unknown code");
    check(&consent(r#"{"purposeId":"news","decision":"GIVEN"}"#), "unknown code");
    check(&consent(r#"{"purposeId":"news","decision":99}"#), "unknown code");
    check(&consent(r#"{"purposeId":"news","decision":1,"basis":"BASIS"}"#), "unknown code");
    check(&consent(r#"{"purposeId":"news"}"#), "invalid value");
    check(&consent(r#"{"purposeId":"news","decision":"DECISION_UNSPECIFIED"}"#), "invalid value");
    check(&consent(r#"{"purposeId":"","decision":1}"#), "invalid value");
    check(&consent(r#"{"purposeId":"news","purpose_id":"ads","decision":1}"#), "invalid value");
    check(&consent(r#"{"purposeId":"news","purposeId":"ads","decision":1}"#), "invalid value");
    check(&consent(r#"{"purposeId":"news","decision":1,"x":{"a":1,"a":2}}"#), "invalid value");
    check(&consent(r#"{"purposeId":"news","decision":1,"validUntil":"2027-01-01T00:00:00"}"#), "invalid value");
    check(&consent(r#"{"purposeId":"news","decision":1,"validFrom":"1969-12-31T23:59:59Z"}"#), "invalid value");
    check(&consent(&format!(r#"{{"purposeId":"{}","decision":1}}"#, "x".repeat(256))), "invalid value");
    check(&consent(&format!(r#"{{"purposeId":"{}","decision":1}}"#, "ä".repeat(255))), CONSENT);
    let twice = r#"{"optionId":"a","decision":1},{"optionId":"a","decision":2}"#;
    check(&consent(&format!(r#"{{"purposeId":"news","decision":1,"preferences":[{twice}]}}"#)), "invalid value");
    check(&json("consent", &format!(r#"{{"subject":{ADA}}}"#)), "invalid value");
    check(&json("data", r#"{"action":"DATA_ACTION_UNSPECIFIED"}"#), "invalid value");
    check(&json("dsr", &format!(r#"{{"dsrId":"d","kind":44,"subject":{ADA}}}"#)), "unknown code");
    check(&json("consent", "null"), "invalid value");
    check(&json("consent", r#""text""#), "invalid value");
}

#[test]
fn attributes_decide_before_data_does() {
    let of = |old: &str, new: &str| {
        let text = String::from_utf8(given().value.expect("a value")).expect("text");
        assert!(text.contains(old));
        record(text.replacen(old, new, 1))
    };
    check(&of("com.maily.consent.v1", "com.maily.consent.v2"), "unknown type");
    check(&of(r#""specversion":"1.0""#, r#""specversion":"0.3""#), "undecodable");
    check(&of(r#""specversion":"1.0","#, ""), "undecodable");
    check(&of(r#""id":"i-1","#, ""), "invalid value");
    check(&of(r#""id":"i-1","#, r#""id":"","#), "invalid value");
    check(&of(r#""id":"i-1","#, r#""id":7,"#), "invalid value");
    check(&of(r#""id":"i-1","#, r#""id":"i-1","id":"i-2","#), "invalid value");
    check(&of("2026-01-01T00:00:00Z", "2026-01-01"), "invalid value");
    check(&of("2026-01-01T00:00:00Z", "9998-01-01T00:00:00Z"), CONSENT);
    check(&of(r#""data":{"#, r#""datacontenttype":"text/xml","data":{"#), "undecodable");
    check(&of(r#""data":{"#, r#""datacontenttype":"application/json; charset=utf-8","data":{"#), CONSENT);
    check(&of(r#""data":{"#, r#""sequence":"5","tenantid":"t","subject":null,"other":{"a":[1]},"data":{"#), CONSENT);
    let full = of(r#""data":{"#, r#""sequence":5,"tenantid":"t","traceparent":"00-1","data":{"#);
    let envelope = envelope_of(&full);
    assert_eq!((envelope.sequence, envelope.tenant_id.as_str(), envelope.traceparent.as_str()), (5, "t", "00-1"));
    assert_eq!(envelope.time.map(|at| at.seconds), Some(1_767_225_600));
    // `data` before `type`.
    let text = String::from_utf8(given().value.expect("a value")).expect("text");
    let (head, data) = text.split_once(r#","data":"#).expect("a CloudEvent");
    check(&record(format!(r#"{{"data":{},{}}}"#, &data[..data.len() - 1], &head[1..])), CONSENT);
}

#[test]
fn base64_and_binary_mode_carry_protobuf_or_json() {
    use base64::Engine as _;
    let body = match envelope_of(&given()).body {
        Some(Body::Consent(consent)) => consent.encode_to_vec(),
        _ => panic!("a consent"),
    };
    let text = |bytes: &[u8]| base64::engine::general_purpose::STANDARD.encode(bytes);
    let base64 = |media: &str, bytes: &[u8]| {
        let data = text(bytes);
        record(format!(
            r#"{{"specversion":"1.0","id":"i-1","source":"/s","type":"com.maily.consent.v1","datacontenttype":"{media}","data_base64":"{data}"}}"#
        ))
    };
    check(&base64("application/protobuf", &body), CONSENT);
    check(&base64("application/octet-stream", &body), "undecodable");
    check(&base64("application/protobuf", b"\xff"), "undecodable");
    let attributes =
        [("ce_specversion", "1.0"), ("ce_id", "i-1"), ("ce_source", "/s"), ("ce_type", "com.maily.consent.v1")];
    let binary = with(record(&body), &attributes);
    check(&with(binary.clone(), &[("content-type", "application/protobuf"), ("x", "1"), ("x", "2")]), CONSENT);
    check(&with(binary.clone(), &[("content-type", "application/protobuf"), ("ce_id", "i-2")]), "invalid value");
    check(&with(binary.clone(), &[("content-type", "application/avro")]), "undecodable");
    check(&binary, "undecodable");
    let data = format!(r#"{{"subject":{ADA},"purposes":[{{"purposeId":"news","decision":1}}]}}"#);
    check(&with(record(&data), &attributes), CONSENT);
    check(&with(record(&data), &attributes[..3]), "invalid value");
    check(&with(record(""), &attributes), "invalid value");
}

#[test]
fn an_envelope_is_kept_as_received_and_recognised_without_a_header() {
    let mut envelope = envelope_of(&given());
    // An id of 123 bytes: the value begins with "\n{", as JSON could.
    envelope.id = "i".repeat(123);
    let mut bytes = envelope.encode_to_vec();
    bytes.extend([0xfa, 0x3f, 1, b'x']);
    let event = decode(&record(&bytes), Format::Auto, &Limits::default()).expect("an event");
    assert_eq!((event.decoder, event.slices.len()), ("protobuf", 1));
    assert!(event.slices[0].envelope == bytes && event.slices[0].raw.is_none(), "unknown fields stay");
    check(&record(format!("\n{}", String::from_utf8(given().value.expect("a value")).expect("text"))), CONSENT);

    let broken = |change: fn(&mut Envelope)| {
        let mut envelope = envelope.clone();
        change(&mut envelope);
        shown(&record(envelope.encode_to_vec()), Format::Auto)
    };
    assert_eq!(broken(|e| e.r#type = "com.maily.data.v1".into()), "invalid value");
    assert_eq!(broken(|e| e.r#type.clear()), "unknown type");
    assert_eq!(broken(|e| e.source = "x".repeat(1025)), "invalid value");
    assert_eq!(broken(|e| e.source = "a\0b".into()), "invalid value");
    assert_eq!(broken(|e| e.body = None), "invalid value");
    assert_eq!(broken(|e| e.time = Some(prost_types::Timestamp { seconds: 0, nanos: -1 })), "invalid value");
    // A second body would vanish from the message and stay in the bytes, under another person's key.
    let other = Envelope { body: Some(Body::Data(Default::default())), ..Envelope::default() }.encode_to_vec();
    check(&record([other, envelope.encode_to_vec()].concat()), "invalid value");
}

#[test]
fn nothing_is_an_event_of_its_own_kind() {
    for nothing in [Record::default(), record(""), record("\u{0}"), record("{"), record("no event"), record("{}")] {
        check(&nothing, "undecodable");
        assert_eq!(shown(&nothing, Format::Raw), "raw   [ raw]");
    }
    check(&record("[]"), "invalid value");
    check(&record("[".repeat(100_000)), "invalid value");
    let deep = format!("{}1{}", "[".repeat(200), "]".repeat(200));
    check(&consent(&format!(r#"{{"x":{deep}}}"#)), "undecodable");
}

#[test]
fn who_an_event_is_about() {
    let data = |subjects: &str, more: &str| {
        json("data", &format!(r#"{{"action":"DATA_ACTION_SHARED","subjects":[{subjects}]}}"#)).value.map(|value| {
            record(String::from_utf8(value).expect("text").replacen(r#""data":"#, &format!(r#"{more}"data":"#), 1))
        })
    };
    let data = |subjects: &str, more: &str| data(subjects, more).expect("a value");
    let named = r#""subject":"user-7","#;
    check(&data("", ""), "cloudevents com.maily.data.v1 i-1 -");
    check(&data("", named), "cloudevents com.maily.data.v1 i-1 [external:user-7 raw]");
    check(&data(ADA, named), "cloudevents com.maily.data.v1 i-1 [email:ada@example.com raw]");
    let both = "cloudevents com.maily.data.v1 i-1 [email:ada@example.com] [email:bob@example.com]";
    check(&data(&format!("{ADA},{BOB}"), ""), both);
    check(&data(&format!("{ADA},{BOB},{ADA}"), ""), both);
    check(&data(&format!("{ADA},{{}}"), named), "no subject");
    check(&data("{}", ""), "no subject");
    check(&json("consent", r#"{"purposes":[{"purposeId":"a","decision":1}]}"#), "no subject");
    check(&json("dsr", r#"{"dsrId":"d","kind":"DSR_KIND_ERASE","subject":{}}"#), "no subject");
    check(&data(r#"{"identifiers":[{"type":"E-Mail","value":"x"}]}"#, ""), "invalid value");
    check(&data(r#"{"identifiers":[{"type":"email","value":"a\nb"}]}"#, ""), "invalid value");
    let many = |n: usize| (0..n).map(|i| ADA.replace("ada", &format!("p{i}"))).collect::<Vec<_>>().join(",");
    check(&data(&many(300), ""), "too many subjects");
    check(&data(&many(200), ""), "too many subjects");
    assert_eq!(decode(&data(&many(199), ""), Format::Auto, &Limits::default()).map(|e| e.slices.len()), Ok(199));
}

#[test]
fn no_slice_says_a_word_about_another_person() {
    let data = format!(
        r#"{{"action":"DATA_ACTION_SHARED","subjects":[{ADA},{BOB}],"raw":"{}","runId":"r"}}"#,
        "YWRhQGV4YW1wbGUuY29t"
    );
    let mut record = json("data", &data);
    let text = String::from_utf8(record.value.take().expect("a value")).expect("text");
    let subject = r#""subject":"ada@example.com","partitionkey":"ada@example.com","data":"#;
    record.value = Some(text.replacen(r#""data":"#, subject, 1).into_bytes());
    let event = decode(&record, Format::Auto, &Limits::default()).expect("an event");
    let holds = |slice: &Slice, name: &str| slice.envelope.windows(name.len()).any(|w| w == name.as_bytes());
    let [ada, bob] = event.slices.as_slice() else { panic!("two slices") };
    assert!(holds(ada, "ada@example.com") && !holds(ada, "bob@"));
    assert!(holds(bob, "bob@example.com") && !holds(bob, "ada@"));
    let first = Envelope::decode(ada.envelope.as_slice()).expect("an Envelope");
    assert_eq!((first.subject.as_str(), first.partitionkey.as_str()), ("ada@example.com", "ada@example.com"));
}

#[test]
fn a_batch_is_one_entry_with_the_parts_of_its_events() {
    let one = |record: Record| String::from_utf8(record.value.expect("a value")).expect("text");
    let ada = one(given());
    let bob = ada.replace("ada@", "bob@").replace("i-1", "i-2");
    let nobody = one(json("data", r#"{"action":"DATA_ACTION_STORED"}"#));
    check(&record(format!("[{ada}]")), CONSENT);
    let both = "cloudevents com.maily.consent.v1 i-1 [email:ada@example.com] [email:bob@example.com]";
    check(&record(format!("[{ada},{bob}]")), both);
    check(&record(format!(" [{ada},{nobody},{bob}]")), &format!("{both} -"));
    check(&record(format!("[{nobody},{nobody}]")), "invalid value");
    check(&record(format!("[{ada},{}]", bob.replace("consent.v1", "other.v1"))), "unknown type");
    check(&record(format!("[{ada},7]")), "invalid value");
    let many = vec![ada.as_str(); 201].join(",");
    check(&record(format!("[{many}]")), "too many subjects");
    let batch = with(record(format!("[{ada}]")), &[("content-type", "application/cloudevents-batch+json")]);
    check(&batch, CONSENT);
}

#[test]
fn a_record_may_be_as_large_as_the_limit_and_no_larger() {
    let limits = Limits { record_bytes_max: 1 << 20, ..Limits::default() };
    let sized = |bytes: usize| {
        let empty = consent(r#"{"purposeId":"a","decision":1,"x":""}"#).len();
        consent(&format!(r#"{{"purposeId":"a","decision":1,"x":"{}"}}"#, "x".repeat(bytes - empty)))
    };
    assert!(decode(&sized(1 << 20), Format::Auto, &limits).is_ok());
    assert_eq!(decode(&sized((1 << 20) + 1), Format::Auto, &limits), Err(QuarantineReason::TooLarge));
    // 199 slices of 1 MiB would be no entry.
    let people: Vec<_> = (0..199).map(|i| ADA.replace("ada", &format!("p{i}"))).collect();
    let reason = "x".repeat(900_000);
    let wide = json("data", &format!(r#"{{"action":3,"subjects":[{}],"reason":"{reason}"}}"#, people.join(",")));
    check(&wide, "too large");
}

#[test]
fn secrets_are_dropped_and_the_rest_stays_as_received() {
    let data = format!(
        r#"{{"subject":{ADA},"purposes":[{{"purposeId":"a","decision":1}}],"custom":{{"magicLink":"s3cret","shop":"x"}},"dataElements":{{"FirstName":"s3cret","email":"e"}}}}"#
    );
    let event = decode(&json("consent", &data), Format::Auto, &Limits::default()).expect("an event");
    let slice = &event.slices[0];
    let raw = slice.raw.as_ref().and_then(|raw| raw.value.as_deref()).expect("the record");
    for bytes in [raw, slice.envelope.as_slice()] {
        assert!(!bytes.windows(6).any(|w| w == b"s3cret") && bytes.windows(4).any(|w| w == b"shop"));
    }
    // Sent as an Envelope, the slice is what was received less the secrets.
    let mut envelope = Envelope::decode(slice.envelope.as_slice()).expect("an Envelope");
    if let Some(Body::Consent(consent)) = &mut envelope.body {
        consent.raw = br#"{"a":1,"Password":"s3cret"}"#.to_vec();
    }
    let event = decode(&record(envelope.encode_to_vec()), Format::Auto, &Limits::default()).expect("an event");
    assert!(!event.slices[0].envelope.windows(6).any(|w| w == b"s3cret"));
    assert!(event.slices[0].envelope.windows(7).any(|w| w == br#"{"a":1}"#));
}

mod properties {
    use proptest::prelude::*;

    use super::*;
    use crate::core::synthetic::{ENCODINGS, Generator};
    use crate::core::time::Timestamp;

    fn soundly(record: &Record) {
        for how in [Format::Auto, Format::Protobuf, Format::CloudEvents, Format::Raw] {
            let Ok(event) = decode(record, how, &Limits::default()) else { continue };
            assert!(!event.slices.is_empty() || event.nobody.is_some());
            for slice in &event.slices {
                assert!(how == Format::Raw || !slice.identifiers.is_empty());
                // A slice that cannot be read back would be evidence of nothing.
                assert!(Envelope::decode(slice.envelope.as_slice()).is_ok());
            }
        }
        let _ = redact::record(record);
    }

    proptest! {
        #[test]
        fn any_bytes_give_an_event_or_a_reason(value in proptest::collection::vec(any::<u8>(), 0..200)) {
            soundly(&record(&value));
        }

        #[test]
        fn any_near_json_gives_an_event_or_a_reason(value in r#"[\[{][\[\]{}",:a-c0-9\\ \n]{0,80}"#) {
            soundly(&record(&value));
        }

        #[test]
        fn a_changed_record_gives_an_event_or_a_reason(
            seed in any::<u64>(), which in 0usize..3, at in any::<prop::sample::Index>(), byte in any::<u8>(), cut in any::<bool>()
        ) {
            let mut record = Generator::new(seed, 9, Timestamp(1)).record(ENCODINGS[which]);
            let value = record.value.as_mut().expect("a value");
            let at = at.index(value.len());
            if cut { value.truncate(at) } else { value[at] = byte }
            soundly(&record);
        }

        #[test]
        fn the_encodings_say_the_same(seed in any::<u64>()) {
            let slices = |encoding| {
                let record = Generator::new(seed, 9, Timestamp(1_767_225_600_000_000)).record(encoding);
                let event = decode(&record, Format::Auto, &Limits::default()).expect("an event");
                let envelopes: Vec<_> = event.slices.into_iter().map(|s| (s.identifiers, s.envelope)).collect();
                (event.source, event.id, event.time, event.tenant, envelopes, event.nobody)
            };
            let first = slices(ENCODINGS[0]);
            prop_assert!(first == slices(ENCODINGS[1]));
            prop_assert!(first == slices(ENCODINGS[2]));
        }
    }
}
