//! Changes that mean something, each as consistent as its attacker can make it.
//!
//! On 22 segments of a few entries. Without the log's key the newest signed checkpoint of every segment stays what it
//! was; with it everything is signed anew, and only what lies outside the archive can tell.

use pinfold::core::audit::{AuditInput, File};
use pinfold::core::checkpoint::{Head, sign_checkpoint};
use pinfold::core::finding::Code;
use pinfold::core::keychange::Rotation;
use pinfold::core::leaf::{Body, KeyStep};
use pinfold::core::note::Skey;
use pinfold::core::segment::read::Proof;
use pinfold::core::seq::Seq;

use super::forge::{self, Entries, Entry, Says, Written};
use super::table::{By, Expected, Table};
use crate::memory::{Memory, name};

const SEGMENTS: usize = 22;
const EVENTS: usize = 5;
const VKEY: &str = "vkey";
const HEAD: &str = "vkey, newest checkpoint";
const MIDDLE: &str = "vkey, a checkpoint";

/// The honest log, and who changes it.
struct Scene {
    entries: Entries,
    honest: Written,
    key: Skey,
}

impl Scene {
    fn new() -> Scene {
        let (entries, key) = (forge::entries(SEGMENTS, EVENTS), forge::key(1));
        let honest = forge::write(&entries, &forge::by(&key));
        Scene { entries, honest, key }
    }

    fn vkey(&self) -> AuditInput {
        AuditInput {
            vkeys: vec![self.key.vkey().clone()],
            recovery: Some(forge::recovery().vkey().clone()),
            ..AuditInput::default()
        }
    }

    fn head(&self, segment: usize) -> AuditInput {
        AuditInput { known_head: Some(self.honest.checkpoint(segment).to_owned()), ..self.vkey() }
    }

    /// With the newest checkpoint in hand.
    fn newest(&self) -> AuditInput {
        self.head(SEGMENTS - 1)
    }

    /// The log after a change, its checkpoints as the log's key would sign them.
    fn signed(&self, change: impl FnOnce(&mut Entries)) -> Written {
        forge::write(&self.changed(change), &forge::by(&self.key))
    }

    /// The log after a change, each checkpoint the one that was signed for the segment that `of` names.
    fn unsigned(&self, of: impl Fn(usize) -> usize, change: impl FnOnce(&mut Entries)) -> Written {
        forge::write(&self.changed(change), &|segment, _: &Head| self.honest.checkpoint(of(segment)).to_owned())
    }

    fn changed(&self, change: impl FnOnce(&mut Entries)) -> Entries {
        let mut entries = self.entries.clone();
        change(&mut entries);
        entries
    }

    /// A copy of the archive in which files were touched.
    fn touched(&self, touch: impl FnOnce(&mut Memory)) -> Memory {
        let mut archive = self.honest.archive.clone();
        touch(&mut archive);
        archive
    }
}

pub(super) fn rows(table: &mut Table) {
    let scene = Scene::new();
    untouched(&scene, table);
    missing(&scene, table);
    order(&scene, table);
    entries(&scene, table);
    signatures(&scene, table);
    frames(&scene, table);
    forks(&scene, table);
}

/// Every checker is first shown to take the honest archive.
fn untouched(scene: &Scene, table: &mut Table) {
    table.group("Untouched", "What every other row is a change of.");
    let archive = &scene.honest.archive;
    table.row("none", By::Nobody, VKEY, Expected::nothing(10), &archive.audit(&scene.vkey()));
    table.row("none", By::Nobody, HEAD, Expected::nothing(0), &archive.audit(&scene.newest()));
    table.row("none", By::Nobody, MIDDLE, Expected::nothing(10), &archive.audit(&scene.head(9)));
    let nothing = AuditInput::default();
    table.row("none", By::Nobody, "nothing", Expected::of(Code::Unreachable, 50), &archive.audit(&nothing));
}

fn remove(archive: &mut Memory, segments: impl IntoIterator<Item = u64>) {
    for segment in segments {
        archive.files.remove(&name(segment, File::Proof));
        archive.files.remove(&name(segment, File::Payload));
    }
}

/// Gives the files of a segment the names of another's.
fn rename(archive: &mut Memory, from: u64, to: u64) {
    for file in [File::Proof, File::Payload] {
        let bytes = archive.files.remove(&name(from, file)).unwrap();
        archive.files.insert(name(to, file), bytes);
    }
}

fn drop_two(log: &mut Entries) {
    log.drain(10..12);
}

fn missing(scene: &Scene, table: &mut Table) {
    table.group("Left out", "Segments, entries or the end of the log are gone.");
    let gone = scene.touched(|archive| remove(archive, 8..12));
    let expected = Expected::of(Code::SegmentMissing, 20).in_segment(8);
    table.row("a middle range of segments deleted", By::Keeper, VKEY, expected, &gone.audit(&scene.vkey()));
    let part = scene.touched(|archive| remove(archive, (0..5).chain(10..22)));
    let expected = Expected::of(Code::SegmentMissing, 20).in_segment(0);
    table.row("only segments 5 to 9 are there", By::Keeper, VKEY, expected, &part.audit(&scene.vkey()));
    let closed_up = scene.touched(|archive| {
        remove(archive, 10..12);
        (12..22).for_each(|from| rename(archive, from, from - 2));
    });
    let what = "two adjacent segments dropped, the later ones renamed";
    let expected = Expected::of(Code::SealLink, 40).in_segment(10);
    table.row(what, By::Keeper, VKEY, expected, &closed_up.audit(&scene.vkey()));

    let relinked = scene.unsigned(|segment| segment + if segment < 10 { 0 } else { 2 }, drop_two);
    let what = "two adjacent segments dropped, chain relinked";
    let expected = Expected::of(Code::RootMismatch, 40).in_segment(10);
    table.row(what, By::Keeper, VKEY, expected, &relinked.archive.audit(&scene.vkey()));
    let signed = scene.signed(drop_two);
    let what = "two adjacent segments dropped, chain relinked and signed";
    let expected = Expected::of(Code::OffsetGap, 20).in_segment(10);
    table.row(what, By::Key, VKEY, expected, &signed.archive.audit(&scene.vkey()));
    for (how, hide) in
        [("offsets rewritten", forge::renumber as fn(&mut Entries)), ("a gap declared", forge::declare_gaps)]
    {
        let hidden = scene.signed(|log| {
            drop_two(log);
            hide(log);
        });
        let what = format!("the same, and {how} to hide it");
        table.row(&what, By::Key, VKEY, Expected::nothing(10), &hidden.archive.audit(&scene.vkey()));
        let expected = Expected::of(Code::RolledBack, 30);
        table.row(&what, By::Key, HEAD, expected, &hidden.archive.audit(&scene.newest()));
        let expected = Expected::of(Code::Forked, 30);
        table.row(&what, By::Key, MIDDLE, expected, &hidden.archive.audit(&scene.head(12)));
    }
    let middle = |log: &mut Entries| drop(log[8].drain(2..4));
    let relinked = scene.unsigned(|segment| segment, middle);
    let what = "a middle range of entries deleted, chain relinked";
    let expected = Expected::of(Code::RootMismatch, 40).in_segment(8);
    table.row(what, By::Keeper, VKEY, expected, &relinked.archive.audit(&scene.vkey()));
    let rewritten = scene.unsigned(
        |segment| segment,
        |log| {
            middle(log);
            forge::renumber(log);
        },
    );
    let what = "the same, and offsets rewritten to hide it";
    table.row(what, By::Keeper, VKEY, expected, &rewritten.archive.audit(&scene.vkey()));
    let signed = scene.signed(middle);
    let what = "a middle range of entries deleted, relinked and signed";
    let expected = Expected::of(Code::OffsetGap, 20).at(signed.first_of(8) + 2);
    table.row(what, By::Key, VKEY, expected, &signed.archive.audit(&scene.vkey()));

    let cut = scene.touched(|archive| remove(archive, 20..22));
    let what = "the tail truncated";
    table.row(what, By::Keeper, VKEY, Expected::nothing(10), &cut.audit(&scene.vkey()));
    table.row(what, By::Keeper, HEAD, Expected::of(Code::RolledBack, 30), &cut.audit(&scene.newest()));
    let kept = AuditInput { known_head: Some(cosigned(scene, SEGMENTS - 1)), ..scene.vkey() };
    let holds = "vkey, a cosigned checkpoint kept apart";
    table.row(what, By::Keeper, holds, Expected::of(Code::RolledBack, 30), &cut.audit(&kept));
    let key = name(21, File::Proof);
    let half = scene.touched(|archive| archive.files.get_mut(&key).unwrap().truncate(900));
    let expected = Expected::of(Code::BlockMissing, 20).in_segment(21);
    table.row("the newest file ends early", By::Keeper, HEAD, expected, &half.audit(&scene.newest()));
}

fn cosigned(scene: &Scene, segment: usize) -> String {
    let checkpoint = scene.honest.checkpoint(segment);
    format!("{checkpoint}{}", forge::cosigned_line(checkpoint))
}

fn order(scene: &Scene, table: &mut Table) {
    table.group("Order", "Everything is there, elsewhere.");
    let swapped = scene.touched(|archive| {
        rename(archive, 7, 99);
        rename(archive, 13, 7);
        rename(archive, 99, 13);
    });
    let expected = Expected::of(Code::SealLink, 40).in_segment(7);
    table.row("two segments swapped", By::Keeper, VKEY, expected, &swapped.audit(&scene.vkey()));
    let swap = |log: &mut Entries| log.swap(7, 13);
    let expected = Expected::of(Code::RootMismatch, 40).in_segment(7);
    let relinked = scene.unsigned(|segment| segment, swap);
    table.row(
        "two segments swapped, chain relinked",
        By::Keeper,
        VKEY,
        expected,
        &relinked.archive.audit(&scene.vkey()),
    );
    let signed = scene.signed(swap);
    let expected = Expected::of(Code::OffsetGap, 20).in_segment(7);
    let what = "two segments swapped, relinked and signed";
    table.row(what, By::Key, VKEY, expected, &signed.archive.audit(&scene.vkey()));

    // Both of partition 0; then one of each partition, which the offsets do not order.
    let same = |log: &mut Entries| log[6].swap(1, 3);
    let expected = Expected::of(Code::RootMismatch, 40).in_segment(6);
    let relinked = scene.unsigned(|segment| segment, same);
    table.row(
        "two entries reordered, chain relinked",
        By::Keeper,
        VKEY,
        expected,
        &relinked.archive.audit(&scene.vkey()),
    );
    let signed = scene.signed(same);
    let expected = Expected::of(Code::OffsetGap, 20).at(signed.first_of(6) + 1);
    let what = "two entries of one partition reordered, relinked and signed";
    table.row(what, By::Key, VKEY, expected, &signed.archive.audit(&scene.vkey()));
    let signed = scene.signed(|log| log[6].swap(1, 2));
    let what = "two entries of different partitions reordered, relinked and signed";
    table.row(what, By::Key, VKEY, Expected::nothing(10), &signed.archive.audit(&scene.vkey()));
    table.row(what, By::Key, HEAD, Expected::of(Code::Forked, 30), &signed.archive.audit(&scene.newest()));
}

/// A head of two bytes where one does.
fn lengthen_seq(leaf: &mut Vec<u8>) {
    let at = leaf.windows(4).position(|window| window == b"cseq").unwrap() + 4;
    assert_eq!(leaf[at], 0x18, "a seq of one byte after its head");
    leaf[at] = 0x19;
    leaf.insert(at + 1, 0);
}

fn entries(scene: &Scene, table: &mut Table) {
    table.group("Entries", "Single entries are changed.");
    let bent = |bend: fn(&mut Vec<u8>)| move |log: &mut Entries| log[6][2].bend = Some(bend);
    let seq = scene.honest.first_of(6) + 2;
    let expected = Expected::of(Code::NonCanonical, 40).at(seq);
    let relinked = scene.unsigned(|segment| segment, bent(lengthen_seq));
    let what = "a leaf re-encoded non-canonically, chain relinked";
    table.row(what, By::Keeper, VKEY, expected, &relinked.archive.audit(&scene.vkey()));
    let signed = scene.signed(bent(lengthen_seq));
    let what = "a leaf re-encoded non-canonically, relinked and signed";
    table.row(what, By::Key, VKEY, expected, &signed.archive.audit(&scene.vkey()));
    let signed = scene.signed(bent(|leaf| leaf[3] = 2));
    let expected = Expected::of(Code::UnknownVersion, 50).at(seq);
    table.row("a leaf of another version, signed", By::Key, VKEY, expected, &signed.archive.audit(&scene.vkey()));

    let add = |log: &mut Entries| {
        let software = "something else".to_owned();
        log[6].insert(2, Entry::own(Body::Started { software }));
    };
    let expected = Expected::of(Code::RootMismatch, 40).in_segment(6);
    let relinked = scene.unsigned(|segment| segment, add);
    table.row("a leaf added, chain relinked", By::Keeper, VKEY, expected, &relinked.archive.audit(&scene.vkey()));
    let signed = scene.signed(add);
    let what = "a leaf without an offset added, relinked and signed";
    table.row(what, By::Key, VKEY, Expected::nothing(10), &signed.archive.audit(&scene.vkey()));
    table.row(what, By::Key, HEAD, Expected::of(Code::Forked, 30), &signed.archive.audit(&scene.newest()));
    let twice = |log: &mut Entries| {
        let entry = log[6][2].clone();
        log[6].insert(3, entry);
    };
    let relinked = scene.unsigned(|segment| segment, twice);
    table.row("a leaf duplicated, chain relinked", By::Keeper, VKEY, expected, &relinked.archive.audit(&scene.vkey()));
    let signed = scene.signed(twice);
    let expected = Expected::of(Code::OffsetOverlap, 40).at(seq + 1);
    let what = "a leaf duplicated, relinked and signed";
    table.row(what, By::Key, VKEY, expected, &signed.archive.audit(&scene.vkey()));
    let unlinked = |bend: fn(&mut Vec<u8>)| scene.signed(bent(bend));
    let skipped = unlinked(|leaf| {
        let at = leaf.windows(4).position(|window| window == b"cseq").unwrap() + 5;
        leaf[at] += 1;
    });
    let expected = Expected::of(Code::SeqGap, 40).in_segment(6);
    table.row("a seq left out, signed", By::Key, VKEY, expected, &skipped.archive.audit(&scene.vkey()));
    let other_prev = unlinked(|leaf| {
        let at = leaf.windows(5).position(|window| window == b"dprev").unwrap() + 9;
        leaf[at] ^= 1;
    });
    let expected = Expected::of(Code::ChainLink, 40).at(seq);
    table.row("`prev` of another leaf, signed", By::Key, VKEY, expected, &other_prev.archive.audit(&scene.vkey()));
}

fn signatures(scene: &Scene, table: &mut Table) {
    table.group("Signatures and names", "The verifier's own vkeys are the root of trust.");
    let thief = forge::key(66);
    let resigned = forge::write(&scene.entries, &forge::by(&thief));
    let expected = Expected::of(Code::UnknownKey, 40).in_segment(0);
    let what = "all checkpoints signed with another key";
    table.row(what, By::Stranger, VKEY, expected, &resigned.archive.audit(&scene.vkey()));
    let replaced = scene.changed(|log| log[0][0] = forge::opened(&thief));
    let replaced = forge::write(&replaced, &forge::by(&thief));
    let what = "the same, and the vkey of the first entry replaced";
    table.row(what, By::Stranger, VKEY, Expected::of(Code::UnknownKey, 40), &replaced.archive.audit(&scene.vkey()));
    let one = |segment: usize, head: &Head| match segment {
        21 => sign_checkpoint(head, &thief),
        _ => sign_checkpoint(head, &scene.key),
    };
    let expected = Expected::of(Code::UnknownKey, 40).in_segment(21);
    let what = "a segment added and signed with another key";
    table.row(what, By::Stranger, VKEY, expected, &forge::write(&scene.entries, &one).archive.audit(&scene.vkey()));
    let posing = |segment: usize, head: &Head| match segment {
        21 => {
            let own = sign_checkpoint(head, &scene.key);
            let other = sign_checkpoint(&Head { size: pinfold::core::seq::Size(1), ..head.clone() }, &scene.key);
            format!("{}\n\n{}", own.split_once("\n\n").unwrap().0, other.split_once("\n\n").unwrap().1)
        }
        _ => sign_checkpoint(head, &scene.key),
    };
    let expected = Expected::of(Code::BadSignature, 40).in_segment(21);
    let what = "a segment added under a signature of another checkpoint";
    table.row(what, By::Keeper, VKEY, expected, &forge::write(&scene.entries, &posing).archive.audit(&scene.vkey()));
    other_origins(scene, table);
    key_changes(scene, table);
}

fn other_origins(scene: &Scene, table: &mut Table) {
    let other = pinfold::core::origin::Origin::new("example.com/audit/other").unwrap();
    let other_key = Skey::from_seed(other.as_str(), &[1; 32]).unwrap();
    let other_checkpoint = |head: &Head| sign_checkpoint(&Head { origin: other.clone(), ..head.clone() }, &other_key);
    let one = |segment: usize, head: &Head| match segment {
        21 => other_checkpoint(head),
        _ => sign_checkpoint(head, &scene.key),
    };
    let expected = Expected::of(Code::WrongOrigin, 40).in_segment(21);
    let written = forge::write(&scene.entries, &one);
    table.row("a checkpoint of another origin", By::Key, VKEY, expected, &written.archive.audit(&scene.vkey()));

    let input = AuditInput { witnesses: vec![forge::witness().vkey().clone()], ..scene.vkey() };
    let holds = "vkey, the witness's vkey";
    let (seal, checkpoint) = (scene.honest.seals[21].0, scene.honest.newest());
    let head = pinfold::core::checkpoint::Statement::parse(checkpoint).unwrap().head;
    let foreign = other_checkpoint(&head);
    let with = |anchor: Vec<u8>| {
        let archive = scene.touched(|archive| drop(archive.files.insert(name(21, File::Anchor), anchor)));
        archive.audit(&input)
    };
    let report = with(forge::anchor(seal, checkpoint, &forge::cosigned_line(checkpoint)));
    assert_eq!((report.exit, report.anchors.len()), (10, 1), "the honest anchor: {:?}", report.findings);
    for (what, anchor, code) in [
        (
            "an anchor with a cosignature of another origin's checkpoint",
            (checkpoint, forge::cosigned_line(&foreign)),
            Code::BadCosignature,
        ),
        (
            "an anchor with a cosignature of an earlier checkpoint",
            (checkpoint, forge::cosigned_line(scene.honest.checkpoint(3))),
            Code::BadCosignature,
        ),
        (
            "an anchor of another origin's checkpoint",
            (foreign.as_str(), forge::cosigned_line(&foreign)),
            Code::WrongOrigin,
        ),
        (
            "an anchor of an earlier checkpoint",
            (scene.honest.checkpoint(3), forge::cosigned_line(scene.honest.checkpoint(3))),
            Code::BadSignature,
        ),
    ] {
        let report = with(forge::anchor(seal, anchor.0, &anchor.1));
        table.row(what, By::Keeper, holds, Expected::of(code, 40).in_segment(21), &report);
    }
    let report = with(forge::anchor(scene.honest.seals[3].0, checkpoint, &forge::cosigned_line(checkpoint)));
    let expected = Expected::of(Code::SealLink, 40).in_segment(21);
    table.row("an anchor of another segment's seal", By::Keeper, holds, expected, &report);
}

/// A note of kind 8 in segment 12, and everything after it signed with the new key.
fn key_changes(scene: &Scene, table: &mut Table) {
    let new = forge::key(2);
    let seq = scene.honest.first_of(12) + scene.entries[12].len() as u64;
    let change =
        Rotation { origin: forge::origin(), seq: Seq(seq), old: scene.key.vkey().clone(), new: new.vkey().clone() };
    let sound = change.sign(&scene.key, &new);
    let [text, old, new_line] = lines(&sound);
    let written = |note: String| {
        let step = KeyStep::Rotated;
        let log = scene.changed(|log| log[12].push(Entry::own(Body::KeyChanged { note, step })));
        let sign = |segment: usize, head: &Head| sign_checkpoint(head, if segment < 12 { &scene.key } else { &new });
        forge::write(&log, &sign).archive.audit(&scene.vkey())
    };
    assert_eq!(written(sound.clone()).exit, 10, "by both keys it is sound");
    let expected = Expected::of(Code::BadSignature, 40).at(seq);
    for (what, by, line) in [
        ("a rotation signed by the new key only", By::Stranger, new_line),
        ("a rotation signed by the old key only", By::Key, old),
    ] {
        table.row(what, by, VKEY, expected, &written(format!("{text}\n\n{line}\n")));
    }
    let vouched = pinfold::core::checkpoint::Statement::parse(scene.honest.checkpoint(15)).unwrap().head;
    let revocation =
        pinfold::core::keychange::Revocation { vouched, old: scene.key.vkey().clone(), new: new.vkey().clone() };
    let revoked = AuditInput { revoked: vec![revocation.sign(&forge::recovery(), &new)], ..scene.vkey() };
    let expected = Expected::of(Code::RevokedKey, 40).in_segment(16);
    let what = "the stolen key signed on after segment 15";
    table.row(what, By::Key, VKEY, Expected::nothing(10), &scene.honest.archive.audit(&scene.vkey()));
    table.row(what, By::Key, "vkeys, the revocation", expected, &scene.honest.archive.audit(&revoked));
}

/// The text of a note and its two signature lines.
fn lines(note: &str) -> [&str; 3] {
    let (text, lines) = note.split_once("\n\n").unwrap();
    let mut lines = lines.lines();
    [text, lines.next().unwrap(), lines.next().unwrap()]
}

fn frames(scene: &Scene, table: &mut Table) {
    table.group("Payload", "The sealed parts, and what is claimed of them.");
    let archive = &scene.honest.archive;
    let replace = |log: &mut Entries, segment: usize| {
        let other = log[3][2].frames[1].clone();
        log[segment][2].frames[1] = other;
    };
    let forged = scene.signed(|log| replace(log, 8));
    let only_payload = scene.touched(|archive| {
        let key = name(8, File::Payload);
        let file = forged.archive.files[&key].clone();
        archive.files.insert(key, file);
    });
    let expected = Expected::of(Code::SealLink, 40).in_segment(8);
    let what = "a frame replaced by another valid frame";
    table.row(what, By::Keeper, VKEY, expected, &only_payload.audit(&scene.vkey()));
    let newest = scene.unsigned(|segment| segment, |log| replace(log, 21));
    let expected = Expected::of(Code::FrameDigest, 40).at(scene.honest.first_of(21) + 2);
    let what = "the same in the newest segment, its Seal rewritten";
    table.row(what, By::Keeper, HEAD, expected, &newest.archive.audit(&scene.newest()));
    let expected = Expected::of(Code::FrameDigest, 40).at(scene.honest.first_of(8) + 2);
    let what = "a frame replaced by another valid frame, relinked and signed";
    table.row(what, By::Key, VKEY, expected, &forged.archive.audit(&scene.vkey()));
    let dropped = scene.signed(|log| drop(log[8][2].frames.pop()));
    table.row("a frame left out, relinked and signed", By::Key, VKEY, expected, &dropped.archive.audit(&scene.vkey()));
    let other = scene.touched(|archive| {
        let file = archive.files[&name(9, File::Payload)].clone();
        archive.files.insert(name(8, File::Payload), file);
    });
    let expected = Expected::of(Code::SealLink, 40).in_segment(8);
    table.row("the payload file of another segment", By::Keeper, VKEY, expected, &other.audit(&scene.vkey()));
    let gone = scene.touched(|archive| drop(archive.files.remove(&name(8, File::Payload))));
    let expected = Expected::of(Code::BlockMissing, 20).in_segment(8);
    table.row("a payload file removed", By::Keeper, VKEY, expected, &gone.audit(&scene.vkey()));
    let more = scene.touched(|archive| {
        let file = archive.files.get_mut(&name(8, File::Proof)).unwrap();
        let block = b"\x60";
        let cid = pinfold::core::cid::Cid::of(pinfold::core::cid::Codec::DagCbor, block);
        file.extend(pinfold::core::car::block_head(cid, block.len()));
        file.extend(block);
    });
    let expected = Expected::of(Code::BlockExtra, 40).in_segment(8);
    table.row("a block added to a file", By::Keeper, VKEY, expected, &more.audit(&scene.vkey()));
    assert_eq!(archive.audit(&scene.newest()).exit, 0, "the copies are changed, not the log");
}

fn forks(scene: &Scene, table: &mut Table) {
    table.group("Forks and rollbacks", "Two histories under one name: each is whole in itself, both together convict.");
    let fork = scene.signed(|log| {
        for entries in log.iter_mut().skip(15) {
            for entry in entries.iter_mut().filter(|entry| matches!(entry.says, Says::This(Body::Event))) {
                entry.parts[1].commitment = pinfold::core::hash::Hash::of(b"another story");
            }
        }
    });
    let what = "a fork after segment 14";
    table.row(&format!("{what}, one half"), By::Key, VKEY, Expected::nothing(10), &fork.archive.audit(&scene.vkey()));
    let seen = fork.archive.audit(&scene.newest());
    table.row(
        &format!("{what}, this half"),
        By::Key,
        "vkey, checkpoint of the other",
        Expected::of(Code::Forked, 30),
        &seen,
    );
    let other = AuditInput { known_head: Some(fork.newest().to_owned()), ..scene.vkey() };
    let seen = scene.honest.archive.audit(&other);
    table.row(
        &format!("{what}, the other half"),
        By::Key,
        "vkey, checkpoint of this",
        Expected::of(Code::Forked, 30),
        &seen,
    );
    let before = fork.archive.audit(&scene.head(14));
    table.row(what, By::Key, "vkey, a checkpoint before it", Expected::nothing(10), &before);
    let proof =
        Proof::open(fork.archive.file(14, File::Proof).unwrap(), pinfold::core::car::Limits::default()).unwrap();
    assert_eq!(proof.seal().checkpoint, scene.honest.checkpoint(14), "they part after segment 14");
}
