//! A table from name to value that is read without locks and changed rarely.

use std::{
    borrow::Borrow,
    collections::HashSet,
    hash::{Hash, Hasher},
    sync::Arc,
};

use arc_swap::ArcSwap;

use crate::num::{to_u64, to_usize};

/// A change copies one shard of this many: 25 values of 100,000.
const SHARDS: usize = 4096;

/// A value that knows its name.
pub(crate) trait Named {
    /// Its name, which never changes.
    fn name(&self) -> &str;
}

/// A value, found by its name.
#[derive(Debug)]
struct Row<T>(Arc<T>);

type Shard<T> = HashSet<Row<T>>;

/// Changed by one thread, read by all.
#[derive(Debug)]
pub(crate) struct Table<T> {
    shards: Box<[ArcSwap<Shard<T>>]>,
}

impl<T: Named> Table<T> {
    pub(crate) fn new(values: Vec<Arc<T>>) -> Self {
        let mut shards: Vec<Vec<Row<T>>> = (0..SHARDS).map(|_| Vec::new()).collect();
        for value in values {
            if let Some(shard) = shards.get_mut(shard_of(value.name())) {
                shard.push(Row(value));
            }
        }
        let empty = Arc::new(Shard::new());
        let shared = |rows: Vec<Row<T>>| match rows.len() {
            0 => Arc::clone(&empty),
            _ => Arc::new(rows.into_iter().collect()),
        };
        Self { shards: shards.into_iter().map(|rows| ArcSwap::new(shared(rows))).collect() }
    }

    fn shard(&self, name: &str) -> &ArcSwap<Shard<T>> {
        self.shards.get(shard_of(name)).expect("shard_of() is below the number of shards")
    }

    pub(crate) fn get(&self, name: &str) -> Option<Arc<T>> {
        self.shard(name).load().get(name).map(|row| Arc::clone(&row.0))
    }

    /// All values, in no order.
    pub(crate) fn all(&self) -> Vec<Arc<T>> {
        let mut all = Vec::new();
        self.each(|value| all.push(Arc::clone(value)));
        all
    }

    /// Looks at all values, in no order.
    pub(crate) fn each(&self, mut look: impl FnMut(&Arc<T>)) {
        for shard in &self.shards {
            shard.load().iter().for_each(|row| look(&row.0));
        }
    }

    /// Puts or removes the value of this name. One thread at a time.
    pub(crate) fn set(&self, name: &str, value: Option<Arc<T>>) {
        let shard = self.shard(name);
        let mut changed = Shard::clone(&shard.load());
        changed.remove(name);
        changed.extend(value.map(Row));
        shard.store(Arc::new(changed));
    }
}

impl<T> Clone for Row<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T: Named> Borrow<str> for Row<T> {
    fn borrow(&self) -> &str {
        self.0.name()
    }
}

impl<T: Named> Hash for Row<T> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.name().hash(state);
    }
}

impl<T: Named> PartialEq for Row<T> {
    fn eq(&self, other: &Self) -> bool {
        self.0.name() == other.0.name()
    }
}

impl<T: Named> Eq for Row<T> {}

fn shard_of(name: &str) -> usize {
    to_usize(u64::from(crc32fast::hash(name.as_bytes())) % to_u64(SHARDS))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Eq)]
    struct Number(String, i32);

    impl Named for Number {
        fn name(&self) -> &str {
            &self.0
        }
    }

    fn number(i: i32) -> Arc<Number> {
        Arc::new(Number(format!("t{i}"), i))
    }

    #[test]
    fn set_and_get() {
        let table = Table::new(vec![number(-1)]);
        for i in 0..1_000 {
            table.set(&format!("t{i}"), Some(number(i)));
        }
        table.set("t7", None);
        table.set("t8", Some(Arc::new(Number("t8".to_owned(), 88))));
        assert_eq!(table.get("t-1"), Some(number(-1)));
        assert_eq!(table.get("t8").map(|found| found.1), Some(88));
        assert_eq!(table.get("t9"), Some(number(9)));
        assert_eq!(table.get("t7"), None);
        assert_eq!(table.all().len(), 1_000);
    }
}
