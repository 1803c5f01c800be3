//! Key-value configuration of name servers: codes 100, 101, 102 and 219.

use crate::header::header;

header! {
    /// Put a key, code 100.
    pub struct Put<'a> {
        /// Namespace.
        pub namespace: &'a str = "namespace",
        /// Key.
        pub key: &'a str = "key",
        /// Value.
        pub value: &'a str = "value",
    }
}

header! {
    /// Names a key: codes 101 and 102.
    pub struct Key<'a> {
        /// Namespace.
        pub namespace: &'a str = "namespace",
        /// Key.
        pub key: &'a str = "key",
    }
}

header! {
    /// Reply to code 101.
    pub struct Value {
        /// Value.
        pub value: Option<String> = "value",
    }
}

header! {
    /// Names a namespace, code 219.
    pub struct Namespace<'a> {
        /// Namespace.
        pub namespace: &'a str = "namespace",
    }
}
