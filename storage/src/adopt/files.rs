//! Reading RocketMQ's `config/*.json`, and its topics and groups as ours.

use std::{fs, io, path::Path};

use protocol::{
    body::{
        self,
        config_file::{GroupFile, OffsetFile, TopicFile, WRITTEN_BY_US},
    },
    json::{self, JsonError},
};

use crate::{DataVersion, OpenError, file::failed};

/// Names of the files in `config/`.
pub(crate) const TOPICS: &str = "topics.json";
pub(crate) const GROUPS: &str = "subscriptionGroup.json";
pub(crate) const OFFSETS: &str = "consumerOffset.json";
pub(super) const DELAYS: &str = "delayOffset.json";

/// The three files; what does not exist is empty.
#[derive(Debug, Default)]
pub(super) struct Files {
    pub(super) topics: Option<TopicFile>,
    pub(super) groups: Option<GroupFile>,
    pub(super) offsets: Option<OffsetFile>,
}

impl Files {
    /// Reads what there is in the `config` directory of a store.
    ///
    /// # Errors
    /// A file and its copy cannot be read.
    pub(super) fn read(store: &Path) -> Result<Self, OpenError> {
        let dir = store.join("config");
        Ok(Self {
            topics: read(&dir, TOPICS, json::decode)?,
            groups: read(&dir, GROUPS, json::decode)?,
            offsets: read(&dir, OFFSETS, json::decode)?,
        })
    }

    /// Whether there is none.
    pub(super) fn is_empty(&self) -> bool {
        self.topics.is_none() && self.groups.is_none() && self.offsets.is_none()
    }

    /// Lets go of the files that we have written ourselves. What is left was written by RocketMQ.
    pub(super) fn forget_ours(&mut self) {
        let ours = |by: &Option<String>| by.as_deref() == Some(WRITTEN_BY_US);
        self.topics.take_if(|file| ours(&file.written_by));
        self.groups.take_if(|file| ours(&file.written_by));
        self.offsets.take_if(|file| ours(&file.written_by));
    }
}

/// Reads a file or, as RocketMQ does, its copy when it is missing, empty or damaged.
///
/// # Errors
/// Both are damaged, or one cannot be read.
pub(crate) fn read<T>(
    dir: &Path,
    name: &str,
    decode: impl Fn(&[u8]) -> Result<T, JsonError>,
) -> Result<Option<T>, OpenError> {
    let mut reason = None;
    for name in [name.to_owned(), format!("{name}.bak")] {
        let path = dir.join(name);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(failed("read", path)(error)),
        };
        match decode(&bytes) {
            Ok(value) => return Ok(Some(value)),
            Err(JsonError::Empty) => {}
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "damaged; its copy is tried");
                reason.get_or_insert((path, error.to_string()));
            }
        }
    }
    reason.map_or(Ok(None), |(path, reason)| Err(OpenError::Adopt { path, reason }))
}

pub(crate) fn version(of: body::DataVersion) -> DataVersion {
    DataVersion { counter: of.counter, state_version: of.state_version, timestamp: of.timestamp }
}

pub(super) fn version_body(of: DataVersion) -> body::DataVersion {
    body::DataVersion {
        counter: of.counter,
        state_version: of.state_version,
        timestamp: of.timestamp,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damaged_file_is_read_from_its_copy() {
        let dir = tempfile::tempdir().unwrap();
        let read = || read::<TopicFile>(dir.path(), TOPICS, json::decode);
        assert_eq!(read().unwrap(), None);
        fs::write(dir.path().join("topics.json"), b"{\"topicConf").unwrap();
        let error = read().unwrap_err().to_string();
        assert!(error.contains("topics.json"), "{error}");
        fs::write(dir.path().join("topics.json.bak"), b"{\"dataVersion\":{\"counter\":4}}")
            .unwrap();
        assert_eq!(read().unwrap().unwrap().data_version.counter, 4);
    }
}
