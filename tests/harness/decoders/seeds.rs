//! What a fuzzer begins with: the pieces of the vectors and fixtures, each given to the targets it is for.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use pinfold::core::car::{Limits, Reader};
use pinfold::core::cid::{Cid, Codec};
use pinfold::core::hash::Hash;
use pinfold::core::note::{Note, Vkey, WitnessVkey};
use pinfold::core::record::Record;
use pinfold::core::seq::Size;
use pinfold::core::synthetic::{Encoding, Generator};
use pinfold::core::time::Timestamp;
use pinfold::core::timestamp::{Roots, Token};
use pinfold::core::witness::Submission;
use serde_json::Value;

/// Reads a file below `tests` when the test is built.
macro_rules! file {
    ($path:literal) => {
        include_bytes!(concat!("../../", $path)) as &[u8]
    };
}

const NOTES: &[u8] = file!("vectors/pinfold-v1/notes.json");

/// Blocks of a segment and the files they are in.
const CARS: &[&[u8]] = &[
    file!("fixtures/v1/blocks/segment.proof.car"),
    file!("fixtures/v1/blocks/segment.anchor.car"),
    file!("vectors/pinfold-v1/negative/base/000000.proof.car"),
    file!("vectors/pinfold-v1/negative/base/000000.payload.car"),
    file!("vectors/pinfold-v1/negative/base/000001.proof.car"),
    file!("vectors/pinfold-v1/negative/base/000001.anchor.car"),
    file!("vectors/pinfold-v1/negative/base/000002.payload.car"),
];

const BLOCKS: &[&[u8]] = &[
    file!("fixtures/v1/blocks/anchor.cbor"),
    file!("fixtures/v1/blocks/frame-index.cbor"),
    file!("fixtures/v1/blocks/frame-page.cbor"),
    file!("fixtures/v1/blocks/index.cbor"),
    file!("fixtures/v1/blocks/page.cbor"),
    file!("fixtures/v1/blocks/payload.cbor"),
    file!("fixtures/v1/blocks/seal.cbor"),
];

const PROOFS: &[&[u8]] =
    &[file!("fixtures/v1/blocks/entry-4.tlog-proof"), file!("vectors/pinfold-v1/disclosure/6.tlog-proof")];

const TARS: &[&[u8]] =
    &[file!("vectors/pinfold-v1/disclosure/6.evidence.tar"), file!("vectors/pinfold-v1/disclosure/certificate.tar")];

/// A token of `openssl ts`, in its answer and alone, and the root it is vouched for by.
const TOKEN: &[u8] = file!("vectors/rfc3161/token.der");
const REPLY: &[u8] = file!("vectors/rfc3161/reply.tsr");
const ROOT: &[u8] = file!("vectors/rfc3161/root.pem");

/// The seeds of each target.
pub(crate) type Seeds = BTreeMap<&'static str, Vec<Vec<u8>>>;

/// All seeds. Every target has some.
pub(crate) fn all() -> Seeds {
    let mut seeds = Seeds::new();
    let mut give = |targets: &[&'static str], bytes: &[u8]| {
        for target in targets {
            seeds.entry(target).or_default().push(bytes.to_vec());
        }
    };
    blocks(&mut give);
    leaves(&mut give);
    notes(&mut give);
    proofs(&mut give);
    events(&mut give);
    witnesses(&mut give);
    give(&["timestamp-token"], TOKEN);
    give(&["timestamp-reply"], REPLY);
    give(&["config"], pinfold::config::template("example.com/audit/main").as_bytes());
    give(&["config"], b"[log]\norigin = \"a.b\"\n[pin.vault]\nkind = \"folder\"\npath = \"v\"\n");
    give(&["planted-loss", "planted-word"], b"17");
    seeds
}

type Give<'a> = dyn FnMut(&[&'static str], &[u8]) + 'a;

/// Each block to every reader of blocks: what one takes another must refuse soundly.
fn blocks(give: &mut Give<'_>) {
    const READERS: &[&str] =
        &["anchor", "dag-cbor", "frame-index", "frame-page", "index", "page", "payload", "seal", "envelope"];
    for block in BLOCKS {
        give(READERS, block);
        give(&["cid"], Cid::of(Codec::DagCbor, block).to_string().as_bytes());
        give(&["cid"], &Cid::of(Codec::Raw, block).to_bytes());
    }
    for car in CARS {
        give(&["car"], car);
        let mut reader = Reader::open(*car, Limits::default()).unwrap();
        give(READERS, reader.first().unwrap());
        for block in blocks_of(car) {
            give(READERS, block);
        }
    }
    let vectors = json(file!("vectors/pinfold-v1/dag-cbor.json"));
    for case in ["accept", "reject", "reject_as_uint"].iter().flat_map(|list| vectors[list].as_array().unwrap()) {
        give(&["dag-cbor"], &unhex(&case["hex"]));
    }
}

/// The blocks of a sound CAR, by their lengths alone.
fn blocks_of(car: &[u8]) -> Vec<&[u8]> {
    let (mut rest, mut parts) = (car, Vec::new());
    while !rest.is_empty() {
        let len = rest.iter().take_while(|byte| **byte >= 0x80).count() + 1;
        let size = rest[..len].iter().rev().fold(0, |size, byte| size << 7 | usize::from(byte & 0x7f));
        parts.push(&rest[len..len + size]);
        rest = &rest[len + size..];
    }
    // The first is the header; the others begin with their CID.
    parts.into_iter().skip(1).map(|part| &part[Cid::LEN..]).collect()
}

fn leaves(give: &mut Give<'_>) {
    let vectors = json(file!("vectors/pinfold-v1/leaves.json"));
    let fixtures = json(file!("fixtures/v1/leaves.json"));
    let lists = [&vectors["leaves"], &vectors["refused"], &fixtures];
    for leaf in lists.iter().flat_map(|list| list.as_array().unwrap()) {
        // Long ones are given by their hash alone.
        if leaf["leaf"].is_string() {
            let bytes = unhex(&leaf["leaf"]);
            give(&["leaf", "dag-cbor"], &bytes);
            give(&["page"], &[&[0x81][..], &bytes].concat());
        }
    }
    let keys = json(file!("vectors/pinfold-v1/keys.json"));
    for body in keys["bodies"].as_array().unwrap() {
        give(&["erasure", "envelope"], &unhex(&body["hex"]));
    }
}

fn notes(give: &mut Give<'_>) {
    const READERS: &[&str] = &["note", "checkpoint", "key-change"];
    let vectors = json(NOTES);
    for list in ["good", "bad_checkpoints"] {
        for note in vectors[list].as_array().unwrap() {
            give(READERS, note["note"].as_str().unwrap().as_bytes());
        }
    }
    for key in vectors["keys"].as_array().unwrap() {
        give(&["vkey"], key["vkey"].as_str().unwrap().as_bytes());
    }
    let fixtures = json(file!("fixtures/v1/notes.json"));
    for note in ["checkpoint", "live", "rotation", "revocation"] {
        let note = fixtures[note].as_str().unwrap();
        give(READERS, note.as_bytes());
        give(&["checkpoint"], Note::parse(note).unwrap().text.as_bytes());
    }
}

fn proofs(give: &mut Give<'_>) {
    for proof in PROOFS {
        give(&["proof", "disclosure"], proof);
    }
    let vectors = json(file!("vectors/pinfold-v1/disclosure/expected.json"));
    give(&["proof", "disclosure"], vectors["cosigned"].as_str().unwrap().as_bytes());
    for refused in vectors["refused"].as_array().unwrap() {
        give(&["proof", "disclosure"], refused["text"].as_str().unwrap().as_bytes());
    }
    for statement in vectors["statements"].as_array().unwrap() {
        give(&["erasure"], &unhex(&statement["body"]));
    }
    for tar in TARS {
        give(&["evidence"], tar);
    }
}

/// Events about nobody who exists, in each of their forms.
fn events(give: &mut Give<'_>) {
    let mut generator = Generator::new(1, 5, Timestamp(1_767_225_600_000_000));
    for _ in 0..12 {
        give(&["envelope"], &generator.record(Encoding::Protobuf).value.unwrap());
        let json = generator.record(Encoding::CloudEventsJson).value.unwrap();
        give(&["cloudevents"], &json);
        give(&["cloudevents"], &[b"[", &json[..], b",", &json[..], b"]"].concat());
        give(&["headers"], &binary(&generator.record(Encoding::CloudEventsBinary)));
    }
    give(&["headers"], &field(&[0]));
}

/// A record as the target `headers` reads one.
fn binary(record: &Record) -> Vec<u8> {
    let mut bytes = field(&[u8::try_from(record.headers.len()).unwrap()]);
    for header in &record.headers {
        bytes.extend(field(&header.name));
        bytes.extend(field(header.value.as_deref().unwrap_or_default()));
    }
    bytes.extend(record.value.as_deref().unwrap_or_default());
    bytes
}

fn field(bytes: &[u8]) -> Vec<u8> {
    [&[u8::try_from(bytes.len()).unwrap()], bytes].concat()
}

fn witnesses(give: &mut Give<'_>) {
    let vkeys: Vec<String> = vkeys().iter().map(ToString::to_string).collect();
    let (checkpoint, witness) = asked();
    let (log, other) = (&vkeys[0], &vkeys[1]);
    let policy = format!(
        "# a policy\nlog {log} https://log.example/\nlog {other}\nwitness w1 {witness} https://w1.example/\n\
         group g any w1\nquorum g\n"
    );
    give(&["policy"], policy.as_bytes());
    give(&["policy"], b"quorum none\n");
    let list = format!("logs/v0\n\nvkey {log}\norigin another name\nqpd 24\ncontact me\nvkey {other}\n");
    give(&["log-list"], list.as_bytes());
    let line = cosigned()[checkpoint.len()..].to_owned();
    give(&["witness-answer"], line.as_bytes());
    give(&["witness-answer"], b"300\n");
    let hash = Hash::EMPTY_ROOT;
    for proof in [vec![], vec![hash], vec![hash; 63]] {
        let body = Submission { old: Size(9), proof, checkpoint: &checkpoint }.to_text();
        give(&["add-checkpoint"], body.as_bytes());
    }
}

/// The vkeys under which the proofs and evidence of the seeds verify.
pub(crate) fn vkeys() -> &'static [Vkey] {
    static VKEYS: OnceLock<Vec<Vkey>> = OnceLock::new();
    VKEYS.get_or_init(|| {
        let vectors = json(NOTES);
        let vkeys = vectors["keys"].as_array().unwrap().iter().map(|key| key["vkey"].as_str().unwrap());
        let named = |vkey: &&str| vkey.contains("+41b2fa99+") || vkey.contains("/recovery+");
        vkeys.filter(named).map(|vkey| vkey.parse().unwrap()).collect()
    })
}

fn cosigned() -> &'static str {
    static NOTE: OnceLock<String> = OnceLock::new();
    NOTE.get_or_init(|| {
        let vectors = json(NOTES);
        let good = vectors["good"].as_array().unwrap();
        let note = good.iter().find(|note| note["name"] == "checkpoint with a cosignature").unwrap();
        note["note"].as_str().unwrap().to_owned()
    })
}

/// A checkpoint, and the witness that cosigned it.
pub(crate) fn asked() -> (String, WitnessVkey) {
    static VKEY: OnceLock<WitnessVkey> = OnceLock::new();
    let vkey = VKEY.get_or_init(|| {
        let vectors = json(NOTES);
        let mut keys = vectors["keys"].as_array().unwrap().iter();
        keys.find(|key| key["name"] == "witness").unwrap()["vkey"].as_str().unwrap().parse().unwrap()
    });
    let note = cosigned();
    (note[..note.rfind("— ").unwrap()].to_owned(), vkey.clone())
}

/// The authorities that are trusted.
pub(crate) fn roots() -> &'static Roots {
    static ROOTS: OnceLock<Roots> = OnceLock::new();
    ROOTS.get_or_init(|| Roots::read(ROOT).unwrap())
}

/// The token of the seeds, and what it is over.
pub(crate) fn stamped() -> &'static (Token, Hash) {
    static TOKEN_READ: OnceLock<(Token, Hash)> = OnceLock::new();
    TOKEN_READ.get_or_init(|| {
        let token = Token::open(TOKEN).unwrap();
        let imprint = token.imprint();
        (token, imprint)
    })
}

fn json(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).unwrap()
}

fn unhex(value: &Value) -> Vec<u8> {
    hex::decode(value.as_str().unwrap()).unwrap()
}
