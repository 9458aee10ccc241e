//! A node that lies, fails or hangs: each case gives its own error.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};

use super::*;
use crate::archive::{Pinner, Receipt};
use crate::core::cid::Codec;
use crate::core::finding::Code;

/// What the node does wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Lie {
    None,
    OtherRoot,
    PinErrorMsg,
    EmptyImport,
    GarbledImport,
    FewerBlocks,
    NotPinnedAfterAll,
    TamperedBlock,
    TruncatedBlock,
    LongBlock,
    MissingBlock,
    /// The first import of a damaged block fails, as with `HashOnRead`.
    DamagedOnDisk,
    Forbidden,
    Gateway,
    Unavailable,
    Silent,
    EndlessAnswer,
}

/// As much of Kubo as a pinner sees.
struct FakeNode {
    lie: Lie,
    blocks: HashMap<String, Vec<u8>>,
    root: Cid,
    last: Cid,
    pinned: Mutex<bool>,
    removed: Mutex<bool>,
    imports: AtomicUsize,
}

/// The CAR everybody pins here.
fn car() -> CarFile {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/pinfold-v1/log/000002.proof.car");
    let bytes = std::fs::read(&path).unwrap();
    CarFile { path, root: Cid::from_bytes(&bytes[14..50]).unwrap(), bytes: bytes.len() as u64 }
}

impl FakeNode {
    fn new(lie: Lie) -> FakeNode {
        let car = car();
        let mut blocks = HashMap::new();
        let mut last = car.root;
        let shown = crate::archive::car::visit(&car.path, car.root, |cid, block| {
            blocks.insert(cid.to_string(), block.to_vec());
            last = cid;
        });
        assert!(shown.is_ok());
        FakeNode {
            lie,
            blocks,
            root: car.root,
            last,
            pinned: Mutex::new(false),
            removed: Mutex::new(false),
            imports: AtomicUsize::new(0),
        }
    }

    fn import(&self) -> Response {
        self.imports.fetch_add(1, Ordering::Relaxed);
        let root = if self.lie == Lie::OtherRoot { Cid::of(Codec::Raw, b"") } else { self.root };
        let blocks = self.blocks.len() - usize::from(self.lie == Lie::FewerBlocks);
        let damaged = self.lie == Lie::DamagedOnDisk && !*self.removed.lock().unwrap();
        let message = if self.lie == Lie::PinErrorMsg || damaged { "block in storage has different hash" } else { "" };
        *self.pinned.lock().unwrap() = message.is_empty() && self.lie != Lie::NotPinnedAfterAll;
        match self.lie {
            Lie::EmptyImport => String::new().into_response(),
            Lie::GarbledImport => "<html>Welcome</html>".into_response(),
            _ => format!(
                "{{\"Root\":{{\"Cid\":{{\"/\":\"{root}\"}},\"PinErrorMsg\":\"{message}\"}}}}\n\
                 {{\"Stats\":{{\"BlockCount\":{blocks},\"BlockBytesCount\":1}}}}\n"
            )
            .into_response(),
        }
    }

    fn block(&self, cid: &str) -> Response {
        let mut block = self.blocks[cid].clone();
        let damaged = self.lie == Lie::DamagedOnDisk && !*self.removed.lock().unwrap();
        if cid == self.last.to_string() {
            match self.lie {
                Lie::TamperedBlock => block[7] ^= 1,
                Lie::TruncatedBlock => block.truncate(block.len() / 2),
                Lie::LongBlock => block.resize(crate::core::car::BLOCK_BYTES_MAX + 1, 0),
                Lie::MissingBlock => return error("block was not found locally (offline): ipld: could not find"),
                _ if damaged => return error("block in storage has different hash than requested"),
                _ => {}
            }
        }
        block.into_response()
    }

    fn pin_ls(&self) -> Response {
        match *self.pinned.lock().unwrap() {
            true => {
                format!("{{\"Keys\":{{\"{}\":{{\"Type\":\"recursive\",\"Name\":\"\"}}}}}}\n", self.root).into_response()
            }
            false => error("path 'x' is not pinned"),
        }
    }
}

fn error(message: &str) -> Response {
    let body = serde_json::json!({"Message": message, "Code": 0, "Type": "error"}).to_string();
    (StatusCode::INTERNAL_SERVER_ERROR, body).into_response()
}

async fn answer(State(node): State<Arc<FakeNode>>, uri: Uri, _form: Bytes) -> Response {
    let query = uri.query().unwrap_or_default();
    let arg = query.split('&').find_map(|pair| pair.strip_prefix("arg=")).unwrap_or_default();
    match (node.lie, uri.path()) {
        (Lie::Forbidden, _) => (StatusCode::FORBIDDEN, "Kubo RPC Access Denied: ...").into_response(),
        (Lie::Gateway, _) => (StatusCode::NOT_FOUND, "404 page not found").into_response(),
        (Lie::Unavailable, _) => (StatusCode::BAD_GATEWAY, "<html>Bad Gateway</html>").into_response(),
        (Lie::Silent, _) => std::future::pending().await,
        (Lie::EndlessAnswer, _) => {
            let chunks = futures_util::stream::repeat_with(|| Ok::<_, std::io::Error>(vec![b' '; 1 << 16]));
            Body::from_stream(chunks).into_response()
        }
        (_, "/api/v0/dag/import") => node.import(),
        (_, "/api/v0/block/get") => node.block(arg),
        (_, "/api/v0/pin/ls") => node.pin_ls(),
        (_, "/api/v0/pin/rm") => match std::mem::take(&mut *node.pinned.lock().unwrap()) {
            true => "{}".into_response(),
            false => error("not pinned or pinned indirectly"),
        },
        (_, "/api/v0/block/rm") => {
            *node.removed.lock().unwrap() = true;
            format!("{{\"Hash\":\"{arg}\"}}\n").into_response()
        }
        _ => StatusCode::NOT_FOUND.into_response(),
    }
}

async fn serve(lie: Lie) -> (Kubo, Arc<FakeNode>) {
    let node = Arc::new(FakeNode::new(lie));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let usual = Settings::new("front", format!("http://{}/", listener.local_addr().unwrap()));
    let app = axum::Router::new().fallback(answer).with_state(node.clone());
    tokio::spawn(async move { axum::serve(listener, app).await });
    (Kubo::new(Settings { call_time: Duration::from_secs(2), ..usual }).unwrap(), node)
}

async fn pin(lie: Lie) -> Result<Receipt, PinError> {
    serve(lie).await.0.pin(&car()).await
}

#[tokio::test]
async fn an_honest_node_is_imported_to_once() {
    let (kubo, node) = serve(Lie::None).await;
    let receipt = kubo.pin(&car()).await.unwrap();
    assert_eq!(receipt.blocks, node.blocks.len() as u64);
    assert_eq!(kubo.pin(&car()).await.unwrap(), receipt);
    assert_eq!(kubo.check(&car()).await.unwrap(), receipt);
    assert_eq!(node.imports.load(Ordering::Relaxed), 1, "what is pinned and whole is not imported again");
    kubo.unpin(&car()).await.unwrap();
    kubo.unpin(&car()).await.unwrap();
    assert!(
        matches!(kubo.check(&car()).await, Err(PinError::Tampered { fault, .. }) if fault.code == Code::BlockMissing)
    );
}

#[tokio::test]
async fn another_root_halts() {
    let error = pin(Lie::OtherRoot).await.unwrap_err();
    assert!(matches!(&error, PinError::Mismatch { expected, .. } if *expected == car().root), "{error}");
    assert!(error.halts());
}

#[tokio::test]
async fn a_refusal_is_told_from_a_failure() {
    for (lie, words) in
        [(Lie::PinErrorMsg, "not pinned"), (Lie::Forbidden, "HTTP status 403"), (Lie::Gateway, "HTTP status 404")]
    {
        let error = pin(lie).await.unwrap_err();
        assert!(matches!(error, PinError::Refused { .. }) && !error.halts(), "{lie:?}: {error}");
        assert!(error.to_string().contains(words), "{lie:?}: {error}");
    }
    for (lie, words) in [
        (Lie::EmptyImport, "an empty answer"),
        (Lie::GarbledImport, "not Kubo's"),
        (Lie::FewerBlocks, "expected 3 blocks, found 2"),
        (Lie::NotPinnedAfterAll, "imported, not pinned"),
        (Lie::Unavailable, "HTTP status 502"),
        (Lie::Silent, "no answer within"),
        (Lie::EndlessAnswer, "more than 1048576 bytes"),
    ] {
        let error = pin(lie).await.unwrap_err();
        assert!(matches!(error, PinError::Retry { .. }) && !error.halts(), "{lie:?}: {error}");
        assert!(error.to_string().contains(words), "{lie:?}: {error}");
    }
}

#[tokio::test]
async fn a_wrong_block_never_counts_as_pinned() {
    for (lie, code) in [
        (Lie::TamperedBlock, Code::BlockHash),
        (Lie::TruncatedBlock, Code::BlockHash),
        (Lie::LongBlock, Code::BlockHash),
        (Lie::MissingBlock, Code::BlockMissing),
    ] {
        let error = pin(lie).await.unwrap_err();
        let PinError::Tampered { fault, .. } = &error else { panic!("{lie:?}: {error}") };
        assert_eq!(fault.code, code, "{lie:?}: {fault}");
        assert!(!error.halts() && fault.what.contains("block bafy"), "{lie:?}: {fault}");
    }
}

#[tokio::test]
async fn a_block_damaged_before_the_import_is_removed_and_imported_again() {
    let (kubo, node) = serve(Lie::DamagedOnDisk).await;
    kubo.pin(&car()).await.unwrap();
    assert!(*node.removed.lock().unwrap());
    assert_eq!(node.imports.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn a_dag_is_fetched_as_the_bytes_of_its_file() {
    let (kubo, _) = serve(Lie::None).await;
    let dir = tempfile::tempdir().unwrap();
    let fetched = kubo.fetch(car().root, &dir.path().join("fetched.car"), Reach::Network).await.unwrap();
    assert!(std::fs::read(&fetched.path).unwrap() == std::fs::read(car().path).unwrap());
    assert_eq!((fetched.bytes, fetched.root), (car().bytes, car().root));
}

#[tokio::test]
async fn nobody_listening_is_tried_again() {
    let error = Kubo::new(Settings::new("gone", "http://127.0.0.1:9")).unwrap().pin(&car()).await.unwrap_err();
    assert!(matches!(error, PinError::Retry { .. }), "{error}");
}

#[test]
fn only_plain_http_addresses_are_taken() {
    for good in ["http://127.0.0.1:5001", "http://127.0.0.1:5001/", "http://kubo.internal:5001", "http://[::1]:5001"] {
        assert!(Kubo::new(Settings::new("kubo", good)).is_ok(), "{good}");
    }
    for bad in [
        "",
        "127.0.0.1:5001",
        "http://",
        "http://u:p@host:1",
        "http://host:1/api/v0",
        "http://host:1?x",
        "ftp://h:1",
        "http://h:99999",
        "http://[::1:5001",
    ] {
        assert!(matches!(Kubo::new(Settings::new("kubo", bad)), Err(BadUrl::Form { .. })), "{bad}");
    }
    let tls = Kubo::new(Settings::new("kubo", "https://127.0.0.1:5001")).err().unwrap();
    assert!(matches!(tls, BadUrl::Tls { .. }) && tls.hint().contains("proxy"));
}
