//! Configuration in layers: defaults, then a file (TOML or Java properties), then environment
//! variables, then flags. Each layer replaces single keys; an unknown key, a wrong type or a value
//! out of bounds is an error that names its origin.
//!
//! Nothing here knows the name server: a configuration is a flat struct that is `Serialize`,
//! `Deserialize` and `Default`, and a table of [`Key`]s that has one row per field.

use std::{collections::BTreeMap, fs, path::Path};

use serde::{Serialize, de::DeserializeOwned};
use toml::{Table, Value};

use crate::properties;

/// What is known about one configuration key.
#[derive(Debug)]
pub(crate) struct Key {
    /// The name in TOML; in upper case, after the prefix, the name of the environment variable.
    pub(crate) name: &'static str,
    /// The name in RocketMQ's properties file, if it has this key.
    pub(crate) java: Option<&'static str>,
    /// Least and greatest value of a number.
    pub(crate) bounds: Option<(i64, i64)>,
    /// What it does, with its unit: a comment in `--print-config`.
    pub(crate) about: &'static str,
    /// Whether an administrator may change it while the process runs.
    pub(crate) live: bool,
}

/// Why the configuration cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The file cannot be read.
    #[error("cannot read the configuration file {path}: {source}")]
    Read {
        /// The file.
        path: String,
        /// What the system says.
        source: std::io::Error,
    },
    /// The file is not TOML.
    #[error("{path} is not valid TOML: {source}")]
    Syntax {
        /// The file.
        path: String,
        /// Where and why.
        source: Box<toml::de::Error>,
    },
    /// No such key.
    #[error("{origin}: unknown key `{key}`; {hint}")]
    UnknownKey {
        /// The file and line, the variable or the flag.
        origin: String,
        /// The key as written.
        key: String,
        /// The key that was probably meant, or where to find all of them.
        hint: String,
    },
    /// The value cannot be used.
    #[error("{origin}: `{key}` = {value} is not possible: {reason}")]
    Value {
        /// The file and line, the variable or the flag.
        origin: String,
        /// The key.
        key: String,
        /// The value as written.
        value: String,
        /// What is expected.
        reason: String,
    },
}

/// The values collected so far, and where each that is not a default came from.
pub(crate) struct Layers {
    keys: &'static [Key],
    values: Table,
    origins: BTreeMap<String, String>,
}

impl Layers {
    /// Starts with `base`: the defaults, or the running configuration for a change at run time.
    pub(crate) fn new<T: Serialize>(base: &T, keys: &'static [Key]) -> Self {
        let values = Table::try_from(base).expect("a flat struct of plain values is a TOML table");
        Self { keys, values, origins: BTreeMap::new() }
    }

    /// Adds the TOML file at `path`.
    ///
    /// # Errors
    /// The file cannot be read or parsed, or one of its keys is unknown or has an impossible value.
    pub(crate) fn toml_file(&mut self, path: &Path) -> Result<(), Error> {
        let text = read(path)?;
        let path = path.display();
        let syntax = |source| Error::Syntax { path: path.to_string(), source: Box::new(source) };
        let spans = toml::de::DeTable::parse(&text).map_err(syntax)?;
        let values: Table = toml::from_str(&text).map_err(syntax)?;
        for key in spans.get_ref().keys() {
            let origin = format!("{path} line {}", line_of(&text, key.span().start));
            if let Some(value) = values.get(key.get_ref().as_ref()) {
                self.put(key.get_ref(), value.clone(), origin)?;
            }
        }
        Ok(())
    }

    /// Adds the Java properties file at `path`. Returns a warning for each key that has no effect
    /// here: `without_effect` lists those that RocketMQ knows.
    ///
    /// # Errors
    /// The file cannot be read, or a key that is known has an impossible value.
    pub(crate) fn java_file(
        &mut self,
        path: &Path,
        without_effect: &[(&str, &str)],
    ) -> Result<Vec<String>, Error> {
        let text = read(path)?;
        let mut warnings = Vec::new();
        for entry in properties::parse(&text) {
            let origin = format!("{} line {}", path.display(), entry.line);
            let known = self.keys.iter().find(|key| key.java == Some(entry.key.as_str()));
            let ignored = without_effect.iter().find(|(name, _)| *name == entry.key);
            match (known, ignored) {
                (Some(key), _) => self.text(key.name, &entry.value, origin)?,
                (None, Some((name, why))) => {
                    warnings.push(format!("{origin}: `{name}` has no effect: {why}"));
                }
                (None, None) => {
                    let hint = suggest(&entry.key, self.keys.iter().filter_map(|key| key.java));
                    warnings.push(format!("{origin}: unknown key `{}`; {hint}", entry.key));
                }
            }
        }
        Ok(warnings)
    }

    /// Adds every variable that starts with `prefix`, for instance `BASALTMQ_NAMESRV_`.
    ///
    /// # Errors
    /// A variable with this prefix names no key, or its value is impossible.
    pub(crate) fn environment(
        &mut self,
        prefix: &str,
        variables: impl Iterator<Item = (String, String)>,
    ) -> Result<(), Error> {
        for (name, value) in variables {
            if let Some(key) = name.strip_prefix(prefix) {
                self.text(
                    &key.to_ascii_lowercase(),
                    &value,
                    format!("environment variable {name}"),
                )?;
            }
        }
        Ok(())
    }

    /// Sets one key from text, as written in a variable, a flag or a properties file. The type is
    /// the one of the value it replaces.
    ///
    /// # Errors
    /// The key is unknown or the text does not fit its type or bounds.
    pub(crate) fn text(&mut self, key: &str, text: &str, origin: String) -> Result<(), Error> {
        let text = text.trim();
        let value = match self.values.get(key) {
            Some(Value::Integer(_)) => text.parse().ok().map(Value::Integer),
            Some(Value::Boolean(_)) => text.to_ascii_lowercase().parse().ok().map(Value::Boolean),
            _ => None,
        };
        // Text of the wrong type goes on as a string and is refused below, with the expectation.
        self.put(key, value.unwrap_or_else(|| Value::String(text.to_owned())), origin)
    }

    /// The configuration.
    ///
    /// # Errors
    /// A value has the right type but not the right form, for instance a host name for an address.
    pub(crate) fn finish<T: DeserializeOwned>(self) -> Result<T, Error> {
        let whole = match Value::Table(self.values.clone()).try_into() {
            Ok(config) => return Ok(config),
            Err(error) => error,
        };
        // Which key is it? Each alone over the defaults: only the culprit fails again.
        for (key, origin) in self.origins {
            let value = self.values.get(&key).cloned().unwrap_or(Value::Boolean(false));
            let alone = Table::from_iter([(key.clone(), value.clone())]);
            if let Err(error) = Value::Table(alone).try_into::<T>() {
                let reason = error.message().to_owned();
                return Err(Error::Value { origin, key, value: value.to_string(), reason });
            }
        }
        let reason = whole.message().to_owned();
        Err(Error::Value { origin: "defaults".into(), key: "?".into(), value: "?".into(), reason })
    }

    fn put(&mut self, key: &str, value: Value, origin: String) -> Result<(), Error> {
        let Some(slot) = self.values.get_mut(key) else {
            let hint = suggest(key, self.keys.iter().map(|key| key.name));
            return Err(Error::UnknownKey { origin, key: key.to_owned(), hint });
        };
        let refuse = |reason: String| Error::Value {
            origin: origin.clone(),
            key: key.to_owned(),
            value: value.to_string(),
            reason,
        };
        if !slot.same_type(&value) {
            return Err(refuse(format!("a value of type {} is expected", slot.type_str())));
        }
        let bounds = self.keys.iter().find(|row| row.name == key).and_then(|row| row.bounds);
        if let (Some((least, greatest)), Some(number)) = (bounds, value.as_integer())
            && !(least..=greatest).contains(&number)
        {
            return Err(refuse(format!("a number from {least} to {greatest} is expected")));
        }
        *slot = value;
        self.origins.insert(key.to_owned(), origin);
        Ok(())
    }
}

/// The configuration as TOML, each key with what is known about it as a comment.
pub(crate) fn print<T: Serialize>(config: &T, keys: &[Key]) -> String {
    let values = Table::try_from(config).expect("a flat struct of plain values is a TOML table");
    let mut text = String::new();
    for key in keys {
        let Some(value) = values.get(key.name) else { continue };
        let bounds =
            key.bounds.map(|(least, most)| format!(" {least} to {most}.")).unwrap_or_default();
        let java = key.java.map(|java| format!(" RocketMQ: {java}.")).unwrap_or_default();
        text.push_str(&format!("# {}{bounds}{java}\n{} = {value}\n", key.about, key.name));
    }
    text
}

fn read(path: &Path) -> Result<String, Error> {
    fs::read_to_string(path)
        .map_err(|source| Error::Read { path: path.display().to_string(), source })
}

fn line_of(text: &str, offset: usize) -> usize {
    text.bytes().take(offset).filter(|byte| *byte == b'\n').count() + 1
}

fn suggest<'a>(wrong: &str, known: impl Iterator<Item = &'a str>) -> String {
    let wrong = wrong.to_ascii_lowercase();
    known
        .map(|name| (strsim::jaro_winkler(&wrong, &name.to_ascii_lowercase()), name))
        .filter(|(likeness, _)| *likeness > 0.8)
        .max_by(|left, right| left.0.total_cmp(&right.0))
        .map_or_else(
            || "--print-config lists all keys".to_owned(),
            |(_, name)| format!("did you mean `{name}`?"),
        )
}

#[cfg(test)]
#[path = "layers_tests.rs"]
mod tests;
