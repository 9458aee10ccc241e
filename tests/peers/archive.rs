//! The pinners against a real Kubo node.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use pinfold::archive::kubo::{Reach, Settings};
use pinfold::archive::{CarFile, Contents, Folder, Kubo, PinError, Pinner};
use pinfold::core::cid::Cid;
use pinfold::core::finding::Code;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::peer::kubo::Node;

/// The CARs of the public log, none of them made by this code.
fn cars() -> Vec<CarFile> {
    let log = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/pinfold-v1/log");
    let names =
        ["000000.proof.car", "000000.payload.car", "000001.payload.car", "000001.anchor.car", "000002.proof.car"];
    names.map(|name| car_file(log.join(name))).to_vec()
}

fn car_file(path: PathBuf) -> CarFile {
    let bytes = std::fs::read(&path).unwrap();
    CarFile { path, root: Cid::from_bytes(&bytes[14..50]).unwrap(), bytes: bytes.len() as u64 }
}

/// The CIDs of a CAR, in order.
fn cids(car: &CarFile) -> Vec<Cid> {
    let file = std::fs::read(&car.path).unwrap();
    let mut rest = &file[59..];
    let mut cids = Vec::new();
    while !rest.is_empty() {
        let head = rest.iter().position(|byte| *byte < 0x80).unwrap();
        let len = rest[..=head].iter().rev().fold(0, |len, byte| len << 7 | usize::from(byte & 0x7f));
        cids.push(Cid::from_bytes(&rest[head + 1..][..Cid::LEN]).unwrap());
        rest = &rest[head + 1 + len..];
    }
    cids
}

fn pinner(url: String, credentials: Option<(String, String)>) -> Kubo {
    let usual = Settings::new("kubo", url);
    Kubo::new(Settings { credentials, call_time: Duration::from_secs(10), ..usual }).unwrap()
}

fn pinner_with(url: String, call_time: Duration) -> Kubo {
    Kubo::new(Settings { credentials: Some(Node::credentials()), call_time, ..Settings::new("kubo", url) }).unwrap()
}

#[tokio::test]
async fn what_is_pinned_is_there_byte_for_byte_and_outlives_a_crash() {
    let mut node = Node::start();
    let kubo = pinner(node.url(), Some(Node::credentials()));
    for car in cars() {
        let receipt = kubo.pin(&car).await.unwrap();
        assert_eq!(receipt.blocks, cids(&car).len() as u64);
        assert_eq!(kubo.pin(&car).await.unwrap(), receipt, "twice is once");
        let export = node.ipfs(&["dag", "export", &car.root.to_string()]).stdout;
        assert!(export == std::fs::read(&car.path).unwrap(), "dag export of {}", car.path.display());
    }
    node.kill();
    assert!(matches!(kubo.check(&cars()[0]).await, Err(PinError::Retry { .. })));
    node.up();
    for car in cars() {
        kubo.check(&car).await.unwrap();
    }
    node.stop();
}

#[tokio::test]
async fn a_block_damaged_on_the_disk_is_noticed_and_healed() {
    // Without hashing on reads the node serves what it finds, with it the node refuses: both must be noticed.
    for node in [Node::start(), Node::with(|_| {})] {
        let kubo = pinner(node.url(), Some(Node::credentials()));
        for car in cars() {
            let receipt = kubo.pin(&car).await.unwrap();
            for cid in [cids(&car)[0], *cids(&car).last().unwrap()] {
                let file = node.block_file(cid);
                let mut block = std::fs::read(&file).unwrap();
                let middle = block.len() / 2;
                block[middle] ^= 1;
                std::fs::write(&file, block).unwrap();

                let error = kubo.check(&car).await.unwrap_err();
                let PinError::Tampered { fault, .. } = &error else { panic!("{error}") };
                assert_eq!(fault.code, Code::BlockHash);
                assert_eq!(kubo.pin(&car).await.unwrap(), receipt, "healed");
                assert_eq!(kubo.check(&car).await.unwrap(), receipt);
                assert!(cid.matches(&std::fs::read(&file).unwrap()));
            }
        }
    }
}

#[tokio::test]
async fn a_lost_block_and_a_lost_pin_are_noticed_and_healed() {
    let node = Node::start();
    let kubo = pinner(node.url(), Some(Node::credentials()));
    let car = &cars()[1];
    kubo.pin(car).await.unwrap();
    std::fs::remove_file(node.block_file(*cids(car).last().unwrap())).unwrap();
    let error = kubo.check(car).await.unwrap_err();
    assert!(matches!(&error, PinError::Tampered { fault, .. } if fault.code == Code::BlockMissing), "{error}");
    kubo.pin(car).await.unwrap();

    node.ipfs(&["pin", "rm", &car.root.to_string()]);
    assert!(matches!(kubo.check(car).await, Err(PinError::Tampered { .. })));
    kubo.pin(car).await.unwrap();
    kubo.check(car).await.unwrap();

    kubo.unpin(car).await.unwrap();
    node.ipfs(&["repo", "gc"]);
    assert!(matches!(kubo.check(car).await, Err(PinError::Tampered { .. })));
}

#[tokio::test]
async fn a_damaged_block_of_another_segment_does_not_keep_ours_from_healing() {
    let node = Node::start();
    let kubo = pinner(node.url(), Some(Node::credentials()));
    let two = [cars().remove(0), cars().remove(4)];
    for car in &two {
        kubo.pin(car).await.unwrap();
        let file = node.block_file(*cids(car).last().unwrap());
        std::fs::write(file, "rotten").unwrap();
    }
    // The node checks every other pin before it removes a block: the first try fails over the other's damage, but
    // has let go of the damaged pin by then, so that the other heals.
    let first = kubo.pin(&two[0]).await.unwrap_err();
    assert!(matches!(first, PinError::Retry { .. }), "{first}");
    for car in [&two[1], &two[0]] {
        kubo.pin(car).await.unwrap();
    }
    for car in &two {
        kubo.check(car).await.unwrap();
    }
}

#[tokio::test]
async fn a_wrong_password_is_a_refusal() {
    let node = Node::start();
    for credentials in [None, Some(("app".to_owned(), "wrong".to_owned()))] {
        let error = pinner(node.url(), credentials).pin(&cars()[0]).await.unwrap_err();
        assert!(matches!(error, PinError::Refused { .. }) && !error.halts(), "{error}");
        assert!(error.hint().contains("password_file"), "{}", error.hint());
    }
}

#[tokio::test]
async fn the_gateway_is_told_from_the_rpc() {
    let node = Node::start();
    let gateway = std::fs::read_to_string(node.repo().join("gateway")).unwrap();
    let error = pinner(gateway, None).pin(&cars()[0]).await.unwrap_err();
    assert!(matches!(error, PinError::Refused { .. }) && error.hint().contains("gateway"), "{error}");
}

#[tokio::test]
async fn a_node_that_is_down_slow_or_cut_off_is_tried_again() {
    let mut node = Node::start();
    let cars = cars();
    let car = &cars[1];
    for (fault, words) in [(Fault::Silent, "no answer within"), (Fault::CutRequest(70_000), ""), (Fault::CutAnswer, "")]
    {
        let proxy = Proxy::start(node.address(), fault);
        let kubo = pinner_with(proxy.url.clone(), Duration::from_secs(2));
        let error = kubo.pin(car).await.unwrap_err();
        assert!(matches!(error, PinError::Retry { .. }) && error.to_string().contains(words), "{fault:?}: {error}");
    }
    let kubo = pinner(node.url(), Some(Node::credentials()));
    // The last of them was applied, though its answer was lost: found as it is.
    kubo.check(car).await.unwrap();
    node.stop();
    assert!(matches!(kubo.pin(car).await, Err(PinError::Retry { .. })));
    node.up();
    kubo.pin(car).await.unwrap();
}

#[tokio::test]
async fn a_log_is_fetched_from_the_node_as_the_bytes_of_its_files() {
    let node = Node::start();
    let kubo = pinner(node.url(), Some(Node::credentials()));
    let dir = tempfile::tempdir().unwrap();
    for car in cars() {
        kubo.pin(&car).await.unwrap();
        let fetched = kubo.fetch(car.root, &dir.path().join("fetched.car"), Reach::Network).await.unwrap();
        assert!(std::fs::read(fetched.path).unwrap() == std::fs::read(&car.path).unwrap());
        let block = kubo.block(car.root, Reach::Node).await.unwrap();
        assert!(car.root.matches(&block));
    }
}

#[tokio::test]
async fn doctor_has_nothing_to_say_after_its_own_commands() {
    let mut node = Node::with(|config| {
        config["Routing"] = json!({});
        config["Bootstrap"] = json!(["auto"]);
        config["Gateway"]["NoFetch"] = json!(false);
        config["Plugins"] = json!({"Plugins": null});
        config["AutoConf"]["Enabled"] = json!(true);
    });
    let kubo = pinner(node.url(), None);
    let advice = kubo.doctor().await.unwrap();
    let settings: Vec<_> = advice.iter().map(|advice| advice.setting).collect();
    assert_eq!(
        settings,
        [
            "Datastore.HashOnRead",
            "Datastore.Spec, sync",
            "Routing.Type",
            "Bootstrap",
            "AutoConf.Enabled",
            "Gateway.NoFetch",
            "Plugins.Plugins.telemetry"
        ]
    );
    node.stop();
    for advice in advice {
        node.shell(&advice.command);
    }
    node.up();
    assert_eq!(kubo.doctor().await.unwrap(), []);
    assert!(pinner(Node::start().url(), None).doctor().await.is_err(), "the configuration is behind the password");
}

#[tokio::test]
async fn a_full_disk_is_tried_again_and_goes_on_by_itself() {
    let Some(disk) = SmallDisk::mount("size=64k") else { return };
    let folder = Folder::new("vault", disk.0.path(), Contents::ProofAndPayload);
    let cars = cars();
    let (proof, payload) = (&cars[0], &cars[1]);
    folder.pin(proof).await.unwrap();
    let error = folder.pin(payload).await.unwrap_err();
    assert!(matches!(error, PinError::Retry { .. }) && error.hint().contains("space"), "{error}: {}", error.hint());
    let left: Vec<_> = std::fs::read_dir(disk.0.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["000000.proof.car"], "the half copy does not keep the disk full");
    disk.remount("size=1m");
    folder.pin(payload).await.unwrap();

    disk.remount("ro");
    folder.check(proof).await.unwrap();
    let error = folder.pin(&cars[4]).await.unwrap_err();
    assert!(matches!(error, PinError::Retry { .. }) && error.hint().contains("writable"), "{error}: {}", error.hint());
}

/// A file system of its own; needs the right to mount.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn mount(options: &str) -> Option<SmallDisk> {
        let dir = tempfile::tempdir().unwrap();
        let output =
            Command::new("mount").args(["-t", "tmpfs", "-o", options, "none"]).arg(dir.path()).output().unwrap();
        if output.status.success() {
            return Some(SmallDisk(dir));
        }
        let reason = String::from_utf8_lossy(&output.stderr);
        assert!(std::env::var_os("CI").is_none(), "no small disk: {reason}");
        eprintln!("SKIPPED small disk: {reason}");
        None
    }

    fn remount(&self, options: &str) {
        let options = format!("remount,{options}");
        assert!(Command::new("mount").args(["-o", &options]).arg(self.0.path()).status().unwrap().success());
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // A mount that stays is only untidy; the test has said what it has to say.
        let _ = Command::new("umount").arg(self.0.path()).status();
    }
}

/// What the way to the node does wrong.
#[derive(Clone, Copy, Debug)]
enum Fault {
    /// Takes everything and passes nothing on.
    Silent,
    /// Ends a connection after so many bytes to the node.
    CutRequest(u64),
    /// Passes an import on, waits for the answer and keeps it.
    CutAnswer,
}

/// A way to the node that goes wrong.
struct Proxy {
    url: String,
}

impl Proxy {
    fn start(node: String, fault: Fault) -> Proxy {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        listener.set_nonblocking(true).unwrap();
        let listener = tokio::net::TcpListener::from_std(listener).unwrap();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(pass(client, node.clone(), fault));
            }
        });
        Proxy { url }
    }
}

async fn pass(client: TcpStream, node: String, fault: Fault) -> std::io::Result<()> {
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_node, mut to_node) = TcpStream::connect(node).await?.into_split();
    match fault {
        Fault::Silent => tokio::io::copy(&mut from_client, &mut tokio::io::sink()).await?,
        Fault::CutRequest(bytes) => {
            let answer = tokio::spawn(async move { tokio::io::copy(&mut from_node, &mut to_client).await });
            let passed = tokio::io::copy(&mut from_client.take(bytes), &mut to_node).await?;
            answer.abort();
            passed
        }
        Fault::CutAnswer => {
            let mut head = vec![0; "POST /api/v0/dag/import".len()];
            from_client.read_exact(&mut head).await?;
            let is_import = head.ends_with(b"dag/import");
            to_node.write_all(&head).await?;
            tokio::spawn(async move { tokio::io::copy(&mut from_client, &mut to_node).await });
            let mut answer = Vec::new();
            if !is_import {
                return tokio::io::copy(&mut from_node, &mut to_client).await.map(drop);
            }
            // Pinned is what the last line says; only then the connection ends.
            while !answer.windows(7).any(|bytes| bytes == b"\"Stats\"") {
                if from_node.read_buf(&mut answer).await? == 0 {
                    break;
                }
            }
            0
        }
    };
    Ok(())
}
