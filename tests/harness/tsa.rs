//! A time-stamp authority on loopback: `openssl ts` behind a small HTTP server, one query at a time, with faults.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use crate::pki::Pki;

/// What it does instead of answering the next query.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fault {
    /// Waits until the client has gone.
    Stalls,
    /// Answers with this status line and no body.
    Status(&'static str),
    /// 200 and something else.
    Garbage,
    /// 200 and a body that does not end before the client has gone.
    Endless,
    /// Says no, in a way of RFC 3161.
    Rejects,
    /// Stamps other bytes.
    OtherBytes,
    /// Answers as it did to its first query.
    OldAnswer,
}

/// The running authority. It ends when it is dropped.
pub(crate) struct Authority {
    pub(crate) url: String,
    address: SocketAddr,
    faults: Arc<Mutex<VecDeque<Fault>>>,
    asked: Arc<AtomicUsize>,
    has_ended: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Authority {
    /// An authority that signs with this certificate of `pki` and sends those of `chain` along.
    pub(crate) fn start(pki: &Arc<Pki>, signer: &str, chain: &[&str]) -> Authority {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (faults, asked, has_ended) = <(Arc<Mutex<VecDeque<Fault>>>, Arc<AtomicUsize>, Arc<AtomicBool>)>::default();
        let lines = match chain {
            [] => "ess_cert_id_alg=sha256".to_owned(),
            chain => format!("ess_cert_id_alg=sha256\ncerts={}", pki.bundle(&format!("chain-{signer}.pem"), chain)),
        };
        let desk = Desk { pki: Arc::clone(pki), signer: signer.to_owned(), lines, first: None };
        let thread = {
            let (faults, asked, has_ended) = (Arc::clone(&faults), Arc::clone(&asked), Arc::clone(&has_ended));
            std::thread::spawn(move || desk.serve(&listener, &faults, &asked, &has_ended))
        };
        let url = format!("http://{address}/tsa");
        Authority { url, address, faults, asked, has_ended, thread: Some(thread) }
    }

    /// What it does to the next queries, one each.
    pub(crate) fn plan(&self, faults: &[Fault]) {
        self.faults.lock().unwrap().extend(faults);
    }

    /// The queries it was sent.
    pub(crate) fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

impl Drop for Authority {
    fn drop(&mut self) {
        self.has_ended.store(true, Ordering::SeqCst);
        // Wakes it; where it has failed already, the join says so.
        let _ = TcpStream::connect(self.address);
        let ended = self.thread.take().unwrap().join();
        assert!(ended.is_ok() || std::thread::panicking(), "the authority failed");
    }
}

struct Desk {
    pki: Arc<Pki>,
    signer: String,
    lines: String,
    first: Option<Vec<u8>>,
}

impl Desk {
    fn serve(
        mut self,
        listener: &TcpListener,
        faults: &Mutex<VecDeque<Fault>>,
        asked: &AtomicUsize,
        has_ended: &AtomicBool,
    ) {
        for stream in listener.incoming() {
            if has_ended.load(Ordering::SeqCst) {
                return;
            }
            let mut stream = stream.unwrap();
            let Some(query) = body_of(&mut stream) else { continue };
            asked.fetch_add(1, Ordering::SeqCst);
            let fault = faults.lock().unwrap().pop_front();
            // A client that has what it wants, or waits no more, may have gone.
            let _ = self.answer(&mut stream, &query, fault);
        }
    }

    fn answer(&mut self, stream: &mut TcpStream, query: &[u8], fault: Option<Fault>) -> std::io::Result<()> {
        let reply = match fault {
            None => self.reply(query, ""),
            Some(Fault::OtherBytes) => self.reply(&of_other_bytes(query), ""),
            Some(Fault::Rejects) => self.reply(query, "digests=sha512"),
            Some(Fault::OldAnswer) => self.first.clone().expect("a first answer"),
            Some(Fault::Garbage) => b"<html>a captive portal</html>".to_vec(),
            Some(Fault::Status(line)) => {
                return write!(stream, "HTTP/1.1 {line}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
            }
            Some(Fault::Stalls) => return std::io::copy(stream, &mut std::io::sink()).map(|_| ()),
            Some(Fault::Endless) => {
                write!(stream, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")?;
                loop {
                    stream.write_all(&[0x30; 4096])?;
                }
            }
        };
        self.first.get_or_insert_with(|| reply.clone());
        write!(
            stream,
            "HTTP/1.1 200 OK\r\nContent-Type: application/timestamp-reply\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
            reply.len()
        )?;
        stream.write_all(&reply)
    }

    fn reply(&self, query: &[u8], more: &str) -> Vec<u8> {
        self.pki.reply(query, &self.signer, &self.signer, &format!("{}\n{more}", self.lines))
    }
}

/// The same query about other bytes.
fn of_other_bytes(query: &[u8]) -> Vec<u8> {
    let at = query.windows(2).position(|window| window == [0x04, 0x20]).expect("an imprint of 32 bytes") + 2;
    let mut query = query.to_vec();
    query[at] ^= 1;
    query
}

/// The body of a POST of a query; none where the other side has gone.
fn body_of(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let (mut bytes, mut chunk) = (Vec::new(), [0; 4096]);
    loop {
        if let Some(at) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&bytes[..at]).to_lowercase();
            assert!(head.starts_with("post /tsa http/1.1\r\n"), "{head}");
            assert!(head.contains("content-type: application/timestamp-query"), "{head}");
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
            if bytes.len() >= at + 4 + length.parse::<usize>().unwrap() {
                return Some(bytes.split_off(at + 4));
            }
        }
        match stream.read(&mut chunk).unwrap() {
            0 => return None,
            read => bytes.extend_from_slice(&chunk[..read]),
        }
    }
}
