//! Routes: code 105.

use crate::header::header;

header! {
    /// Read the route of a topic.
    pub struct RouteInfo<'a> {
        /// Topic.
        pub topic: &'a str = "topic",
        /// Whether the client parses nothing but standard JSON.
        pub standard_json_only: bool = "acceptStandardJsonOnly",
    }
}

header! {
    /// Names a cluster, code 224.
    pub struct Cluster<'a> {
        /// Cluster.
        pub cluster: &'a str = "cluster",
    }
}
