//! Every decoder as a function on bytes, for whoever throws bytes at it: the replay in `tests/it` and the fuzzer in
//! `tests/fuzz`.
//!
//! A target panics where a decoder does, where what it read is not written back as the same bytes, and where two readers
//! of the same bytes disagree. It says nothing about bytes that are refused.

#[path = "decoders/blocks.rs"]
mod blocks;
#[path = "decoders/seeds.rs"]
pub(crate) mod seeds;
#[path = "decoders/texts.rs"]
mod texts;

/// A decoder.
pub(crate) struct Target {
    pub(crate) name: &'static str,
    pub(crate) run: fn(&[u8]),
    /// Inputs are not made longer than this; what a decoder refuses by its length alone is tested elsewhere.
    pub(crate) bytes_max: usize,
    /// How many inputs cost as much as one of the slowest target: the replay shares its time by this.
    pub(crate) per_round: usize,
}

const fn target(name: &'static str, run: fn(&[u8]), bytes_max: usize, per_round: usize) -> Target {
    Target { name, run, bytes_max, per_round }
}

pub(crate) const TARGETS: &[Target] = &[
    target("add-checkpoint", texts::add_checkpoint, 8192, 40),
    target("anchor", blocks::anchor, 4096, 40),
    target("car", blocks::car, 16_384, 10),
    target("checkpoint", texts::checkpoint, 2048, 40),
    target("cid", texts::cid, 128, 40),
    target("cloudevents", texts::cloudevents, 8192, 4),
    target("config", texts::config, 8192, 1),
    target("dag-cbor", blocks::dag_cbor, 4096, 40),
    target("disclosure", texts::disclosure, 8192, 10),
    target("envelope", blocks::envelope, 4096, 10),
    target("erasure", blocks::erasure, 1024, 20),
    target("evidence", blocks::evidence, 12_288, 4),
    target("frame-index", blocks::frame_index, 4096, 20),
    target("frame-page", blocks::frame_page, 8192, 10),
    target("headers", blocks::headers, 4096, 10),
    target("index", blocks::index, 4096, 20),
    target("key-change", texts::key_change, 2048, 20),
    target("leaf", blocks::leaf, 4096, 40),
    target("log-list", texts::log_list, 4096, 20),
    target("note", texts::note, 4096, 40),
    target("page", blocks::page, 16_384, 2),
    target("payload", blocks::payload, 512, 40),
    target("policy", texts::policy, 4096, 20),
    target("proof", texts::proof, 8192, 10),
    target("seal", blocks::seal, 4096, 40),
    target("timestamp-reply", blocks::timestamp_reply, 16_384, 10),
    target("timestamp-token", blocks::timestamp_token, 16_384, 10),
    target("vkey", texts::vkey, 512, 40),
    target("witness-answer", texts::witness_answer, 4096, 20),
];

/// Two faults, by which a harness is first shown to see anything: numbers from 200 lose a digit on the way back, which
/// any change finds, and one word kills, which is found only by who looks at what the program compares.
pub(crate) const PLANTED: [Target; 2] =
    [target("planted-loss", planted_loss, 64, 40), target("planted-word", planted_word, 64, 40)];

/// The target of this name.
pub(crate) fn find(name: &str) -> Option<&'static Target> {
    TARGETS.iter().chain(&PLANTED).find(|target| target.name == name)
}

fn planted_loss(bytes: &[u8]) {
    let read = |text: &str| text.parse::<u64>().ok().filter(|number| number.to_string() == text);
    let write = |number: &u64| if *number < 200 { number.to_string() } else { (number / 10).to_string() };
    same_text(bytes, read, write);
}

fn planted_word(bytes: &[u8]) {
    // As a number, so that the comparison stays one that the fuzzer can see.
    let word = bytes.first_chunk().map(|first| u64::from_le_bytes(*first));
    assert!(word != Some(u64::from_le_bytes(*b"seldomly")), "the fault of a rare word");
}

/// What is read is written back as the same bytes.
fn same<T>(bytes: &[u8], read: impl FnOnce(&[u8]) -> Option<T>, write: impl FnOnce(&T) -> Vec<u8>) -> Option<T> {
    let value = read(bytes)?;
    let written = write(&value);
    assert!(written == bytes, "read, and written back as other bytes:\n{}\n{}", shown(bytes), shown(&written));
    Some(value)
}

/// The same of a text.
fn same_text<T>(bytes: &[u8], read: impl FnOnce(&str) -> Option<T>, write: impl FnOnce(&T) -> String) -> Option<T> {
    same(bytes, |bytes| std::str::from_utf8(bytes).ok().and_then(read), |value| write(value).into_bytes())
}

fn shown(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).escape_debug().to_string()
}
