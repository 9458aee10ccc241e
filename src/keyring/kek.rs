//! The key-encryption key and its epochs: what is destroyed so that nothing sealed under it can be opened again.
//!
//! A provider makes, uses and destroys epochs one by one. Ours keeps a random key per epoch in the file `epochs`, sealed
//! under a key from a file. That is for development: who kept an old copy of `epochs` and the key file undoes a
//! destruction, and `doctor` says so. A key service destroys where no copy is left; it replaces `Epochs` whole and no
//! other file changes. The contract for a second implementer:
//! `create` and `destroy` are durable on return and may be repeated; `wrap` and `unwrap` bind the context;
//! nothing wrapped under an epoch can be unwrapped after `destroy`.
//! Spec: docs/keyring.md, `epochs`.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use zeroize::{Zeroize, Zeroizing};

use super::KeyringError;
use super::bytes::{Reader, be32};
use super::crypt::{Random, SealKey, derive};
use super::disk::Disk;

/// The file of the epochs.
const EPOCHS: &str = "epochs";
const MAGIC: &[u8; 8] = b"PFKRepoc";
const VERSION: u32 = 1;

/// The key above all others: 32 bytes from a file kept apart from the keyring.
pub struct Kek(Zeroizing<[u8; 32]>);

impl Kek {
    /// A fresh random key.
    ///
    /// # Errors
    /// `NoRandom`.
    pub fn generate() -> Result<Kek, KeyringError> {
        Ok(Kek(Zeroizing::new(Random::new().bytes()?)))
    }

    /// Reads a key file: 64 hex digits and a line feed. It may be a link and group-readable (Kubernetes secrets are), but
    /// not readable by others.
    ///
    /// # Errors
    /// `Kek` for a file that is none or is open to others, `Io`.
    pub fn read(path: &Path) -> Result<Kek, KeyringError> {
        let refused = |what| KeyringError::Kek { path: path.display().to_string(), what };
        let io = |doing| KeyringError::io(&path.display().to_string(), doing);
        let mut file = File::open(path).map_err(io("open"))?;
        if file.metadata().map_err(io("look at"))?.mode() & 0o007 != 0 {
            return Err(refused("others may read or write it"));
        }
        let mut text = Zeroizing::new([0; 66]);
        let mut len = 0;
        while let Some(free) = text.get_mut(len..).filter(|free| !free.is_empty()) {
            match file.read(free).map_err(io("read"))? {
                0 => break,
                more => len += more,
            }
        }
        let mut key = Zeroizing::new([0; 32]);
        let digits = text.get(..len).unwrap_or_default();
        let digits = digits.strip_suffix(b"\n").unwrap_or(digits);
        hex::decode_to_slice(digits, &mut *key).map_err(|_| refused("it does not hold 64 hex digits"))?;
        Ok(Kek(key))
    }

    /// Writes the key to a new file of mode 0600, never over an existing one. Durable on return.
    ///
    /// # Errors
    /// `Io`.
    pub fn write(&self, path: &Path) -> Result<(), KeyringError> {
        let io = |doing| KeyringError::io(&path.display().to_string(), doing);
        let mut text = Zeroizing::new(hex::encode(*self.0));
        text.reserve_exact(1);
        text.push('\n');
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(io("create"))?;
        file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(io("write"))?;
        let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(dir).and_then(|dir| dir.sync_all()).map_err(io("sync the directory of"))
    }

    /// 8 bytes that tell this key from another without telling the key.
    fn id(&self) -> [u8; 8] {
        let mut id = [0; 8];
        id.copy_from_slice(derive(&self.0, b"pinfold/keyring/v1/kek-id\0", &[]).get(..8).unwrap_or_default());
        id
    }
}

impl std::fmt::Debug for Kek {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Kek(..)")
    }
}

/// The file provider: a key per epoch, all sealed under the KEK in one file.
pub(super) struct Epochs {
    keyring: [u8; 16],
    kek_id: [u8; 8],
    seal: SealKey,
    keys: BTreeMap<u64, Zeroizing<[u8; 32]>>,
}

impl Epochs {
    /// No epochs yet, and no file: `create` writes it.
    pub(super) fn new(keyring: [u8; 16], kek: &Kek) -> Epochs {
        let seal = SealKey::new(&derive(&kek.0, b"pinfold/keyring/v1/epochs\0", &keyring));
        Epochs { keyring, kek_id: kek.id(), seal, keys: BTreeMap::new() }
    }

    /// The epochs of the file.
    pub(super) fn read(disk: &Disk, keyring: [u8; 16], kek: &Kek) -> Result<Epochs, KeyringError> {
        let damaged = || KeyringError::damaged(EPOCHS, "its content does not authenticate");
        let bytes = disk.read(EPOCHS)?;
        let mut reader = Reader(&bytes);
        if reader.array() != Some(*MAGIC) {
            return Err(KeyringError::damaged(EPOCHS, "it does not start as one"));
        }
        match reader.u32().ok_or_else(damaged)? {
            VERSION => {}
            version => return Err(KeyringError::Version { file: EPOCHS.to_owned(), version }),
        }
        let mut epochs = Epochs::new(keyring, kek);
        if reader.array() != Some(keyring) {
            return Err(KeyringError::damaged(EPOCHS, "it is of another keyring"));
        }
        if reader.array() != Some(epochs.kek_id) {
            return Err(KeyringError::WrongKek);
        }
        let plain = epochs.seal.open(&epochs.head(), reader.0).ok_or_else(damaged)?;
        let mut reader = Reader(&plain);
        while !reader.is_empty() {
            let (epoch, key) = reader.u64().zip(reader.array()).ok_or_else(damaged)?;
            epochs.keys.insert(epoch, Zeroizing::new(key));
        }
        Ok(epochs)
    }

    /// Makes new epochs. Durable on return.
    pub(super) fn create(&mut self, disk: &Disk, random: &mut Random, epochs: &[u64]) -> Result<(), KeyringError> {
        for epoch in epochs {
            self.keys.insert(*epoch, Zeroizing::new(random.bytes()?));
        }
        self.write(disk, random)
    }

    /// Destroys epochs. Durable on return.
    pub(super) fn destroy(&mut self, disk: &Disk, random: &mut Random, epochs: &[u64]) -> Result<(), KeyringError> {
        for epoch in epochs {
            self.keys.remove(epoch);
        }
        self.write(disk, random)
    }

    /// Every epoch there is.
    pub(super) fn all(&self) -> impl Iterator<Item = u64> {
        self.keys.keys().copied()
    }

    /// The key wrapped under an epoch and bound to `context`.
    pub(super) fn wrap(
        &self,
        random: &mut Random,
        epoch: u64,
        context: &[u8],
        key: &[u8; 32],
    ) -> Result<Vec<u8>, KeyringError> {
        let wrapping = self.keys.get(&epoch).ok_or_else(|| KeyringError::damaged(EPOCHS, "an epoch is not there"))?;
        let mut wrapped = Vec::new();
        SealKey::new(wrapping).seal_to(&mut wrapped, random, context, key)?;
        Ok(wrapped)
    }

    /// The wrapped key, or `None` if the epoch is destroyed, or it was not wrapped under it for `context`.
    pub(super) fn unwrap(&self, epoch: u64, context: &[u8], wrapped: &[u8]) -> Option<Zeroizing<[u8; 32]>> {
        let plain = SealKey::new(self.keys.get(&epoch)?).open(context, wrapped)?;
        let mut key = Zeroizing::new([0; 32]);
        key.copy_from_slice(plain.get(..32).filter(|_| plain.len() == 32)?);
        Some(key)
    }

    fn head(&self) -> Vec<u8> {
        [&MAGIC[..], &be32(1), &self.keyring, &self.kek_id].concat()
    }

    fn write(&self, disk: &Disk, random: &mut Random) -> Result<(), KeyringError> {
        let mut plain = Zeroizing::new(Vec::with_capacity(self.keys.len() * 40));
        for (epoch, key) in &self.keys {
            plain.extend_from_slice(&epoch.to_be_bytes());
            plain.extend_from_slice(&**key);
        }
        let head = self.head();
        let mut bytes = head.clone();
        self.seal.seal_to(&mut bytes, random, &head, &plain)?;
        plain.zeroize();
        disk.replace(EPOCHS, &bytes)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_key_file_round_trips_and_one_open_to_others_or_cut_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("kek");
        let kek = Kek::generate().unwrap();
        kek.write(&path).unwrap();
        assert!(kek.write(&path).is_err(), "an existing key file was overwritten");
        assert_eq!(Kek::read(&path).unwrap().0, kek.0);
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(Kek::read(&path), Err(KeyringError::Kek { .. })));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o440)).unwrap();
        assert!(Kek::read(&path).is_ok());
        let text = fs::read_to_string(&path).unwrap();
        for wrong in [&text[..63], &text.replace('\n', "0"), &format!("{text}\n"), "", &"zz".repeat(32)] {
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
            fs::write(&path, wrong).unwrap();
            assert!(matches!(Kek::read(&path), Err(KeyringError::Kek { .. })), "{} bytes", wrong.len());
        }
    }

    #[test]
    fn a_destroyed_epoch_unwraps_nothing_and_the_others_still_do() {
        let dir = tempfile::tempdir().unwrap();
        let disk = Disk::create(&dir.path().join("keyring")).unwrap();
        let (kek, mut random) = (Kek::generate().unwrap(), Random::new());
        let mut epochs = Epochs::new([1; 16], &kek);
        epochs.create(&disk, &mut random, &[4, 5]).unwrap();
        let four = epochs.wrap(&mut random, 4, b"shard", &[9; 32]).unwrap();
        let five = epochs.wrap(&mut random, 5, b"shard", &[9; 32]).unwrap();
        epochs.destroy(&disk, &mut random, &[4]).unwrap();
        let epochs = Epochs::read(&disk, [1; 16], &kek).unwrap();
        assert!(epochs.unwrap(4, b"shard", &four).is_none());
        assert!(epochs.unwrap(5, b"other", &five).is_none());
        assert_eq!(*epochs.unwrap(5, b"shard", &five).unwrap(), [9; 32]);
        assert!(matches!(Epochs::read(&disk, [1; 16], &Kek::generate().unwrap()), Err(KeyringError::WrongKek)));
    }
}
