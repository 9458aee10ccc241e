//! The read API: who gets what, what is never shown, and that it stays bounded.

use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use pinfold::core::proof::Proof;
use pinfold::core::seq::Size;
use pinfold::core::tile;
use pinfold::core::time::Timestamp;
use pinfold::http::tokens::{RANDOM_BYTES, Role, Tokens};
use pinfold::http::{Access, Api, Health, Probes, Server, Tls, TlsFiles};
use pinfold::tiles::{Segments, Store};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::binary;
use crate::segments::Segments as Log;

/// A server over a log of two segments, of which the first is released.
struct Place {
    dir: tempfile::TempDir,
    log: Log,
    store: Arc<Store>,
    auditor: String,
    writer: String,
}

impl Place {
    fn new() -> Place {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("archive")).unwrap();
        let mut log = Log::new(&dir.path().join("archive"), "example.com/http", 1);
        log.seal(300);
        log.seal(20);
        let store = Store::open(&dir.path().join("tiles"), &log.origin).unwrap();
        store.grow(Segments::new(&log, 1)).unwrap();
        let mut tokens = Tokens::default();
        let auditor = tokens.add("monitor", Role::Auditor, &[1; RANDOM_BYTES], Timestamp(0));
        let writer = tokens.add("intake", Role::Writer, &[2; RANDOM_BYTES], Timestamp(0));
        tokens.write(&dir.path().join("tokens.toml")).unwrap();
        Place { dir, log, store: Arc::new(store), auditor, writer }
    }

    fn tokens(&self) -> PathBuf {
        self.dir.path().join("tokens.toml")
    }

    async fn server(&self, per_second: u32) -> Server {
        let probes = Probes { health: Box::new(Health::default), metrics: Box::new(|| "# EOF\n".to_owned()) };
        let api = Api { status: Box::new(|| "{\"size\":320}".to_owned()), tiles: Some(Arc::clone(&self.store)) };
        let access = Access::open(Some(self.tokens()), NonZeroU32::new(per_second).unwrap()).unwrap();
        let server = Server::bind("127.0.0.1:0", Arc::new(probes)).await.unwrap();
        server.with_api(Arc::new(api), Arc::new(access))
    }

    async fn serve(&self, per_second: u32) -> String {
        let server = self.server(per_second).await;
        let address = server.address().unwrap().to_string();
        tokio::spawn(server.serve(std::future::pending()));
        address
    }
}

struct Answer {
    status: u16,
    head: String,
    body: Vec<u8>,
}

impl Answer {
    fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            line.split_once(": ").filter(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value)
        })
    }
}

async fn ask(address: &str, request: &str, headers: &str) -> Answer {
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let text = format!("{request} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{headers}\r\n");
    stream.write_all(text.as_bytes()).await.unwrap();
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).await.unwrap();
    let at = bytes.windows(4).position(|window| window == b"\r\n\r\n").unwrap();
    let head = String::from_utf8(bytes[..at].to_vec()).unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Answer { status, head, body: bytes[at + 4..].to_vec() }
}

async fn get(address: &str, path: &str, token: &str) -> Answer {
    ask(address, &format!("GET {path}"), &format!("Authorization: Bearer {token}\r\n")).await
}

#[tokio::test]
async fn who_asks_gets_what_he_may() {
    let place = Place::new();
    let address = place.serve(10_000).await;
    let bearer = |token: &str| format!("Authorization: Bearer {token}\r\n");
    let (auditor, writer) = (bearer(&place.auditor), bearer(&place.writer));
    let basic = auditor.replace("Bearer", "Basic");
    let long = format!("{auditor}Content-Length: 1000000\r\n");
    let changed = auditor.replace("AQEB", "AQEC");
    assert_ne!(changed, auditor);
    for (request, headers, status) in [
        ("GET /livez", "", 503),
        ("GET /readyz", "", 503),
        ("GET /metrics", "", 200),
        ("POST /livez", "", 405),
        ("GET /checkpoint", "", 401),
        ("GET /tile/0/000", "", 401),
        ("GET /api/v1/status", "", 401),
        ("GET /nothing", "", 401),
        ("GET /", "", 401),
        ("POST /checkpoint", "", 401),
        ("GET /checkpoint", "Authorization: Bearer\r\n", 401),
        ("GET /checkpoint", "Authorization: Bearer x\r\n", 401),
        ("GET /checkpoint", changed.as_str(), 401),
        ("GET /checkpoint", basic.as_str(), 401),
        ("GET /checkpoint", writer.as_str(), 403),
        ("GET /nothing", writer.as_str(), 403),
        ("GET /checkpoint", auditor.as_str(), 200),
        ("HEAD /checkpoint", auditor.as_str(), 200),
        ("GET /tile/0/000", auditor.as_str(), 200),
        ("GET /api/v1/status", auditor.as_str(), 200),
        ("GET /api/v1/proofs/299", auditor.as_str(), 200),
        ("GET /api/v1/entries/299", auditor.as_str(), 200),
        ("GET /nothing", auditor.as_str(), 404),
        ("GET /tile/0/../../checkpoint", auditor.as_str(), 404),
        ("GET /tile/0/%2e%2e/000", auditor.as_str(), 404),
        ("GET /api/v1/proofs/007", auditor.as_str(), 404),
        ("GET /api/v1/entries/-1", auditor.as_str(), 404),
        ("GET /api/v1/entries/99999999999999999999", auditor.as_str(), 404),
        ("POST /checkpoint", auditor.as_str(), 405),
        ("DELETE /tile/0/000", auditor.as_str(), 405),
        ("POST /checkpoint", long.as_str(), 413),
        ("POST /livez", "Content-Length: 1000000\r\n", 413),
    ] {
        let answer = ask(&address, request, headers).await;
        assert_eq!(answer.status, status, "{request}: {}", String::from_utf8_lossy(&answer.body));
        if status == 401 {
            assert_eq!(answer.header("www-authenticate"), Some("Bearer"), "{request}");
        }
    }
}

#[tokio::test]
async fn what_is_served_has_its_type_and_is_kept_as_long_as_it_holds() {
    let place = Place::new();
    let address = place.serve(10_000).await;
    for (path, content_type, cache) in [
        ("/checkpoint", "text/plain; charset=utf-8", "no-cache"),
        ("/tile/0/000", "application/octet-stream", "private, max-age=31536000, immutable"),
        ("/tile/entries/001.p/44", "application/octet-stream", "private, max-age=31536000, immutable"),
        ("/api/v1/status", "application/json", "no-store"),
        ("/api/v1/entries/4", "application/json", "private, max-age=31536000, immutable"),
        ("/api/v1/proofs/4", "text/plain; charset=utf-8", "no-cache"),
    ] {
        let answer = get(&address, path, &place.auditor).await;
        assert_eq!((answer.header("content-type"), answer.header("cache-control")), (Some(content_type), Some(cache)));
    }
    let checkpoint = get(&address, "/checkpoint", &place.auditor).await;
    assert_eq!(checkpoint.body, place.log.checkpoints[0].as_bytes());
    let proof = get(&address, "/api/v1/proofs/4", &place.auditor).await;
    let proven = Proof::parse(std::str::from_utf8(&proof.body).unwrap()).unwrap().check(place.log.keys[0].vkey());
    assert_eq!(proven.unwrap().leaf.seq.0, 4);
    let entry: Value = serde_json::from_slice(&get(&address, "/api/v1/entries/2", &place.auditor).await.body).unwrap();
    assert_eq!((&entry["kind"], &entry["clear"]["name"]), (&"topic-declared".into(), &"consent".into()));
}

#[tokio::test]
async fn only_released_sizes_are_ever_shown() {
    let mut place = Place::new();
    let address = place.serve(10_000).await;
    let of = |size: u64| tile::partials(Size(size)).map(|tile| format!("/{}", tile.path())).collect::<Vec<_>>();
    let (released, unreleased) = (of(300), of(320));
    let never = ["/tile/0/001", "/tile/0/001.p/43", "/tile/0/001.p/45", "/tile/2/000.p/1", "/tile/entries/001"];
    for path in &released {
        assert_eq!(get(&address, path, &place.auditor).await.status, 200, "{path}");
    }
    let hidden = |path: &&String| !released.contains(path);
    for path in unreleased.iter().filter(hidden).map(String::as_str).chain(never) {
        assert_eq!(get(&address, path, &place.auditor).await.status, 404, "{path}");
    }
    for seq in [300, 319, 320] {
        for what in ["proofs", "entries"] {
            assert_eq!(get(&address, &format!("/api/v1/{what}/{seq}"), &place.auditor).await.status, 404);
        }
    }
    // Released now; the partial tiles of before stay until they are full.
    place.store.grow(Segments::new(&place.log, 2)).unwrap();
    for path in released.iter().chain(&unreleased) {
        assert_eq!(get(&address, path, &place.auditor).await.status, 200, "{path}");
    }
    place.log.rotate(300);
    place.store.grow(Segments::new(&place.log, 3)).unwrap();
    assert_eq!(get(&address, "/tile/0/001", &place.auditor).await.status, 200);
    assert_eq!(get(&address, "/tile/0/001.p/44", &place.auditor).await.status, 404);
    // The key has changed since: what is proven comes with the change.
    let proof = get(&address, "/api/v1/proofs/4", &place.auditor).await;
    assert_eq!(proof.header("content-type"), Some("application/x-tar"));
    let evidence = pinfold::core::proof::evidence::check(&proof.body, place.log.keys[0].vkey(), None).unwrap();
    assert_eq!(evidence.proven.iter().map(|proven| proven.leaf.seq.0).collect::<Vec<_>>(), [4, 320]);
}

#[tokio::test]
async fn who_asks_too_often_waits_and_health_does_not() {
    let place = Place::new();
    let address = place.serve(3).await;
    let mut answers = Vec::new();
    for _ in 0..20 {
        // Tokens cannot be tried out any faster than they can be used.
        answers.push(get(&address, "/checkpoint", "wrong").await);
    }
    let (refused, asked): (Vec<_>, Vec<_>) = answers.iter().partition(|answer| answer.status == 429);
    assert!(!refused.is_empty() && asked.len() >= 3, "{} refused", refused.len());
    assert!(asked.iter().all(|answer| answer.status == 401));
    assert!(refused.iter().all(|answer| answer.header("retry-after") == Some("1")));
    for _ in 0..20 {
        assert_eq!(ask(&address, "GET /metrics", "").await.status, 200);
    }
}

#[tokio::test]
async fn without_tiles_or_tokens_nothing_is_shown_and_health_goes_on() {
    let place = Place::new();
    let probes = Probes { health: Box::new(Health::default), metrics: Box::new(|| "# EOF\n".to_owned()) };
    let api = Api { status: Box::new(String::new), tiles: None };
    let access = Access::open(Some(place.tokens()), NonZeroU32::new(100).unwrap()).unwrap();
    let server = Server::bind("127.0.0.1:0", Arc::new(probes)).await.unwrap();
    let server = server.with_api(Arc::new(api), Arc::new(access));
    let address = server.address().unwrap().to_string();
    tokio::spawn(server.serve(std::future::pending()));
    assert_eq!(get(&address, "/checkpoint", &place.auditor).await.status, 503);
    assert_eq!(ask(&address, "GET /metrics", "").await.status, 200);
    let none = Access::open(None, NonZeroU32::new(1).unwrap()).unwrap();
    none.reread().unwrap();
}

/// An authority, a server and two clients, one of them another authority's.
fn certificates(dir: &Path) {
    let openssl = |args: &str| {
        let output = Command::new("openssl").args(args.split(' ')).current_dir(dir).output().unwrap();
        assert!(output.status.success(), "openssl {args}: {}", String::from_utf8_lossy(&output.stderr));
    };
    let key = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout";
    for ca in ["ca", "other"] {
        openssl(&format!("req -x509 {key} {ca}.key -out {ca}.pem -days 30 -subj /CN={ca}"));
    }
    std::fs::write(dir.join("names"), "subjectAltName=DNS:localhost,IP:127.0.0.1\n").unwrap();
    for (name, ca) in [("server", "ca"), ("second", "ca"), ("client", "ca"), ("stranger", "other")] {
        openssl(&format!("req {key} {name}.key -out {name}.csr -subj /CN={name}"));
        let signed = format!("x509 -req -in {name}.csr -CA {ca}.pem -CAkey {ca}.key -CAcreateserial");
        openssl(&format!("{signed} -out {name}.pem -days 30 -extfile names"));
    }
}

fn client(dir: &Path, identity: Option<&str>) -> reqwest::Client {
    let read = |name: &str| std::fs::read(dir.join(name)).unwrap();
    let mut client =
        reqwest::Client::builder().tls_certs_only([reqwest::Certificate::from_pem(&read("ca.pem")).unwrap()]);
    if let Some(name) = identity {
        let pem = [read(&format!("{name}.key")), read(&format!("{name}.pem"))].concat();
        client = client.identity(reqwest::Identity::from_pem(&pem).unwrap());
    }
    client.build().unwrap()
}

#[tokio::test]
async fn a_client_certificate_of_the_configured_authority_reads_and_no_other() {
    let place = Place::new();
    let dir = place.dir.path();
    certificates(dir);
    let at = |name: &str| dir.join(name);
    let files = TlsFiles { certificate: at("server.pem"), key: at("server.key"), client_ca: Some(at("ca.pem")) };
    let tls = Arc::new(Tls::open(files).unwrap());
    let server = place.server(10_000).await.with_tls(Arc::clone(&tls));
    let port = server.address().unwrap().port();
    tokio::spawn(server.serve(std::future::pending()));
    let url = |path: &str| format!("https://localhost:{port}{path}");
    let status = async |client: reqwest::Client, path: &str, token: Option<&str>| {
        let mut request = client.get(url(path));
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        request.send().await.map(|response| response.status().as_u16()).ok()
    };
    assert_eq!(status(client(dir, Some("client")), "/checkpoint", None).await, Some(200));
    assert_eq!(status(client(dir, None), "/checkpoint", Some(&place.auditor)).await, Some(200));
    assert_eq!(status(client(dir, None), "/checkpoint", None).await, Some(401));
    assert_eq!(status(client(dir, None), "/metrics", None).await, Some(200));
    assert_eq!(status(client(dir, Some("stranger")), "/checkpoint", Some(&place.auditor)).await, None);
    // In clear nobody is answered.
    let mut stream = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    assert!(!answer.starts_with(b"HTTP"));

    // Another certificate is taken when told; one that cannot be used leaves the old in use.
    std::fs::copy(at("second.pem"), at("server.pem")).unwrap();
    assert!(tls.reread().is_err(), "the key is not of this certificate");
    assert_eq!(status(client(dir, None), "/metrics", None).await, Some(200));
    std::fs::copy(at("second.key"), at("server.key")).unwrap();
    tls.reread().unwrap();
    assert_eq!(status(client(dir, None), "/metrics", None).await, Some(200));
}

#[test]
fn a_running_sidecar_serves_what_is_released_and_takes_and_drops_tokens_when_told() {
    let log = binary::Log::new("example.com/http/run");
    log.pin_to_folder();
    let token = log.ok(&["token", "add", "monitor"])["token"].as_str().unwrap().to_owned();
    let id = log.ok(&["token", "list"])["id"].as_str().unwrap().to_owned();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let mut running = log.start();
    let address = running.address();
    let status = |path: &str| runtime.block_on(get(&address, path, &token)).status;
    assert_eq!(status("/checkpoint"), 404, "nothing is released");
    let file = log.path("events.ndjson");
    let lines: String = (0..20).map(|n| format!("{{\"n\":{n}}}\n")).collect();
    std::fs::write(&file, lines).unwrap();
    log.ok(&["ingest", file.to_str().unwrap()]);
    log.ok(&["seal"]);
    log.ok(&["pin"]);
    let begun = std::time::Instant::now();
    while status("/checkpoint") != 200 {
        assert!(begun.elapsed() < binary::PATIENCE, "{}", running.said());
        std::thread::yield_now();
    }
    assert_eq!(status("/api/v1/entries/0"), 200);
    let shown: Value = serde_json::from_slice(&runtime.block_on(get(&address, "/api/v1/status", &token)).body).unwrap();
    assert_eq!(shown["released"]["segments"], 1, "{shown}");
    // Proofs are made beside it.
    assert_eq!(log.ok(&["prove", "0"])["seq"], 0);
    assert_eq!(log.ok(&["status"])["state"], "running");
    log.ok(&["token", "revoke", &id]);
    running.signal(rustix::process::Signal::HUP);
    let begun = std::time::Instant::now();
    while status("/checkpoint") != 401 {
        assert!(begun.elapsed() < binary::PATIENCE, "{}", running.said());
        std::thread::yield_now();
    }
    assert!(!running.said().contains(&token));
    assert!(running.terminate().success());
}
