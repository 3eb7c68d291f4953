//! Persistent maps made of many entries at once.

use imbl::OrdMap;

/// The map of `sorted` entries, with full leaves.
///
/// A leaf that overflows is split in the middle, so entries that come in order leave half of every
/// leaf empty behind them. Every second entry is put in first therefore, and fills each leaf to
/// the half; the entries between fill the other half.
pub(super) fn map_of_sorted<K: Ord + Clone, V: Clone>(sorted: &[(K, V)]) -> OrdMap<K, V> {
    let between = sorted.iter().skip(1).step_by(2);
    sorted.iter().step_by(2).chain(between).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_map_has_every_entry_in_order() {
        for count in [0, 1, 2, 3, 16, 17, 1_000] {
            let sorted: Vec<_> = (0..count).map(|number| (number, -number)).collect();
            let map = map_of_sorted(&sorted);
            assert!(map.iter().map(|(key, value)| (*key, *value)).eq(sorted), "{count}");
        }
    }
}
