//! CAR files on disk, checked against their root.
//!
//! `core::car` reads the bytes; this opens the file and walks it, and tells a file that cannot be read from one that is
//! something else. What the blocks mean is `core::segment`.

use std::fs::File;
use std::io;
use std::path::Path;

use super::walk::Walk;
use super::{CarFile, PinError, Receipt};
use crate::core::car::{Limits, Reader};
use crate::core::cid::Cid;
use crate::core::finding::{Code, Refused};

/// Why a file is not the CAR of a root.
#[derive(Debug)]
pub(super) enum Fault {
    /// It could not be read.
    Io(io::Error),
    /// It was read and is something else.
    Bytes(Refused),
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Fault {
        Fault::Io(error)
    }
}

impl From<Refused> for Fault {
    fn from(refused: Refused) -> Fault {
        match refused.code {
            Code::Unreachable => Fault::Io(io::Error::other(refused.what)),
            _ => Fault::Bytes(refused),
        }
    }
}

/// Reads the whole file: header, every block hashed, every link walked, nothing more. Blocking.
pub(super) fn check(path: &Path, root: Cid) -> Result<Receipt, Fault> {
    visit(path, root, |_, _| ())
}

/// As [`check`], and shows each block.
pub(super) fn visit(path: &Path, root: Cid, mut seen: impl FnMut(Cid, &[u8])) -> Result<Receipt, Fault> {
    let mut reader = Reader::open(File::open(path)?, Limits::default())?;
    if reader.root() != root {
        return Err(Refused::non_canonical(format!("car: expected root {root}, found {}", reader.root())).into());
    }
    let mut walk = Walk::new(root);
    while let Some(cid) = walk.next_cid() {
        let block = match cid == root {
            true => reader.first()?,
            false => reader.expect(cid, |due| walk.upcoming().any(|ahead| ahead == *due))?,
        };
        walk.feed(block)?;
        seen(cid, block);
    }
    reader.end()?;
    Ok(walk.end()?)
}

/// Checks a file of ours before anything leaves this machine. Blocking.
pub(super) fn check_own(car: &CarFile) -> Result<Receipt, PinError> {
    let found = std::fs::metadata(&car.path).map_err(|error| own_unreadable(car, &error))?.len();
    if found != car.bytes {
        let what = format!("expected {} bytes, found {found}", car.bytes);
        let fault = Refused::new(if found < car.bytes { Code::BlockMissing } else { Code::BlockExtra }, what);
        return Err(PinError::Local { path: car.path.clone(), fault });
    }
    check(&car.path, car.root).map_err(|fault| own_fault(car, fault))
}

/// Every CID of a file of ours, in its order. Blocking.
pub(super) fn cids_of_own(car: &CarFile) -> Result<Vec<Cid>, PinError> {
    let mut cids = Vec::new();
    visit(&car.path, car.root, |cid, _| cids.push(cid)).map_err(|fault| own_fault(car, fault))?;
    Ok(cids)
}

fn own_fault(car: &CarFile, fault: Fault) -> PinError {
    match fault {
        Fault::Io(error) => own_unreadable(car, &error),
        Fault::Bytes(fault) => PinError::Local { path: car.path.clone(), fault },
    }
}

/// A file of ours that cannot be read is as bad as a missing one.
pub(super) fn own_unreadable(car: &CarFile, error: &io::Error) -> PinError {
    let fault = Refused::new(Code::BlockMissing, format!("not readable: {error}"));
    PinError::Local { path: car.path.clone(), fault }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROOF: &[u8] = include_bytes!("../../tests/vectors/pinfold-v1/log/000002.proof.car");
    const PAYLOAD: &[u8] = include_bytes!("../../tests/vectors/pinfold-v1/log/000000.payload.car");

    /// The root a CAR claims; its place in the header is fixed.
    fn root(car: &[u8]) -> Cid {
        Cid::from_bytes(&car[14..50]).unwrap()
    }

    fn checked(car: &[u8], root: Cid) -> Result<Receipt, Code> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), car).unwrap();
        check(file.path(), root).map_err(|fault| match fault {
            Fault::Bytes(refused) => refused.code,
            Fault::Io(error) => panic!("{error}"),
        })
    }

    #[test]
    fn the_public_files_pass() {
        assert_eq!(checked(PROOF, root(PROOF)).unwrap().blocks, 3);
        assert_eq!(checked(PAYLOAD, root(PAYLOAD)).unwrap().blocks, 5);
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_found() {
        let good = root(PROOF);
        for at in (0..PROOF.len()).step_by(97).chain(0..160) {
            let mut car = PROOF.to_vec();
            car[at] ^= 1;
            assert!(checked(&car, good).is_err(), "bit at {at}");
            assert!(checked(&PROOF[..at], good).is_err(), "cut at {at}");
        }
        assert!(checked(&[PROOF, &[0]].concat(), good).is_err());
        assert!(checked(PROOF, root(PAYLOAD)).is_err());
    }
}
