//! A node that is no Kubo: it holds the blocks of an archive, and answers as its operator likes.

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::sync::Arc;

use pinfold::core::audit::File;
use pinfold::core::cid::Cid;
use pinfold::core::finding::Code;
use serde_json::Value;

use super::forge::{self, Written};
use super::table::{By, Expected, Table};
use crate::fixtures::blocks;
use crate::memory::Memory;

/// What the node does with one block.
#[derive(Clone, Copy)]
enum Trick {
    /// One bit is another.
    Lie,
    /// Another block of the archive, whole and sound.
    Another(Cid),
    /// Half of it, with the length of half.
    Short,
    /// Half of it, and the connection ends.
    Cut,
    /// Nothing, for as long as anybody waits.
    Stall,
    /// It never had it.
    Forget,
    /// It never ends.
    Endless,
}

/// The node; its threads end with the test process.
struct Node {
    url: String,
}

struct State {
    blocks: HashMap<String, Vec<u8>>,
    trick: Option<(String, Trick)>,
}

impl Node {
    fn start(archive: &Memory, trick: Option<(Cid, Trick)>) -> Node {
        let blocks = archive.files.values().flat_map(|file| blocks(file));
        let state = Arc::new(State {
            blocks: blocks.map(|(cid, block)| (cid.to_string(), block.to_vec())).collect(),
            trick: trick.map(|(cid, trick)| (cid.to_string(), trick)),
        });
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let state = Arc::clone(&state);
                std::thread::spawn(move || {
                    // A client that has gone away is no concern of a node's.
                    let _ = state.answer(stream);
                });
            }
        });
        Node { url }
    }
}

impl State {
    fn answer(&self, mut stream: TcpStream) -> std::io::Result<()> {
        let mut lines = BufReader::new(stream.try_clone()?).lines();
        let request = lines.next().transpose()?.unwrap_or_default();
        while lines.next().transpose()?.is_some_and(|line| !line.is_empty()) {}
        let arg = request.split(['?', '&', ' ']).find_map(|pair| pair.strip_prefix("arg=")).unwrap_or_default();
        let trick = self.trick.as_ref().filter(|(cid, _)| cid == arg).map(|(_, trick)| *trick);
        let Some(block) = self.blocks.get(arg).filter(|_| !matches!(trick, Some(Trick::Forget))) else {
            let body =
                r#"{"Message":"block was not found locally (offline): ipld: could not find","Code":0,"Type":"error"}"#;
            return respond(&mut stream, "500 Internal Server Error", body.len(), body.as_bytes());
        };
        let half = &block[..block.len() / 2];
        match trick {
            Some(Trick::Lie) => {
                let mut block = block.clone();
                block[20] ^= 1;
                respond(&mut stream, "200 OK", block.len(), &block)
            }
            Some(Trick::Another(cid)) => {
                let block = &self.blocks[&cid.to_string()];
                respond(&mut stream, "200 OK", block.len(), block)
            }
            Some(Trick::Short) => respond(&mut stream, "200 OK", half.len(), half),
            Some(Trick::Cut) => respond(&mut stream, "200 OK", block.len(), half),
            // Until the client has had enough and hangs up.
            Some(Trick::Stall) => lines.next().transpose().map(drop),
            Some(Trick::Endless) => {
                respond(&mut stream, "200 OK", 1 << 40, &[])?;
                loop {
                    stream.write_all(&[0; 4096])?;
                }
            }
            _ => respond(&mut stream, "200 OK", block.len(), block),
        }
    }
}

fn respond(stream: &mut TcpStream, status: &str, len: usize, body: &[u8]) -> std::io::Result<()> {
    write!(stream, "HTTP/1.1 {status}\r\nContent-Length: {len}\r\nConnection: close\r\n\r\n")?;
    stream.write_all(body)
}

/// `verify --from-ipfs` by somebody who has no configuration.
fn verify(node: &Node, newest: Cid, timeout: &str) -> (i32, Value) {
    let dir = tempfile::tempdir().unwrap();
    let vkey = dir.path().join("log.vkey");
    std::fs::write(&vkey, forge::key(1).vkey().to_string()).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_pinfold"))
        .current_dir(&dir)
        .args(["verify", "--json", "--from-ipfs", &node.url, "--cid", &newest.to_string(), "--timeout", timeout])
        .arg("--vkey")
        .arg(vkey)
        .output()
        .unwrap();
    let report = serde_json::from_slice(&output.stdout);
    (output.status.code().unwrap(), report.unwrap_or_else(|_| panic!("{output:?}")))
}

pub(super) fn rows(table: &mut Table) {
    table.group("Nodes", "`verify --from-ipfs` of 22 segments: every block is asked for by its CID, and hashed here.");
    let honest = forge::write(&forge::entries(22, 5), &forge::by(&forge::key(1)));
    let newest = honest.seals[21].0;
    let node = Node::start(&honest.archive, None);
    let seen = verify(&node, newest, "60s");
    table.row("none", By::Nobody, "vkey, CID", Expected::nothing(10), &seen);

    let page = |segment: u64, file| blocks(honest.archive.file(segment, file).unwrap())[2].0;
    let in_segment = |code, exit, segment| Expected::of(code, exit).in_segment(segment);
    for (what, block, trick, expected) in [
        ("a block with one bit changed", page(8, File::Proof), Trick::Lie, in_segment(Code::BlockHash, 40, 8)),
        (
            "another block served",
            page(8, File::Proof),
            Trick::Another(page(9, File::Proof)),
            in_segment(Code::BlockHash, 40, 8),
        ),
        (
            "another frame page served",
            page(8, File::Payload),
            Trick::Another(page(9, File::Payload)),
            in_segment(Code::BlockHash, 40, 8),
        ),
        (
            "another seal served",
            honest.seals[8].0,
            Trick::Another(honest.seals[7].0),
            in_segment(Code::BlockHash, 40, 8),
        ),
        ("a block shortened", page(8, File::Proof), Trick::Short, in_segment(Code::BlockHash, 40, 8)),
        ("a block that never ends", page(8, File::Proof), Trick::Endless, in_segment(Code::BlockHash, 40, 8)),
        ("a block that is not there", page(8, File::Proof), Trick::Forget, in_segment(Code::BlockMissing, 20, 8)),
        ("a seal that is not there", honest.seals[8].0, Trick::Forget, in_segment(Code::BlockMissing, 20, 8)),
        ("an answer cut short", page(8, File::Proof), Trick::Cut, in_segment(Code::Unreachable, 50, 8)),
        ("no answer for a block", page(20, File::Proof), Trick::Stall, in_segment(Code::Unreachable, 50, 20)),
        ("no answer for the newest seal", newest, Trick::Stall, Expected::of(Code::Unreachable, 50)),
    ] {
        let timeout = if matches!(trick, Trick::Stall) { "3s" } else { "60s" };
        let seen = verify(&Node::start(&honest.archive, Some((block, trick))), newest, timeout);
        table.row(what, By::Node, "vkey, CID", expected, &seen);
    }
    older_and_other(&honest, table);
}

/// What the node cannot be blamed for: the CID is the verifier's.
fn older_and_other(honest: &Written, table: &mut Table) {
    let node = Node::start(&honest.archive, None);
    let older = verify(&node, honest.seals[19].0, "60s");
    table.row("none; the CID is of an older seal", By::Nobody, "vkey, CID", Expected::nothing(10), &older);
    let page = blocks(honest.archive.file(8, File::Proof).unwrap())[2].0;
    let no_seal = verify(&node, page, "60s");
    table.row("none; the CID is of no seal", By::Nobody, "vkey, CID", Expected::of(Code::NonCanonical, 40), &no_seal);
}
