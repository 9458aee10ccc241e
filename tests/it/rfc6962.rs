//! The public proof vectors of transparency-dev/merkle (Apache-2.0): read where the shared folder is, not copied.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "helpers of tests fail loudly, and a skip is printed")]

use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use pinfold::core::hash::Hash;
use pinfold::core::merkle::{verify_consistency, verify_inclusion};
use pinfold::core::seq::{Seq, Size};

#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct Inclusion {
    leaf_idx: u64,
    tree_size: u64,
    root: Option<String>,
    leaf_hash: Option<String>,
    proof: Option<Vec<String>>,
    desc: String,
    want_err: bool,
}

#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct Consistency {
    size1: u64,
    size2: u64,
    root1: Option<String>,
    root2: Option<String>,
    proof: Option<Vec<String>>,
    desc: String,
    want_err: bool,
}

/// `$PINFOLD_SHARED/vectors/rfc6962` or the folder `shared` beside the project. In CI it must be there.
fn folder() -> Option<PathBuf> {
    let beside = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared");
    let shared = std::env::var_os("PINFOLD_SHARED").map_or_else(beside, PathBuf::from);
    let folder = shared.join("vectors/rfc6962");
    if folder.is_dir() {
        return Some(folder);
    }
    assert!(std::env::var("CI").as_deref() != Ok("true"), "the public vectors are not at {}", folder.display());
    println!("SKIPPED public RFC 6962 vectors: not at {}", folder.display());
    None
}

fn read<T: serde::de::DeserializeOwned>(folder: &Path) -> Vec<(String, T)> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            all.extend(read(&path));
        } else {
            all.push((path.display().to_string(), serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap()));
        }
    }
    all
}

fn bytes(text: Option<&String>) -> Vec<u8> {
    STANDARD.decode(text.map_or("", String::as_str)).unwrap()
}

/// None for what is no hash: our types cannot hold it, so such a proof is refused when it is read.
fn hash(text: Option<&String>) -> Option<Hash> {
    Some(Hash(bytes(text).try_into().ok()?))
}

/// Some vectors have words for a root that is only compared: their hash stands for them.
fn root(text: Option<&String>) -> Hash {
    hash(text).unwrap_or_else(|| Hash::of(&bytes(text)))
}

fn hashes(texts: Option<&Vec<String>>) -> Option<Vec<Hash>> {
    texts.into_iter().flatten().map(|text| hash(Some(text))).collect()
}

#[test]
fn inclusion_proofs() {
    let Some(folder) = folder() else { return };
    let vectors = read::<Inclusion>(&folder.join("inclusion"));
    assert_eq!(vectors.len(), 98);
    for (path, v) in vectors {
        let fields = (hash(v.leaf_hash.as_ref()), hashes(v.proof.as_ref()), hash(v.root.as_ref()));
        let sound = match fields {
            (Some(leaf), Some(proof), Some(root)) => {
                verify_inclusion(leaf, Seq(v.leaf_idx), Size(v.tree_size), &proof, root)
            }
            _ => false,
        };
        assert_eq!(sound, !v.want_err, "{} ({path})", v.desc);
    }
}

#[test]
fn consistency_proofs() {
    let Some(folder) = folder() else { return };
    let vectors = read::<Consistency>(&folder.join("consistency"));
    assert_eq!(vectors.len(), 98);
    for (path, v) in vectors {
        let (old, new) = (root(v.root1.as_ref()), root(v.root2.as_ref()));
        let sound = hashes(v.proof.as_ref())
            .is_some_and(|proof| verify_consistency(Size(v.size1), old, Size(v.size2), new, &proof));
        assert_eq!(sound, !v.want_err, "{} ({path})", v.desc);
    }
}
