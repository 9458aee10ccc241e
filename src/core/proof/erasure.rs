//! The certificate of an erasure, and what its statements may say.
//!
//! It proves that the operator signed, in this order, that an erasure was requested, that keys were destroyed and
//! that it was completed. That no copy of a key exists is not provable. Spec: format.md, Segment, "Erasure
//! certificate", and Sealed part, "ErasureStatement".

use prost::Message as _;

use super::super::checkpoint::Head;
use super::super::finding::Refused;
use super::super::leaf::{Body, ErasureStep};
use super::super::note::Vkey;
use super::super::seq::Seq;
use super::evidence;
use super::{Proof, Proven};
use crate::proto::v1::ErasureStatement;

/// The part of a kind 9 entry that says what may be shown.
const STATEMENT_PART: u32 = 1;
/// The steps of a certificate, in their order in the log.
const STEPS: [ErasureStep; 3] = [ErasureStep::Requested, ErasureStep::KeysDestroyed, ErasureStep::Completed];

/// What a sound certificate has shown.
#[derive(Clone, PartialEq, Debug)]
pub struct Certificate {
    /// The checkpoint.
    pub head: Head,
    /// Requested, keys destroyed, completed: where each stands and what it says.
    pub statements: [(Seq, ErasureStatement); 3],
}

/// Reads the body of part 1 of a kind 9 entry and checks it against its step: who is named in no statement is not
/// known, and each field is there exactly where the step has a use for it.
///
/// # Errors
/// `non-canonical`.
pub fn read_statement(step: ErasureStep, body: &[u8]) -> Result<ErasureStatement, Refused> {
    let statement = ErasureStatement::decode(body).map_err(|e| refused(&format!("statement: {e}")))?;
    let counts = matches!(step, ErasureStep::KeysDestroyed | ErasureStep::Completed);
    if step == ErasureStep::Refused && statement.ground.is_empty() {
        return Err(refused("a refusal without its ground"));
    }
    if step != ErasureStep::Refused && statement.classes.is_empty() {
        return Err(refused("a statement that names no class"));
    }
    if counts && statement.affected_set.len() != 32 {
        return Err(refused("a statement whose set is not a hash"));
    }
    if !counts && (statement.affected_count != 0 || !statement.affected_set.is_empty()) {
        return Err(refused("a count before any key was destroyed"));
    }
    Ok(statement)
}

/// Reads and checks a certificate: an evidence tar.
///
/// # Errors
/// Those of [`evidence::check`]; `non-canonical` unless it discloses part 1 of one erasure's three steps in order.
pub fn check(tar: &[u8], vkey: &Vkey, recovery: Option<&Vkey>) -> Result<Certificate, Refused> {
    let evidence = evidence::check(tar, vkey, recovery)?;
    certificate(evidence.head, &evidence.proven)
}

/// Checks the proofs of a certificate, in order of seq.
///
/// # Errors
/// As for [`check`].
pub fn check_proofs(proofs: &[Proof], vkey: &Vkey, recovery: Option<&Vkey>) -> Result<Certificate, Refused> {
    let (head, proven) = evidence::check_proofs(proofs, vkey, recovery)?;
    certificate(head, &proven)
}

fn certificate(head: Head, proven: &[Proven]) -> Result<Certificate, Refused> {
    let mut statements = Vec::new();
    for Proven { leaf, disclosed, .. } in proven {
        match (&leaf.body, disclosed) {
            // The changes of key stand beside the steps, and were checked with the checkpoint.
            (Body::KeyChanged { .. }, None) => {}
            (Body::Erasure { step }, Some(part)) if part.part == STATEMENT_PART => {
                statements.push((*step, leaf.seq, read_statement(*step, &part.body)?));
            }
            _ => return Err(refused("an entry that is no step with its statement disclosed")),
        }
    }
    if !statements.iter().map(|(step, _, _)| *step).eq(STEPS) {
        return Err(refused("not the steps requested, keys destroyed, completed"));
    }
    let statements: Vec<_> = statements.into_iter().map(|(_, seq, statement)| (seq, statement)).collect();
    let statements: [_; 3] = statements.try_into().map_err(|_| refused("not three steps"))?;
    let [(_, requested), rest @ ..] = &statements;
    if rest.iter().any(|(_, statement)| statement.erasure_id != requested.erasure_id) {
        return Err(refused("steps of different erasures"));
    }
    Ok(Certificate { head, statements })
}

fn refused(what: &str) -> Refused {
    Refused::non_canonical(format!("erasure: {what}"))
}
