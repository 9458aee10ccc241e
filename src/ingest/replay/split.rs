//! Cutting a byte stream into records: NDJSON, JSON values or an array of them, length-delimited protobuf.
//!
//! It finds where a record begins and ends, and hashes every byte on the way; whether a record says anything is for
//! `core::decode`. Memory is bounded by the largest record that is held whole.

use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use sha2::{Digest, Sha256};

use super::super::RECORD_BYTES_WHOLE_MAX;

/// How records are laid out in a file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Format {
    /// One JSON value a line. Lines of white space only are no records.
    Ndjson,
    /// One JSON array, each element a record; or JSON values one after another, across lines.
    Json,
    /// Each record preceded by its length as a varint (protobuf's "delimited" format).
    Protobuf,
}

impl Format {
    /// The format a file's extension names, if it names one.
    pub fn of_extension(path: &Path) -> Option<Format> {
        match path.extension()?.to_str()? {
            "ndjson" | "jsonl" => Some(Format::Ndjson),
            "json" => Some(Format::Json),
            "pb" | "binpb" | "protobuf" => Some(Format::Protobuf),
            _ => None,
        }
    }

    /// The format the first bytes look like: `[` opens an array, `{` a line, `{` alone on its line a value of many
    /// lines; everything else is a length.
    fn of_bytes(bytes: &[u8]) -> Format {
        let bytes = bytes.strip_prefix(BOM).unwrap_or(bytes);
        match bytes.trim_ascii_start() {
            [b'[', ..] | [b'{', b'\n', ..] | [b'{', b'\r', ..] => Format::Json,
            [b'{', ..] | [] => Format::Ndjson,
            _ => Format::Protobuf,
        }
    }
}

/// Reads as much as telling the format takes: a pipe may deliver a byte at a time. Gives those bytes and the rest.
pub(super) fn first_bytes<R: Read>(mut input: R) -> io::Result<(Vec<u8>, R)> {
    const ENOUGH: usize = 4096;
    let mut first = Vec::new();
    let mut byte = [0];
    loop {
        let is_mark_cut = !first.is_empty() && first.len() < BOM.len() && BOM.starts_with(&first);
        let seen = first.strip_prefix(BOM).unwrap_or(&first).trim_ascii_start();
        if (seen.len() >= 2 && !is_mark_cut) || first.len() >= ENOUGH || input.read(&mut byte)? == 0 {
            return Ok((first, input));
        }
        first.push(byte[0]);
    }
}

impl std::str::FromStr for Format {
    type Err = String;

    fn from_str(text: &str) -> Result<Format, String> {
        match text {
            "ndjson" => Ok(Format::Ndjson),
            "json" => Ok(Format::Json),
            "protobuf" => Ok(Format::Protobuf),
            _ => Err(format!("format `{text}`: expected ndjson, json or protobuf")),
        }
    }
}

/// One record's bytes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Piece {
    /// All of them.
    Whole(Vec<u8>),
    /// Only how many there were and their hash.
    Cut { bytes: u64, sha256: [u8; 32] },
}

impl Piece {
    /// What it costs in memory.
    pub(super) fn held_bytes(&self) -> usize {
        match self {
            Piece::Whole(bytes) => bytes.len(),
            Piece::Cut { .. } => 0,
        }
    }
}

/// Why the stream cannot be cut any further.
#[derive(Debug)]
pub(super) enum Fault {
    Malformed { byte: u64, why: &'static str },
    Read(io::Error),
}

impl From<io::Error> for Fault {
    fn from(fault: io::Error) -> Fault {
        Fault::Read(fault)
    }
}

const BOM: &[u8] = b"\xef\xbb\xbf";

/// The stream, cut from its beginning. After a record, [`Splitter::byte`] and [`Splitter::hash`] are of everything up
/// to that record's last byte: what separates it from the next one is read with the next one.
pub(super) struct Splitter<R> {
    input: BufReader<R>,
    format: Option<Format>,
    hash: Sha256,
    byte: u64,
    array: Array,
    /// Bytes and hash at the end of the last record: what follows it may be looked at, and is not part of it.
    end: (u64, Sha256),
}

/// Where we are in a JSON document.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Array {
    NotYet,
    None,
    First,
    Further,
    Closed,
}

impl<R: Read> Splitter<R> {
    pub(super) fn new(input: BufReader<R>, format: Option<Format>) -> Splitter<R> {
        Splitter { input, format, hash: Sha256::new(), byte: 0, array: Array::NotYet, end: (0, Sha256::new()) }
    }

    /// Bytes read so far, up to the end of the last record.
    pub(super) fn byte(&self) -> u64 {
        self.byte
    }

    /// Bytes up to the end of the last record.
    pub(super) fn record_end_byte(&self) -> u64 {
        self.end.0
    }

    /// Bytes up to the end of the last record, and their SHA-256.
    pub(super) fn record_end(&self) -> (u64, [u8; 32]) {
        (self.end.0, self.end.1.clone().finalize().into())
    }

    /// Whether the next step would have to ask the system for bytes, and might wait for them.
    pub(super) fn would_read(&self) -> bool {
        self.input.buffer().is_empty()
    }

    /// The next record; none at the end.
    pub(super) fn next(&mut self) -> Result<Option<Piece>, Fault> {
        let format = match self.format {
            Some(format) => format,
            None => Format::of_bytes(self.input.fill_buf()?),
        };
        if self.byte == 0 && format != Format::Protobuf && self.input.fill_buf()?.starts_with(BOM) {
            self.take(BOM.len());
        }
        self.format = Some(format);
        let piece = match format {
            Format::Ndjson => self.next_line(),
            Format::Json => self.next_value(),
            Format::Protobuf => self.next_delimited(),
        }?;
        if piece.is_some() {
            self.end = (self.byte, self.hash.clone());
        }
        Ok(piece)
    }

    /// Consumes and hashes `count` bytes of the buffer.
    fn take(&mut self, count: usize) {
        let taken = self.input.buffer().get(..count).unwrap_or_default();
        self.hash.update(taken);
        self.byte = self.byte.saturating_add(u64::try_from(taken.len()).unwrap_or(u64::MAX));
        self.input.consume(count);
    }

    fn peek(&mut self) -> Result<Option<u8>, Fault> {
        Ok(self.input.fill_buf()?.first().copied())
    }

    fn malformed<T>(&self, why: &'static str) -> Result<T, Fault> {
        Err(Fault::Malformed { byte: self.byte, why })
    }

    fn next_line(&mut self) -> Result<Option<Piece>, Fault> {
        loop {
            if self.peek()? == Some(b'\n') {
                self.take(1);
            }
            let mut line = Gather::default();
            let mut is_blank = true;
            loop {
                let buffer = self.input.fill_buf()?;
                let end = buffer.iter().position(|byte| *byte == b'\n').unwrap_or(buffer.len());
                let (part, at_line_end) = (buffer.get(..end).unwrap_or_default(), end < buffer.len());
                let at_end = buffer.is_empty();
                is_blank &= part.iter().all(u8::is_ascii_whitespace);
                line.push(part);
                self.take(end);
                if at_line_end || at_end {
                    break;
                }
            }
            if !is_blank {
                line.trim_carriage_return();
                return Ok(Some(line.piece()));
            }
            if self.peek()?.is_none() {
                return Ok(None);
            }
        }
    }

    fn next_value(&mut self) -> Result<Option<Piece>, Fault> {
        if self.array == Array::NotYet {
            self.skip_space()?;
            self.array = Array::None;
            if self.peek()? == Some(b'[') {
                self.take(1);
                self.array = Array::First;
            }
        }
        self.skip_space()?;
        match (self.array, self.peek()?) {
            (Array::None | Array::Closed, None) => return Ok(None),
            (Array::Closed, Some(_)) => return self.malformed("bytes after the end of the array"),
            (_, None) => return self.malformed("the array is not closed"),
            (Array::First | Array::Further, Some(b']')) => {
                self.take(1);
                self.array = Array::Closed;
                return self.next_value();
            }
            (Array::Further, Some(b',')) => {
                self.take(1);
                self.skip_space()?;
            }
            (Array::Further, Some(_)) => return self.malformed("a comma or the array's end was expected"),
            (Array::First, Some(_)) => self.array = Array::Further,
            (Array::None | Array::NotYet, Some(_)) => {}
        }
        self.scan_value().map(Some)
    }

    /// One JSON value by its brackets and quotes alone: whether it is valid is not asked here.
    fn scan_value(&mut self) -> Result<Piece, Fault> {
        let mut value = Gather::default();
        let mut scan = Scan::default();
        loop {
            let buffer = self.input.fill_buf()?;
            if buffer.is_empty() {
                return if scan.may_end() { Ok(value.piece()) } else { self.malformed("the value is cut short") };
            }
            let (count, is_done) = scan.step(buffer);
            value.push(buffer.get(..count).unwrap_or_default());
            self.take(count);
            if is_done {
                return if value.bytes == 0 { self.malformed("a value was expected") } else { Ok(value.piece()) };
            }
        }
    }

    fn skip_space(&mut self) -> Result<(), Fault> {
        while self.peek()?.is_some_and(|byte| byte.is_ascii_whitespace()) {
            self.take(1);
        }
        Ok(())
    }

    fn next_delimited(&mut self) -> Result<Option<Piece>, Fault> {
        if self.peek()?.is_none() {
            return Ok(None);
        }
        let mut left = self.length()?;
        let mut message = Gather::default();
        while left > 0 {
            let buffer = self.input.fill_buf()?;
            if buffer.is_empty() {
                return self.malformed("the message is cut short");
            }
            let count = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            message.push(buffer.get(..count).unwrap_or_default());
            self.take(count);
            left -= u64::try_from(count).unwrap_or(left);
        }
        Ok(Some(message.piece()))
    }

    fn length(&mut self) -> Result<u64, Fault> {
        let mut length = 0_u64;
        for shift in [0, 7, 14, 21, 28] {
            let Some(byte) = self.peek()? else { return self.malformed("the length is cut short") };
            self.take(1);
            length |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(length);
            }
        }
        self.malformed("the length is no varint of a protobuf message")
    }
}

/// The bytes of one record, kept up to the limit, beyond it only counted and hashed.
#[derive(Default)]
struct Gather {
    kept: Vec<u8>,
    bytes: u64,
    over: Option<Sha256>,
}

impl Gather {
    fn push(&mut self, part: &[u8]) {
        self.bytes = self.bytes.saturating_add(u64::try_from(part.len()).unwrap_or(u64::MAX));
        if let Some(hash) = &mut self.over {
            hash.update(part);
            return;
        }
        if self.kept.len() + part.len() <= RECORD_BYTES_WHOLE_MAX {
            self.kept.extend_from_slice(part);
            return;
        }
        let mut hash = Sha256::new();
        hash.update(std::mem::take(&mut self.kept));
        hash.update(part);
        self.over = Some(hash);
    }

    /// Line ends of other systems are no part of the record.
    fn trim_carriage_return(&mut self) {
        if self.kept.last() == Some(&b'\r') {
            self.kept.pop();
        }
    }

    fn piece(self) -> Piece {
        match self.over {
            None => Piece::Whole(self.kept),
            Some(hash) => Piece::Cut { bytes: self.bytes, sha256: hash.finalize().into() },
        }
    }
}

/// A walk over one JSON value.
#[derive(Default)]
struct Scan {
    depth: u64,
    in_string: bool,
    is_escaped: bool,
    has_begun: bool,
    is_scalar: bool,
}

impl Scan {
    /// How many bytes of `buffer` belong to the value, and whether it ends there.
    fn step(&mut self, buffer: &[u8]) -> (usize, bool) {
        for (at, byte) in buffer.iter().enumerate() {
            if self.in_string {
                self.step_in_string(*byte);
                if !self.in_string && self.depth == 0 {
                    return (at + 1, true);
                }
                continue;
            }
            match byte {
                b'"' if self.is_scalar => return (at, true),
                b'"' => self.in_string = true,
                b'{' | b'[' if !self.is_scalar => self.depth += 1,
                b'}' | b']' if self.depth > 0 => {
                    self.depth -= 1;
                    if self.depth == 0 {
                        return (at + 1, true);
                    }
                }
                _ if self.depth > 0 => {}
                b',' | b']' | b'}' | b'{' | b'[' => return (at, true),
                byte if byte.is_ascii_whitespace() => return (at, true),
                _ => self.is_scalar = true,
            }
            self.has_begun = true;
        }
        (buffer.len(), false)
    }

    fn step_in_string(&mut self, byte: u8) {
        match byte {
            _ if self.is_escaped => self.is_escaped = false,
            b'\\' => self.is_escaped = true,
            b'"' => self.in_string = false,
            _ => {}
        }
    }

    /// Whether the end of input may also be the value's end: only a number or a word has no end of its own.
    fn may_end(&self) -> bool {
        self.has_begun && self.is_scalar && self.depth == 0 && !self.in_string
    }
}
