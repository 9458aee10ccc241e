//! The audit of a replica: blocks of our CARs, drawn by place or all of them, asked of a target one by one.
//!
//! Which blocks there are is read from our own files, without their contents; the few that are drawn are read and hashed
//! here first, so that a damaged file of ours is not held against the target. A damaged file of ours is restored from a
//! target that holds it. Not when any of it is done, nor what is written down of it: that is the sidecar's.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use futures_util::StreamExt;

use super::car::{check_own, own_unreadable};
use super::folder::{rename_new, set_aside};
use super::{CarFile, PinError, Pinner};
use crate::core::audit::places::Draw;
use crate::core::car::{self, HEAD_BYTES_MAX};
use crate::core::cid::Cid;
use crate::core::finding::{Code, Refused};

/// A block of a CAR file: what it is, and where.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CarBlock {
    /// Its CID.
    pub cid: Cid,
    /// Where its bytes begin in the file.
    pub at: u64,
    /// How many they are.
    pub bytes: u64,
}

/// Some blocks of one file.
#[derive(Clone, Debug)]
pub struct Drawn {
    /// The file.
    pub car: CarFile,
    /// The blocks, in order, each once.
    pub blocks: Vec<CarBlock>,
}

/// What a target had to show.
#[derive(Clone, Debug)]
pub struct Sampled {
    /// Blocks asked for.
    pub blocks: u64,
    /// Those that were missing or something else.
    pub failed: u64,
    /// The files they belong to.
    pub damaged: Vec<CarFile>,
}

/// Places drawn for each block that is wanted, at most: few blocks of very different lengths are all found long before.
const DRAWS_A_BLOCK: u64 = 64;
/// Files that are asked about at once.
const FILES_AT_ONCE: usize = 8;

/// Draws `count` blocks of `cars`; all of them, where there are no more. Blocking.
///
/// # Errors
/// `Local` where a file of ours is not what it should be.
pub fn draw(cars: &[CarFile], draw: &Draw, count: u64) -> Result<Vec<Drawn>, PinError> {
    if let Some(all) = all_if_few(cars, count)? {
        return Ok(all);
    }
    let mut ends = Vec::with_capacity(cars.len());
    let mut total: u64 = 0;
    for car in cars {
        total = total.saturating_add(car.bytes);
        ends.push(total);
    }
    let mut files: BTreeMap<usize, (Vec<CarBlock>, Vec<usize>)> = BTreeMap::new();
    let mut chosen = 0;
    for n in 0..count.saturating_mul(DRAWS_A_BLOCK) {
        if chosen == count {
            break;
        }
        let place = draw.place(n, total);
        let file = ends.partition_point(|end| *end <= place);
        let (Some(car), Some(end)) = (cars.get(file), ends.get(file)) else { continue };
        let within = place - (end - car.bytes);
        if let Entry::Vacant(place) = files.entry(file) {
            place.insert((blocks_of(car)?, Vec::new()));
        }
        let Some((blocks, taken)) = files.get_mut(&file) else { continue };
        // Heads belong to the block behind them, the file's own header to the first.
        let block = blocks.partition_point(|block| block.at + block.bytes <= within);
        if block < blocks.len() && !taken.contains(&block) {
            taken.push(block);
            chosen += 1;
        }
    }
    let mut drawn = Vec::with_capacity(files.len());
    for (file, (blocks, mut taken)) in files {
        let Some(car) = cars.get(file) else { continue };
        taken.sort_unstable();
        let blocks = taken.into_iter().filter_map(|block| blocks.get(block).copied()).collect();
        drawn.push(Drawn { car: car.clone(), blocks });
    }
    for drawn in &drawn {
        check_own_blocks(drawn)?;
    }
    Ok(drawn)
}

/// All blocks of `cars`, our own files read whole. Blocking.
///
/// # Errors
/// As [`draw`].
pub fn all(cars: &[CarFile]) -> Result<Vec<Drawn>, PinError> {
    cars.iter().map(|car| Ok(Drawn { car: car.clone(), blocks: blocks_of(car)? })).collect()
}

/// All blocks, if there are no more than `count`.
fn all_if_few(cars: &[CarFile], count: u64) -> Result<Option<Vec<Drawn>>, PinError> {
    let (mut drawn, mut found) = (Vec::new(), 0);
    for car in cars {
        let blocks = blocks_of(car)?;
        found += blocks.len() as u64;
        if found > count {
            return Ok(None);
        }
        drawn.push(Drawn { car: car.clone(), blocks });
    }
    for drawn in &drawn {
        check_own_blocks(drawn)?;
    }
    Ok(Some(drawn))
}

/// Where the blocks of a file of ours are. Their bytes are not read.
fn blocks_of(car: &CarFile) -> Result<Vec<CarBlock>, PinError> {
    let read = || -> io::Result<Result<Vec<CarBlock>, Refused>> {
        let file = File::open(&car.path)?;
        let header = car::header(car.root);
        let mut found = vec![0; header.len()];
        file.read_exact_at(&mut found, 0)?;
        if found != header {
            return Ok(Err(Refused::non_canonical(format!("car: not a file of root {}", car.root))));
        }
        let (mut blocks, mut at) = (Vec::new(), header.len() as u64);
        while at < car.bytes {
            let mut head = [0; HEAD_BYTES_MAX];
            let filled = read_some(&file, &mut head, at)?;
            let head = head.get(..filled).unwrap_or_default();
            let Some((cid, before, len)) = car::read_block_head(head) else {
                return Ok(Err(Refused::non_canonical(format!("car: no block at byte {at}"))));
            };
            blocks.push(CarBlock { cid, at: at + before as u64, bytes: len as u64 });
            at += (before + len) as u64;
        }
        if at > car.bytes {
            return Ok(Err(Refused::new(Code::BlockMissing, "car: the file ends inside a block")));
        }
        Ok(Ok(blocks))
    };
    let blocks = read().map_err(|error| own_unreadable(car, &error))?;
    blocks.map_err(|fault| PinError::Local { path: car.path.clone(), fault })
}

/// Hashes the drawn blocks of our own file.
fn check_own_blocks(drawn: &Drawn) -> Result<(), PinError> {
    let Drawn { car, blocks } = drawn;
    let file = File::open(&car.path).map_err(|error| own_unreadable(car, &error))?;
    for block in blocks {
        if !holds(&file, block).map_err(|error| own_unreadable(car, &error))? {
            let what = format!("block {} at byte {}: other bytes", block.cid, block.at);
            return Err(PinError::Local { path: car.path.clone(), fault: Refused::new(Code::BlockHash, what) });
        }
    }
    Ok(())
}

/// Whether `file` holds the block at its place. A file that ends before does not.
pub(super) fn holds(file: &File, block: &CarBlock) -> io::Result<bool> {
    let mut bytes = vec![0; usize::try_from(block.bytes).unwrap_or(usize::MAX).min(car::BLOCK_BYTES_MAX)];
    match file.read_exact_at(&mut bytes, block.at) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        read => read.map(|()| block.cid.matches(&bytes)),
    }
}

/// Reads until `into` is full or the file ends.
fn read_some(file: &File, into: &mut [u8], at: u64) -> io::Result<usize> {
    let mut filled = 0;
    while let Some(rest) = into.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, at + filled as u64) {
            Ok(0) => break,
            Ok(more) => filled += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// Asks `target` for every drawn block.
///
/// # Errors
/// Those of [`Pinner::sample`]: a target that was not reached has shown nothing.
pub async fn sample(target: &dyn Pinner, drawn: &[Drawn]) -> Result<Sampled, PinError> {
    let mut sampled = Sampled { blocks: 0, failed: 0, damaged: Vec::new() };
    let ask = |n: usize| async move {
        let Drawn { car, blocks } = drawn.get(n)?;
        Some((car, blocks.len(), target.sample(car, blocks).await))
    };
    // By number: of a closure over references the compiler does not see that its futures may change threads.
    let asked = (0..drawn.len()).map(ask);
    let mut answers = futures_util::stream::iter(asked).buffered(FILES_AT_ONCE);
    while let Some(answer) = answers.next().await {
        let Some((car, blocks, bad)) = answer else { continue };
        let failed = bad?.len() as u64;
        sampled.blocks += blocks as u64;
        sampled.failed += failed;
        if failed > 0 {
            sampled.damaged.push(car.clone());
        }
    }
    Ok(sampled)
}

/// Makes sure of our own file: one that is damaged or gone is written anew from the first of `targets` that holds it
/// whole, the damaged one set aside. Tells whether it had to be.
///
/// # Errors
/// `Local` where no target could give it; the file is then as it was.
pub async fn restore_own(car: &CarFile, targets: &[Arc<dyn Pinner>]) -> Result<bool, PinError> {
    let own = car.clone();
    let checked = tokio::task::spawn_blocking(move || check_own(&own)).await;
    let damage = match checked.unwrap_or_else(|error| Err(own_unreadable(car, &io::Error::other(error)))) {
        Ok(_) => return Ok(false),
        Err(damage) => damage,
    };
    let fetched = car.path.with_file_name(format!(".{}.fetched", car.name()));
    for target in targets.iter().filter(|target| target.contents().includes(&car.path)) {
        if let Err(error) = target.fetch(car, &fetched).await {
            tracing::warn!(pin = target.name(), file = car.name(), error = %error, "gives no sound copy");
            continue;
        }
        let replaced = replace(car, &fetched);
        replaced.map_err(|error| own_unreadable(car, &error))?;
        tracing::warn!(pin = target.name(), file = car.name(), "restored a file of the archive");
        return Ok(true);
    }
    // Best effort: the next try writes over it.
    let _ = fs::remove_file(&fetched);
    Err(damage)
}

/// Puts the file `fetched` in the place of ours, durably.
fn replace(car: &CarFile, fetched: &Path) -> io::Result<()> {
    File::open(fetched)?.sync_all()?;
    if car.path.try_exists()? {
        set_aside(&car.path)?;
    }
    rename_new(fetched, &car.path)?;
    File::open(car.path.parent().unwrap_or(Path::new(".")))?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::super::Contents;
    use super::super::folder::Folder;
    use super::*;
    use crate::core::checkpoint::Head;
    use crate::core::hash::Hash;
    use crate::core::origin::Origin;
    use crate::core::seq::Size;
    use crate::core::time::Timestamp;

    const LOG: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors/pinfold-v1/log");

    /// The files of the log among the vectors, copied, and a folder that holds them.
    struct Place {
        _dirs: [tempfile::TempDir; 2],
        cars: Vec<CarFile>,
        folder: Folder,
        kept: std::path::PathBuf,
    }

    async fn place() -> Place {
        let dirs = [(); 2].map(|()| tempfile::tempdir().unwrap());
        let mut cars = Vec::new();
        for entry in fs::read_dir(LOG).unwrap() {
            let from = entry.unwrap().path();
            let name = from.file_name().unwrap().to_str().unwrap().to_owned();
            if !name.ends_with(".proof.car") && !name.ends_with(".payload.car") {
                continue;
            }
            let path = dirs[0].path().join(&name);
            fs::copy(&from, &path).unwrap();
            let bytes = fs::read(&path).unwrap();
            let root = Cid::from_bytes(&bytes[14..50]).unwrap();
            cars.push(CarFile { path, root, bytes: bytes.len() as u64 });
        }
        cars.sort_by(|a, b| a.path.cmp(&b.path));
        assert!(cars.len() > 4, "the vectors hold several files");
        let folder = Folder::new("vault", dirs[1].path(), Contents::ProofAndPayload);
        for car in &cars {
            folder.pin(car).await.unwrap();
        }
        let kept = dirs[1].path().to_owned();
        Place { _dirs: dirs, cars, folder, kept }
    }

    fn the_draw(at: u64) -> Draw {
        let head = Head { origin: Origin::new("example.com/log").unwrap(), size: Size(9), root: Hash::of(b"root") };
        Draw { head, target: "vault".into(), at: Timestamp(at) }
    }

    fn count(drawn: &[Drawn]) -> usize {
        drawn.iter().map(|drawn| drawn.blocks.len()).sum()
    }

    #[tokio::test]
    async fn a_draw_takes_so_many_blocks_each_once_and_all_of_a_small_archive() {
        let at = place().await;
        let whole = all(&at.cars).unwrap();
        let blocks = count(&whole);
        for n in 1..blocks {
            let drawn = draw(&at.cars, &the_draw(7), n as u64).unwrap();
            // Few and small blocks among large ones may stay undrawn; never may there be one too many, or one twice.
            assert!(count(&drawn) <= n && (n > 3 || count(&drawn) == n), "{n}: {}", count(&drawn));
            for one in &drawn {
                assert!(one.blocks.windows(2).all(|pair| pair[0].at < pair[1].at));
            }
        }
        let drawn = draw(&at.cars, &the_draw(7), blocks as u64).unwrap();
        assert_eq!(count(&drawn), blocks);
        let sampled = sample(&at.folder, &drawn).await.unwrap();
        assert_eq!((sampled.blocks, sampled.failed), (blocks as u64, 0));
    }

    #[tokio::test]
    async fn each_block_that_is_damaged_or_lost_on_the_target_is_found() {
        let at = place().await;
        for drawn in all(&at.cars).unwrap() {
            let kept = at.kept.join(drawn.car.name());
            let sound = fs::read(&kept).unwrap();
            for block in &drawn.blocks {
                let mut damaged = sound.clone();
                damaged[usize::try_from(block.at).unwrap()] ^= 1;
                fs::write(&kept, &damaged).unwrap();
                let sampled = sample(&at.folder, std::slice::from_ref(&drawn)).await.unwrap();
                assert_eq!((sampled.failed, sampled.damaged.len()), (1, 1));
            }
            fs::write(&kept, &sound[..sound.len() - 1]).unwrap();
            assert_eq!(sample(&at.folder, std::slice::from_ref(&drawn)).await.unwrap().failed, 1, "cut");
            fs::remove_file(&kept).unwrap();
            let lost = sample(&at.folder, std::slice::from_ref(&drawn)).await.unwrap();
            assert_eq!(lost.failed, drawn.blocks.len() as u64);
            fs::write(&kept, &sound).unwrap();
        }
    }

    #[tokio::test]
    async fn a_folder_that_is_not_mounted_has_lost_nothing() {
        let at = place().await;
        let drawn = all(&at.cars).unwrap();
        fs::rename(&at.kept, at.kept.with_extension("away")).unwrap();
        let error = sample(&at.folder, &drawn).await.unwrap_err();
        fs::rename(at.kept.with_extension("away"), &at.kept).unwrap();
        assert!(matches!(error, PinError::Retry { .. }), "{error}");
    }

    #[tokio::test]
    async fn a_damaged_file_of_ours_is_no_fault_of_the_target() {
        let at = place().await;
        let (car, sound) = (&at.cars[0], fs::read(&at.cars[0].path).unwrap());
        let few = all(&at.cars[..1]).unwrap()[0].blocks.len() as u64;
        for place in [0, 20, sound.len() / 2, sound.len() - 1] {
            let mut damaged = sound.clone();
            damaged[place] ^= 0x40;
            fs::write(&car.path, damaged).unwrap();
            let error = draw(std::slice::from_ref(car), &the_draw(7), few).unwrap_err();
            assert!(matches!(error, PinError::Local { .. }) && error.halts(), "byte {place}: {error}");
        }
    }

    #[tokio::test]
    async fn our_own_file_comes_back_from_a_target_that_holds_it_whole() {
        let at = place().await;
        let targets: [Arc<dyn Pinner>; 1] = [Arc::new(at.folder.clone())];
        let (car, sound) = (&at.cars[0], fs::read(&at.cars[0].path).unwrap());
        assert!(!restore_own(car, &targets).await.unwrap(), "nothing to restore");
        fs::write(&car.path, b"rot").unwrap();
        assert!(restore_own(car, &targets).await.unwrap());
        assert_eq!(fs::read(&car.path).unwrap(), sound);
        fs::remove_file(&car.path).unwrap();
        assert!(restore_own(car, &targets).await.unwrap());
        assert_eq!(fs::read(&car.path).unwrap(), sound);

        fs::write(at.kept.join(car.name()), b"rot").unwrap();
        fs::write(&car.path, b"rot too").unwrap();
        let error = restore_own(car, &targets).await.unwrap_err();
        assert!(matches!(error, PinError::Local { .. }), "{error}");
        assert_eq!(fs::read(&car.path).unwrap(), b"rot too", "what no target can replace stays");
    }
}
