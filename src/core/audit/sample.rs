//! A random choice of segments that anyone can make again from its seed.
//!
//! Not a source of randomness: the caller brings the seed, and whoever wants the choice to be unforeseeable draws it
//! after the archive is fixed. With a share f of the segments damaged, a sample of n sees none of them with probability
//! (1 - f)^n: 459 find a damage of one in a hundred with 99 %.

use std::collections::{BTreeSet, BinaryHeap};

use super::super::hash::Hash;

/// `count` of the first `segments` segments: those whose number, hashed under the seed, comes first.
pub fn sample(segments: u64, count: usize, seed: u64) -> BTreeSet<u64> {
    let mut chosen = BinaryHeap::new();
    for segment in 0..segments {
        chosen.push((Hash::of_all(&[b"pinfold/v1/sample", &seed.to_be_bytes(), &segment.to_be_bytes()]).0, segment));
        if chosen.len() > count {
            chosen.pop();
        }
    }
    chosen.into_iter().map(|(_, segment)| segment).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_one_choice_and_another_seed_another() {
        let one = sample(1000, 20, 7);
        assert_eq!((one.len(), &one), (20, &sample(1000, 20, 7)));
        assert_ne!(one, sample(1000, 20, 8));
        assert!(one.iter().all(|segment| *segment < 1000));
        assert_eq!(sample(3, 20, 7), BTreeSet::from([0, 1, 2]));
    }

    #[test]
    fn every_segment_is_chosen_about_as_often() {
        let mut counts = [0u32; 10];
        for seed in 0..1000 {
            for segment in sample(10, 3, seed) {
                counts[usize::try_from(segment).unwrap()] += 1;
            }
        }
        assert!(counts.iter().all(|count| (240..=360).contains(count)), "{counts:?}");
    }
}
