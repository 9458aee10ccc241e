//! A disk that loses its power: builds `tests/shim/powercut.c` and puts what was synced in the place of what was written.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Builds the shim, once for each test; `PINFOLD_SHIM` names it where it is built already.
pub(crate) fn build(dir: &Path) -> PathBuf {
    if let Some(built) = std::env::var_os("PINFOLD_SHIM") {
        return built.into();
    }
    let built = dir.join("powercut.so");
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/shim/powercut.c");
    let mut command = Command::new("cc");
    command.args(["-O2", "-fPIC", "-shared", "-o"]).arg(&built).arg(source).args(["-ldl", "-lpthread"]);
    assert!(command.status().unwrap().success(), "the shim does not build");
    built
}

/// Makes the shadow of a new session at `shadow`.
pub(crate) fn begin(shadow: &Path) {
    drop(fs::remove_dir_all(shadow));
    fs::create_dir(shadow).unwrap();
}

/// Puts what was synced in the place of `root`. Modes are not simulated: every file is its owner's alone.
pub(crate) fn restore(root: &Path, shadow: &Path) {
    fs::remove_dir_all(root).unwrap();
    restore_dir(root, shadow, "1");
}

fn restore_dir(dir: &Path, shadow: &Path, id: &str) {
    fs::create_dir(dir).unwrap();
    fs::set_permissions(dir, fs::Permissions::from_mode(0o700)).unwrap();
    for line in fs::read_to_string(shadow.join(format!("{id}.list"))).unwrap_or_default().lines() {
        let mut fields = line.splitn(3, ' ');
        let (Some(id), Some(kind), Some(name)) = (fields.next(), fields.next(), fields.next()) else {
            panic!("{line}")
        };
        let path = dir.join(name);
        if kind == "d" {
            restore_dir(&path, shadow, id);
            continue;
        }
        // Named, but never synced itself: an empty file.
        fs::write(&path, fs::read(shadow.join(format!("{id}.data"))).unwrap_or_default()).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    }
}
