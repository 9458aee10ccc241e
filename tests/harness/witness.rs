//! The table of requests that is put to a witness, ours or one by others, status by status; and a client for it.
//!
//! Where the two differ the row says why. `docs/witness-server.md` prints the rows that differ.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, SystemTime};

use pinfold::core::hash::Hash;
use pinfold::core::merkle::{consistency_proof, nodes_of, root_of};
use pinfold::core::note::{Note, Skey, WitnessVkey, sign_note};
use pinfold::core::seq::Size;
use pinfold::core::witness::Submission;

/// The log of the table.
pub(crate) const ORIGIN: &str = "example.com/witnessed/log";
/// A log whose key has another name.
pub(crate) const RENAMED: &str = "a log, by another name";
/// A log that is shown empty first.
pub(crate) const EMPTY: &str = "example.com/witnessed/empty";

/// A log that a test owns: `salt` gives its leaves, so that another salt is a fork.
pub(crate) struct Log {
    pub(crate) origin: String,
    pub(crate) key: Skey,
}

impl Log {
    pub(crate) fn new(origin: &str, key_name: &str, seed: u8) -> Log {
        Log { origin: origin.to_owned(), key: Skey::from_seed(key_name, &[seed; 32]).unwrap() }
    }

    /// The three logs of the table, which the witness must have on its list.
    pub(crate) fn all() -> [Log; 3] {
        [Log::new(ORIGIN, ORIGIN, 1), Log::new(RENAMED, "example.com/key", 2), Log::new(EMPTY, EMPTY, 3)]
    }

    pub(crate) fn text(&self, salt: &str, size: u64) -> String {
        let root = root_of(&leaves(salt, size));
        format!("{}\n{size}\n{}\n", self.origin, base64(&root))
    }

    pub(crate) fn checkpoint(&self, salt: &str, size: u64) -> String {
        sign_note(&self.text(salt, size), &[&self.key])
    }

    /// The request that shows growth from `old` to `size`, as a log makes it.
    pub(crate) fn grow(&self, old: u64, size: u64) -> String {
        body(old, &proof(old, size), &self.checkpoint("a", size))
    }
}

pub(crate) fn leaves(salt: &str, size: u64) -> Vec<Hash> {
    (0..size).map(|i| Hash::leaf(format!("{salt} {i}").as_bytes())).collect()
}

pub(crate) fn proof(old: u64, size: u64) -> Vec<Hash> {
    if old == 0 || old == size {
        return Vec::new();
    }
    consistency_proof(Size(old), Size(size), nodes_of(&leaves("a", size))).unwrap()
}

pub(crate) fn body(old: u64, proof: &[Hash], checkpoint: &str) -> String {
    Submission { old: Size(old), proof: proof.to_vec(), checkpoint }.to_text()
}

fn base64(hash: &Hash) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(hash.0)
}

/// What a witness answers.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: String,
    pub(crate) body: String,
}

/// Asks a witness and waits for its answer.
pub(crate) fn ask(address: &str, method: &str, path: &str, body: &[u8]) -> Answer {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: witness\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    // A server that refuses a body by its length may answer and close before it was read.
    drop(stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body)));
    let mut answer = Vec::new();
    drop(stream.read_to_end(&mut answer));
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let (headers, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{method} {path}: {answer:?}"));
    let status = headers.split(' ').nth(1).unwrap().parse().unwrap();
    Answer { status, headers: headers.to_lowercase(), body: body.to_owned() }
}

/// Asks for a cosignature.
pub(crate) fn add(address: &str, body: &str) -> Answer {
    ask(address, "POST", "/add-checkpoint", body.as_bytes())
}

/// A row of the table.
pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) method: &'static str,
    pub(crate) path: &'static str,
    pub(crate) body: Vec<u8>,
    /// What our witness answers, and what litewitness does.
    pub(crate) ours: u16,
    pub(crate) litewitness: u16,
    /// The size that a 409 names.
    pub(crate) size: Option<u64>,
    /// Why they differ.
    pub(crate) why: &'static str,
}

impl Row {
    fn same(name: &'static str, status: u16, body: impl Into<Vec<u8>>) -> Row {
        let (method, path) = ("POST", "/add-checkpoint");
        Row { name, method, path, body: body.into(), ours: status, litewitness: status, size: None, why: "" }
    }

    fn sized(name: &'static str, size: u64, body: impl Into<Vec<u8>>) -> Row {
        Row { size: Some(size), ..Row::same(name, 409, body) }
    }

    fn differs(name: &'static str, ours: u16, litewitness: u16, why: &'static str, body: impl Into<Vec<u8>>) -> Row {
        Row { litewitness, why, ..Row::same(name, ours, body) }
    }

    /// Puts the row to a witness: the status is the expected one, a cosignature verifies, a conflict names the size.
    pub(crate) fn check(&self, address: &str, vkey: &WitnessVkey, is_ours: bool) {
        let answer = ask(address, self.method, self.path, &self.body);
        let expected = if is_ours { self.ours } else { self.litewitness };
        assert_eq!(answer.status, expected, "{}: {answer:?}", self.name);
        match answer.status {
            200 => check_cosignature(&String::from_utf8_lossy(&self.body), &answer.body, vkey),
            409 => {
                assert!(answer.headers.contains("content-type: text/x.tlog.size"), "{}: {answer:?}", self.name);
                let size = self.size.unwrap_or_else(|| panic!("{}: no size is expected", self.name));
                assert_eq!(answer.body, format!("{size}\n"), "{}", self.name);
            }
            _ => {}
        }
    }
}

/// The answer's one line is a cosignature over the checkpoint in the request, of this minute.
pub(crate) fn check_cosignature(request: &str, lines: &str, vkey: &WitnessVkey) {
    let checkpoint = request.split_once("\n\n").unwrap().1;
    let text = Note::parse(checkpoint).unwrap().text;
    let cosigned = format!("{text}\n{lines}");
    let times = vkey.verify(&Note::parse(&cosigned).unwrap()).unwrap();
    assert_eq!(times.len(), 1, "{lines}");
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_micros();
    assert!(now.abs_diff(u128::from(times[0].0)) < 60_000_000, "{times:?} is not now");
}

/// The rows before the restart: each meets the witness as those above left it.
pub(crate) fn first_half() -> Vec<Row> {
    let [log, renamed, empty] = Log::all();
    let stranger = Log::new("example.com/nobody/knows", "example.com/nobody/knows", 9);
    let thief = Log::new(ORIGIN, ORIGIN, 8);
    let altered = log.grow(0, 5).replace("\n5\n", "\n6\n");
    let mut twice = log.checkpoint("a", 14);
    twice.insert_str(log.text("a", 14).len() + 1, &log.key.sign("another text\n"));
    let extended = sign_note(&(log.text("a", 12) + "an extension line\n"), &[&log.key]);
    let cosigned = sign_note(&log.text("a", 13), &[&thief.key, &log.key]);
    let mut not_text = log.grow(9, 9).into_bytes();
    let at = not_text.iter().position(|b| *b == 0xe2).unwrap();
    not_text[at] = 0xff;
    vec![
        Row { method: "GET", ..Row::same("another method", 405, "") },
        Row { path: "/add-checkpoints", ..Row::same("another path", 404, "") },
        Row::same("no body", 400, ""),
        Row::same("garbage", 400, "hello\n"),
        Row::same("a log that is not on the list", 404, stranger.grow(0, 5)),
        Row::same("signed by another key of the same name", 403, thief.grow(0, 5)),
        Row::same("altered after it was signed", 403, altered),
        Row::sized("a proof from 5 before anything was cosigned", 0, log.grow(5, 9)),
        Row::same("the first checkpoint", 200, log.grow(0, 5)),
        Row::same("the same again", 200, log.grow(5, 5)),
        Row::sized("the same again, from 0", 5, log.grow(0, 5)),
        Row::same("growth with its proof", 200, log.grow(5, 9)),
        Row::same("old size beyond the checkpoint's", 400, body(9, &[], &log.checkpoint("a", 5))),
        Row::sized("rollback to what was cosigned before", 9, log.grow(5, 5)),
        Row::same("a proof of other sizes", 422, body(9, &proof(5, 12), &log.checkpoint("a", 12))),
        Row::same("no proof", 422, body(9, &[], &log.checkpoint("a", 12))),
        Row::same("a proof where nothing grew", 422, body(9, &proof(5, 9), &log.checkpoint("a", 9))),
        Row::same("a fork that grows", 422, body(9, &proof(9, 12), &log.checkpoint("b", 12))),
        Row {
            size: Some(9),
            ..Row::differs(
                "a fork of the same size",
                409,
                422,
                "v1.0.0 asks for 409 where the roots of one size differ; the draft of a later version for 422",
                body(9, &[], &log.checkpoint("b", 9)),
            )
        },
        Row::same("64 lines of proof", 400, body(9, &[Hash::ZERO; 64], &log.checkpoint("a", 12))),
        Row::same("a line of proof that is no hash", 400, log.grow(9, 12).replacen('=', "", 1)),
        Row::differs(
            "a size with a leading zero",
            400,
            200,
            "the spec allows no leading zero",
            log.grow(9, 9).replace("old 9", "old 09"),
        ),
        Row::differs(
            "a checkpoint without a signature",
            400,
            500,
            "it is no note, so the request is bad, not the server",
            format!("old 9\n\n{}", log.text("a", 9)),
        ),
        Row::differs("a checkpoint that is not UTF-8", 400, 500, "it is no note either", not_text),
        Row::differs(
            "a body of 70,000 bytes",
            413,
            500,
            "too large is the client's fault; litewitness reads 10 KiB and fails",
            log.grow(9, 9) + &"x".repeat(70_000),
        ),
        Row::same("an extension line", 200, body(9, &proof(9, 12), &extended)),
        Row::same("a line of an unknown key before the log's", 200, body(12, &proof(12, 13), &cosigned)),
        Row::differs(
            "a bad line of the log's key before a good one",
            200,
            403,
            "403 is for a checkpoint of which no line verifies",
            body(13, &proof(13, 14), &twice),
        ),
        Row::same("a log whose key has another name", 200, renamed.grow(0, 3)),
        Row::same("an empty log", 200, empty.grow(0, 0)),
        Row::differs(
            "a proof from the empty tree",
            422,
            200,
            "the spec asks for an empty proof from 0",
            body(0, &proof(1, 2), &empty.checkpoint("a", 2)),
        ),
    ]
}

/// The rows after the witness was killed and started again. Where it cosigned 14 or 13 is what differed above.
pub(crate) fn second_half(size: u64) -> Vec<Row> {
    let [log, renamed, _] = Log::all();
    vec![
        Row::sized("after a restart: as if nothing had been cosigned", size, log.grow(0, 5)),
        Row::sized("after a restart: rollback", size, log.grow(9, 9)),
        Row::same("after a restart: the same again", 200, log.grow(size, size)),
        Row::same("after a restart: growth with its proof", 200, log.grow(size, 300)),
        Row::sized("after a restart: the other log", 3, renamed.grow(0, 3)),
        Row::same("after a restart: the other log grows", 200, renamed.grow(3, 4)),
    ]
}

/// The list of the table's logs, as `c2sp.org/tlog-list` has it.
pub(crate) fn log_list() -> String {
    let items =
        Log::all().map(|log| format!("vkey {}\norigin {}\nqpd 10000\ncontact nobody\n\n", log.key.vkey(), log.origin));
    format!("# for a test\nlogs/v0\n\n{}", items.concat())
}
