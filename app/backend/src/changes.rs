//! The difference between two versions of a list.

use std::collections::BTreeMap;

use super::contract::ListEvent;

/// The last version a reader received.
pub(super) struct Given<T> {
    items: BTreeMap<String, T>,
    key: fn(&T) -> &str,
}

impl<T: Clone + PartialEq> Given<T> {
    /// A reader that has received nothing yet.
    pub(super) fn new(key: fn(&T) -> &str) -> Self {
        Self { items: BTreeMap::new(), key }
    }

    /// The event that sends the whole list.
    pub(super) fn all(&mut self, items: Vec<T>) -> ListEvent<T> {
        self.items = items.iter().map(|item| ((self.key)(item).to_owned(), item.clone())).collect();
        ListEvent::All { items }
    }

    /// The event that turns the last version into this one; `None` if they are equal.
    pub(super) fn change_to(&mut self, items: Vec<T>) -> Option<ListEvent<T>> {
        let new: BTreeMap<String, T> = items.into_iter().map(|item| ((self.key)(&item).to_owned(), item)).collect();
        let removed: Vec<String> = self.items.keys().filter(|key| !new.contains_key(*key)).cloned().collect();
        let changed: Vec<T> =
            new.iter().filter(|(key, item)| self.items.get(*key) != Some(item)).map(|(_, item)| item.clone()).collect();
        self.items = new;
        (!removed.is_empty() || !changed.is_empty()).then_some(ListEvent::Changes { changed, removed })
    }

    /// The event for some items, each in its new state or removed; `None` if nothing changed.
    pub(super) fn update(&mut self, some: Vec<(String, Option<T>)>) -> Option<ListEvent<T>> {
        let (mut changed, mut removed) = (Vec::new(), Vec::new());
        for (key, item) in some {
            match item {
                None => {
                    if self.items.remove(&key).is_some() {
                        removed.push(key);
                    }
                }
                Some(item) => {
                    if self.items.get(&key) != Some(&item) {
                        self.items.insert(key, item.clone());
                        changed.push(item);
                    }
                }
            }
        }
        (!removed.is_empty() || !changed.is_empty()).then_some(ListEvent::Changes { changed, removed })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn items(text: &[&str]) -> Vec<(String, u32)> {
        text.iter().map(|item| (item[..1].to_owned(), item[1..].parse().unwrap())).collect()
    }

    #[test]
    fn only_differences_are_told() {
        let mut given: Given<(String, u32)> = Given::new(|item| &item.0);
        assert_eq!(given.all(items(&["a1", "b2"])), ListEvent::All { items: items(&["a1", "b2"]) });
        assert_eq!(given.change_to(items(&["a1", "b2"])), None);
        assert_eq!(
            given.change_to(items(&["b3", "c4"])),
            Some(ListEvent::Changes { changed: items(&["b3", "c4"]), removed: vec!["a".into()] })
        );
        assert_eq!(given.update(vec![("z".into(), None), ("c".into(), Some(("c".into(), 4)))]), None);
        assert_eq!(
            given.update(vec![("c".into(), None)]),
            Some(ListEvent::Changes { changed: vec![], removed: vec!["c".into()] })
        );
    }
}
