//! The rules of the tree: who may import whom, how long a file may be, what each crate is named in.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// A source file: its path below `src`, and its code without tests.
struct Source {
    path: String,
    lines: usize,
    opens_with_docs: bool,
    code: String,
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    collect(&root, &mut files);
    files.sort();
    files.into_iter().map(|path| source(&root, &path)).collect()
}

fn collect(dir: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

fn source(root: &Path, path: &Path) -> Source {
    let text = std::fs::read_to_string(path).unwrap();
    let code = text.split("#[cfg(test)]\nmod tests").next().unwrap();
    let code = code.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n");
    Source {
        path: path.strip_prefix(root).unwrap().to_str().unwrap().to_owned(),
        lines: text.lines().count(),
        opens_with_docs: text.starts_with("//!"),
        code,
    }
}

/// Generated code and tests keep to other rules.
fn is_product(source: &Source) -> bool {
    source.path != "proto/v1.rs" && !source.path.ends_with("tests.rs") && !source.path.contains("/tests/")
}

/// The module a file belongs to: the first part of its path.
fn module(path: &str) -> &str {
    path.split('/').next().unwrap().trim_end_matches(".rs")
}

/// What may be imported by each module, besides itself. Imports point down; siblings meet in `sidecar`.
fn may_import(module: &str) -> &'static [&'static str] {
    match module {
        "main" => &["cli"],
        "cli" => &[
            "anchor", "archive", "config", "core", "http", "ingest", "journal", "keyring", "proto", "registry",
            "sidecar", "tiles", "witness",
        ],
        "config" => &["core"],
        "http" => &["core", "tiles", "witness"],
        "sidecar" => &["anchor", "archive", "core", "ingest", "journal", "keyring", "proto", "registry", "tiles"],
        "anchor" | "archive" | "ingest" | "journal" | "keyring" | "registry" | "tiles" | "witness" => &["core"],
        "core" => &["proto"],
        "proto" => &[],
        other => panic!("a module nobody planned: {other}"),
    }
}

fn faults(sources: &[Source]) -> Vec<String> {
    let mut faults = Vec::new();
    let modules: BTreeSet<&str> = sources.iter().map(|source| module(&source.path)).collect();
    for source in sources.iter().filter(|source| is_product(source)) {
        let own = module(&source.path);
        if !source.opens_with_docs {
            faults.push(format!("{}: does not open with //!", source.path));
        }
        if source.lines > 800 {
            faults.push(format!("{}: {} lines", source.path, source.lines));
        }
        if source.path == "sidecar.rs" && source.lines > SIDECAR_LINES_MAX {
            faults.push(format!("sidecar.rs: {} lines", source.lines));
        }
        if own == "lib" {
            continue;
        }
        for other in modules.iter().filter(|other| **other != own && **other != "lib" && **other != "main") {
            let imports = source.code.contains(&format!("crate::{other}::"))
                || source.code.contains(&format!("crate::{{{other}"))
                || (own == "main" && source.code.contains(&format!("pinfold::{other}::")));
            if imports && !may_import(own).contains(other) {
                faults.push(format!("{}: imports {other}", source.path));
            }
        }
        for (name, home) in HOMES {
            let is_named = source.code.contains(&format!("{name}::")) || source.code.contains(&format!("use {name};"));
            if is_named && !home.iter().any(|home| source.path.starts_with(home)) {
                faults.push(format!("{}: names {name}", source.path));
            }
        }
        if own == "core" {
            faults.extend(
                IMPURE
                    .iter()
                    .filter(|word| source.code.contains(**word))
                    .map(|word| format!("{}: core is pure, and this says {word}", source.path)),
            );
        }
        if source.code.contains("std::env::var") && !source.path.starts_with("config/") {
            faults.push(format!("{}: reads the environment", source.path));
        }
    }
    faults
}

/// The loop stays readable in one sitting.
const SIDECAR_LINES_MAX: usize = 300;

/// Crates that are contained, and the files they may be named in.
const HOMES: &[(&str, &[&str])] = &[
    ("sled", &["journal"]),
    ("rdkafka", &["ingest/kafka"]),
    ("ipfs_api_backend_hyper", &["archive/kubo"]),
    ("ipfs_api_prelude", &["archive/kubo"]),
    ("ed25519_dalek", &["core/note"]),
    ("multihash_codetable", &["core/cid.rs"]),
    ("clap", &["cli", "main.rs"]),
    ("clap_complete", &["cli"]),
    ("rusqlite", &["registry", "witness"]),
    ("axum", &["http"]),
];

/// Clocks, randomness, the environment, files, threads that sleep, logs.
const IMPURE: &[&str] = &[
    "SystemTime",
    "Instant::now",
    "std::env",
    "std::fs",
    "std::net",
    "std::process",
    "thread::",
    "tracing::",
    "rand::",
    "tokio",
    "async fn",
    "println!",
    "static mut",
];

#[test]
fn imports_point_down_files_stay_short_and_crates_stay_in_their_homes() {
    let faults = faults(&sources());
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// The checker itself: each rule is shown to catch what it forbids.
#[test]
fn every_rule_catches_a_planted_fault() {
    let planted = |path: &str, code: &str| {
        let opens_with_docs = !code.starts_with("use bare");
        let mut all = sources();
        all.push(Source { path: path.to_owned(), lines: code.lines().count(), opens_with_docs, code: code.to_owned() });
        faults(&all).iter().any(|fault| fault.starts_with(path))
    };
    assert!(planted("core/x.rs", "use crate::journal::Journal;"));
    assert!(planted("journal/x.rs", "use crate::keyring::Keyring;"));
    assert!(planted("http/x.rs", "use crate::sidecar::Sidecar;"));
    assert!(planted("keyring/x.rs", "let db = sled::open(path);"));
    assert!(planted("core/x.rs", "let now = std::time::SystemTime::now();"));
    assert!(planted("cli/x.rs", "std::env::var(\"HOME\")"));
    assert!(planted("cli/x.rs", "use bare;"));
    assert!(planted("cli/x.rs", &"\n".repeat(801)));
    assert!(!planted("cli/x.rs", "use crate::journal::Journal;"));
}
