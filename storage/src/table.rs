//! A table from name to value that is read without locks and changed rarely.

use std::{collections::HashMap, sync::Arc};

use arc_swap::ArcSwap;

use crate::num::{to_u64, to_usize};

/// A change copies one shard of this many, so that creating the 100,000th topic costs what the
/// first did, nearly.
const SHARDS: usize = 64;

type Shard<T> = HashMap<Arc<str>, Arc<T>>;

/// Changed by one thread, read by all.
#[derive(Debug)]
pub(crate) struct Table<T> {
    shards: Box<[ArcSwap<Shard<T>>]>,
}

impl<T> Table<T> {
    pub(crate) fn new(values: impl Iterator<Item = (String, Arc<T>)>) -> Self {
        let mut shards: Vec<Shard<T>> = (0..SHARDS).map(|_| HashMap::new()).collect();
        for (name, value) in values {
            if let Some(shard) = shards.get_mut(shard_of(&name)) {
                shard.insert(name.into(), value);
            }
        }
        Self { shards: shards.into_iter().map(ArcSwap::from_pointee).collect() }
    }

    fn shard(&self, name: &str) -> &ArcSwap<Shard<T>> {
        self.shards.get(shard_of(name)).expect("shard_of() is below the number of shards")
    }

    pub(crate) fn get(&self, name: &str) -> Option<Arc<T>> {
        self.shard(name).load().get(name).map(Arc::clone)
    }

    /// All values, in no order.
    pub(crate) fn all(&self) -> Vec<Arc<T>> {
        let shards = self.shards.iter().map(ArcSwap::load);
        shards.flat_map(|shard| shard.values().map(Arc::clone).collect::<Vec<_>>()).collect()
    }

    /// Puts or removes a value. One thread at a time.
    pub(crate) fn set(&self, name: &str, value: Option<Arc<T>>) {
        let shard = self.shard(name);
        let mut changed = Shard::clone(&shard.load());
        match value {
            Some(value) => changed.insert(name.into(), value),
            None => changed.remove(name),
        };
        shard.store(Arc::new(changed));
    }
}

fn shard_of(name: &str) -> usize {
    to_usize(u64::from(crc32fast::hash(name.as_bytes())) % to_u64(SHARDS))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn set_and_get() {
        let table = Table::new([("a".to_owned(), Arc::new(1))].into_iter());
        for i in 0..1_000 {
            table.set(&format!("t{i}"), Some(Arc::new(i)));
        }
        table.set("t7", None);
        assert_eq!(table.get("a").as_deref(), Some(&1));
        assert_eq!(table.get("t8").as_deref(), Some(&8));
        assert_eq!(table.get("t7"), None);
        assert_eq!(table.all().len(), 1_000);
    }
}
