//! A strict witness for tests: the add-checkpoint table of c2sp.org/tlog-witness, in one page, and nothing believed.
//!
//! Not the product's server: that is `witness serve`, and tests of the client must not lean on it. It can be told to be
//! down, to lose its answer after it signed, and to hold another history.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::{Signer as _, SigningKey};
use pinfold::core::checkpoint::{Head, Statement};
use pinfold::core::hash::Hash;
use pinfold::core::merkle::verify_consistency;
use pinfold::core::note::Vkey;
use pinfold::core::seq::Size;
use pinfold::core::witness::Submission;

/// How it behaves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Mood {
    /// As the specification says.
    Sound,
    /// 503 to everything.
    Down,
    /// It signs and persists, and the answer is lost.
    Mute,
}

/// A witness on loopback, for one log.
pub(crate) struct StubWitness {
    pub(crate) url: String,
    pub(crate) vkey: String,
    state: Arc<Mutex<State>>,
}

struct State {
    name: String,
    key: SigningKey,
    id: [u8; 4],
    log: Vkey,
    head: Option<(Size, Hash)>,
    mood: Mood,
    time: u64,
    /// Status of each answer.
    answered: Vec<u16>,
}

impl StubWitness {
    pub(crate) fn new(name: &str, seed: u8, log: &Vkey) -> StubWitness {
        let key = SigningKey::from_bytes(&[seed; 32]);
        let public = [&[4][..], key.verifying_key().as_bytes()].concat();
        let id = Hash::of_all(&[name.as_bytes(), b"\n", &public]).0;
        let id = [id[0], id[1], id[2], id[3]];
        let vkey = format!("{name}+{}+{}", hex::encode(id), STANDARD.encode(public));
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/w", listener.local_addr().unwrap());
        let state = State {
            name: name.to_owned(),
            key,
            id,
            log: log.clone(),
            head: None,
            mood: Mood::Sound,
            time: 1_800_000_000,
            answered: Vec::new(),
        };
        let state = Arc::new(Mutex::new(state));
        let shared = Arc::clone(&state);
        // It ends with the process: a test is over long before.
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                serve(stream.unwrap(), &shared);
            }
        });
        StubWitness { url, vkey, state }
    }

    pub(crate) fn is(&self, mood: Mood) {
        self.state.lock().unwrap().mood = mood;
    }

    /// The newest size it signed.
    pub(crate) fn size(&self) -> u64 {
        self.state.lock().unwrap().head.map_or(0, |(size, _)| size.0)
    }

    /// Makes it hold nothing.
    pub(crate) fn forget(&self) {
        self.state.lock().unwrap().head = None;
    }

    /// Makes it hold something else.
    pub(crate) fn hold(&self, size: u64, root: Hash) {
        self.state.lock().unwrap().head = Some((Size(size), root));
    }

    /// The status of each answer so far.
    pub(crate) fn answered(&self) -> Vec<u16> {
        self.state.lock().unwrap().answered.clone()
    }

    /// Its line in a policy.
    pub(crate) fn line(&self, name: &str) -> String {
        format!("witness {name} {} {}\n", self.vkey, self.url)
    }
}

fn serve(mut stream: TcpStream, state: &Mutex<State>) {
    let Some(body) = request(&mut stream) else { return };
    let mut state = state.lock().unwrap();
    let (status, kind, answer) = match state.mood {
        Mood::Down => (503, "text/plain", "down\n".to_owned()),
        _ => state.judge(&body),
    };
    state.answered.push(status);
    if state.mood == Mood::Mute {
        return;
    }
    let length = answer.len();
    let answer = format!(
        "HTTP/1.1 {status} x\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{answer}"
    );
    let _ = stream.write_all(answer.as_bytes());
}

/// The body of a POST to the right place.
fn request(stream: &mut TcpStream) -> Option<String> {
    let (mut bytes, mut chunk) = (Vec::new(), [0; 4096]);
    loop {
        let read = stream.read(&mut chunk).unwrap_or(0);
        bytes.extend_from_slice(&chunk[..read]);
        let text = String::from_utf8(bytes.clone()).ok()?;
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            assert!(head.starts_with("POST /w/add-checkpoint HTTP/1.1\r\n"), "{head}");
            let head = head.to_lowercase();
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "))?;
            if body.len() >= length.parse().ok()? {
                return Some(body.to_owned());
            }
        }
        if read == 0 {
            return None;
        }
    }
}

impl State {
    fn judge(&mut self, body: &str) -> (u16, &'static str, String) {
        let refuse = |status: u16| (status, "text/plain", format!("{status}\n"));
        let Ok(Submission { old, proof, checkpoint }) = Submission::parse(body) else { return refuse(400) };
        let Ok(statement) = Statement::parse(checkpoint) else { return refuse(400) };
        let Head { origin, size, root } = statement.head.clone();
        if origin.as_str() != self.log.name() {
            return refuse(404);
        }
        if statement.verify(&self.log).is_err() {
            return refuse(403);
        }
        if old > size {
            return refuse(400);
        }
        let (known, known_root) = self.head.unwrap_or((Size(0), Hash::EMPTY_ROOT));
        let conflict = (409, "text/x.tlog.size", format!("{known}\n"));
        if old != known || (old == size && known_root != root) {
            return conflict;
        }
        let follows = match known.0 {
            0 => proof.is_empty(),
            _ => verify_consistency(known, known_root, size, root, &proof),
        };
        if !follows {
            return refuse(422);
        }
        self.head = Some((size, root));
        self.time += 1;
        (200, "text/plain", self.cosign(statement.note.text))
    }

    fn cosign(&self, text: &str) -> String {
        let message = format!("cosignature/v1\ntime {}\n{text}", self.time);
        let signature = self.key.sign(message.as_bytes()).to_bytes();
        let bytes = [&self.id[..], &self.time.to_be_bytes(), &signature].concat();
        format!("— {} {}\n", self.name, STANDARD.encode(bytes))
    }
}
