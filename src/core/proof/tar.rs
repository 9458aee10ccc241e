//! Evidence as one file: ustar with zero times and owners, the same bytes on every machine.
//!
//! Not a general tar: plain files in one folder, and the reader takes only what the writer would have written.
//! Spec: POSIX.1-1988 ustar; format.md, Segment, "An evidence tar".

use std::collections::BTreeSet;

use super::super::finding::Refused;

const BLOCK: usize = 512;
/// Bytes of a name, at most: the prefix field is not used.
const NAME_BYTES_MAX: usize = 100;
/// The largest size that eleven octal digits hold.
const FILE_BYTES_MAX: usize = (1 << 33) - 1;

/// One file of the tar.
#[derive(Clone, PartialEq, Eq)]
pub struct File {
    /// Its name: 1 to 100 visible ASCII characters without `/`, not starting with a dot.
    pub name: String,
    /// What it holds.
    pub bytes: Vec<u8>,
}

impl std::fmt::Debug for File {
    /// The name alone: disclosed bytes are personal.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("File").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Writes the files in the order given.
///
/// # Errors
/// `non-canonical` for a name or a size the reader would refuse, or a name that is there twice.
pub fn write(files: &[File]) -> Result<Vec<u8>, Refused> {
    let mut tar = Vec::new();
    let mut names = BTreeSet::new();
    for file in files {
        if !names.insert(&file.name) {
            return Err(refused("a name twice"));
        }
        tar.extend_from_slice(&header(&file.name, file.bytes.len())?);
        tar.extend_from_slice(&file.bytes);
        tar.resize(tar.len().next_multiple_of(BLOCK), 0);
    }
    tar.resize(tar.len() + 2 * BLOCK, 0);
    Ok(tar)
}

/// Reads a tar that `write` could have written.
///
/// # Errors
/// `non-canonical` for every other.
pub fn read(tar: &[u8]) -> Result<Vec<File>, Refused> {
    let mut files: Vec<File> = Vec::new();
    let mut names = BTreeSet::new();
    let mut rest = tar;
    loop {
        let (head, after) = rest.split_at_checked(BLOCK).ok_or_else(|| refused("it ends early"))?;
        if is_zero(head) {
            // The end is two blocks of zeros, and nothing after them.
            return if after.len() == BLOCK && is_zero(after) { Ok(files) } else { Err(refused("no proper end")) };
        }
        let name = head.get(..NAME_BYTES_MAX).and_then(|field| field.split(|b| *b == 0).next()).unwrap_or_default();
        let name = std::str::from_utf8(name).map_err(|_| refused("a name that is not ASCII"))?;
        let size = head.get(124..135).and_then(|field| std::str::from_utf8(field).ok());
        let size = size.and_then(|field| usize::from_str_radix(field, 8).ok()).ok_or_else(|| refused("a size"))?;
        // Writing the header again leaves no second spelling of any field.
        if header(name, size)?.as_slice() != head {
            return Err(refused("a header with a time, an owner or another field of its own"));
        }
        if !names.insert(name) {
            return Err(refused("a name twice"));
        }
        let (bytes, after) = after.split_at_checked(size).ok_or_else(|| refused("it ends early"))?;
        let padding = size.next_multiple_of(BLOCK) - size;
        let (padding, after) = after.split_at_checked(padding).ok_or_else(|| refused("it ends early"))?;
        if !is_zero(padding) {
            return Err(refused("padding that is not zeros"));
        }
        files.push(File { name: name.to_owned(), bytes: bytes.to_vec() });
        rest = after;
    }
}

/// The header of a plain file: mode 0644, everything that could differ between machines zero.
fn header(name: &str, size: usize) -> Result<[u8; BLOCK], Refused> {
    let sound = !name.starts_with('.') && name.bytes().all(|b| b.is_ascii_graphic() && b != b'/');
    if name.is_empty() || name.len() > NAME_BYTES_MAX || !sound {
        return Err(refused("a name that is not 1 to 100 visible ASCII characters without `/`"));
    }
    if size > FILE_BYTES_MAX {
        return Err(refused("a file of 8 GiB or more"));
    }
    let mut block = [0; BLOCK];
    let mut put = |at: usize, text: &[u8]| {
        for (byte, value) in block.iter_mut().skip(at).zip(text) {
            *byte = *value;
        }
    };
    put(0, name.as_bytes());
    put(100, b"0000644\0");
    put(108, b"0000000\0");
    put(116, b"0000000\0");
    put(124, format!("{size:011o}\0").as_bytes());
    put(136, b"00000000000\0");
    // The checksum is over the header with its own field blank.
    put(148, b"        ");
    put(156, b"0");
    put(257, b"ustar\x0000");
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    for (byte, value) in block.iter_mut().skip(148).zip(format!("{sum:06o}\0 ").as_bytes()) {
        *byte = *value;
    }
    Ok(block)
}

fn is_zero(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| *byte == 0)
}

fn refused(what: &str) -> Refused {
    Refused::non_canonical(format!("tar: {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVIDENCE: &[u8] = include_bytes!("../../../tests/vectors/pinfold-v1/disclosure/6.evidence.tar");

    #[test]
    fn the_vector_is_read_and_written_to_the_same_bytes() {
        let files = read(EVIDENCE).unwrap();
        let names = files.iter().map(|file| file.name.as_str()).collect::<Vec<_>>();
        assert_eq!(names, ["6.tlog-proof", "313.tlog-proof"]);
        assert_eq!(write(&files).unwrap(), EVIDENCE);
    }

    #[test]
    fn files_of_every_length_around_a_block_round_trip() {
        let file = |len: usize| File { name: format!("{len}.bin"), bytes: vec![7; len] };
        let files = [0, 1, 511, 512, 513, 1024].map(file);
        assert_eq!(read(&write(&files).unwrap()).unwrap(), files);
        assert_eq!(read(&write(&[]).unwrap()).unwrap(), []);
    }

    #[test]
    fn every_changed_byte_outside_the_content_and_every_cut_is_refused() {
        let content = |at: usize| (512..512 + 1134).contains(&at) || (2560..2560 + 1404).contains(&at);
        for at in (0..EVIDENCE.len()).filter(|at| !content(*at)) {
            let mut changed = EVIDENCE.to_vec();
            changed[at] ^= 1;
            // A changed name changes the sum, too: nothing in a header stands alone.
            assert!(read(&changed).is_err(), "byte {at}");
        }
        for len in 0..EVIDENCE.len() {
            assert!(read(&EVIDENCE[..len]).is_err(), "{len} bytes");
        }
        assert!(read(&[EVIDENCE, &[0; BLOCK]].concat()).is_err());
    }

    #[test]
    fn names_that_lead_elsewhere_are_neither_written_nor_read() {
        let long = "x".repeat(101);
        for name in ["", ".", "..", ".x", "a/b", "/a", "a b", "ä", "a\0b", &long] {
            assert!(write(&[File { name: name.to_owned(), bytes: vec![] }]).is_err(), "{name:?}");
        }
        let twice = File { name: "a".to_owned(), bytes: vec![] };
        assert!(write(&[twice.clone(), twice]).is_err());
    }
}
