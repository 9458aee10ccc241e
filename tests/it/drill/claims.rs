//! What is claimed of a single entry: proofs and disclosures that leave the log alone.

use pinfold::core::finding::{Code, Refused};
use pinfold::core::hash::Hash;
use pinfold::core::merkle::{inclusion_proof, nodes_of};
use pinfold::core::origin::Origin;
use pinfold::core::proof::{Disclosure, Extra, Proof};
use pinfold::core::seq::{Seq, Size};

use super::forge::{self, Written};
use super::table::{By, Expected, Sweep, Table};

const SEQ: u64 = 4;

/// The proof of an entry under the newest checkpoint, disclosing part 1.
fn disclosed(written: &Written) -> Proof {
    let hashes: Vec<Hash> = written.leaves.iter().map(|leaf| Hash::leaf(leaf)).collect();
    let size = Size(hashes.len() as u64);
    let (leaf, bodies) = (written.leaves[SEQ as usize].clone(), forge::bodies(SEQ, position()));
    let r = forge::random(SEQ, 1)[..32].try_into().unwrap();
    Proof {
        extra: Extra::Disclosure(Disclosure { r, body: bodies[1].clone(), leaf, part: 1 }),
        index: Seq(SEQ),
        hashes: inclusion_proof(Seq(SEQ), size, nodes_of(&hashes)).unwrap(),
        checkpoint: written.newest().to_owned(),
    }
}

fn position() -> pinfold::core::position::Position {
    pinfold::core::position::Partition { topic_no: 0, partition: 1 }.at(0)
}

pub(super) fn rows(table: &mut Table) {
    table.group("Claims", "One entry shown alone, by a `.tlog-proof` with or without a disclosure.");
    let written = forge::write(&forge::entries(3, 2), &forge::by(&forge::key(1)));
    let sound = disclosed(&written);
    let check = |proof: &Proof| -> Result<(), Refused> {
        Proof::parse(&proof.to_text())?.check(forge::key(1).vkey()).map(drop)
    };
    assert_eq!(check(&sound), Ok(()), "untouched");
    let with = |change: &dyn Fn(&mut Disclosure)| {
        let mut proof = sound.clone();
        let Extra::Disclosure(disclosure) = &mut proof.extra else { panic!("a disclosure") };
        change(disclosure);
        proof
    };
    let other_log = Proof { checkpoint: of_another_log(), ..sound.clone() };
    let tampers: [(&str, Proof, Code); 7] = [
        ("another plaintext claimed for a commitment", with(&|claim| claim.body[5] ^= 1), Code::Commitment),
        ("other random bytes claimed for a commitment", with(&|claim| claim.r[0] ^= 1), Code::Commitment),
        ("the plaintext of one part claimed for another", with(&|claim| claim.part = 0), Code::Commitment),
        ("a leaf that is not in the tree", with(&|claim| *claim.leaf.last_mut().unwrap() ^= 1), Code::LeafHash),
        ("an inclusion proof with another hash", changed_hash(&sound), Code::LeafHash),
        ("a proof under another index", Proof { index: Seq(SEQ + 1), ..sound.clone() }, Code::SeqGap),
        ("a proof under a checkpoint of another origin", other_log, Code::WrongOrigin),
    ];
    for (what, proof, code) in tampers {
        let refused = check(&proof).expect_err(what);
        table.row(what, By::Prover, "vkey", Expected::of(code, 40), &refused);
    }
    table.sweep("each byte of a disclosure", By::Prover, "vkey", "the proof, each time", &sweep(&sound, check));
}

/// Every byte of the file changed in turn; one that is no text any more is no proof.
fn sweep(sound: &Proof, check: impl Fn(&Proof) -> Result<(), Refused>) -> Sweep {
    let text = sound.to_text();
    let mut sweep = Sweep::of(text.len());
    for at in 0..text.len() {
        let mut bytes = text.as_bytes().to_vec();
        bytes[at] ^= 1;
        let parsed = match std::str::from_utf8(&bytes) {
            Ok(text) => Proof::parse(text),
            Err(_) => Err(Refused::non_canonical("not UTF-8")),
        };
        if let Err(refused) = parsed.and_then(|proof| check(&proof)) {
            sweep.found(refused.code, refused.code.exit().unwrap());
        }
    }
    sweep
}

fn changed_hash(sound: &Proof) -> Proof {
    let mut proof = sound.clone();
    proof.hashes[0].0[0] ^= 1;
    proof
}

fn of_another_log() -> String {
    let name = "example.com/audit/other";
    let key = pinfold::core::note::Skey::from_seed(name, &[1; 32]).unwrap();
    let head = pinfold::core::checkpoint::Head {
        origin: Origin::new(name).unwrap(),
        size: Size(11),
        root: Hash::of(b"another tree"),
    };
    pinfold::core::checkpoint::sign_checkpoint(&head, &key)
}
