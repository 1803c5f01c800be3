//! Consumer groups: codes 201, 207, 208, 343 and 352.

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

header! {
    /// Read every consumer group's configuration, code 201. Without [`AllGroups::from`] everything
    /// is wanted at once; older peers send no field at all.
    pub struct AllGroups<'a> {
        /// Position of the first group wanted.
        pub from: Option<i32> = "groupSeq",
        /// Version that the peer's earlier pages had, as JSON.
        pub data_version: Option<&'a str> = "dataVersion",
        /// Most groups wanted.
        pub max: Option<i32> = "maxGroupNum",
    }
}

header! {
    /// Reply to code 201.
    pub struct GroupCount {
        /// Number of groups in all.
        pub total: i32 = "totalGroupNum",
    }
}
