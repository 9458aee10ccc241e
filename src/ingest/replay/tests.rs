//! Recorded input through the port: what a second run, a grown file and a changed file do.

use super::*;
use std::collections::VecDeque;
use std::sync::Mutex;

/// The journal's side: takes arrivals, keeps the position.
#[derive(Default)]
struct Log(Mutex<Option<Held>>);

impl Positions for Log {
    fn held(&self, _topic: &Topic, _partition: u32) -> Option<Held> {
        self.0.lock().unwrap().clone()
    }
}

/// Input that comes in reads of a few bytes, as a pipe gives it.
struct Dribble(VecDeque<u8>, usize);

impl Read for Dribble {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let count = into.len().min(self.1).min(self.0.len());
        for slot in &mut into[..count] {
            *slot = self.0.pop_front().unwrap();
        }
        Ok(count)
    }
}

/// Runs a whole input and stores what arrives; the values of the new records, or the error after them.
fn fold(log: &Log, input: &[u8], format: Option<Format>, read_bytes: usize) -> (Vec<Vec<u8>>, Option<SourceError>) {
    let input = Box::new(Dribble(input.iter().copied().collect(), read_bytes));
    let mut source = Replay::read("file", "events", "input", input, format, log).unwrap();
    let budget = Budget { records_max: 2, bytes_max: 1 << 20, wait: Duration::ZERO };
    let mut values = Vec::new();
    while !source.is_idle() {
        let arrivals = match source.poll(budget) {
            Ok(arrivals) => arrivals,
            Err(error) => return (values, Some(error)),
        };
        for arrival in arrivals {
            let Arrival::Records { records, state, .. } = arrival else { continue };
            assert!(records.len() <= 2);
            for arrived in &records {
                let next = log.0.lock().unwrap().as_ref().map_or(0, |held| held.next);
                assert_eq!(arrived.offset, next, "offsets are record numbers, none twice, none missing");
                let held = Held { next: next + 1, last: Some(next), state: state.clone() };
                *log.0.lock().unwrap() = Some(held);
                values.push(arrived.record.value.clone().unwrap());
            }
        }
    }
    (values, None)
}

/// The records a format finds, the same for any size of read.
fn check(format: Option<Format>, input: &[u8], expected: &[&str]) {
    for read_bytes in [1, 3, 1 << 20] {
        let (values, error) = fold(&Log::default(), input, format, read_bytes);
        assert_eq!(error, None);
        let values: Vec<&str> = values.iter().map(|value| std::str::from_utf8(value).unwrap()).collect();
        assert_eq!(values, expected, "reads of {read_bytes}");
    }
}

/// The fault a format finds, after the sound records before it.
fn check_broken(format: Format, input: &[u8], sound: usize, message: &str) {
    for read_bytes in [1, 1 << 20] {
        let (values, error) = fold(&Log::default(), input, Some(format), read_bytes);
        assert_eq!(values.len(), sound);
        assert_eq!(error.expect("a fault").to_string(), message);
    }
}

#[test]
fn lines_are_records_and_blank_lines_are_not() {
    check(
        None,
        b"{\"a\":1}\n\n  \t\n{\"b\":2}\r\n  {broken\n{\"c\":3}",
        &["{\"a\":1}", "{\"b\":2}", "  {broken", "{\"c\":3}"],
    );
    check(None, b"", &[]);
    check(None, b"\xef\xbb\xbf{}\n", &["{}"]);
}

#[test]
fn an_array_is_cut_by_brackets_and_quotes() {
    check(
        None,
        b" [ {\"a\":[1,\"]}\\\"\"]} , 12 ,\"x\",null\n, {oops} ] \n",
        &["{\"a\":[1,\"]}\\\"\"]}", "12", "\"x\"", "null", "{oops}"],
    );
    check(None, b"[]", &[]);
    check(Some(Format::Json), b"{\n \"a\": 1\n}\n{}7", &["{\n \"a\": 1\n}", "{}", "7"]);
}

#[test]
fn messages_are_cut_by_their_lengths() {
    let mut input = b"\x03abc\x00".to_vec();
    input.extend_from_slice(&[0xac, 0x02]);
    let long = "y".repeat(300);
    input.extend_from_slice(long.as_bytes());
    check(Some(Format::Protobuf), &input, &["abc", "", &long]);
    check(None, b"\x03abc", &["abc"]);
}

#[test]
fn a_broken_layout_is_named_after_the_records_before_it() {
    check_broken(Format::Json, b"[1,2", 2, "source file: record 2 at byte 4: the array is not closed");
    check_broken(Format::Json, b"[1,]", 1, "source file: record 1 at byte 3: a value was expected");
    check_broken(Format::Json, b"[1] x", 1, "source file: record 1 at byte 4: bytes after the end of the array");
    check_broken(Format::Json, b"[1 2]", 1, "source file: record 1 at byte 3: a comma or the array's end was expected");
    check_broken(Format::Json, b"{\"a\":1", 0, "source file: record 0 at byte 6: the value is cut short");
    check_broken(Format::Protobuf, b"\x01a\x05bc", 1, "source file: record 1 at byte 5: the message is cut short");
    check_broken(Format::Protobuf, b"\x01a\x80", 1, "source file: record 1 at byte 3: the length is cut short");
}

#[test]
fn a_second_run_adds_nothing_and_a_grown_file_adds_its_end() {
    for (first, grown) in [("{}\n[2]\n", "{}\n[2]\n3\n"), ("[{},[2]]", "[{},[2],3]"), ("{}\n[2]", "{}\n[2]\n3")] {
        let log = Log::default();
        assert_eq!(fold(&log, first.as_bytes(), None, 5).0.len(), 2);
        assert_eq!(fold(&log, first.as_bytes(), None, 7), (vec![], None));
        assert_eq!(fold(&log, grown.as_bytes(), None, 1 << 20), (vec![b"3".to_vec()], None));
    }
}

#[test]
fn an_arrival_that_became_durable_in_part_is_completed() {
    let log = Log::default();
    fold(&log, b"1\n2\n3\n4\n", Some(Format::Ndjson), 1 << 20);
    // The state is of the end of records 2 and 3, the position says that only 2 was kept.
    let state = log.0.lock().unwrap().clone().unwrap().state;
    *log.0.lock().unwrap() = Some(Held { next: 3, last: Some(2), state: state.clone() });
    assert_eq!(fold(&log, b"1\n2\n3\n4\n5\n", Some(Format::Ndjson), 3), (vec![b"4".to_vec(), b"5".to_vec()], None));
    *log.0.lock().unwrap() = Some(Held { next: 3, last: Some(2), state });
    let (values, error) = fold(&log, b"1\n2\n3\n5\n5\n", Some(Format::Ndjson), 3);
    assert!(values.is_empty() && matches!(error, Some(SourceError::PrefixChanged { .. })));
}

#[test]
fn a_changed_beginning_is_refused() {
    for changed in ["{ }\n[2]\n", "{}\n[3]\n", "{}\n[2]3\n", "\n{}\n[2]\n", "{}\n"] {
        let log = Log::default();
        fold(&log, b"{}\n[2]\n", None, 1 << 20);
        let (values, error) = fold(&log, changed.as_bytes(), None, 1 << 20);
        let error = error.expect("a changed prefix is refused");
        assert!(values.is_empty() && error.is_halt(), "{changed:?}: {error}");
        assert!(matches!(error, SourceError::PrefixChanged { records: 2, bytes: 6, .. }), "{error}");
    }
}

#[test]
fn a_record_too_large_to_hold_keeps_its_place_its_size_and_its_hash() {
    let large = vec![b'x'; super::super::RECORD_BYTES_WHOLE_MAX + 1];
    let mut input = b"{}\n".to_vec();
    input.extend_from_slice(&large);
    input.extend_from_slice(b"\n{}\n");
    let log = Log::default();
    let mut source = Replay::read("file", "events", "input", Box::new(io::Cursor::new(input)), None, &log).unwrap();
    let budget = Budget { records_max: 10, bytes_max: usize::MAX, wait: Duration::ZERO };
    let mut arrived = Vec::new();
    while !source.is_idle() {
        for arrival in source.poll(budget).unwrap() {
            if let Arrival::Records { records, .. } = arrival {
                arrived.extend(records);
            }
        }
    }
    let sha256 = <sha2::Sha256 as sha2::Digest>::digest(&large).into();
    assert_eq!(arrived[1].cut, Some(Cut { bytes: large.len() as u64, sha256 }));
    assert_eq!(arrived[1].record.value, None);
    assert_eq!((arrived[2].offset, arrived[2].record.value.as_deref()), (2, Some(&b"{}"[..])));
}
