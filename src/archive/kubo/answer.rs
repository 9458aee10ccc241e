//! The answer of `dag/import`, read strictly: HTTP 200 does not mean pinned.
//!
//! Pure. Newline-delimited JSON, one `Root` and one `Stats`, in any order. Fields we do not know are left to newer nodes;
//! what we rely on must be there.

use serde::Deserialize;

use crate::core::cid::Cid;

/// Why an import did not do what was asked.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub(super) enum Fault {
    /// Kubo says 200 and nothing when it took no root.
    #[error("an empty answer")]
    Empty,
    #[error("an answer that is not Kubo's: {0}")]
    Garbled(String),
    /// Another root than ours, as the node wrote it.
    #[error("another root: {0}")]
    OtherRoot(String),
    /// Imported, not pinned, with the node's reason.
    #[error("not pinned: {0}")]
    NotPinned(String),
    #[error("expected {expected} blocks, found {found}")]
    Blocks { expected: u64, found: u64 },
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct Line {
    root: Option<Root>,
    stats: Option<Stats>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Root {
    cid: Link,
    pin_error_msg: String,
}

#[derive(Deserialize)]
struct Link {
    #[serde(rename = "/")]
    cid: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Stats {
    block_count: u64,
}

/// Whether `body` says that `root` was pinned with so many blocks.
pub(super) fn import(body: &[u8], root: Cid, blocks: u64) -> Result<(), Fault> {
    let garbled = |what: &str| Fault::Garbled(what.to_owned());
    let (mut pinned, mut stats) = (None, None);
    for line in body.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        match serde_json::from_slice(line).map_err(|error| Fault::Garbled(error.to_string()))? {
            Line { root: Some(root), stats: None } if pinned.is_none() => pinned = Some(root),
            Line { root: None, stats: Some(line) } if stats.is_none() => stats = Some(line),
            _ => return Err(garbled("a line twice, or neither root nor stats")),
        }
    }
    let pinned = match (pinned, &stats) {
        (Some(pinned), _) => pinned,
        (None, None) => return Err(Fault::Empty),
        (None, Some(_)) => return Err(garbled("no root")),
    };
    // Compared as bytes: other nodes print other bases.
    if pinned.cid.cid.parse() != Ok(root) {
        return Err(Fault::OtherRoot(super::shorten(&pinned.cid.cid)));
    }
    if !pinned.pin_error_msg.is_empty() {
        return Err(Fault::NotPinned(super::shorten(&pinned.pin_error_msg)));
    }
    match stats {
        None => Err(garbled("no stats: cut short")),
        Some(stats) if stats.block_count != blocks => Err(Fault::Blocks { expected: blocks, found: stats.block_count }),
        Some(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::cid::Codec;

    #[test]
    fn only_our_root_pinned_with_all_blocks_passes() {
        let root = Cid::of(Codec::DagCbor, b"\xa0");
        let other = Cid::of(Codec::Raw, b"");
        let line = |cid: Cid, message| format!(r#"{{"Root":{{"Cid":{{"/":"{cid}"}},"PinErrorMsg":"{message}"}}}}"#);
        let ours = line(root, "");
        let stats = r#"{"Stats":{"BlockCount":3,"BlockBytesCount":99}}"#;
        let check = |body: &str| import(body.as_bytes(), root, 3);

        assert_eq!(check(&format!("{ours}\n{stats}\n")), Ok(()));
        assert_eq!(check(""), Err(Fault::Empty));
        assert_eq!(check("\n\n"), Err(Fault::Empty));
        assert_eq!(check(&format!("{}\n{stats}", line(other, ""))), Err(Fault::OtherRoot(other.to_string())));
        assert_eq!(check(&format!("{}\n{stats}", line(root, "no"))), Err(Fault::NotPinned("no".to_owned())));
        let short = format!("{ours}\n{}", stats.replace('3', "2"));
        assert_eq!(check(&short), Err(Fault::Blocks { expected: 3, found: 2 }));
        for garbled in [
            ours.as_str(),
            stats,
            &format!("{ours}\n{ours}\n{stats}"),
            &format!("{ours}\n{stats}\n{stats}"),
            &format!("{ours}{stats}"),
            &format!("{ours}\n{stats}\n{{}}"),
            &format!("{ours}\n{stats}\nX-Stream-Error: cut"),
            &format!(r#"{{"Root":{{"Cid":{{"/":"{root}"}}}}}}{}{stats}"#, "\n"),
            "<html>",
        ] {
            assert!(matches!(check(garbled), Err(Fault::Garbled(_))), "{garbled}");
        }
    }
}
