//! Licences, sources and duplicates of everything in the lock file, over `cargo metadata` alone: no network needed.

use std::collections::BTreeMap;
use std::process::Command;

use serde_json::Value;

fn metadata() -> Value {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--offline", "--locked", "--all-features"])
        // Without a platform cargo wants the crates of all of them, Windows included.
        .args(["--filter-platform", "x86_64-unknown-linux-gnu"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn packages(metadata: &Value) -> impl Iterator<Item = (&str, &Value)> {
    metadata["packages"].as_array().unwrap().iter().map(|package| (package["name"].as_str().unwrap(), package))
}

/// Licences of which one must be offered (the list of deny.toml).
const ALLOWED: &[&str] = &[
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "MIT",
    "MIT-0",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "ISC",
    "Zlib",
    "Unicode-3.0",
    "CC0-1.0",
    "MPL-2.0",
    "OpenSSL",
    "BSL-1.0",
    "CDLA-Permissive-2.0",
    "Unlicense",
    "0BSD",
];

/// Whether an SPDX expression of ANDs over ORs can be met with what is allowed.
fn is_allowed(expression: &str) -> bool {
    let expression = expression.replace(['(', ')'], " ").replace('/', " OR ");
    expression.split(" AND ").all(|part| part.split(" OR ").any(|licence| ALLOWED.contains(&licence.trim())))
}

#[test]
fn every_licence_is_one_we_may_ship() {
    let metadata = metadata();
    let refused: Vec<String> = packages(&metadata)
        .filter(|(_, package)| !package["license"].as_str().is_some_and(is_allowed))
        .map(|(name, package)| format!("{name}: {}", package["license"]))
        .collect();
    assert!(refused.is_empty(), "{}", refused.join("\n"));
    // The checker itself.
    assert!(!is_allowed("GPL-3.0-only") && !is_allowed("MIT AND AGPL-3.0-only") && is_allowed("MIT OR GPL-3.0-only"));
}

#[test]
fn every_crate_comes_from_the_registry_or_from_this_tree() {
    let metadata = metadata();
    for (name, package) in packages(&metadata) {
        let is_ours = package["source"].is_null() && ["pinfold", "core2"].contains(&name);
        let is_registry = package["source"].as_str().is_some_and(|source| source.starts_with("registry+"));
        assert!(is_ours || is_registry, "{name} comes from {}", package["source"]);
    }
}

#[test]
fn the_lock_file_does_not_grow_unseen() {
    let metadata = metadata();
    let mut versions: BTreeMap<&str, usize> = BTreeMap::new();
    for (name, _) in packages(&metadata) {
        *versions.entry(name).or_default() += 1;
    }
    let total: usize = versions.values().sum();
    let doubled = versions.values().filter(|count| **count > 1).count();
    // Ceilings: raise them in the commit that brings the crates, and say there what they are for.
    assert!(total <= 520, "{total} crates");
    assert!(doubled <= 75, "{doubled} crates in more than one version");
}

#[test]
fn every_direct_dependency_is_explained() {
    let manifest = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml")).unwrap();
    let explained = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/dependencies.md")).unwrap();
    let manifest: toml::Table = toml::from_str(&manifest).unwrap();
    for section in ["dependencies", "dev-dependencies"] {
        for name in manifest[section].as_table().unwrap().keys() {
            assert!(explained.contains(&format!("\n| `{name}` ")), "docs/dependencies.md has no line for {name}");
        }
    }
}
