//! Time-stamp tokens in anchors, and one that the verifier kept apart.

use pinfold::core::audit::{AuditInput, File, KnownToken};
use pinfold::core::finding::Code;
use pinfold::core::hash::Hash;
use pinfold::core::segment::Anchor;
use pinfold::core::timestamp::Roots;

use super::forge::{self, Written};
use super::table::{By, Expected, Table};
use crate::memory::{Memory, name};
use crate::pki::{Cert, Pki, info_der};

const ROOTS: &str = "vkey, roots of the authorities";
const KEPT: &str = "vkey, roots, a token of the newest checkpoint";
const NEWEST: usize = 21;

/// The honest log, and authorities that sign anything.
struct Scene {
    honest: Written,
    pki: Pki,
    input: AuditInput,
}

impl Scene {
    fn new() -> Scene {
        let pki = Pki::new();
        pki.cert(&Cert::ca("root", ""));
        pki.cert(&Cert::signer("signer", "root"));
        pki.cert(&Cert { to: "20250101000000Z", ..Cert::signer("over", "root") });
        pki.cert(&Cert { from: "20260101000000Z", ..Cert::signer("early", "root") });
        pki.cert(&Cert { extensions: "basicConstraints=CA:FALSE\n", ..Cert::signer("other", "root") });
        let input = AuditInput {
            vkeys: vec![forge::key(1).vkey().clone()],
            tsa_roots: Some(Roots::read(&pki.read("root.pem")).unwrap()),
            ..AuditInput::default()
        };
        Scene { honest: forge::write(&forge::entries(22, 5), &forge::by(&forge::key(1))), pki, input }
    }

    fn token(&self, segment: usize, signer: &str) -> Vec<u8> {
        let checkpoint = self.honest.checkpoint(segment);
        self.pki.sign(&info_der(checkpoint.as_bytes()), signer, signer, &["-cades"])
    }

    /// The archive with this token in the newest anchor.
    fn anchored(&self, token: Vec<u8>) -> Memory {
        let (seal, checkpoint) = (self.honest.seals[NEWEST].0, self.honest.newest().to_owned());
        let mut archive = self.honest.archive.clone();
        let anchor = Anchor { tsa: vec![token], seal, checkpoint }.to_car();
        archive.files.insert(name(NEWEST as u64, File::Anchor), anchor);
        archive
    }
}

pub(super) fn rows(table: &mut Table) {
    let scene = Scene::new();
    in_anchors(&scene, table);
    kept(&scene, table);
}

fn in_anchors(scene: &Scene, table: &mut Table) {
    table.group(
        "Time stamps",
        "RFC 3161 tokens: those of the archive prove a time, one kept apart proves what must be there.",
    );
    let sound = scene.token(NEWEST, "signer");
    let report = scene.anchored(sound.clone()).audit(&scene.input);
    assert!(report.anchors.iter().any(|seen| seen.time.is_some()), "the token is verified: {:?}", report.anchors);
    table.row("none", By::Nobody, ROOTS, Expected::nothing(10), &report);
    let mut changed = sound;
    *changed.last_mut().unwrap() ^= 1;
    for (what, token) in [
        ("a token over another digest", scene.token(3, "signer")),
        ("a token whose certificate had expired", scene.token(NEWEST, "over")),
        ("a token whose certificate was not yet valid", scene.token(NEWEST, "early")),
        ("a token by a certificate that is for something else", scene.token(NEWEST, "other")),
        ("a token with one bit changed", changed),
        ("something that is no token", b"no token".to_vec()),
    ] {
        let expected = Expected::of(Code::BadTimestamp, 40).in_segment(NEWEST);
        table.row(what, By::Keeper, ROOTS, expected, &scene.anchored(token).audit(&scene.input));
    }
}

fn kept(scene: &Scene, table: &mut Table) {
    let roots = scene.input.tsa_roots.clone().unwrap();
    let token = KnownToken::read(&scene.token(NEWEST, "signer"), &roots).unwrap();
    let input = AuditInput { known_tokens: vec![token], ..scene.input.clone() };
    table.row("none", By::Nobody, KEPT, Expected::nothing(0), &scene.honest.archive.audit(&input));
    let mut cut = scene.anchored(scene.token(NEWEST, "signer"));
    cut.files.retain(|name, _| name.as_str() < "000020");
    let expected = Expected::of(Code::RolledBack, 30);
    table.row("the tail truncated", By::Keeper, ROOTS, Expected::nothing(10), &cut.audit(&scene.input));
    table.row("the tail truncated", By::Keeper, KEPT, expected, &cut.audit(&input));
    let mut entries = forge::entries(22, 5);
    entries[15][1].parts[1].commitment = Hash::of(b"another story");
    let fork = forge::write(&entries, &forge::by(&forge::key(1)));
    table.row("an entry changed, relinked and signed", By::Key, KEPT, expected, &fork.archive.audit(&input));
}
