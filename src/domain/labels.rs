//! The labels of a partner: a small map, kept small.

use std::{collections::BTreeMap, sync::Arc};

/// Texts by their keys, sorted by key.
///
/// One sorted slice: a partner has few labels and a service has many partners, and a `BTreeMap`
/// takes over 500 bytes to hold its first entry. The texts can be shared, since most partners have
/// the same keys and values as others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Labels(Box<[(Arc<str>, Arc<str>)]>);

impl Labels {
    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.place(key).ok().map(|place| &*self.0[place].1)
    }

    /// The keys and their values.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(key, value)| (&**key, &**value))
    }

    /// The keys.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.iter().map(|(key, _)| key)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Gives a key a value, in place of the one it had.
    pub fn insert(&mut self, key: &str, value: &str) {
        match self.place(key) {
            Ok(place) => self.0[place].1 = value.into(),
            Err(place) => {
                let mut pairs = std::mem::take(&mut self.0).into_vec();
                pairs.insert(place, (key.into(), value.into()));
                self.0 = pairs.into_boxed_slice();
            }
        }
    }

    /// Takes a key away, if it is there.
    pub fn remove(&mut self, key: &str) {
        if let Ok(place) = self.place(key) {
            let mut pairs = std::mem::take(&mut self.0).into_vec();
            pairs.remove(place);
            self.0 = pairs.into_boxed_slice();
        }
    }

    /// Where a key is, or would be.
    fn place(&self, key: &str) -> Result<usize, usize> {
        self.0.binary_search_by(|(known, _)| (**known).cmp(key))
    }
}

impl FromIterator<(Arc<str>, Arc<str>)> for Labels {
    /// The last value given for a key counts.
    fn from_iter<I: IntoIterator<Item = (Arc<str>, Arc<str>)>>(pairs: I) -> Self {
        let mut pairs: Vec<_> = pairs.into_iter().collect();
        if !pairs.is_sorted_by(|(one, _), (next, _)| one < next) {
            pairs.reverse();
            pairs.sort_by(|(one, _), (other, _)| one.cmp(other));
            pairs.dedup_by(|(one, _), (other, _)| one == other);
        }
        Self(pairs.into_boxed_slice())
    }
}

impl<const N: usize> From<[(&str, &str); N]> for Labels {
    /// The last value given for a key counts.
    fn from(pairs: [(&str, &str); N]) -> Self {
        pairs.into_iter().map(|(key, value)| (key.into(), value.into())).collect()
    }
}

impl From<&BTreeMap<String, String>> for Labels {
    fn from(map: &BTreeMap<String, String>) -> Self {
        let pairs = map.iter().map(|(key, value)| (key.as_str().into(), value.as_str().into()));
        Self(pairs.collect())
    }
}

impl From<&Labels> for BTreeMap<String, String> {
    fn from(labels: &Labels) -> Self {
        labels.iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_last_value_given_for_a_key_counts() {
        let labels = Labels::from([("b", "1"), ("a", "2"), ("b", "3"), ("c", "4"), ("a", "5")]);
        assert!(labels.iter().eq([("a", "5"), ("b", "3"), ("c", "4")]));
    }

    proptest! {
        #[test]
        fn labels_do_what_a_map_does(
            edits in prop::collection::vec(("[a-c]{1,2}", prop::option::of("[a-z]{0,2}")), 0..20),
        ) {
            let (mut labels, mut map) = (Labels::default(), BTreeMap::new());
            for (key, value) in edits {
                match value {
                    Some(value) => {
                        labels.insert(&key, &value);
                        map.insert(key.clone(), value);
                    }
                    None => {
                        labels.remove(&key);
                        map.remove(&key);
                    }
                }
                prop_assert_eq!(labels.get(&key), map.get(&key).map(String::as_str));
                prop_assert_eq!(BTreeMap::from(&labels), map.clone());
                prop_assert_eq!(&Labels::from(&map), &labels);
                prop_assert_eq!((labels.len(), labels.is_empty()), (map.len(), map.is_empty()));
            }
        }
    }
}
