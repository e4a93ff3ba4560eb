//! Splitting a duration over weights so that the parts are whole nanoseconds and add up exactly.

use crate::model::time::Nanos;

/// `total` in proportion to `weights` by the method of largest remainders; ties go to the earlier entry. All parts are
/// zero when the weights are.
pub fn apportion(total: Nanos, weights: &[u64]) -> Vec<Nanos> {
    let sum: u128 = weights.iter().copied().map(u128::from).sum();
    if sum == 0 {
        return vec![Nanos::ZERO; weights.len()];
    }
    let exact = |weight: u64| u128::from(total.as_nanos()) * u128::from(weight);
    let mut parts: Vec<u128> = weights.iter().map(|weight| exact(*weight) / sum).collect();
    let left = u128::from(total.as_nanos()) - parts.iter().sum::<u128>();
    let mut by_remainder: Vec<usize> = (0..weights.len()).collect();
    by_remainder.sort_by_key(|index| std::cmp::Reverse(exact(weights[*index]) % sum));
    for index in by_remainder.into_iter().take(usize::try_from(left).unwrap_or(usize::MAX)) {
        parts[index] += 1;
    }
    let nanos = |part: u128| u64::try_from(part).expect("a part is no larger than the whole");
    parts.into_iter().map(nanos).map(Nanos::from_nanos).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, prop_assert, prop_assert_eq, proptest};

    use super::apportion;
    use crate::model::time::Nanos;

    proptest! {
        #[test]
        fn parts_add_up_and_follow_their_weights(
            total in any::<u64>(),
            weights in proptest::collection::vec(0..1_000_000_u64, 1..20),
        ) {
            let parts = apportion(Nanos::from_nanos(total), &weights);
            if weights.iter().any(|weight| *weight > 0) {
                let sum: u128 = parts.iter().map(|part| u128::from(part.as_nanos())).sum();
                prop_assert_eq!(sum, u128::from(total));
            }
            for (part, weight) in parts.iter().zip(&weights) {
                prop_assert!(*weight > 0 || part.as_nanos() == 0);
            }
        }
    }
}
