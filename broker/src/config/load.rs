//! Reads the layers of the configuration and says exactly where a wrong value stands.

use std::{
    ops::Range,
    path::{Path, PathBuf},
};

use thiserror::Error;
use toml::de::{DeTable, DeValue};

use super::{Config, Contradiction, KEYS, Key, Unmapped, java};

/// Prefix of the environment variables that set keys.
const ENV_PREFIX: &str = "BASALTMQ_BROKER_";
/// RocketMQ's variable for the name servers.
const ENV_NAMESRV: &str = "NAMESRV_ADDR";

/// Where the configuration comes from, weakest first.
#[derive(Clone, Debug, Default)]
pub struct Layers {
    /// A file: TOML, or RocketMQ's `key = value` if its name ends in `.conf` or `.properties`.
    pub file: Option<PathBuf>,
    /// Environment variables; those of other programs are passed over.
    pub environment: Vec<(String, String)>,
    /// `(key, value)` of the command line.
    pub arguments: Vec<(String, String)>,
}

/// The configuration, and what of a RocketMQ file has no counterpart here.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// What to start with.
    pub config: Config,
    /// Keys of RocketMQ that were read and have no effect.
    pub unmapped: Vec<Unmapped>,
}

/// Why there is no configuration. The sentence says where to look and what to write there.
#[derive(Debug, Error)]
pub enum LoadError {
    /// The file cannot be read.
    #[error("cannot read the configuration file {path}: {source}", path = .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is not TOML.
    #[error("{path}:{line}: {message}", path = .path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong.
        message: String,
    },
    /// No such key.
    #[error("{place}: unknown key {key:?}{}", suggestion(.similar))]
    Unknown {
        /// File and line, variable or flag.
        place: String,
        /// The key as written.
        key: String,
        /// The key that may be meant.
        similar: Option<&'static str>,
    },
    /// A value that its key does not accept.
    #[error("{place}: {key} cannot be {value:?}: {problem}")]
    Value {
        /// File and line, variable or flag.
        place: String,
        /// The key.
        key: String,
        /// The value as written.
        value: String,
        /// What would have been accepted.
        problem: String,
    },
    /// Keys that contradict each other.
    #[error(transparent)]
    Contradiction(#[from] Contradiction),
}

fn suggestion(similar: &Option<&'static str>) -> String {
    similar.map_or_else(
        || "; --print-config lists all keys".to_owned(),
        |name| format!("; did you mean {name:?}?"),
    )
}

impl Layers {
    /// Reads all layers over the defaults.
    ///
    /// # Errors
    ///
    /// At the first key or value that is wrong, when keys contradict each other, or when the file
    /// cannot be read.
    pub fn load(&self) -> Result<Loaded, LoadError> {
        let mut config = Config::default();
        let mut unmapped = Vec::new();
        if let Some((_, value)) = self.environment.iter().find(|(name, _)| name == ENV_NAMESRV) {
            set(&mut config, ENV_NAMESRV, "namesrv", value)?;
        }
        if let Some(path) = &self.file {
            let text = std::fs::read_to_string(path)
                .map_err(|source| LoadError::Read { path: path.clone(), source })?;
            if is_java(path) {
                unmapped = java::apply(&mut config, path, &text)?;
            } else {
                apply_toml(&mut config, path, &text)?;
            }
        }
        for (variable, value) in &self.environment {
            if let Some(key) = variable.strip_prefix(ENV_PREFIX) {
                set(&mut config, variable, &key.to_ascii_lowercase(), value)?;
            }
        }
        for (key, value) in &self.arguments {
            set(&mut config, "command line", key, value)?;
        }
        config.check()?;
        Ok(Loaded { config, unmapped })
    }
}

fn is_java(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "conf" || extension == "properties")
}

/// Sets one key from text, or says what is wrong with it at `place`.
pub(super) fn set(
    config: &mut Config,
    place: &str,
    name: &str,
    value: &str,
) -> Result<(), LoadError> {
    let Some(key) = Key::find(name) else {
        return Err(LoadError::Unknown {
            place: place.to_owned(),
            key: name.to_owned(),
            similar: similar(name, KEYS.iter().map(|key| key.name)),
        });
    };
    (key.set)(config, value).map_err(|problem| LoadError::Value {
        place: place.to_owned(),
        key: name.to_owned(),
        value: value.to_owned(),
        problem,
    })
}

/// The candidate that a typing error away from `name` could have meant.
pub(super) fn similar(
    name: &str,
    candidates: impl Iterator<Item = &'static str>,
) -> Option<&'static str> {
    candidates
        .map(|candidate| (strsim::jaro_winkler(name, candidate), candidate))
        .filter(|(likeness, _)| *likeness > 0.8)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, candidate)| candidate)
}

fn apply_toml(config: &mut Config, path: &Path, text: &str) -> Result<(), LoadError> {
    let table = DeTable::parse(text).map_err(|error| LoadError::Syntax {
        path: path.to_owned(),
        line: line_of(text, &error.span().unwrap_or_default()),
        message: error.message().to_owned(),
    })?;
    for (name, value) in table.get_ref() {
        let place = format!("{}:{}", path.display(), line_of(text, &name.span()));
        let text = plain(value.get_ref()).ok_or_else(|| LoadError::Value {
            place: place.clone(),
            key: name.get_ref().to_string(),
            value: text.get(value.span()).unwrap_or_default().to_owned(),
            problem: "expected a string, a number, true, false or a list of strings".to_owned(),
        });
        // An unknown key is the likelier mistake than a value of a strange kind.
        let text = if Key::find(name.get_ref()).is_none() { String::new() } else { text? };
        set(config, &place, name.get_ref(), &text)?;
    }
    Ok(())
}

/// A TOML value in the text form that all layers share.
fn plain(value: &DeValue<'_>) -> Option<String> {
    match value {
        DeValue::String(text) => Some(text.to_string()),
        DeValue::Integer(number) => Some(number.as_str().to_owned()),
        DeValue::Boolean(value) => Some(value.to_string()),
        DeValue::Array(items) => {
            let items: Option<Vec<&str>> =
                items.iter().map(|item| item.get_ref().as_str()).collect();
            Some(items?.join(";"))
        }
        _ => None,
    }
}

fn line_of(text: &str, span: &Range<usize>) -> usize {
    text.bytes().take(span.start).filter(|byte| *byte == b'\n').count() + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(name: &str, text: &str) -> (tempfile::TempDir, Layers) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        (dir, Layers { file: Some(path), ..Layers::default() })
    }

    fn pair(key: &str, value: &str) -> (String, String) {
        (key.to_owned(), value.to_owned())
    }

    #[test]
    fn later_layers_win() {
        let (_dir, mut layers) =
            file("b.toml", "cluster = 'file'\nname = 'file'\nregion = 'file'\n");
        layers.environment = vec![
            pair("BASALTMQ_BROKER_NAME", "environment"),
            pair("BASALTMQ_BROKER_REGION", "environment"),
            pair("NAMESRV_ADDR", "a:1;b:2"),
            pair("PATH", "/bin"),
        ];
        layers.arguments = vec![pair("region", "argument")];
        let config = layers.load().unwrap().config;
        assert_eq!(
            [config.cluster.as_str(), &config.name, &config.region],
            ["file", "environment", "argument"]
        );
        assert_eq!(config.namesrv, ["a:1", "b:2"]);
    }

    #[test]
    fn printed_configuration_reads_back_as_itself() {
        let config = Config {
            namesrv: vec!["a:1".to_owned(), "b:2".to_owned()],
            flush: "sync".to_owned(),
            region: "quoted \"name\"".to_owned(),
            ..Config::default()
        };
        let (_dir, layers) = file("b.toml", &config.to_toml());
        assert_eq!(layers.load().unwrap().config, config);
    }

    #[test]
    fn an_unknown_key_is_refused_with_line_and_suggestion() {
        let (_dir, layers) = file("b.toml", "name = 'a'\n\nauto_create_topics = true\n");
        let error = layers.load().unwrap_err().to_string();
        assert!(error.contains("b.toml:3: unknown key \"auto_create_topics\""), "{error}");
        assert!(error.contains("did you mean \"auto_create_topic\"?"), "{error}");
        let (_dir, layers) = file("b.toml", "[broker]\nname = 'a'\n");
        assert!(layers.load().unwrap_err().to_string().contains("unknown key \"broker\""));
    }

    #[test]
    fn a_wrong_value_is_refused_with_line_and_bounds() {
        for (text, expected) in [
            (
                "name = 'a'\nflush = 'fast'",
                "b.toml:2: flush cannot be \"fast\": expected one of async | sync",
            ),
            ("pull_max_messages = 0", "expected a whole number, 1 to 1024"),
            ("trace_on = 'maybe'", "expected true or false"),
            ("listen = 10911", "expected IP:PORT"),
            ("name = 1.5", "expected a string, a number"),
        ] {
            let (_dir, layers) = file("b.toml", text);
            let error = layers.load().unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn broken_toml_is_refused_with_its_line() {
        let (_dir, layers) = file("b.toml", "name = 'a'\nregion = \n");
        let error = layers.load().unwrap_err().to_string();
        assert!(error.contains("b.toml:2: "), "{error}");
    }

    #[test]
    fn unknown_variables_of_this_broker_are_refused() {
        let layers = Layers {
            environment: vec![pair("BASALTMQ_BROKER_LISTN", "0.0.0.0:1")],
            ..Layers::default()
        };
        let error = layers.load().unwrap_err().to_string();
        assert!(error.contains("BASALTMQ_BROKER_LISTN: unknown key"), "{error}");
        assert!(error.contains("did you mean \"listen\"?"), "{error}");
    }
}
