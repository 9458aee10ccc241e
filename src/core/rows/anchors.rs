//! What others said about a checkpoint, as rows: a function of the anchor file's bytes alone.
//!
//! Nothing is verified here, by the writer it was before it was kept, by an audit it is beside this. An authority that
//! spoke more than once has one row, with what it said first.

use std::sync::Arc;

use super::AnchorRow;
use super::fold::column;
use crate::core::audit::AnchorKind;
use crate::core::checkpoint::Statement;
use crate::core::finding::Refused;
use crate::core::segment::Anchor;
use crate::core::time::Timestamp;
use crate::core::timestamp::Token;

/// The rows of an anchor.
///
/// # Errors
/// `non-canonical` where its checkpoint is none.
pub fn anchor_rows(anchor: &Anchor) -> Result<Vec<AnchorRow>, Refused> {
    let head = Statement::parse(&anchor.checkpoint)?.head;
    let cid = anchor.cid();
    let mut rows: Vec<AnchorRow> = Vec::new();
    let mut add = |kind: AnchorKind, authority: &str, time: Timestamp| {
        let Some(authority) = column(authority, 255) else { return };
        if rows.iter().any(|row| (row.kind, &row.authority) == (kind.as_str(), &authority)) {
            return;
        }
        rows.push(AnchorRow {
            seal_cid: anchor.seal,
            kind: kind.as_str(),
            authority,
            origin: Arc::from(head.origin.as_str()),
            size: head.size.0,
            anchor_cid: Some(cid),
            anchored_at: time,
        });
    };
    for claim in anchor.claims()? {
        add(AnchorKind::Witness, claim.name, claim.time);
    }
    // One that does not open has no row; what is wrong with it the audit says.
    for token in anchor.tsa.iter().filter_map(|token| Token::open(token).ok()) {
        add(AnchorKind::Tsa, &token.claimed_authority(), token.claimed_time());
    }
    Ok(rows)
}
