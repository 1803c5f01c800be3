//! Key-value configuration: namespaces of keys, kept in memory and in one file in RocketMQ's
//! format. A change is answered only after the file is durable.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
};

use serde::{Deserialize, Serialize};

/// The namespace of strict-order layouts: topic to `broker-a:4;broker-b:4`.
pub(crate) const ORDER_TOPIC_CONFIG: &str = "ORDER_TOPIC_CONFIG";

/// Bytes of one namespace or key.
const NAME_MAX_BYTES: usize = 1_024;
/// Bytes of all namespaces, keys and values together: every change writes all of them.
const TOTAL_MAX_BYTES: usize = 4 * 1_024 * 1_024;

type Table = BTreeMap<String, BTreeMap<String, String>>;

/// The file's content. Source: RocketMQ's `KVConfigSerializeWrapper`.
#[derive(Default, Deserialize, Serialize)]
struct Stored {
    #[serde(default, rename = "configTable")]
    config_table: Table,
}

/// The store. Reads never touch the disk.
pub(crate) struct Store {
    path: PathBuf,
    state: RwLock<State>,
    /// The generation that the file holds. Held while writing, so that of many waiting changes one
    /// write serves all.
    written: Mutex<u64>,
}

#[derive(Default)]
struct State {
    table: Table,
    bytes: usize,
    /// Counts changes.
    generation: u64,
}

/// Why the key-value configuration cannot be read or changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The file exists and cannot be read.
    #[error("cannot read the key-value configuration {path}: {source}")]
    Read {
        /// The file.
        path: String,
        /// What the system says.
        source: io::Error,
    },
    /// The file is not what this process wrote.
    #[error(
        "{path} is not a key-value configuration: {source}; correct it, or move it away to start \
         without"
    )]
    Damaged {
        /// The file.
        path: String,
        /// Where and why.
        source: serde_json::Error,
    },
    /// The change is in memory only.
    #[error("the change works until a restart but cannot be written to {path}: {source}")]
    Write {
        /// The file.
        path: String,
        /// What the system says.
        source: io::Error,
    },
    /// A name is empty or too long.
    #[error("a namespace or key has 1 to {NAME_MAX_BYTES} bytes, this one has {bytes}")]
    Name {
        /// Its length.
        bytes: usize,
    },
    /// No room.
    #[error("the key-value configuration holds at most {TOTAL_MAX_BYTES} bytes; delete some keys")]
    Full,
}

impl Store {
    /// Reads the file at `path`; none yet is an empty configuration. Blocking.
    ///
    /// # Errors
    /// The file cannot be read or is damaged.
    pub(crate) fn open(path: &Path) -> Result<Self, Error> {
        let stored = match fs::read(path) {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .map_err(|source| Error::Damaged { path: path.display().to_string(), source })?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Stored::default(),
            Err(source) => return Err(Error::Read { path: path.display().to_string(), source }),
        };
        let table = stored.config_table;
        let bytes = table
            .iter()
            .flat_map(|(namespace, keys)| keys.iter().map(move |pair| (namespace, pair)))
            .map(|(namespace, (key, value))| namespace.len() + key.len() + value.len())
            .sum();
        let state = RwLock::new(State { table, bytes, generation: 0 });
        Ok(Self { path: path.to_owned(), state, written: Mutex::new(0) })
    }

    /// The value of a key.
    pub(crate) fn get(&self, namespace: &str, key: &str) -> Option<String> {
        self.read().table.get(namespace)?.get(key).cloned()
    }

    /// All keys of a namespace; `None` if it has none.
    pub(crate) fn namespace(&self, namespace: &str) -> Option<BTreeMap<String, String>> {
        self.read().table.get(namespace).cloned()
    }

    /// Sets a key in memory. The change is safe once [`Store::persist`] returned for the
    /// generation returned here.
    ///
    /// # Errors
    /// A name is impossible or there is no room; nothing was changed.
    pub(crate) fn put(&self, namespace: &str, key: &str, value: &str) -> Result<u64, Error> {
        for name in [namespace, key] {
            if name.is_empty() || name.len() > NAME_MAX_BYTES {
                return Err(Error::Name { bytes: name.len() });
            }
        }
        let mut state = self.write();
        let state = &mut *state;
        let old = state.table.get(namespace).and_then(|keys| keys.get(key));
        let freed = old.map_or(0, |old| namespace.len() + key.len() + old.len());
        let bytes = state.bytes - freed + namespace.len() + key.len() + value.len();
        if bytes > TOTAL_MAX_BYTES {
            return Err(Error::Full);
        }
        state.bytes = bytes;
        let keys = state.table.entry(namespace.to_owned()).or_default();
        keys.insert(key.to_owned(), value.to_owned());
        state.generation += 1;
        Ok(state.generation)
    }

    /// Deletes a key in memory; one that is not there is deleted already. See [`Store::put`].
    pub(crate) fn delete(&self, namespace: &str, key: &str) -> u64 {
        let mut state = self.write();
        let state = &mut *state;
        if let Some(keys) = state.table.get_mut(namespace)
            && let Some(value) = keys.remove(key)
        {
            state.bytes -= namespace.len() + key.len() + value.len();
            if keys.is_empty() {
                state.table.remove(namespace);
            }
            state.generation += 1;
        }
        state.generation
    }

    /// Makes every change up to `generation` durable. Blocking.
    ///
    /// # Errors
    /// The file cannot be written; the old one is intact and the change stays in memory.
    pub(crate) fn persist(&self, generation: u64) -> Result<(), Error> {
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        if *written >= generation {
            return Ok(());
        }
        let (stored, current) = {
            let state = self.read();
            (Stored { config_table: state.table.clone() }, state.generation)
        };
        replace(&self.path, &stored)
            .map_err(|source| Error::Write { path: self.path.display().to_string(), source })?;
        *written = current;
        Ok(())
    }

    // A panic elsewhere must not make the configuration unusable, and no change leaves it half done.
    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writes beside the file, syncs, renames over it and syncs the directory, so that at any moment
/// the path holds the whole old or the whole new content.
#[expect(clippy::disallowed_methods, reason = "the directory is synced after the rename")]
fn replace(path: &Path, stored: &Stored) -> io::Result<()> {
    let dir = match path.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir,
        _ => Path::new("."),
    };
    fs::create_dir_all(dir)?;
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let beside = dir.join(name);
    let mut file = File::create(&beside)?;
    file.write_all(&serde_json::to_vec(stored)?)?;
    file.sync_all()?;
    fs::rename(&beside, path)?;
    File::open(dir)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_survive_a_restart_in_rocketmqs_format() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("namesrv").join("kvConfig.json");
        let store = Store::open(&path).unwrap();
        store.put(ORDER_TOPIC_CONFIG, "T", "broker-a:4").unwrap();
        store.put("NS", "k", "v").unwrap();
        store.put("NS", "k2", "v2").unwrap();
        let generation = store.delete("NS", "k2");
        store.persist(generation).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        let expected =
            r#"{"configTable":{"NS":{"k":"v"},"ORDER_TOPIC_CONFIG":{"T":"broker-a:4"}}}"#;
        assert_eq!(text, expected);
        let store = Store::open(&path).unwrap();
        assert_eq!(store.get("NS", "k").as_deref(), Some("v"));
        assert_eq!(store.get("NS", "k2"), None);
        store.persist(store.delete("NS", "k")).unwrap();
        assert_eq!(Store::open(&path).unwrap().namespace("NS"), None);
    }

    #[test]
    fn one_write_serves_all_changes_before_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("kv.json");
        let store = Store::open(&path).unwrap();
        let first = store.put("NS", "a", "1").unwrap();
        let second = store.put("NS", "b", "2").unwrap();
        store.persist(second).unwrap();
        fs::remove_file(&path).unwrap();
        store.persist(first).unwrap();
        assert!(!path.exists(), "the first change was durable already");
    }

    #[test]
    fn damaged_file_stops_the_start_and_stays() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("kv.json");
        fs::write(&path, "{\"configTable\":").unwrap();
        let error = Store::open(&path).err().expect("damaged").to_string();
        assert!(error.contains("is not a key-value configuration"), "{error}");
        assert_eq!(fs::read_to_string(&path).unwrap(), "{\"configTable\":");
    }

    #[test]
    fn limits_hold_and_a_full_store_still_shrinks() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("kv.json")).unwrap();
        assert!(matches!(store.put("", "k", "v"), Err(Error::Name { bytes: 0 })));
        assert!(store.put("NS", &"k".repeat(NAME_MAX_BYTES + 1), "v").is_err());
        store.put("NS", "k", &"v".repeat(TOTAL_MAX_BYTES - 3)).unwrap();
        assert!(matches!(store.put("NS", "l", "v"), Err(Error::Full)));
        store.put("NS", "k", "short").unwrap();
        store.put("NS", "l", "v").unwrap();
        store.delete("NS", "k");
        assert_eq!(store.read().bytes, "NSlv".len());
    }

    #[test]
    fn failed_write_keeps_the_old_file_and_says_so() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file").join("kv.json");
        fs::write(dir.path().join("file"), "not a directory").unwrap();
        let store = Store::open(&path);
        // Reading below a file fails already; a store that was opened before fails on writing.
        assert!(matches!(store, Err(Error::Read { .. })));
        let path = dir.path().join("later").join("kv.json");
        let store = Store::open(&path).unwrap();
        fs::write(dir.path().join("later"), "not a directory").unwrap();
        let generation = store.put("NS", "k", "v").unwrap();
        let error = store.persist(generation).unwrap_err().to_string();
        assert!(error.contains("works until a restart but cannot be written"), "{error}");
        assert_eq!(store.get("NS", "k").as_deref(), Some("v"));
    }
}
