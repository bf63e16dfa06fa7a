//! Sums over what a query finds. The order of the items decides ties and how floats add up, and
//! queries go ascending by slot, so the results are the same everywhere.

use std::collections::BTreeMap;
use std::iter::Sum;

/// Sorting and aggregation of the items of a query, or of any iterator.
///
/// ```
/// use rekindle_sim::doc_game::{Coin, Position};
/// use rekindle_sim::{Aggregate as _, Entity, IntoSystems as _, Query};
///
/// fn report(coins: Query<(Entity, &Coin, &Position)>) {
///     let by_worth = coins.iter().count_by(|(_, coin, _)| coin.worth);
///     let x_by_worth = coins.iter().sum_by(|(_, coin, _)| coin.worth, |(.., at)| at.x);
///     let leftmost = coins.iter().least_by(|(.., at)| at.x).map(|(entity, ..)| entity);
///     let dearest = coins.iter().sorted_by(|(_, coin, _)| std::cmp::Reverse(coin.worth));
///     assert_eq!(dearest.is_empty(), leftmost.is_none() && by_worth.is_empty());
///     assert_eq!(by_worth.len(), x_by_worth.len());
/// }
/// let system = report.every(30);
/// ```
pub trait Aggregate: Iterator + Sized {
    /// The items ascending by `key`; those with equal keys in the order in which they came.
    fn sorted_by<K: Ord>(self, key: impl FnMut(&Self::Item) -> K) -> Vec<Self::Item> {
        let mut items: Vec<_> = self.collect();
        items.sort_by_key(key);
        items
    }

    /// The items of each key, in the order in which they came.
    fn group_by<K: Ord>(
        self,
        mut key: impl FnMut(&Self::Item) -> K,
    ) -> BTreeMap<K, Vec<Self::Item>> {
        let mut groups: BTreeMap<K, Vec<Self::Item>> = BTreeMap::new();
        for item in self {
            groups.entry(key(&item)).or_default().push(item);
        }
        groups
    }

    /// How many items each key has.
    fn count_by<K: Ord>(self, mut key: impl FnMut(&Self::Item) -> K) -> BTreeMap<K, usize> {
        let mut counts = BTreeMap::new();
        for item in self {
            *counts.entry(key(&item)).or_default() += 1;
        }
        counts
    }

    /// The sum of `value` over the items of each key, in the order in which they came.
    fn sum_by<K: Ord, N: Sum<N>>(
        self,
        key: impl FnMut(&Self::Item) -> K,
        mut value: impl FnMut(&Self::Item) -> N,
    ) -> BTreeMap<K, N> {
        let groups = self.group_by(key);
        groups.into_iter().map(|(key, items)| (key, items.iter().map(&mut value).sum())).collect()
    }

    /// The first of the items with the least `value`. A NaN is greater than everything.
    fn least_by(self, mut value: impl FnMut(&Self::Item) -> f32) -> Option<Self::Item> {
        let mut best: Option<(f32, Self::Item)> = None;
        for item in self {
            let value = value(&item);
            let better = best
                .as_ref()
                .is_none_or(|(least, _)| value < *least || least.is_nan() && !value.is_nan());
            if better {
                best = Some((value, item));
            }
        }
        best.map(|(_, item)| item)
    }

    /// The first of the items with the greatest `value`. A NaN is less than everything.
    fn greatest_by(self, mut value: impl FnMut(&Self::Item) -> f32) -> Option<Self::Item> {
        self.least_by(|item| -value(item))
    }
}

impl<I: Iterator> Aggregate for I {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_keys_keep_their_order_and_the_first_of_equals_wins() {
        let items = [(3, 'a'), (1, 'b'), (3, 'c'), (1, 'd')];
        let sorted = items.iter().sorted_by(|(key, _)| *key);
        assert_eq!(sorted.iter().map(|(_, name)| *name).collect::<String>(), "bdac");
        assert_eq!(items.iter().least_by(|(key, _)| *key as f32), Some(&(1, 'b')));
        assert_eq!(items.iter().greatest_by(|(key, _)| *key as f32), Some(&(3, 'a')));
        assert_eq!(items.iter().count_by(|(key, _)| *key), BTreeMap::from([(1, 2), (3, 2)]));
        assert_eq!(items.iter().group_by(|(key, _)| *key)[&3], [&(3, 'a'), &(3, 'c')]);
        assert_eq!(items.iter().sum_by(|_| true, |(key, _)| *key), BTreeMap::from([(true, 8)]));
    }

    #[test]
    fn a_nan_is_the_least_only_if_there_is_nothing_else() {
        let values = [f32::NAN, 2.0, f32::NAN, 1.0, 1.0];
        assert_eq!(values.iter().least_by(|value| **value), Some(&1.0));
        assert_eq!(values.iter().greatest_by(|value| **value), Some(&2.0));
        assert!([f32::NAN].iter().least_by(|value| **value).is_some());
        assert_eq!([0.0; 0].iter().least_by(|value| **value), None);
    }
}
