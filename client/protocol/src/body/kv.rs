//! Tables of texts: name server configuration (219), order configuration (reply to 103), and what
//! a broker says of itself (28).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Values by name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct KvTable {
    /// Values by name.
    pub table: BTreeMap<String, String>,
}
