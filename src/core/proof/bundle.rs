//! An evidence bundle: every entry of a range under one checkpoint, in one file that is checked with public keys alone.
//!
//! An evidence tar ([`evidence`](super::evidence)) with a manifest signed by the log's key: so a file that is changed,
//! left out or added is seen, and the range is whole, because the proofs of it are dense. Beside the range it carries
//! the proofs that the range needs to be read: the first entry, every change of key, the topics, and the gaps declared
//! before it. `bundle/check.py` is the same check in Python; both give the same exit code, and take faults in the same
//! order. What is disclosed is what the leaves commit to; what the report says of it is the operator's rendering.
//! Spec: docs/evidence.md; format.md, Segment, "An evidence tar".

mod report;
mod scope;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::super::checkpoint::{Form, Head, Statement};
use super::super::finding::{Code, Refused};
use super::super::hash::Hash;
use super::super::note::{Note, Vkey, to_base64};
use super::super::seq::Seq;
use super::tar::{self, File};
use super::{Extra, Proof, Proven};
use scope::{Keys, Trust};

/// The name and version of the manifest's form.
const FORMAT: &str = "pinfold-evidence/1";
/// The first line of the text that the log's key signs. No origin begins with `pinfold/`, so no checkpoint has it.
const SIGNED: &str = "pinfold/v1/evidence\n";
const MANIFEST: &str = "manifest.json";
const MANIFEST_NOTE: &str = "manifest.note";
const CHECKPOINT: &str = "checkpoint";
const KEYS: &str = "keys.json";
const COMPLETENESS: &str = "completeness.json";
const UNDISCLOSED: &str = "undisclosed.txt";
const PROOF_SUFFIX: &str = ".tlog-proof";

/// Entries of a bundle's range, at most: as many as a segment holds.
pub const ENTRIES_MAX: u64 = 65_536;

/// The checker that goes into every bundle.
pub const CHECK_PY: &str = include_str!("bundle/check.py");
const LIMITS: &str = include_str!("bundle/LIMITS.txt");
const README: &str = include_str!("bundle/README.txt");

/// Why a part stays closed: the operator's word, which nothing proves.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Closed {
    /// Nobody asked for it.
    NotAsked,
    /// The operator does not hold its key: it was destroyed, it expired, or it never was there.
    NotHeld,
    /// The payload is not in the operator's archive.
    NoPayload,
}

impl Closed {
    /// The word in `undisclosed.txt`.
    pub fn as_str(self) -> &'static str {
        match self {
            Closed::NotAsked => "not-asked",
            Closed::NotHeld => "not-held",
            Closed::NoPayload => "no-payload",
        }
    }

    fn from_text(text: &str) -> Option<Closed> {
        [Closed::NotAsked, Closed::NotHeld, Closed::NoPayload].into_iter().find(|closed| closed.as_str() == text)
    }
}

/// What a bundle is made of.
#[derive(Clone, Debug)]
pub struct Contents {
    /// The first entry of the range.
    pub first: Seq,
    /// The entry behind its last.
    pub next: Seq,
    /// Proofs under one checkpoint: all entries of the range, and those beside it that it needs to be read.
    pub proofs: Vec<Proof>,
    /// Time-stamp tokens over the checkpoint, DER.
    pub tokens: Vec<Vec<u8>>,
    /// Why parts stay closed; those not named, because nobody asked.
    pub closed: BTreeMap<(Seq, u32), Closed>,
}

/// What a sound bundle has shown.
#[derive(Clone, Debug)]
pub struct Bundle {
    /// The checkpoint everything is proven under.
    pub head: Head,
    /// The first entry of the range.
    pub first: Seq,
    /// The entry behind its last.
    pub next: Seq,
    /// Every entry proven, those beside the range included, in order of seq.
    pub proven: Vec<Proven>,
}

impl Bundle {
    /// How many entries of the range have a part disclosed.
    pub fn disclosed(&self) -> usize {
        self.proven.iter().filter(|proven| proven.disclosed.is_some()).count()
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Manifest {
    format: String,
    origin: String,
    size: u64,
    root: String,
    first: u64,
    next: u64,
    files: Vec<Listed>,
}

#[derive(PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Listed {
    name: String,
    bytes: u64,
    sha256: String,
}

impl Listed {
    fn of(file: &File) -> Listed {
        let bytes = u64::try_from(file.bytes.len()).unwrap_or(u64::MAX);
        Listed { name: file.name.clone(), bytes, sha256: Hash::of(&file.bytes).to_string() }
    }
}

/// Writes a bundle; the same contents give the same bytes. `sign` gives the note of a text by the key of the checkpoint.
///
/// # Errors
/// Those of [`check`]: nothing is written that it would refuse; and those of `sign`.
pub fn write<E: From<Refused>>(
    contents: &Contents,
    sign: impl FnOnce(&Vkey, &str) -> Result<String, E>,
) -> Result<Vec<u8>, E> {
    let mut proofs = contents.proofs.clone();
    proofs.sort_by_key(|proof| proof.index);
    let checkpoint = proofs.first().map(|proof| proof.checkpoint.clone()).ok_or_else(|| refused("no proof"))?;
    let head = Statement::parse(&checkpoint)?.head;
    let proven = proofs.iter().map(|proof| proof.check_under(&head)).collect::<Result<Vec<_>, _>>()?;
    let keys = Keys::of(&head, &proven, None)?;
    let rows = scope::completeness(contents.first, contents.next, &proven)?;
    let mut files: Vec<File> = Vec::new();
    let mut add = |name: String, bytes: Vec<u8>| files.push(File { name, bytes });
    for proof in &proofs {
        add(format!("{}{PROOF_SUFFIX}", proof.index), proof.to_text().into_bytes());
    }
    add(CHECKPOINT.to_owned(), checkpoint.clone().into_bytes());
    add(KEYS.to_owned(), keys.to_json());
    add(COMPLETENESS.to_owned(), pretty(&rows));
    let undisclosed = scope::undisclosed(contents.first, contents.next, &proven, |seq, part| {
        Some(contents.closed.get(&(seq, part)).copied().unwrap_or(Closed::NotAsked))
    });
    add(UNDISCLOSED.to_owned(), undisclosed.unwrap_or_default().into_bytes());
    for (n, token) in contents.tokens.iter().enumerate() {
        add(format!("{CHECKPOINT}-{n}.tst"), token.clone());
    }
    let report = report::html(contents, &head, &keys, &rows, &proven);
    for (name, text) in
        [("LIMITS.txt", LIMITS), ("README.txt", README), ("check.py", CHECK_PY), ("report.html", &report)]
    {
        add(name.to_owned(), text.as_bytes().to_vec());
    }
    let manifest = pretty(&Manifest {
        format: FORMAT.to_owned(),
        origin: head.origin.to_string(),
        size: head.size.0,
        root: to_base64(&head.root.0),
        first: contents.first.0,
        next: contents.next.0,
        files: files.iter().map(Listed::of).collect(),
    });
    let note = sign(keys.signer(), &signed_text(head.origin.as_str(), head.size.0, &manifest))?;
    files.push(File { name: MANIFEST.to_owned(), bytes: manifest });
    files.push(File { name: MANIFEST_NOTE.to_owned(), bytes: note.into_bytes() });
    let tar = tar::write(&files)?;
    check(&tar, std::slice::from_ref(keys.signer()), None)?;
    Ok(tar)
}

/// Whether a tar is a bundle, or what is left of one: proofs alone are plain evidence, and claim no range.
pub fn is_bundle(files: &[File]) -> bool {
    files.iter().any(|file| !file.name.ends_with(PROOF_SUFFIX))
}

/// Reads and checks a bundle with vkeys of the log, of which one must be its first or its newest, and the recovery vkey
/// if the verifier has it.
///
/// # Errors
/// `non-canonical`; `block-missing`, `block-extra`, `block-hash` for files that are not those of the manifest; those of
/// each proof; those of the changes of key and of the checkpoint; `seq-gap` where an entry of the range is missing;
/// `offset-gap`, `offset-overlap`; `unreachable` without a vkey, or where a revocation leads from it and no recovery
/// vkey is given.
pub fn check(tar: &[u8], vkeys: &[Vkey], recovery: Option<&Vkey>) -> Result<Bundle, Refused> {
    let files = tar::read(tar)?;
    if files.is_empty() {
        return Err(refused("nothing in it"));
    }
    let manifest = check_files(&files)?;
    let texts = |name: &str| text_of(&files, name);
    let checkpoint = texts(CHECKPOINT)?;
    let statement = Statement::parse(checkpoint)?;
    if statement.form == Form::Live {
        return Err(refused("under a live head"));
    }
    let head = statement.head.clone();
    if (&*manifest.origin, manifest.size, &*manifest.root)
        != (head.origin.as_str(), head.size.0, &*to_base64(&head.root.0))
    {
        return Err(refused("manifest.json: of another checkpoint"));
    }
    let mut proven = Vec::new();
    for file in files.iter().filter(|file| file.name.ends_with(PROOF_SUFFIX)) {
        proven.push(check_proof(file, checkpoint, &head)?);
    }
    if proven.windows(2).any(|pair| matches!(pair, [a, b] if a.leaf.seq >= b.leaf.seq)) {
        return Err(refused("proofs that do not stand by seq"));
    }
    let keys = Keys::of(&head, &proven, Some(Trust { vkeys, recovery }))?;
    statement.verify(keys.signer())?;
    check_signature(texts(MANIFEST_NOTE)?, keys.signer())?;
    let (first, next) = (Seq(manifest.first), Seq(manifest.next));
    let in_range = |seq: Seq| first <= seq && seq < next;
    let dense = proven.iter().map(|proven| proven.leaf.seq).filter(|seq| in_range(*seq));
    if first >= next || !dense.map(|seq| seq.0).eq(first.0..next.0) {
        return Err(Refused::new(Code::SeqGap, "evidence: an entry of the range is missing"));
    }
    if texts(KEYS)?.as_bytes() != keys.to_json() {
        return Err(refused("keys.json is not what the entries say"));
    }
    if texts(COMPLETENESS)?.as_bytes() != pretty(&scope::completeness(first, next, &proven)?) {
        return Err(refused("completeness.json is not what the entries say"));
    }
    check_undisclosed(texts(UNDISCLOSED)?, first, next, &proven)?;
    Ok(Bundle { head, first, next, proven })
}

/// The files are those the manifest lists, in its order, with its digests; then the manifest and its note.
fn check_files(files: &[File]) -> Result<Manifest, Refused> {
    let own = [MANIFEST, MANIFEST_NOTE];
    if !own.iter().all(|own| files.iter().any(|file| file.name == *own)) {
        return Err(Refused::new(Code::BlockMissing, "evidence: the manifest is missing"));
    }
    let bytes = text_of(files, MANIFEST)?.as_bytes();
    let malformed = |e: serde_json::Error| refused(&format!("manifest.json: {e}"));
    let value: serde_json::Value = serde_json::from_slice(bytes).map_err(malformed)?;
    // Whatever else is wrong with a manifest, one that was not signed says nothing. Whose signature it is, is seen later.
    let (origin, size) = (value.get("origin").and_then(|v| v.as_str()), value.get("size").and_then(|v| v.as_u64()));
    let (origin, size) = origin.zip(size).ok_or_else(|| refused("manifest.json: no origin or size"))?;
    if Note::parse(text_of(files, MANIFEST_NOTE)?)?.text != signed_text(origin, size, bytes) {
        return Err(Refused::new(Code::BlockHash, "evidence: manifest.note is of another manifest"));
    }
    match value.get("format").and_then(serde_json::Value::as_str) {
        Some(FORMAT) => {}
        Some(_) => return Err(Refused::new(Code::UnknownVersion, "evidence: another version of the manifest")),
        None => return Err(refused("manifest.json: no format")),
    }
    let manifest: Manifest = serde_json::from_value(value).map_err(malformed)?;
    if pretty(&manifest) != bytes {
        return Err(refused("manifest.json: not as it is written"));
    }
    let names: Vec<&str> = manifest.files.iter().map(|listed| listed.name.as_str()).chain(own).collect();
    let found: Vec<&str> = files.iter().map(|file| file.name.as_str()).collect();
    let (listed, there): (BTreeSet<&str>, BTreeSet<&str>) =
        (names.iter().copied().collect(), found.iter().copied().collect());
    if let Some(extra) = there.difference(&listed).next() {
        return Err(Refused::new(Code::BlockExtra, format!("evidence: {extra} is not in the manifest")));
    }
    if let Some(missing) = listed.difference(&there).next() {
        return Err(Refused::new(Code::BlockMissing, format!("evidence: {missing} is missing")));
    }
    if names != found {
        return Err(refused("files in another order"));
    }
    match manifest.files.iter().zip(files).find(|(listed, file)| **listed != Listed::of(file)) {
        Some((listed, _)) => Err(Refused::new(Code::BlockHash, format!("evidence: {}", listed.name))),
        None => Ok(manifest),
    }
}

fn check_proof(file: &File, checkpoint: &str, head: &Head) -> Result<Proven, Refused> {
    let proof = Proof::parse(utf8(file)?)?;
    if proof.checkpoint != checkpoint {
        return Err(refused("a proof under another checkpoint"));
    }
    if file.name != format!("{}{PROOF_SUFFIX}", proof.index) {
        return Err(Refused::new(Code::SeqGap, "evidence: a proof under the name of another entry"));
    }
    proof.check_under(head)
}

fn check_signature(note: &str, signer: &Vkey) -> Result<(), Refused> {
    let note = Note::parse(note)?;
    match note.signatures.as_slice() {
        [line] if signer.signed(note.text, line) => Ok(()),
        _ => Err(Refused::new(Code::BadSignature, "evidence: the manifest is not signed by the log's key")),
    }
}

fn check_undisclosed(text: &str, first: Seq, next: Seq, proven: &[Proven]) -> Result<(), Refused> {
    let mut lines = text.lines();
    let mut reason = || lines.next().and_then(|line| Closed::from_text(line.rsplit(' ').next().unwrap_or_default()));
    match scope::undisclosed(first, next, proven, |_, _| reason()) {
        Some(expected) if expected == text => Ok(()),
        _ => Err(refused("undisclosed.txt is not what the entries say")),
    }
}

fn signed_text(origin: &str, size: u64, manifest: &[u8]) -> String {
    format!("{SIGNED}{origin}\n{size}\n{}\n", to_base64(&Hash::of(manifest).0))
}

fn text_of<'f>(files: &'f [File], name: &str) -> Result<&'f str, Refused> {
    let file = files.iter().find(|file| file.name == name).ok_or_else(|| refused(&format!("no {name}")))?;
    utf8(file)
}

fn utf8(file: &File) -> Result<&str, Refused> {
    std::str::from_utf8(&file.bytes).map_err(|_| refused(&format!("{}: not UTF-8", file.name)))
}

/// JSON as Python's `json.dumps(value, indent=2, ensure_ascii=False)` writes it, with a line feed.
fn pretty(value: &impl Serialize) -> Vec<u8> {
    let mut bytes = serde_json::to_vec_pretty(value).unwrap_or_default();
    bytes.push(b'\n');
    bytes
}

/// What `proof` is to say of one part: the proof with that part disclosed.
pub fn disclosing(proof: Proof, r: [u8; 32], body: Vec<u8>, part: u32) -> Proof {
    let leaf = proof.extra.leaf().to_vec();
    Proof { extra: Extra::Disclosure(super::Disclosure { r, body, leaf, part }), ..proof }
}

fn refused(what: &str) -> Refused {
    Refused::non_canonical(format!("evidence: {what}"))
}
