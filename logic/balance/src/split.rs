//! Which of several services gets a request, by weight.

use model::{PlacedMember, Share};

use crate::rendezvous::first;

/// The number of the share that the request with this key belongs to; `None` if no share has a weight. A random key gives each
/// its part of the requests; a client's key, as long as the weights stay, the same share every time. A share whose weight
/// grows, or shrinks, takes from all others, or leaves to them, what it must; between the others nothing moves.
pub fn split(shares: &[Share], key: u64) -> Option<usize> {
    let numbered = (0..).zip(shares).filter(|(_, share)| share.weight.0 != 0);
    let members = numbered.map(|(number, share)| {
        let member = PlacedMember {
            identity: share.identity,
            weight: share.weight,
            endpoint: number,
        };
        (number, member)
    });
    first(members, key).map(|number| number as usize)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use model::{Sharded, Weight};

    use super::*;
    use crate::Random;

    fn shares(weights: &[u16]) -> Vec<Share> {
        let share = |(service, &weight): (usize, &u16)| Share {
            service,
            weight: Weight(weight),
            identity: crate::key([0; 2], format!("service-{service}").as_bytes()),
            given: Arc::new(Sharded::new(1)),
        };
        weights.iter().enumerate().map(share).collect()
    }

    fn keys() -> Vec<u64> {
        let mut random = Random::new(7);
        (0..100_000).map(|_| random.draw()).collect()
    }

    #[test]
    fn each_share_gets_its_part() {
        let shares = shares(&[90, 0, 9, 1]);
        let mut given = [0_u32; 4];
        for key in keys() {
            given[split(&shares, key).unwrap()] += 1;
        }
        assert_eq!(given[1], 0);
        for (given, part) in given.into_iter().zip([90_000.0, 0.0, 9_000.0, 1_000.0]) {
            let off = (f64::from(given) - part).abs();
            assert!(off <= 0.1 * part, "{given}, not {part}");
        }
    }

    #[test]
    fn a_share_that_grows_moves_nothing_between_others() {
        let (before, after) = (shares(&[60, 30, 10]), shares(&[60, 30, 20]));
        let moved = keys().into_iter().filter(|&key| {
            let (before, after) = (split(&before, key), split(&after, key));
            assert!(
                before == after || after == Some(2),
                "{before:?} to {after:?}"
            );
            before != after
        });
        // From 10 % to 2 / 11.
        let moved = moved.count() as f64 / 100_000.0;
        assert!((moved - (2.0 / 11.0 - 0.1)).abs() < 0.005, "{moved}");
    }

    #[test]
    fn the_order_of_the_shares_does_not_matter() {
        let forwards = shares(&[5, 3, 2]);
        let mut backwards = forwards.clone();
        backwards.reverse();
        for key in keys().into_iter().take(1_000) {
            let (a, b) = (split(&forwards, key), split(&backwards, key));
            assert_eq!(a, b.map(|b| 2 - b));
        }
    }

    #[test]
    fn without_weights_nobody_gets_anything() {
        assert_eq!(split(&shares(&[0, 0]), 7), None);
        assert_eq!(split(&[], 7), None);
    }
}
