//! The notes of kind 8: rotation and revocation of the log's key.
//!
//! A rotation is the old key's own word; a revocation is the word of the recovery key, kept offline, that nothing by
//! the old key counts beyond one tree. Which key counts at which size is not known here: that is the audit's.
//! Spec: format.md, "Tree, checkpoint, keys".

use super::checkpoint::{Head, read_uint};
use super::finding::{Code, Refused};
use super::leaf::KeyStep;
use super::note::{Note, Skey, Vkey, sign_note};
use super::origin::Origin;
use super::seq::Seq;

const ROTATE: &str = "pinfold/v1/rotate\n";
const REVOKE: &str = "pinfold/v1/revoke\n";

/// The key name of the recovery key of `origin`.
pub fn recovery_name(origin: &Origin) -> String {
    format!("{origin}/recovery")
}

/// The log's key hands over to another, signed by both.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rotation {
    /// The log.
    pub origin: Origin,
    /// The entry that holds the note, so that it cannot be moved.
    pub seq: Seq,
    /// The key until and with this entry's segment.
    pub old: Vkey,
    /// The key of every size beyond `seq`.
    pub new: Vkey,
}

impl Rotation {
    /// The signed text.
    pub fn text(&self) -> String {
        format!("{ROTATE}{}\n{}\n{}\n{}\n", self.origin, self.seq, self.old, self.new)
    }

    /// The note, signed by both keys.
    ///
    /// # Panics
    /// If the keys are not those of the text: nobody would take such a note.
    pub fn sign(&self, old: &Skey, new: &Skey) -> String {
        assert!(*old.vkey() == self.old && *new.vkey() == self.new, "a rotation is signed by the keys it names");
        sign_note(&self.text(), &[old, new])
    }

    /// Reads a rotation and verifies both lines. Whether `old` was the log's key is the caller's to know.
    ///
    /// # Errors
    /// `non-canonical`; `bad-signature`, also for a line by another key.
    pub fn open(note: &str) -> Result<Rotation, Refused> {
        let note = Note::parse(note)?;
        let rotation = Rotation::parse(note.text)?;
        check_lines(&note, [&rotation.old, &rotation.new])?;
        Ok(rotation)
    }

    fn parse(text: &str) -> Result<Rotation, Refused> {
        let [origin, seq, old, new] = lines(text, ROTATE)?;
        let origin = Origin::new(origin)?;
        let (old, new) = (log_key(&origin, old)?, log_key(&origin, new)?);
        Ok(Rotation { seq: Seq(read_uint(seq)?), origin, old, new })
    }
}

/// The recovery key takes the log from a stolen key and gives it to another.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Revocation {
    /// The last head vouched for: what the old key signed beyond its size, or of another tree, is refused.
    pub vouched: Head,
    /// The stolen key.
    pub old: Vkey,
    /// Its successor.
    pub new: Vkey,
}

impl Revocation {
    /// The signed text.
    pub fn text(&self) -> String {
        format!("{REVOKE}{}{}\n{}\n", self.vouched.text(), self.old, self.new)
    }

    /// The note, signed by the recovery key and the new one.
    ///
    /// # Panics
    /// If the keys are not the recovery key of this log and the new key of the text.
    pub fn sign(&self, recovery: &Skey, new: &Skey) -> String {
        assert_eq!(recovery.vkey().name(), recovery_name(&self.vouched.origin), "a revocation is the recovery key's");
        assert!(*new.vkey() == self.new, "a revocation is signed by the new key it names");
        sign_note(&self.text(), &[recovery, new])
    }

    /// Reads a revocation and verifies both lines. A note in hand is checked by the recovery vkey the verifier brought,
    /// never by one the log names.
    ///
    /// # Errors
    /// `non-canonical`; `wrong-origin` where `recovery` is another log's; `bad-signature`, also for a line by another key.
    pub fn open(note: &str, recovery: &Vkey) -> Result<Revocation, Refused> {
        let note = Note::parse(note)?;
        let revocation = Revocation::from_text(note.text)?;
        if recovery.name() != recovery_name(&revocation.vouched.origin) {
            let what = format!("revocation: of {}, the recovery key is {}", revocation.vouched.origin, recovery.name());
            return Err(Refused::new(Code::WrongOrigin, what));
        }
        check_lines(&note, [recovery, &revocation.new])?;
        Ok(revocation)
    }

    /// Reads exactly the signed text; nothing is verified.
    ///
    /// # Errors
    /// `non-canonical`.
    pub fn from_text(text: &str) -> Result<Revocation, Refused> {
        let [origin, size, root, old, new] = lines(text, REVOKE)?;
        let vouched = Head::from_text(&format!("{origin}\n{size}\n{root}\n"))?;
        let (old, new) = (log_key(&vouched.origin, old)?, log_key(&vouched.origin, new)?);
        Ok(Revocation { vouched, old, new })
    }
}

/// What a kind 8 entry did to the key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum KeyChange {
    /// Step 0.
    Rotated(Rotation),
    /// Step 1.
    Revoked(Revocation),
}

/// What is known of the log where a kind 8 entry stands. What is not known, because entries before it are missing, is
/// not compared.
#[derive(Clone, Copy, Debug)]
pub struct Standing<'a> {
    /// The log.
    pub origin: Option<&'a Origin>,
    /// The entry.
    pub seq: Seq,
    /// The log's key before it.
    pub current: Option<&'a Vkey>,
    /// The recovery key, as kind 1 names it.
    pub recovery: Option<&'a Vkey>,
}

impl KeyChange {
    /// Reads the note of a kind 8 entry and checks every rule but one: that the tree of a revocation's `vouched`
    /// head is this log's at that size. The caller has the tree; another root there is `root-mismatch`.
    ///
    /// # Errors
    /// `non-canonical`; `wrong-origin`; `seq-gap` for another seq; `unknown-key` where the old key is not the current
    /// one; `bad-signature`; `root-mismatch` where a revocation vouches for more than precedes it.
    pub fn open(step: KeyStep, note: &str, standing: &Standing<'_>) -> Result<KeyChange, Refused> {
        let refused = |code, what: &str| Err(Refused::new(code, format!("key change at {}: {what}", standing.seq)));
        let parsed = Note::parse(note)?;
        let change = match step {
            KeyStep::Rotated => KeyChange::Rotated(Rotation::parse(parsed.text)?),
            KeyStep::Revoked => KeyChange::Revoked(Revocation::from_text(parsed.text)?),
        };
        if standing.origin.is_some_and(|origin| origin != change.origin()) {
            return refused(Code::WrongOrigin, "a note of another log");
        }
        if standing.current.is_some_and(|current| current != change.old()) {
            return refused(Code::UnknownKey, "the old key is not the current one");
        }
        let first = match &change {
            KeyChange::Rotated(rotation) if rotation.seq != standing.seq => {
                return refused(Code::SeqGap, "a rotation for another entry");
            }
            KeyChange::Revoked(revocation) if revocation.vouched.size.0 > standing.seq.0 => {
                return refused(Code::RootMismatch, "a revocation that vouches for a tree beyond its entry");
            }
            KeyChange::Rotated(rotation) => Some(&rotation.old),
            KeyChange::Revoked(_) => standing.recovery,
        };
        match first {
            Some(first) => check_lines(&parsed, [first, change.new_key()])?,
            // Nobody knows the recovery key here: the new key's line is all that can be checked.
            None if parsed.signatures.iter().any(|line| change.new_key().signed(parsed.text, line)) => {}
            None => return refused(Code::BadSignature, "not signed by the new key"),
        }
        Ok(change)
    }

    /// The log.
    pub fn origin(&self) -> &Origin {
        match self {
            KeyChange::Rotated(rotation) => &rotation.origin,
            KeyChange::Revoked(revocation) => &revocation.vouched.origin,
        }
    }

    /// The key that ends.
    pub fn old(&self) -> &Vkey {
        match self {
            KeyChange::Rotated(rotation) => &rotation.old,
            KeyChange::Revoked(revocation) => &revocation.old,
        }
    }

    /// The key of every size beyond the entry.
    pub fn new_key(&self) -> &Vkey {
        match self {
            KeyChange::Rotated(rotation) => &rotation.new,
            KeyChange::Revoked(revocation) => &revocation.new,
        }
    }
}

/// The lines of `text` after its first, exactly `N`.
fn lines<'a, const N: usize>(text: &'a str, first: &str) -> Result<[&'a str; N], Refused> {
    let rest = text.strip_prefix(first).and_then(|rest| rest.strip_suffix('\n')).unwrap_or_default();
    let lines = rest.split('\n').collect::<Vec<_>>();
    lines.try_into().map_err(|_| Refused::non_canonical(format!("key change: not a text of {}", first.trim_end())))
}

/// A key of the log itself: its name is the origin.
fn log_key(origin: &Origin, text: &str) -> Result<Vkey, Refused> {
    let vkey: Vkey = text.parse()?;
    if vkey.name() != origin.as_str() {
        return Err(Refused::non_canonical("key change: a key whose name is not the origin"));
    }
    Ok(vkey)
}

/// The two signers, one line each, in this order and nobody else.
fn check_lines(note: &Note<'_>, signers: [&Vkey; 2]) -> Result<(), Refused> {
    let sound = note.signatures.len() == signers.len()
        && signers.iter().zip(&note.signatures).all(|(signer, line)| signer.signed(note.text, line));
    if !sound {
        return Err(Refused::new(Code::BadSignature, "key change: not signed by the two keys it needs"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::hash::Hash;
    use crate::core::seq::Size;

    const VECTORS: &str = include_str!("../../tests/vectors/pinfold-v1/notes.json");
    const ORIGIN: &str = "example.com/audit/main";

    #[derive(serde::Deserialize)]
    struct Vectors {
        keys: Vec<KeyVector>,
        good: Vec<GoodVector>,
    }

    #[derive(serde::Deserialize)]
    struct KeyVector {
        name: String,
        seed: String,
    }

    #[derive(serde::Deserialize)]
    struct GoodVector {
        name: String,
        note: String,
    }

    fn vectors() -> Vectors {
        serde_json::from_str(VECTORS).unwrap()
    }

    fn key(name: &str) -> Skey {
        let seed: Hash = vectors().keys.into_iter().find(|v| v.name == name).unwrap().seed.parse().unwrap();
        let key_name = if name == "recovery" { format!("{ORIGIN}/recovery") } else { ORIGIN.to_owned() };
        Skey::from_seed(&key_name, &seed.0).unwrap()
    }

    fn good(name: &str) -> String {
        vectors().good.into_iter().find(|v| v.name == name).unwrap().note
    }

    fn origin() -> Origin {
        Origin::new(ORIGIN).unwrap()
    }

    /// Opens `note` in a log whose key is "log 1", at `seq`.
    fn open(step: KeyStep, note: &str, seq: u64) -> Result<KeyChange, Refused> {
        let (current, recovery) = (key("log 1"), key("recovery"));
        let (origin, seq) = (origin(), Seq(seq));
        let standing =
            Standing { origin: Some(&origin), seq, current: Some(current.vkey()), recovery: Some(recovery.vkey()) };
        KeyChange::open(step, note, &standing)
    }

    fn code<T: std::fmt::Debug>(result: Result<T, Refused>) -> &'static str {
        result.unwrap_err().code.as_str()
    }

    fn rotation() -> Rotation {
        Rotation { origin: origin(), seq: Seq(9), old: key("log 1").vkey().clone(), new: key("log 2").vkey().clone() }
    }

    fn revocation(size: u64) -> Revocation {
        let vouched = Head { origin: origin(), size: Size(size), root: Hash::EMPTY_ROOT };
        Revocation { vouched, old: key("log 1").vkey().clone(), new: key("log 2").vkey().clone() }
    }

    #[test]
    fn the_vectors_open_and_are_signed_to_the_same_bytes() {
        let (rotated, revoked) = (good("rotated"), good("revoked"));
        assert_eq!(open(KeyStep::Rotated, &rotated, 9), Ok(KeyChange::Rotated(rotation())));
        assert_eq!(rotation().sign(&key("log 1"), &key("log 2")), rotated);
        let change = Revocation::open(&revoked, key("recovery").vkey()).unwrap();
        assert_eq!(change.sign(&key("recovery"), &key("log 2")), revoked);
        assert_eq!(change.vouched.size, Size(300));
        assert_eq!(open(KeyStep::Revoked, &revoked, 300), Ok(KeyChange::Revoked(change)));
        assert_eq!(Rotation::open(&rotated), Ok(rotation()));
    }

    #[test]
    fn a_rotation_counts_at_its_entry_and_from_the_current_key_alone() {
        let sound = good("rotated");
        assert_eq!(code(open(KeyStep::Rotated, &sound, 10)), "seq-gap");
        let stranger = Rotation { old: key("stranger").vkey().clone(), ..rotation() };
        assert_eq!(code(open(KeyStep::Rotated, &stranger.sign(&key("stranger"), &key("log 2")), 9)), "unknown-key");
        let other = Rotation { origin: Origin::new("other/log").unwrap(), ..rotation() };
        assert_eq!(code(Rotation::parse(&other.text())), "non-canonical", "keys of another name than the origin");
        // A step that says the other thing than its note.
        assert_eq!(code(open(KeyStep::Revoked, &sound, 9)), "non-canonical");
        assert_eq!(code(open(KeyStep::Rotated, &good("revoked"), 300)), "non-canonical");
        assert_eq!(code(open(KeyStep::Rotated, &good("checkpoint"), 9)), "non-canonical");
    }

    #[test]
    fn lines_by_others_missing_too_many_or_in_another_order_are_bad_signatures() {
        let text = rotation().text();
        let (old, new, stranger) = (key("log 1"), key("log 2"), key("stranger"));
        for signers in [&[&old][..], &[&new, &old], &[&stranger, &new], &[&old, &stranger], &[&old, &new, &stranger]] {
            assert_eq!(code(open(KeyStep::Rotated, &sign_note(&text, signers), 9)), "bad-signature");
        }
        let text = revocation(9).text();
        for signers in [[&old, &new], [&stranger, &new], [&key("recovery"), &old]] {
            let note = sign_note(&text, &signers);
            assert_eq!(code(open(KeyStep::Revoked, &note, 9)), "bad-signature");
            assert_eq!(code(Revocation::open(&note, key("recovery").vkey())), "bad-signature");
        }
        // One changed byte under sound lines.
        let moved = good("rotated").replace("\n9\n", "\n8\n");
        assert_eq!(code(open(KeyStep::Rotated, &moved, 8)), "bad-signature");
    }

    #[test]
    fn a_revocation_vouches_for_what_precedes_it_and_is_checked_by_this_logs_recovery_key() {
        let note = |size| revocation(size).sign(&key("recovery"), &key("log 2"));
        assert!(open(KeyStep::Revoked, &note(9), 9).is_ok());
        assert_eq!(code(open(KeyStep::Revoked, &note(10), 9)), "root-mismatch");
        let other = Skey::from_seed("other/log/recovery", &[7; 32]).unwrap();
        assert_eq!(code(Revocation::open(&note(9), other.vkey())), "wrong-origin");
    }
}
