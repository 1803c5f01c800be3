//! What each layer replaces and which mistakes are named how.

use serde::Deserialize;

use super::*;

#[derive(Debug, Deserialize, PartialEq, Serialize)]
#[serde(default)]
struct Sample {
    address: std::net::IpAddr,
    port: u16,
    order: bool,
}

impl Default for Sample {
    fn default() -> Self {
        Self { address: [127, 0, 0, 1].into(), port: 1, order: false }
    }
}

const KEYS: &[Key] = &[
    Key { name: "address", java: Some("bindAddress"), bounds: None, about: "Where.", live: false },
    Key {
        name: "port",
        java: Some("listenPort"),
        bounds: Some((0, 65_535)),
        about: "Port.",
        live: false,
    },
    Key { name: "order", java: None, bounds: None, about: "Order.", live: true },
];

fn file(name: &str, text: &str) -> (tempfile::TempDir, std::path::PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(name);
    fs::write(&path, text).unwrap();
    (dir, path)
}

fn toml(text: &str) -> Result<Sample, Error> {
    let (_dir, path) = file("x.toml", text);
    let mut layers = Layers::new(&Sample::default(), KEYS);
    layers.toml_file(&path)?;
    layers.finish()
}

#[test]
fn later_layers_win() {
    let (_dir, path) = file("x.toml", "port = 2\norder = true\n");
    let mut layers = Layers::new(&Sample::default(), KEYS);
    layers.toml_file(&path).unwrap();
    let variables = [("P_PORT", "3"), ("P_ADDRESS", "::1"), ("OTHER", "x")];
    layers.environment("P_", variables.map(|(k, v)| (k.into(), v.into())).into_iter()).unwrap();
    layers.text("port", "4", "flag --port".into()).unwrap();
    let expected = Sample { address: "::1".parse().unwrap(), port: 4, order: true };
    assert_eq!(layers.finish::<Sample>().unwrap(), expected);
}

#[test]
fn unknown_key_is_named_with_file_line_and_suggestion() {
    let text = toml("# comment\nport = 1\nadress = \"::1\"\n").unwrap_err().to_string();
    assert!(text.contains("x.toml line 3: unknown key `adress`"), "{text}");
    assert!(text.contains("did you mean `address`?"), "{text}");
    let text = toml("[section]\nx = 1\n").unwrap_err().to_string();
    assert!(text.contains("line 1: unknown key `section`; --print-config"), "{text}");
}

#[test]
fn impossible_values_are_named_with_their_origin() {
    let text = toml("\nport = 70000").unwrap_err().to_string();
    assert!(text.contains("line 2: `port` = 70000"), "{text}");
    assert!(text.contains("from 0 to 65535"), "{text}");
    let text = toml("port = \"x\"").unwrap_err().to_string();
    assert!(text.contains("type integer is expected"), "{text}");
    let text = toml("order = true\naddress = \"localhost\"").unwrap_err().to_string();
    assert!(text.contains("line 2: `address` = \"localhost\""), "{text}");
    let text = toml("port =").unwrap_err().to_string();
    assert!(text.contains("is not valid TOML"), "{text}");
    let mut layers = Layers::new(&Sample::default(), KEYS);
    let error = layers.environment("P_", [("P_PROT".into(), "1".into())].into_iter()).unwrap_err();
    assert!(
        error.to_string().contains("variable P_PROT: unknown key `prot`; did you mean `port`?")
    );
}

#[test]
fn java_file_is_mapped_or_warned_about() {
    let text = "listenPort=9\nbindAddress=0.0.0.0\nrocketmqHome=/opt\nlistnPort=1\n";
    let (_dir, path) = file("namesrv.conf", text);
    let mut layers = Layers::new(&Sample::default(), KEYS);
    let warnings = layers.java_file(&path, &[("rocketmqHome", "there is no home")]).unwrap();
    assert_eq!(warnings.len(), 2);
    assert!(warnings[0].contains("line 3: `rocketmqHome` has no effect: there is no home"));
    assert!(warnings[1].contains("line 4: unknown key `listnPort`; did you mean `listenPort`?"));
    let config: Sample = layers.finish().unwrap();
    assert_eq!((config.port, config.address.to_string()), (9, "0.0.0.0".into()));
}

#[test]
fn printed_configuration_reads_back() {
    let config = Sample { port: 77, ..Sample::default() };
    let text = print(&config, KEYS);
    assert!(text.contains("# Port. 0 to 65535. RocketMQ: listenPort.\nport = 77\n"), "{text}");
    assert_eq!(toml(&text).unwrap(), config);
}
