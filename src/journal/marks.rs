//! Heads that this process committed behind the last seal, now and then one: what a seal is checked against.
//!
//! A seal comes when more was committed behind its end. Its tree, continued with the stored leaves to the next head we
//! know, must be that head's; what follows is for the next seal to check. So the check does not grow with what came
//! meanwhile.

use std::collections::VecDeque;

use super::state::State;
use crate::core::hash::Hash;
use crate::core::seq::Size;

/// Entries between two marks, at least.
const MARK_ENTRIES: u64 = 4096;

/// Sizes and roots, in order.
#[derive(Debug, Default)]
pub(super) struct Marks(VecDeque<(Size, Hash)>);

impl Marks {
    /// Notes the head of a commit, and forgets those that no later seal ends before.
    pub(super) fn note(&mut self, state: &State) {
        let sealed = state.sealed.tree.size();
        while self.0.front().is_some_and(|(size, _)| *size <= sealed) {
            self.0.pop_front();
        }
        let last = self.0.back().map_or(sealed, |(size, _)| *size);
        if state.size().0 >= last.0 + MARK_ENTRIES {
            self.0.push_back((state.size(), state.tree.root()));
        }
    }

    /// The first known head of a log of at least `end` entries; `state` knows the newest.
    pub(super) fn at_or_behind(&self, end: Size, state: &State) -> (Size, Hash) {
        let mark = self.0.iter().find(|(size, _)| *size >= end).copied();
        mark.unwrap_or_else(|| (state.size(), state.tree.root()))
    }
}
