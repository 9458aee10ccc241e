//! A set of offsets as inclusive ranges, sorted and apart.

/// A set of offsets.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Ranges(Vec<(u64, u64)>);

impl Ranges {
    /// The offsets of all `ranges`, in whatever order they stand; each has `first <= last`.
    pub(super) fn of(mut ranges: Vec<(u64, u64)>) -> Ranges {
        ranges.sort_unstable();
        let mut merged: Vec<(u64, u64)> = Vec::new();
        for (first, last) in ranges {
            match merged.last_mut() {
                Some(before) if first <= before.1.saturating_add(1) => before.1 = before.1.max(last),
                _ => merged.push((first, last)),
            }
        }
        Ranges(merged)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.0.iter().copied()
    }

    /// How many offsets it has.
    pub(super) fn count(&self) -> u64 {
        self.iter().map(|(first, last)| last - first + 1).sum()
    }

    /// What is in any of `sets`.
    pub(super) fn union<'a>(sets: impl IntoIterator<Item = &'a Ranges>) -> Ranges {
        Ranges::of(sets.into_iter().flat_map(Ranges::iter).collect())
    }

    /// What is not in `other`.
    pub(super) fn without(&self, other: &Ranges) -> Ranges {
        let mut left = Vec::new();
        let mut others = other.iter().peekable();
        for (mut first, last) in self.iter() {
            while others.next_if(|(_, end)| *end < first).is_some() {}
            let mut is_spent = false;
            while let Some(&(start, end)) = others.peek().filter(|(start, _)| *start <= last) {
                if first < start {
                    left.push((first, start - 1));
                }
                first = end.saturating_add(1);
                is_spent = end >= last;
                if is_spent {
                    // It may reach into the next range as well.
                    break;
                }
                others.next();
            }
            if !is_spent {
                left.push((first, last));
            }
        }
        Ranges(left)
    }

    /// What is in both.
    pub(super) fn within(&self, other: &Ranges) -> Ranges {
        self.without(&self.without(other))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_ranges() -> impl Strategy<Value = Vec<(u64, u64)>> {
        prop::collection::vec((0u64..60, 0u64..6).prop_map(|(first, more)| (first, first + more)), 0..8)
    }

    fn members(ranges: &[(u64, u64)]) -> Vec<u64> {
        (0..80).filter(|offset| ranges.iter().any(|(first, last)| (first..=last).contains(&offset))).collect()
    }

    proptest! {
        #[test]
        fn sets_of_ranges_are_sets(a in any_ranges(), b in any_ranges()) {
            let (one, other) = (Ranges::of(a.clone()), Ranges::of(b.clone()));
            prop_assert_eq!(members(&one.0), members(&a));
            prop_assert!(one.0.windows(2).all(|pair| pair[0].1 + 1 < pair[1].0), "sorted and apart");
            prop_assert_eq!(one.count(), u64::try_from(members(&a).len()).unwrap());
            let without: Vec<u64> = members(&a).into_iter().filter(|offset| !members(&b).contains(offset)).collect();
            prop_assert_eq!(members(&one.without(&other).0), without);
            let within: Vec<u64> = members(&a).into_iter().filter(|offset| members(&b).contains(offset)).collect();
            prop_assert_eq!(members(&one.within(&other).0), within);
            prop_assert_eq!(Ranges::union([&one, &other]), Ranges::of([a, b].concat()));
        }
    }

    #[test]
    fn the_largest_offsets_do_not_wrap() {
        let all = Ranges::of(vec![(0, u64::MAX)]);
        assert_eq!(all.without(&all), Ranges::default());
        assert_eq!(all.within(&Ranges::of(vec![(7, u64::MAX)])).0, [(7, u64::MAX)]);
    }
}
