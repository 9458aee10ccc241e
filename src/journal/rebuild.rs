//! A journal made anew from what the archive says: everything sealed, nothing behind it.
//!
//! Not the reading of the archive: the caller audits it and says what it found. The old journal is put aside whole, it
//! may be evidence. At any moment either the old journal or the new one is in place: they change names in one step.
//! Spec: overview.md, "sled is a working copy".

use std::fs;
use std::io;
use std::path::PathBuf;

use rustix::fs::{CWD, RenameFlags, renameat_with};

use super::error::JournalError;
use super::files::{self, Places};
use super::head::{Heads, verify};
use super::open;
use super::state::{self, PositionRow, SealRow, Sealed, State};
use super::store::key;
use super::{Journal, OutboxRow};
use crate::core::checkpoint::Head;
use crate::core::hash::Hash;
use crate::core::note::Vkey;
use crate::core::origin::Origin;
use crate::core::position::Partition;
use crate::core::seq::{Seq, Size};
use crate::core::time::Timestamp;

/// What an audited archive says of the log up to its last seal.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Restored {
    /// The end of the last segment.
    pub sealed: Sealed,
    /// The live head of that tree, signed anew.
    pub live: String,
    /// The largest time an entry was recorded at, as far as known.
    pub recorded_at: Timestamp,
    /// Every segment, in order.
    pub seals: Vec<SealRow>,
    /// Where each partition stands.
    pub positions: Vec<(Partition, PositionRow)>,
    /// The saved rules.
    pub rules: Vec<u8>,
    /// What is still to be done with the segments.
    pub outbox: Vec<OutboxRow>,
    /// The caller's rows.
    pub rows: Vec<(String, Vec<u8>)>,
}

impl Journal {
    /// The heads known outside the journal, each with its file; their signatures are verified.
    ///
    /// # Errors
    /// `WrongOrigin`, `Damaged`, `Io`.
    pub fn known_heads(places: &Places, origin: &Origin, vkeys: &[Vkey]) -> Result<Vec<(PathBuf, Head)>, JournalError> {
        Heads::known(places, origin, vkeys)
    }

    /// Puts a journal of `restored` in place. `root_at` gives the archive's root at a size, where it shows it.
    /// A head known outside beyond the archive is lost: refused unless `accept_lost_tail`, and the caller then
    /// records it (kind 13). A journal that is there is put aside as `journal.old-N`.
    ///
    /// # Errors
    /// `Layout` where a newer program wrote the directory; `Behind`, `Forked`, `HeadTooOld` where a known head contradicts the archive; `Damaged` where `restored` contradicts
    /// itself; `InUse`, `Io`.
    pub fn rebuild(
        places: &Places,
        origin: &Origin,
        vkeys: &[Vkey],
        restored: &Restored,
        root_at: impl Fn(Size) -> Option<Hash>,
        accept_lost_tail: bool,
    ) -> Result<Journal, JournalError> {
        files::make_dir(&places.data)?;
        let lock = files::own(places)?;
        files::refuse_newer(places)?;
        check(origin, vkeys, restored)?;
        let tree = &restored.sealed.tree;
        for (path, head) in Heads::known(places, origin, vkeys)? {
            let (size, root, head_size, head_root) = (tree.size(), tree.root(), head.size, head.root);
            if head_size > size {
                if accept_lost_tail {
                    continue;
                }
                return Err(JournalError::Behind { path, size, root, head_size, head_root });
            }
            match root_at(head_size) {
                Some(root) if root == head_root => {}
                Some(root) => return Err(JournalError::Forked { path, size: head_size, root, head_root }),
                None => return Err(JournalError::HeadTooOld { path, kept_from: size.0, head_size, head_root }),
            }
        }
        let state = State {
            tree: tree.clone(),
            prev: restored.sealed.prev,
            live: Some(restored.live.clone()),
            recorded_at: restored.recorded_at,
            sealed: restored.sealed.clone(),
            kept_from: Seq(tree.size().0),
            ..State::empty(origin.clone())
        };
        let new = open::build(places, &state, &restored.rules, rows(restored))?;
        put_in_place(places, &new)?;
        // The head file follows the journal: a crash before this is refused at open, and the rebuild is run again.
        let mut heads = Heads::start(places)?;
        heads.write(&restored.live, true)?;
        open::start(places, origin, vkeys, lock)
    }
}

fn check(origin: &Origin, vkeys: &[Vkey], restored: &Restored) -> Result<(), JournalError> {
    let Sealed { segments, tree, .. } = &restored.sealed;
    let mut next = Seq(0);
    for (segment, row) in (0..).zip(&restored.seals) {
        if row.segment != segment || row.first != next {
            let expected = format!("segment {segment} from {next}");
            return Err(JournalError::damaged(
                "archive",
                expected,
                format!("segment {} from {}", row.segment, row.first),
            ));
        }
        next = Seq(row.end().0);
    }
    let last = restored.seals.last().map(|row| (row.segment + 1, row.end(), row.root));
    if last != Some((*segments, tree.size(), tree.root())) {
        let expected = format!("{segments} segments, size {} root {}", tree.size(), tree.root());
        return Err(JournalError::damaged("archive", expected, format!("{last:?}")));
    }
    let head = verify("live head", &restored.live, origin, vkeys)?;
    if (head.size, head.root) != (tree.size(), tree.root()) {
        let expected = format!("size {} root {}", tree.size(), tree.root());
        return Err(JournalError::damaged("live head", expected, format!("size {} root {}", head.size, head.root)));
    }
    Ok(())
}

fn rows(restored: &Restored) -> impl Iterator<Item = (Vec<u8>, Vec<u8>)> + '_ {
    let seals = restored.seals.iter().map(|row| (key::seal(row.segment), state::encode_seal(row)));
    let positions = restored.positions.iter().map(|(at, row)| (key::position(*at), state::encode_position(row)));
    let outbox = restored.outbox.iter().map(|row| (key::outbox(row.segment, &row.name), row.value.clone()));
    let rows = restored.rows.iter().map(|(name, value)| (key::row(name), value.clone()));
    seals.chain(positions).chain(outbox).chain(rows)
}

/// Gives the finished journal its name. The one that is there takes a name of its own in the same step; a crash before
/// it leaves a `journal.old-N` that never counted.
fn put_in_place(places: &Places, new: &std::path::Path) -> Result<(), JournalError> {
    let journal = places.journal();
    if !journal.exists() {
        fs::rename(new, &journal).map_err(|e| JournalError::io("renaming", new, e))?;
        return files::sync_dir(&places.data);
    }
    let free = (1..).map(|n| places.data.join(format!("journal.old-{n}"))).find(|path| !path.exists());
    let aside = free.unwrap_or_else(|| places.data.join("journal.old"));
    fs::rename(new, &aside).map_err(|e| JournalError::io("renaming", new, e))?;
    files::sync_dir(&places.data)?;
    let swapped = renameat_with(CWD, &aside, CWD, &journal, RenameFlags::EXCHANGE);
    swapped.map_err(|e| JournalError::io("exchanging", &journal, io::Error::from(e)))?;
    files::sync_dir(&places.data)
}
