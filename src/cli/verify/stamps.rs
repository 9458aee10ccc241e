//! What the verifier brings about time, and the lines that say what came of it.

use std::collections::BTreeMap;
use std::path::Path;

use super::super::{Failure, args};
use crate::core::audit::{AuditInput, KnownToken, Report};
use crate::core::timestamp::Roots;

/// Bytes of a file of roots or tokens, at most: a list of all public roots has a quarter.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Reads the roots and tokens in hand.
///
/// # Errors
/// Exit 2 where one is none, or a token does not verify up to the roots: no archive was looked at.
pub(super) fn bring(verify: &args::Verify, input: &mut AuditInput) -> Result<(), Failure> {
    if verify.tsa_roots.is_empty() {
        return Ok(());
    }
    let roots = verify.tsa_roots.iter().map(|path| read_roots(path)).collect::<Result<Vec<_>, _>>()?;
    let roots = Roots::all(roots);
    for path in &verify.known_token {
        let bytes = read(path)?;
        let token = KnownToken::read(&bytes, &roots).map_err(|rejected| {
            Failure::usage(format!("{}: {rejected}", path.display())).hint(
                "a token in hand must verify up to --tsa-roots; `openssl ts -reply -in F -token_in -text` shows it",
            )
        })?;
        input.known_tokens.push(token);
    }
    input.tsa_roots = Some(roots);
    Ok(())
}

/// Reads a file of roots.
///
/// # Errors
/// Exit 2 where it is none.
pub(in crate::cli) fn read_roots(path: &Path) -> Result<Roots, Failure> {
    let wrong = |what: String| Failure::usage(format!("{}: {what}", path.display()));
    Roots::read(&read(path)?).map_err(|rejected| {
        wrong(rejected.to_string())
            .hint("certificates in PEM, or one in DER, as the authority's operator publishes them")
    })
}

fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    let failed = |error| Failure::file("reading", path, &error);
    if std::fs::metadata(path).map_err(failed)?.len() > FILE_BYTES_MAX {
        return Err(Failure::usage(format!("{}: more than {FILE_BYTES_MAX} bytes", path.display())));
    }
    std::fs::read(path).map_err(failed)
}

/// Of each authority the newest checkpoint it spoke about.
pub(super) fn newest(report: &Report) -> Vec<String> {
    let mut newest = BTreeMap::new();
    for seen in &report.anchors {
        let known = newest.entry((seen.kind, &seen.authority)).or_insert(seen);
        if (seen.size, seen.time) > (known.size, known.time) {
            *known = seen;
        }
    }
    let line =
        |((kind, authority), seen): ((crate::core::audit::AnchorKind, &String), &crate::core::audit::AnchorSeen)| {
            let at = seen.time.map_or_else(String::new, |at| format!(" at {at}"));
            format!("  {} {authority}: size {}{at}", kind.as_str(), seen.size)
        };
    newest.into_iter().map(line).collect()
}
