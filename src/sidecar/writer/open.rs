//! Beginning a log, and going on with one.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use super::super::contested::{self, GroupMark};
use super::super::known::{Known, SharedKnown};
use super::super::reader::{count_people, first_part};
use super::super::topics::{self, TopicRow};
use super::*;
use crate::keyring::Mark;

/// So many entries counted again at open are worth a fold of the keyring, which takes about as long: a crash then costs
/// the counting once, and not at every start until the keyring is folded for its size.
const RECOUNTED_MAX: u64 = 4_096;

/// What a log is opened with.
pub struct Opening {
    /// Its name.
    pub origin: Origin,
    /// Its key.
    pub key: Skey,
    /// Its journal.
    pub journal: Journal,
    /// Its keyring, not yet asked for anything.
    pub keyring: Keyring,
}

impl Writer {
    /// Begins a log in an empty journal: log-opened and the first epoch, durable on return.
    ///
    /// # Errors
    /// Those of journal and keyring.
    pub fn create(
        opening: Opening,
        recovery: &str,
        classes: &[String],
        now: Timestamp,
    ) -> Result<Writer, SidecarError> {
        let Opening { origin, key, journal, mut keyring } = opening;
        let mut names = vec!["operator".to_owned(), "quarantine".to_owned()];
        names.extend(classes.iter().filter(|class| !names.contains(class)).cloned().collect::<Vec<_>>());
        keyring.open_epoch(0, &names)?;
        let epoch = Epoch::load(&mut keyring, origin.oid(), 0, names.clone(), now)?;
        let opened = crate::core::leaf::Opened {
            vkey: key.vkey().to_string(),
            origin: origin.clone(),
            recovery: recovery.to_owned(),
            continues: None,
        };
        let keys = LogKeys::of(key);
        let mut writer = Writer::new(origin, keys, journal, keyring, epoch, now, vec![Seq(1)])?;
        writer.software = None;
        writer.push(Body::LogOpened(Box::new(opened)), None, Vec::new())?;
        writer.push(Body::EpochOpened { epoch: 0, classes: names }, None, Vec::new())?;
        writer.note_epoch(0, Seq(1), now);
        writer.commit()?;
        writer.software = Some(software());
        Ok(writer)
    }

    fn new(
        origin: Origin,
        keys: LogKeys,
        journal: Journal,
        keyring: Keyring,
        epoch: Epoch,
        now: Timestamp,
        epochs: Vec<Seq>,
    ) -> Result<Writer, SidecarError> {
        let journal = Arc::new(journal);
        let shared = Arc::clone(&journal);
        let committer = Committer::start(move |commit| shared.append(commit).map(drop))?;
        Ok(Writer {
            reader: Reader::new(origin.oid(), epochs)?,
            committer,
            under_way: BTreeMap::new(),
            clock_step: None,
            oid: origin.oid(),
            origin,
            key: Arc::clone(keys.main_shared()),
            keys,
            is_revoking: false,
            journal,
            keyring,
            rules: LogRules::new(),
            sealed_rules: LogRules::new(),
            tree: Tree::new(),
            prev: Hash::ZERO,
            topics: Topics::default(),
            epoch,
            known: SharedKnown::default(),
            tail: Tail::default(),
            counts: Counts::default(),
            commits_begun: 0,
            commits_durable: 0,
            unsent: None,
            pending: Pending::default(),
            recorded_at: now,
            software: Some(software()),
            random: Random::new(),
        })
    }

    /// Goes on with a log: takes the state its last commit left, and counts what the keyring had not yet counted.
    ///
    /// # Errors
    /// A halt where journal, keyring and key do not belong together.
    pub fn open(opening: Opening) -> Result<Writer, SidecarError> {
        let Opening { origin, key, journal, keyring } = opening;
        Writer::go_on(origin, LogKeys::of(key), journal, keyring)
    }

    /// The same with all keys at hand: the log says which of them signs now, and its key files are brought to that.
    ///
    /// # Errors
    /// As `open`.
    pub fn go_on(
        origin: Origin,
        keys: LogKeys,
        journal: Journal,
        mut keyring: Keyring,
    ) -> Result<Writer, SidecarError> {
        let state = journal.state();
        let rules = own("the saved rules of the log", LogRules::from_bytes(&journal.rules()?))?;
        let key = rules.key().and_then(|vkey| keys.get(vkey)).cloned().ok_or_else(|| SidecarError::OtherKey {
            expected: rules.key().map(ToString::to_string).unwrap_or_default(),
            found: keys.main().vkey().to_string(),
        })?;
        if let Some(mark) = journal.row(ROW_KEYRING)? {
            keyring.require(Mark(be64(&mark)))?;
        }
        let (number, classes) = rules.epoch().map(|(number, classes)| (number, classes.to_vec())).unwrap_or_default();
        let opened_at = journal.row(ROW_EPOCH)?.map_or(state.recorded_at, |bytes| Timestamp(be64(&bytes)));
        let epoch = Epoch::load(&mut keyring, origin.oid(), number, classes, opened_at)?;
        let topic = |(_, value): (String, Vec<u8>)| serde_json::from_slice::<TopicRow>(&value).ok();
        let topics = journal.rows(topics::ROW_PREFIX)?.into_iter().filter_map(topic).collect();
        let positions = journal.positions()?.into_iter().collect();
        let epochs = journal.rows(ROW_EPOCHS)?.into_iter().map(|(_, seq)| Seq(be64(&seq))).collect();
        let mut writer = Writer::new(origin, keys, journal, keyring, epoch, state.recorded_at, epochs)?;
        (writer.key, writer.rules) = (key, rules);
        writer.settle_key_files();
        writer.note_prepared()?;
        let sealed =
            writer.journal.rows(ROW_SEALED_RULES)?.into_iter().flat_map(|(_, value)| value).collect::<Vec<u8>>();
        if !sealed.is_empty() {
            writer.sealed_rules = own("the saved rules of the last segment", LogRules::from_bytes(&sealed))?;
        }
        writer.tree = state.tree.clone();
        writer.prev = state.prev;
        writer.topics = Topics::new(topics);
        let marks = writer.journal.rows(contested::ROW_PREFIX)?;
        let alone = marks
            .iter()
            .filter_map(GroupMark::read)
            .filter(|(_, mark)| mark.is_alone)
            .map(|(place, _)| place)
            .collect();
        writer.known = Arc::new(Mutex::new(Known { topics: writer.topics.clone(), positions, alone }));
        if let Some(counts) = writer.journal.row(ROW_COUNTS)? {
            writer.counts = serde_json::from_slice(&counts).unwrap_or_default();
        }
        writer.clock_step = writer.journal.row(ROW_CLOCK)?.map(|bytes| Timestamp(be64(&bytes)));
        writer.recount()?;
        if writer.journal.state().halted.is_none() {
            writer.say_what_was_restored()?;
        }
        Ok(writer)
    }

    /// Brings the keyring's counts of records, and what waits for the next seal, up to the journal's end.
    fn recount(&mut self) -> Result<(), SidecarError> {
        let size = self.journal.state().size();
        if self.keyring.counted_to() > size {
            self.keyring.recount();
        }
        let counted = self.keyring.counted_to();
        for entry in self.journal.entries(counted.next_seq(), size)? {
            let entry = entry?;
            let view = own("a stored leaf", LeafView::decode(&entry.leaf))?;
            let Some((part, frame)) = first_part(&view, &entry.frames).filter(|_| view.src.is_some()) else { continue };
            let operator = self.reader.operator(&mut self.keyring, entry.seq, part, frame)?;
            if let Some(operator) = operator {
                count_people(&mut self.keyring, &operator, entry.seq)?;
            }
        }
        if size.0.saturating_sub(counted.0) >= RECOUNTED_MAX {
            self.keep_counts(size)?;
        }
        self.read_tail()
    }

    /// Makes the counts durable up to the journal's end, so that the next open need not count the same entries again.
    fn keep_counts(&mut self, size: Size) -> Result<(), SidecarError> {
        match self.keyring.fold(size) {
            Err(error) if error.is_retryable() => {
                tracing::warn!(error = %error, "counts are not kept: the next start counts again");
                Ok(())
            }
            folded => Ok(folded?),
        }
    }

    /// What waits for the next seal, from the journal.
    fn read_tail(&mut self) -> Result<(), SidecarError> {
        let state = self.journal.state();
        let sealed = state.sealed.tree.size();
        self.tail = Tail::new(sealed);
        for entry in self.journal.entries(sealed.next_seq(), state.size())? {
            let entry = entry?;
            let view = own("a stored leaf", LeafView::decode(&entry.leaf))?;
            self.tail.push(view.kind, &entry.frames, None);
        }
        self.cut_tail()
    }

    /// After a seal that is durable: what it left waits for the next one. Nothing to do where that is known already.
    pub(in crate::sidecar) fn await_seal(&mut self) -> Result<(), SidecarError> {
        if self.tail.is_behind(self.journal.state().sealed.tree.size()) { Ok(()) } else { self.cut_tail() }
    }

    fn cut_tail(&mut self) -> Result<(), SidecarError> {
        let Writer { tail, journal, reader, keyring, .. } = self;
        tail.sealed(journal.state().sealed.tree.size(), |seq| -> Result<Option<Timestamp>, SidecarError> {
            let Some(entry) = journal.entries(seq, Size(seq.0 + 1))?.next().transpose()? else { return Ok(None) };
            let view = own("a stored leaf", LeafView::decode(&entry.leaf))?;
            // Only records say when they were recorded: the part of an access, a hold or an erasure is another.
            let part = first_part(&view, &entry.frames).filter(|_| view.src.is_some());
            let Some((part, frame)) = part else { return Ok(None) };
            let operator = reader.operator(keyring, seq, part, frame)?;
            Ok(operator.map(|part| Timestamp(part.recorded_at)))
        })?;
        tail.date(journal.state().recorded_at);
        Ok(())
    }
}

/// Name and version, as kind 22 has them.
fn software() -> String {
    format!("pinfold {}", env!("CARGO_PKG_VERSION"))
}
