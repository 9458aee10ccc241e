//! Proof files of a log of any length, cut where the test wants: a log of events about nobody, its key changed on demand.
//!
//! For tests and benches of what is made from proofs. Not a sidecar: nothing is folded, sealed or pinned here.

use std::fs::File as FsFile;
use std::io::{self, BufWriter, Read, Seek, Write};
use std::path::{Path, PathBuf};

use pinfold::core::audit::{Archive, File};
use pinfold::core::checkpoint::sign_checkpoint;
use pinfold::core::cid::Cid;
use pinfold::core::hash::Hash;
use pinfold::core::keychange::Rotation;
use pinfold::core::leaf::{Body, KeyStep, Leaf, Opened, PartRef, Topic, TopicSource, TopicWhy};
use pinfold::core::merkle::Tree;
use pinfold::core::note::Skey;
use pinfold::core::origin::Origin;
use pinfold::core::position::Position;
use pinfold::core::rules::LogRules;
use pinfold::core::segment::build::{Builder, Spools, Start};
use pinfold::core::segment::skip_of;
use pinfold::core::seq::{Seq, Size};

const PARTITIONS: u64 = 4;
/// Bytes of a frame: nobody opens them here.
const FRAME_BYTES: usize = 40;

/// The archive of a log that is written segment by segment.
pub(crate) struct Segments {
    pub(crate) dir: PathBuf,
    pub(crate) origin: Origin,
    pub(crate) recovery: Skey,
    /// The keys so far, the current one last.
    pub(crate) keys: Vec<Skey>,
    /// The checkpoint of each segment.
    pub(crate) checkpoints: Vec<String>,
    parts: usize,
    seals: Vec<Cid>,
    tree: Tree,
    rules: LogRules,
    last: Hash,
    offsets: [u64; PARTITIONS as usize],
}

impl Segments {
    /// A log in `dir` whose events have so many parts.
    pub(crate) fn new(dir: &Path, origin: &str, parts: usize) -> Segments {
        let key = |name: &str, seed: u8| Skey::from_seed(name, &[seed; 32]).unwrap();
        Segments {
            dir: dir.to_owned(),
            origin: Origin::new(origin).unwrap(),
            recovery: key(&format!("{origin}/recovery"), 2),
            keys: vec![key(origin, 1)],
            checkpoints: Vec::new(),
            parts,
            seals: Vec::new(),
            tree: Tree::new(),
            rules: LogRules::new(),
            last: Hash::ZERO,
            offsets: [0; PARTITIONS as usize],
        }
    }

    /// The number of entries.
    pub(crate) fn size(&self) -> Size {
        self.tree.size()
    }

    /// The number of segments.
    pub(crate) fn count(&self) -> u64 {
        self.seals.len() as u64
    }

    /// Seals so many more events.
    pub(crate) fn seal(&mut self, entries: u64) {
        self.seal_with(entries, false).unwrap();
    }

    /// The same, the first entry of them a rotation of the log's key.
    pub(crate) fn rotate(&mut self, entries: u64) {
        self.seal_with(entries, true).unwrap();
    }

    fn seal_with(&mut self, entries: u64, rotates: bool) -> io::Result<()> {
        let (segment, first) = (self.count(), self.size().0);
        let link = |n: u64| self.seals.get(n as usize).copied();
        let start = Start {
            origin: self.origin.clone(),
            segment,
            prev_seal: segment.checked_sub(1).and_then(link),
            skip: Some(segment).filter(|n| *n > 0).map(skip_of).and_then(link),
            tree: std::mem::take(&mut self.tree),
            rules: std::mem::replace(&mut self.rules, LogRules::new()),
        };
        let spool = || tempfile::tempfile_in(&self.dir).map(BufWriter::new);
        let mut builder = Builder::new(start, Spools { pages: spool()?, frame_pages: spool()?, raw: spool()? });
        for seq in first..first + entries {
            let (leaf, frames) = self.entry(seq, rotates && seq == first);
            let frames: Vec<&[u8]> = frames.iter().map(Vec::as_slice).collect();
            builder.add(&leaf, &frames).map_err(io::Error::other)?;
        }
        let unsigned = builder.finish().map_err(io::Error::other)?;
        let checkpoint = sign_checkpoint(unsigned.head(), self.keys.last().unwrap());
        let mut built = unsigned.seal(checkpoint.clone()).map_err(io::Error::other)?;
        built.spools.pages.flush()?;
        built.spools.pages.get_mut().rewind()?;
        let mut out = BufWriter::new(FsFile::create(self.proof(segment))?);
        built.write_proof(built.spools.pages.get_ref(), &mut out)?;
        out.flush()?;
        self.seals.push(built.cid);
        self.checkpoints.push(checkpoint);
        (self.tree, self.rules) = (built.tree, built.rules);
        Ok(())
    }

    /// The proof file of a segment.
    pub(crate) fn proof(&self, segment: u64) -> PathBuf {
        self.dir.join(format!("{segment:06}.proof.car"))
    }

    fn entry(&mut self, seq: u64, rotates: bool) -> (Vec<u8>, Vec<Vec<u8>>) {
        let (body, src, frames) = match seq {
            _ if rotates => (self.rotation(seq), None, Vec::new()),
            0 => (self.opened(), None, Vec::new()),
            1 => {
                let classes = ["operator", "quarantine", "consent_proof"].map(str::to_owned).to_vec();
                (Body::EpochOpened { epoch: 0, classes }, None, Vec::new())
            }
            2 => (topic(), None, Vec::new()),
            _ => {
                let partition = seq % PARTITIONS;
                let next = &mut self.offsets[partition as usize];
                let src = Position { topic_no: 0, partition, offset: *next };
                *next += 1;
                (Body::Event, Some(src), (0..self.parts).map(|part| frame(seq, part)).collect())
            }
        };
        let part = |frame: &Vec<u8>| PartRef { commitment: Hash::of(&frame[..16]), digest: Hash::of(frame) };
        let parts = frames.iter().map(part).collect();
        let leaf = Leaf { seq: Seq(seq), src, prev: self.last, body, parts }.encode().unwrap();
        self.last = Hash::leaf(&leaf);
        (leaf, frames)
    }

    fn opened(&self) -> Body {
        Body::LogOpened(Box::new(Opened {
            vkey: self.keys[0].vkey().to_string(),
            origin: self.origin.clone(),
            recovery: self.recovery.vkey().to_string(),
            continues: None,
        }))
    }

    fn rotation(&mut self, seq: u64) -> Body {
        let seed = u8::try_from(10 + self.keys.len()).unwrap();
        let new = Skey::from_seed(self.origin.as_str(), &[seed; 32]).unwrap();
        let old = self.keys.last().unwrap();
        let rotation =
            Rotation { origin: self.origin.clone(), seq: Seq(seq), old: old.vkey().clone(), new: new.vkey().clone() };
        let note = rotation.sign(old, &new);
        self.keys.push(new);
        Body::KeyChanged { note, step: KeyStep::Rotated }
    }
}

impl Archive for Segments {
    fn open(&self, segment: u64, file: File) -> io::Result<Option<Box<dyn Read + '_>>> {
        let name = match file {
            File::Proof => "proof",
            File::Anchor => "anchor",
            File::Payload => return Ok(None),
        };
        match FsFile::open(self.dir.join(format!("{segment:06}.{name}.car"))) {
            Ok(file) => Ok(Some(Box::new(file))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}

fn topic() -> Body {
    Body::TopicDeclared(Box::new(Topic {
        why: TopicWhy::New,
        name: "consent".to_owned(),
        shared: false,
        source: TopicSource::Kafka,
        cluster: "c".to_owned(),
        replaces: None,
        topic_id: "t".to_owned(),
        topic_no: 0,
        partitions: PARTITIONS,
    }))
}

/// Bytes that no two frames share.
fn frame(seq: u64, part: usize) -> Vec<u8> {
    let mut bytes = vec![0; FRAME_BYTES];
    bytes[..8].copy_from_slice(&seq.to_be_bytes());
    bytes[8..16].copy_from_slice(&(part as u64).to_be_bytes());
    bytes
}
