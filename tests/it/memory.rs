//! An archive that lies in memory, and how a test changes it.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::path::Path;
use std::process::Command;

use pinfold::core::audit::{self, Archive, AuditInput, File, Report};
use pinfold::core::note::{Vkey, WitnessVkey};

/// The files of an archive by name.
#[derive(Clone, Debug, Default)]
pub(crate) struct Memory {
    pub(crate) files: BTreeMap<String, Vec<u8>>,
}

impl Memory {
    /// The CAR files of a directory; packed ones are unpacked.
    pub(crate) fn read(dir: &Path) -> Memory {
        let mut files = BTreeMap::new();
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            let bytes = std::fs::read(&path).unwrap();
            if let Some(name) = name.strip_suffix(".car.gz") {
                let output = Command::new("gzip").args(["-dc"]).arg(&path).output().unwrap();
                assert!(output.status.success(), "unpacking {}", path.display());
                files.insert(format!("{name}.car"), output.stdout);
            } else if name.ends_with(".car") {
                files.insert(name, bytes);
            }
        }
        Memory { files }
    }

    pub(crate) fn file(&self, segment: u64, file: File) -> Option<&[u8]> {
        self.files.get(&name(segment, file)).map(Vec::as_slice)
    }

    /// The segments up to the newest that has a proof.
    pub(crate) fn segments(&self) -> u64 {
        let proofs = self.files.keys().filter_map(|name| name.strip_suffix(".proof.car"));
        proofs.map(|number| number.parse::<u64>().unwrap() + 1).max().unwrap_or(0)
    }

    pub(crate) fn audit(&self, input: &AuditInput) -> Report {
        audit::audit(self, self.segments(), input).unwrap()
    }
}

impl Archive for Memory {
    fn open(&self, segment: u64, file: File) -> io::Result<Option<Box<dyn Read + '_>>> {
        Ok(self.file(segment, file).map(|bytes| Box::new(bytes) as Box<dyn Read>))
    }
}

pub(crate) fn name(segment: u64, file: File) -> String {
    let kind = match file {
        File::Proof => "proof",
        File::Payload => "payload",
        File::Anchor => "anchor",
    };
    format!("{segment:06}.{kind}.car")
}

/// What the vectors hand to a verifier.
pub(crate) fn input(vkeys: &[&str], recovery: Option<&str>, witnesses: &[&str]) -> AuditInput {
    AuditInput {
        vkeys: vkeys.iter().map(|vkey| vkey.parse::<Vkey>().unwrap()).collect(),
        recovery: recovery.map(|vkey| vkey.parse().unwrap()),
        witnesses: witnesses.iter().map(|vkey| vkey.parse::<WitnessVkey>().unwrap()).collect(),
        ..AuditInput::default()
    }
}
