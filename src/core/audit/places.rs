//! The choice of blocks that an audit of a replica reads: places among all bytes, that anyone can draw again.
//!
//! Places are drawn among bytes, not blocks: with a share f of a target's bytes damaged, n places see none of the damage
//! with probability (1 - f)^n, so 459 find one byte in a hundred with 99 %. The draw depends on the newest released
//! checkpoint and on the time its entry states: a target cannot foresee it, and an auditor can repeat it.

use super::super::checkpoint::Head;
use super::super::hash::Hash;
use super::super::time::Timestamp;

/// What a draw depends on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Draw {
    /// The newest released checkpoint.
    pub head: Head,
    /// The target's configured name.
    pub target: String,
    /// The time that the entry of kind 16 states.
    pub at: Timestamp,
}

impl Draw {
    /// Place `n` among `bytes` bytes, numbered from 0; 0 where there are none.
    pub fn place(&self, n: u64, bytes: u64) -> u64 {
        let (size, at, n) = (self.head.size.0.to_be_bytes(), self.at.0.to_be_bytes(), n.to_be_bytes());
        let seed: &[&[u8]] = &[b"pinfold/v1/replica\0", &self.head.root.0, &size, &at, &n, self.target.as_bytes()];
        let Hash(drawn) = Hash::of_all(seed);
        let mut wide = [0; 16];
        wide.iter_mut().zip(drawn).for_each(|(to, from)| *to = from);
        // 128 bits over a 64 bit range: no place is preferred by more than 2^-64.
        let place = u128::from_be_bytes(wide).checked_rem(u128::from(bytes)).unwrap_or(0);
        u64::try_from(place).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::origin::Origin;
    use super::super::super::seq::Size;
    use super::*;

    fn draw() -> Draw {
        let origin = Origin::new("example.com/log").unwrap();
        let head = Head { origin, size: Size(9), root: Hash::of(b"root") };
        Draw { head, target: "kubo".into(), at: Timestamp(7) }
    }

    fn places(draw: &Draw) -> Vec<u64> {
        (0..50).map(|n| draw.place(n, 1_000_000)).collect()
    }

    #[test]
    fn every_part_of_the_draw_changes_the_places() {
        let one = draw();
        assert_eq!(places(&one), places(&draw()), "anyone can draw it again");
        let others = [
            Draw { head: Head { size: Size(10), ..one.head.clone() }, ..one.clone() },
            Draw { head: Head { root: Hash::of(b"other"), ..one.head.clone() }, ..one.clone() },
            Draw { target: "vault".into(), ..one.clone() },
            Draw { at: Timestamp(8), ..one.clone() },
        ];
        for other in others {
            assert_ne!(places(&other), places(&one), "{other:?}");
        }
    }

    #[test]
    fn places_spread_over_all_bytes() {
        let draw = draw();
        let mut tenths = [0; 10];
        for n in 0..10_000 {
            tenths[usize::try_from(draw.place(n, 1000) / 100).unwrap()] += 1;
        }
        assert!(tenths.iter().all(|count| (850..1150).contains(count)), "{tenths:?}");
        assert_eq!((draw.place(3, 1), draw.place(3, 0)), (0, 0));
    }
}
