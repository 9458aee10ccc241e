//! The table of requests put to litewitness: our reading of the protocol against one by others, status by status.
//! Ours answers the same table in the offline tests (`tests/it/witness.rs`).

use crate::peer::litewitness::Litewitness;
use crate::witness_table::{self as table, Log};

#[test]
fn litewitness_answers_the_table_as_it_says_also_after_a_kill() {
    let logs = Log::all();
    let list: Vec<_> = logs.iter().map(|log| (log.origin.as_str(), log.key.vkey().to_string())).collect();
    let mut witness = Litewitness::start(&list);
    for row in table::first_half() {
        row.check(&witness.address(), witness.vkey(), false);
    }
    witness.kill();
    witness.up();
    for row in table::second_half(13) {
        row.check(&witness.address(), witness.vkey(), false);
    }
}
