//! `proto/dict-1.bin` is what its recipe gives, and what `proto/README.md` says it is.
//!
//! The recipe is here: synthetic events only, so that no personal data can be read out of the dictionary once the keys
//! of the people are destroyed. The file never changes; should another version of zstd train another one from the same
//! samples, the file stays and the recipe remains as the record of how it was made. `scripts/train-dict` runs it.

use std::path::PathBuf;

use pinfold::core::decode::{Format, Limits, decode};
use pinfold::core::hash::Hash;
use pinfold::core::synthetic::{ENCODINGS, Generator};
use pinfold::core::time::Timestamp;
use pinfold::proto::DICT_1;
use pinfold::proto::v1::{OperatorPart, PartKey, SubjectPart};
use prost::Message;

/// Measured on the bodies of the last test: 8 KiB leave 7 % more bytes, 32 KiB 1.4 % less, 64 KiB no less than 24.
const DICTIONARY_BYTES: usize = 16 << 10;
const RECORDS: usize = 6_000;

/// Part bodies as the sidecar seals them, of records in every encoding.
fn bodies(seed: u64, records: usize) -> Vec<Vec<u8>> {
    let start = Timestamp(1_767_225_600_000_000);
    let mut generator = Generator::new(seed, 5_000, start);
    let mut bodies = Vec::new();
    for i in 0..records {
        // Half of the records are Envelopes: that is what producers are asked to send.
        let encoding = ENCODINGS[[0, 1, 0, 2][i % 4]];
        let event =
            decode(&generator.record(encoding), Format::Auto, &Limits::default()).expect("synthetic records decode");
        let seq = u64::try_from(i).expect("few records");
        // Values that are random in a log are hashes here: the dictionary must not learn any.
        let random = |label: &str, of: u64| Hash::of(format!("{label} {seq} {of}").as_bytes()).0;
        let keys = (0u64..)
            .zip(&event.slices)
            .map(|(n, _)| PartKey { subject_ref: random("ref", n)[..16].to_vec(), class: 2 });
        let operator = OperatorPart {
            recorded_at: start.plus(seq * 5_000).0,
            source: "redpanda".to_owned(),
            decoder: event.decoder.to_owned(),
            keys: keys.collect(),
            record_mac: random("mac", 0).to_vec(),
            event: event.nobody.unwrap_or_default(),
        };
        bodies.push(operator.encode_to_vec());
        for slice in event.slices {
            let part = SubjectPart { event: slice.envelope, raw: slice.raw, subject_seq: 1 + seq % 40 };
            bodies.push(part.encode_to_vec());
        }
    }
    bodies
}

#[test]
fn the_dictionary_is_what_its_recipe_gives() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("proto/dict-1.bin");
    let trained = zstd::dict::from_samples(&bodies(1, RECORDS), DICTIONARY_BYTES).expect("enough samples");
    if std::env::var_os("PINFOLD_REGENERATE").is_some() && DICT_1.is_empty() {
        std::fs::write(&path, &trained).expect("the tree is writable");
        return;
    }
    assert_eq!(Hash::of(&trained), Hash::of(DICT_1));
}

#[test]
fn the_readme_names_the_dictionary_by_its_hash() {
    let readme = include_str!("../../proto/README.md");
    assert!(readme.contains(&Hash::of(DICT_1).to_string()), "proto/README.md lacks {}", Hash::of(DICT_1));
}

/// On events the training did not see, the dictionary must more than halve the bytes that plain zstd leaves of a part.
#[test]
fn the_dictionary_helps_with_events_it_has_not_seen() {
    let (mut raw, mut plain, mut with) = (0, 0, 0);
    let mut plainly = zstd::bulk::Compressor::new(1).expect("a compressor");
    let mut helped = zstd::bulk::Compressor::with_dictionary(1, DICT_1).expect("the dictionary loads");
    for body in bodies(2, 500).into_iter().filter(|body| body.len() > 200) {
        raw += body.len();
        plain += plainly.compress(&body).expect("compresses").len();
        with += helped.compress(&body).expect("compresses").len();
    }
    println!("{raw} bytes, {plain} by zstd, {with} with the dictionary");
    assert!(with * 2 < plain, "{raw} {plain} {with}");
}
