//! Consumer groups: codes 207, 208, 343 and 352.

use crate::header::header;

header! {
    /// Delete a consumer group, code 207.
    pub struct DeleteGroup<'a> {
        /// Consumer group.
        pub group: &'a str = "groupName",
        /// Whether its offsets go too.
        pub clean_offset: bool = "cleanOffset",
    }
}

header! {
    /// Names a consumer group: codes 343 and 352.
    pub struct Group<'a> {
        /// Consumer group.
        pub group: &'a str = "group",
    }
}

header! {
    /// A group's progress, code 208.
    pub struct ConsumeStats<'a> {
        /// Consumer group.
        pub consumer_group: &'a str = "consumerGroup",
        /// Topic; absent or empty means every topic of the group.
        pub topic: Option<&'a str> = "topic",
    }
}
