//! The broker itself: code 26.

use crate::header::header;

header! {
    /// Reply to code 26.
    pub struct ConfigVersion {
        /// Version of the configuration, as JSON.
        pub version: String = "version",
    }
}
