//! An evidence tar: proofs under one checkpoint, with the proof of every change of key before it.
//!
//! Who holds only the key of the log's first entry walks the changes of key to the checkpoint's; who holds the
//! checkpoint's own needs none. What the disclosed bodies mean is not known here. Spec: format.md, Segment,
//! "An evidence tar", and "Tree, checkpoint, keys".

use super::super::checkpoint::Head;
use super::super::finding::{Code, Refused};
use super::super::keychange::{KeyChange, Standing};
use super::super::leaf::{Body, KeyStep};
use super::super::note::Vkey;
use super::super::seq::Seq;
use super::tar::{self, File};
use super::{Proof, Proven};

/// The end of a proof's name; before it stands the seq.
const SUFFIX: &str = ".tlog-proof";

/// What a sound evidence tar has shown.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Evidence {
    /// The checkpoint everything is proven under.
    pub head: Head,
    /// The entries proven, in order of seq, those of kind 8 included.
    pub proven: Vec<Proven>,
    /// The files beside the proofs, as they are: nothing is known of them.
    pub others: Vec<File>,
}

/// Reads and checks an evidence tar with the vkey of kind 1 or of its checkpoint, and the recovery vkey if the
/// verifier has one.
///
/// # Errors
/// Those of each proof; `non-canonical` for proofs out of order, of another checkpoint or of none; `unknown-key`
/// where the changes of key do not lead from `vkey` to the checkpoint's; `unreachable` where they lead through a
/// revocation and no recovery vkey is given.
pub fn check(tar: &[u8], vkey: &Vkey, recovery: Option<&Vkey>) -> Result<Evidence, Refused> {
    let mut proofs = Vec::new();
    let mut others = Vec::new();
    for file in tar::read(tar)? {
        let Some(seq) = file.name.strip_suffix(SUFFIX) else {
            others.push(file);
            continue;
        };
        let text = std::str::from_utf8(&file.bytes).map_err(|_| refused("a proof that is not UTF-8"))?;
        let proof = Proof::parse(text)?;
        if seq != proof.index.to_string() {
            return Err(refused("a proof under the name of another entry"));
        }
        proofs.push(proof);
    }
    let (head, proven) = check_proofs(&proofs, vkey, recovery)?;
    Ok(Evidence { head, proven, others })
}

/// Writes an evidence tar: the proofs by seq, then the other files.
///
/// # Errors
/// `non-canonical` for two proofs of one entry or a name no tar of ours has.
pub fn write(mut proofs: Vec<Proof>, others: &[File]) -> Result<Vec<u8>, Refused> {
    proofs.sort_by_key(|proof| proof.index);
    let file = |proof: &Proof| File { name: format!("{}{SUFFIX}", proof.index), bytes: proof.to_text().into_bytes() };
    let files: Vec<File> = proofs.iter().map(file).chain(others.iter().cloned()).collect();
    tar::write(&files)
}

/// Checks proofs that stand together, in order of seq.
///
/// # Errors
/// As for [`check`].
pub fn check_proofs(proofs: &[Proof], vkey: &Vkey, recovery: Option<&Vkey>) -> Result<(Head, Vec<Proven>), Refused> {
    let first = proofs.first().ok_or_else(|| refused("no proof"))?;
    let head = first.statement()?.head;
    if proofs.windows(2).any(|pair| matches!(pair, [a, b] if a.index >= b.index)) {
        return Err(refused("proofs that do not stand by seq"));
    }
    for proof in proofs {
        if proof.statement()?.head != head {
            return Err(refused("proofs of different checkpoints"));
        }
    }
    // The leaves prove themselves under the head; the changes of key among them say whose signature it needs.
    let proven = proofs.iter().map(|proof| proof.check_under(&head)).collect::<Result<Vec<_>, _>>()?;
    let signer = signer(&head, &proven, vkey, recovery)?;
    for proof in proofs {
        proof.statement()?.verify(&signer)?;
    }
    Ok((head, proven))
}

/// The key the checkpoint must be signed by: where the changes of key lead, which must be from `vkey` or to it.
fn signer(head: &Head, proven: &[Proven], vkey: &Vkey, recovery: Option<&Vkey>) -> Result<Vkey, Refused> {
    let mut ends: Option<(Vkey, Vkey)> = None;
    let mut needs_recovery = false;
    for (seq, step, note) in proven.iter().filter_map(key_changed) {
        let standing =
            Standing { origin: Some(&head.origin), seq, current: ends.as_ref().map(|(_, last)| last), recovery };
        let change = KeyChange::open(step, note, &standing)?;
        needs_recovery |= step == KeyStep::Revoked && recovery.is_none();
        let first = ends.map_or_else(|| change.old().clone(), |(first, _)| first);
        ends = Some((first, change.new_key().clone()));
    }
    match ends {
        None => Ok(vkey.clone()),
        // The signature itself is by the key in hand: the changes add nothing to it.
        Some((_, last)) if last == *vkey => Ok(last),
        Some((first, _)) if first == *vkey && needs_recovery => {
            Err(Refused::new(Code::Unreachable, "evidence: a revocation, and no recovery vkey to check it by"))
        }
        Some((first, last)) if first == *vkey => Ok(last),
        Some(_) => {
            Err(Refused::new(Code::UnknownKey, "evidence: the changes of key lead neither from this vkey nor to it"))
        }
    }
}

fn key_changed(proven: &Proven) -> Option<(Seq, KeyStep, &str)> {
    match &proven.leaf.body {
        Body::KeyChanged { note, step } => Some((proven.leaf.seq, *step, note)),
        _ => None,
    }
}

fn refused(what: &str) -> Refused {
    Refused::non_canonical(format!("evidence: {what}"))
}
