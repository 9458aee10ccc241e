//! One segment alone: its files, its leaves, its tree, its frames.
//!
//! Needs nothing of the segments before, so any number of these may run at once. What does need them (where the
//! tree starts, first `prev`, keys, topics, offsets) is handed to `chain` in order, in a form that takes little.

use std::io::Read;

use super::super::cid::Cid;
use super::super::codec::Cursor;
use super::super::finding::{Code, Refused};
use super::super::hash::Hash;
use super::super::leaf::{Body, LEAF_BYTES_MAX, LeafView};
use super::super::merkle::Tree;
use super::super::position::Position;
use super::super::rules::Fault;
use super::super::segment::read::{Page, Proof};
use super::super::segment::{ENTRIES_MAX, Seal, starts_page};
use super::super::seq::{Seq, Size};
use super::anchors::{AnchorSeen, check_anchor};
use super::damage::first_changed;
use super::payload::PayloadCheck;
use super::report::Findings;
use super::{Archive, AuditInput, File};

/// The result of one segment, to be joined in order.
#[derive(Debug)]
pub struct Checked {
    pub(super) segment: u64,
    pub(super) outcome: Outcome,
    pub(super) findings: Findings,
}

impl Checked {
    /// The segment.
    pub fn segment(&self) -> u64 {
        self.segment
    }
}

#[derive(Debug)]
pub(super) enum Outcome {
    /// There is no proof file.
    Missing,
    /// It could not be read to its end: nothing else is said about the segment.
    Broken,
    /// It was read.
    Read(Box<Contents>),
}

/// What a segment says that only the segments before can confirm.
#[derive(Debug)]
pub(super) struct Contents {
    pub(super) cid: Cid,
    pub(super) seal: Seal,
    /// The tree after it; `None` where its peaks are none of a tree of its size, which `peaks_fault` says.
    pub(super) tree: Option<Tree>,
    pub(super) peaks_fault: Option<Fault>,
    /// The `prev` of the first leaf, if that could be read.
    pub(super) first_prev: Option<(Seq, Hash)>,
    pub(super) last: Option<Hash>,
    /// `None` where they take too much: [`replay`] reads them again.
    pub(super) steps: Option<Vec<Step>>,
    pub(super) has_payload_file: bool,
    pub(super) anchors: Vec<AnchorSeen>,
    pub(super) bytes: u64,
}

/// An entry, as far as the rules need it.
#[derive(Debug)]
pub(super) enum Step {
    Event(Seq, Position),
    Entry(Box<(Seq, Option<Position>, Body)>),
    /// A leaf that could not be read: what depends on it is not said.
    Unknown,
}

impl Step {
    fn of(leaf: &Result<LeafView<'_>, Refused>) -> Step {
        match leaf {
            Ok(LeafView { kind: 0, seq, src: Some(position), .. }) => Step::Event(*seq, *position),
            Ok(leaf) => leaf.body().map_or(Step::Unknown, |body| Step::Entry(Box::new((leaf.seq, leaf.src, body)))),
            Err(_) => Step::Unknown,
        }
    }
}

/// Looks at segment `segment` alone.
pub fn check_segment(archive: &dyn Archive, segment: u64, input: &AuditInput) -> Checked {
    check_from(archive, segment, input, None)
}

/// The same for a segment that is known to start from `tree`, whatever its Seal says.
pub(super) fn check_from(archive: &dyn Archive, segment: u64, input: &AuditInput, tree: Option<&Tree>) -> Checked {
    let mut findings = Findings::new(input.findings_max);
    let outcome = match open(archive, segment, File::Proof) {
        Ok(None) => Ok(Outcome::Missing),
        Ok(Some(source)) => read_segment(archive, source, segment, input, tree, &mut findings)
            .map(|contents| Outcome::Read(Box::new(contents))),
        Err(fault) => Err(fault),
    };
    let outcome = outcome.unwrap_or_else(|fault| {
        findings.add(Some(segment), fault);
        Outcome::Broken
    });
    Checked { segment, outcome, findings }
}

type Source<'a> = Box<dyn Read + 'a>;

fn open(archive: &dyn Archive, segment: u64, file: File) -> Result<Option<Source<'_>>, Fault> {
    archive.open(segment, file).map_err(|error| {
        let place = file.place();
        match Refused::carried_by(&error) {
            Some(refused) => Fault::refused(None, place, refused.clone()),
            None => Fault::of(Code::Unreachable, place, "to be read", error),
        }
    })
}

/// Reads all files of a segment; an error is a proof file that could not be read to its end.
fn read_segment(
    archive: &dyn Archive,
    source: Source<'_>,
    segment: u64,
    input: &AuditInput,
    tree: Option<&Tree>,
    findings: &mut Findings,
) -> Result<Contents, Fault> {
    let refused = |refused| Fault::refused(None, "proof file", refused);
    let mut proof = Proof::open(source, input.limits).map_err(refused)?;
    let (seal, cid) = (proof.seal().clone(), proof.cid());
    if seal.segment != segment {
        return Err(Fault::of(Code::SealLink, "segment of the Seal", segment, seal.segment));
    }
    let is_sampled = input.payload_sample.as_ref().is_none_or(|sample| sample.contains(&segment));
    let payload_source = if is_sampled { open(archive, segment, File::Payload).transpose() } else { None };
    let has_payload_file = payload_source.is_some();
    let payload = payload_source.map(|source| PayloadCheck::open(source?, input.limits, &seal)).transpose();
    let payload = payload.unwrap_or_else(|fault| {
        findings.add(Some(segment), fault);
        None
    });
    let (tree, peaks_fault) =
        match tree.map_or_else(|| Tree::from_peaks(seal.first, seal.peaks.clone()), |tree| Ok(tree.clone())) {
            Ok(tree) => (Some(tree), None),
            Err(refused) => (None, Some(Fault::refused(None, "peaks of the Seal", refused))),
        };
    let first = tree.as_ref().map_or(seal.first, Tree::size).next_seq();
    let payload = payload.unwrap_or_else(PayloadCheck::absent);
    let mut leaves = Leaves::new(segment, first, tree, payload, input.kept_bytes_max, findings);
    loop {
        match proof.page() {
            Ok(Some(page)) => leaves.page(page)?,
            Ok(None) => break,
            Err(fault) => {
                let page = proof.damaged_page().filter(|_| fault.code == Code::BlockHash);
                let seq = page.map(|(first, page)| first_changed(first, page));
                return Err(Fault::refused(seq, "proof file", fault));
            }
        }
    }
    let mut contents = leaves.end(seal, cid);
    contents.peaks_fault = peaks_fault;
    contents.has_payload_file = has_payload_file;
    contents.bytes = proof.bytes_taken();
    let mut add = |fault| findings.add(Some(segment), fault);
    match open(archive, segment, File::Anchor) {
        Ok(None) => {}
        Ok(Some(source)) => contents.anchors = check_anchor(source, input, &contents.seal, cid, &mut add),
        Err(fault) => add(fault),
    }
    Ok(contents)
}

/// The walk over the leaves of a segment.
struct Leaves<'f, R> {
    segment: u64,
    findings: &'f mut Findings,
    payload: PayloadCheck<R>,
    tree: Option<Tree>,
    /// The seq the next leaf should have.
    next: Seq,
    count: u64,
    page_bytes: usize,
    is_cut_elsewhere: bool,
    has_parts: bool,
    has_unknown: bool,
    first_prev: Option<(Seq, Hash)>,
    last: Option<Hash>,
    steps: Option<Vec<Step>>,
    /// What the entries of `steps` may still take.
    kept_bytes_left: usize,
}

impl<'f, R: Read> Leaves<'f, R> {
    fn new(
        segment: u64,
        next: Seq,
        tree: Option<Tree>,
        payload: PayloadCheck<R>,
        kept_bytes_max: usize,
        findings: &'f mut Findings,
    ) -> Leaves<'f, R> {
        Leaves {
            segment,
            findings,
            payload,
            tree,
            next,
            count: 0,
            page_bytes: 0,
            is_cut_elsewhere: false,
            has_parts: false,
            has_unknown: false,
            first_prev: None,
            last: None,
            steps: Some(Vec::new()),
            kept_bytes_left: kept_bytes_max,
        }
    }

    fn add(&mut self, fault: Fault) {
        self.findings.add(Some(self.segment), fault);
    }

    /// Takes a page; an error is bytes that are not even leaves end to end, and the entry that should be there.
    fn page(&mut self, page: Page<'_>) -> Result<(), Fault> {
        let mut rest = page.bytes;
        self.is_cut_elsewhere |= page.count == 0;
        for at in 0..page.count {
            let due = Some(self.next);
            let (leaf, bytes) = split(&mut rest).map_err(|refused| Fault::refused(due, "leaf", refused))?;
            let is_first = at == 0;
            self.is_cut_elsewhere |= is_first && leaf.as_ref().is_ok_and(|leaf| leaf.seq != page.first);
            self.cut(is_first, bytes.len());
            self.leaf(leaf, bytes);
        }
        Cursor::new(rest).end().map_err(|refused| Fault::refused(None, "proof file", refused))
    }

    /// A new page starts exactly where the rule says.
    fn cut(&mut self, is_first: bool, len: usize) {
        let must_start = self.count == 0 || starts_page(self.next, self.page_bytes, len);
        self.is_cut_elsewhere |= must_start != is_first;
        self.page_bytes = if is_first { len } else { self.page_bytes + len };
    }

    fn leaf(&mut self, leaf: Result<LeafView<'_>, Refused>, bytes: &[u8]) {
        let hash = Hash::leaf(bytes);
        let seq = leaf.as_ref().map_or(self.next, |leaf| leaf.seq);
        if seq != self.next {
            self.add(Fault::at(seq, Code::SeqGap, "seq", self.next, seq));
        }
        match &leaf {
            Ok(leaf) => self.known(leaf),
            Err(refused) => self.unknown(seq, refused),
        }
        self.keep(&leaf, bytes.len());
        if let Some(tree) = &mut self.tree {
            tree.append(hash);
        }
        self.last = Some(hash);
        self.next = seq.next();
        self.count += 1;
    }

    fn known(&mut self, leaf: &LeafView<'_>) {
        match self.last {
            Some(last) if last != leaf.prev => self.add(Fault::at(leaf.seq, Code::ChainLink, "prev", last, leaf.prev)),
            None if self.count == 0 => self.first_prev = Some((leaf.seq, leaf.prev)),
            _ => {}
        }
        self.has_parts |= leaf.part_count() > 0;
        let (findings, segment) = (&mut *self.findings, self.segment);
        self.payload.leaf(leaf, &mut |fault| findings.add(Some(segment), fault));
    }

    fn unknown(&mut self, seq: Seq, refused: &Refused) {
        self.add(Fault::refused(Some(seq), "leaf", refused.clone()));
        if let Err(fault) = self.payload.skip(seq) {
            self.add(fault);
        }
        self.has_unknown = true;
    }

    /// Keeps what the rules need of a leaf of `len` bytes, if there is room.
    fn keep(&mut self, leaf: &Result<LeafView<'_>, Refused>, len: usize) {
        let step = Step::of(leaf);
        let left = if matches!(step, Step::Event(..)) {
            Some(self.kept_bytes_left)
        } else {
            self.kept_bytes_left.checked_sub(len)
        };
        match (&mut self.steps, left) {
            (Some(steps), Some(left)) if self.count < ENTRIES_MAX => {
                steps.push(step);
                self.kept_bytes_left = left;
            }
            _ => self.steps = None,
        }
    }

    fn end(mut self, seal: Seal, cid: Cid) -> Contents {
        if self.is_cut_elsewhere {
            let what = "a page that starts or ends elsewhere";
            self.add(Fault::of(Code::NonCanonical, "pages", "a cut at each 256th seq and before 262,000 bytes", what));
        }
        if self.count != seal.count {
            self.add(Fault::of(Code::SeqGap, "count of the Seal", self.count, seal.count));
        }
        if self.has_parts != seal.payload.is_some() && (self.has_parts || !self.has_unknown) {
            let found = if seal.payload.is_some() { "a payload" } else { "none" };
            self.add(Fault::of(Code::SealLink, "payload of the Seal", "one exactly where leaves have parts", found));
        }
        let Leaves { segment, findings, payload, tree, first_prev, last, steps, .. } = self;
        if let Err(fault) = payload.end() {
            findings.add(Some(segment), fault);
        }
        Contents {
            cid,
            seal,
            tree,
            peaks_fault: None,
            first_prev,
            last,
            steps,
            has_payload_file: false,
            anchors: Vec::new(),
            bytes: 0,
        }
    }
}

/// Takes the leaf at the start of `rest`: its bytes, and what they say or why they are refused.
fn split<'a>(rest: &mut &'a [u8]) -> Result<(Result<LeafView<'a>, Refused>, &'a [u8]), Refused> {
    let start = *rest;
    if let Ok((leaf, after)) = LeafView::decode_prefix(start) {
        let bytes = start.get(..start.len() - after.len()).unwrap_or_default();
        if bytes.len() <= LEAF_BYTES_MAX {
            *rest = after;
            return Ok((Ok(leaf), bytes));
        }
    }
    let mut cursor = Cursor::new(start);
    let bytes = cursor.skip()?;
    *rest = cursor.rest();
    Ok((LeafView::decode(bytes), bytes))
}

/// Reads the entries of a segment again, one at a time, for a segment that kept none.
pub(super) fn replay(
    archive: &dyn Archive,
    segment: u64,
    input: &AuditInput,
    mut take: impl FnMut(Step),
) -> Result<(), Fault> {
    let mut proof = open_again(archive, segment, input)?;
    while let Some(page) = proof.page().map_err(read_again)? {
        let mut rest = page.bytes;
        for _ in 0..page.count {
            let (leaf, _) = split(&mut rest).map_err(read_again)?;
            take(Step::of(&leaf));
        }
    }
    Ok(())
}

/// The root of the tree at `size`, which lies within segment `segment`: reads its proof again, up to there. The segment
/// starts from `tree`, or where its Seal says. `None` where it lies elsewhere, or no tree can be made from the Seal.
///
/// # Errors
/// The file is not read as before.
pub(super) fn root_at(
    archive: &dyn Archive,
    segment: u64,
    size: Size,
    input: &AuditInput,
    tree: Option<&Tree>,
) -> Result<Option<Hash>, Fault> {
    let mut proof = open_again(archive, segment, input)?;
    let seal = proof.seal();
    let tree = tree.map_or_else(|| Tree::from_peaks(seal.first, seal.peaks.clone()).ok(), |tree| Some(tree.clone()));
    let Some(mut tree) = tree else { return Ok(None) };
    while tree.size() < size {
        let Some(page) = proof.page().map_err(read_again)? else { return Ok(None) };
        let mut cursor = Cursor::new(page.bytes);
        for _ in 0..page.count {
            if tree.size() < size {
                tree.append(Hash::leaf(cursor.skip().map_err(read_again)?));
            }
        }
    }
    Ok((tree.size() == size).then(|| tree.root()))
}

fn open_again<'a>(archive: &'a dyn Archive, segment: u64, input: &AuditInput) -> Result<Proof<Source<'a>>, Fault> {
    let gone = || Fault::of(Code::Unreachable, "proof file, read again", "a file", "none");
    let source = open(archive, segment, File::Proof)?.ok_or_else(gone)?;
    Proof::open(source, input.limits).map_err(read_again)
}

fn read_again(refused: Refused) -> Fault {
    Fault::refused(None, "proof file, read again", refused)
}
