//! Bodies: JSON of every family, the compressed registration, and compressed messages.

use std::fmt::Debug;

use protocol::{
    body::{
        cluster, group, heartbeat, kv, lock, offset, register::RegisterBody, route, stats, topic,
    },
    compression::{compress_zlib, decompress},
    json, limits, sys_flag,
};
use serde::{Serialize, de::DeserializeOwned};

/// Most bytes that a small body may inflate to here.
const INFLATED_MAX_BYTES: usize = 1 << 20;

/// The first byte chooses what the rest is.
pub fn read(data: &[u8]) {
    let Some((&kind, data)) = data.split_first() else { return };
    let readers: &[fn(&[u8])] = &[
        compressed,
        register,
        repeat::<heartbeat::Heartbeat>,
        repeat::<group::GroupConfig>,
        repeat::<group::GroupTable>,
        repeat::<topic::TopicConfigTable>,
        repeat::<route::TopicRoute>,
        repeat::<offset::ResetOffsets>,
        repeat::<lock::QueueSet>,
        repeat::<cluster::ClusterInfo>,
        repeat::<stats::ConsumeStats>,
        repeat::<kv::KvTable>,
    ];
    if let Some(read) = readers.get(usize::from(kind) % readers.len()) {
        read(data);
    }
}

fn repeat<T: DeserializeOwned + Serialize + PartialEq + Debug>(data: &[u8]) {
    let Ok(read) = json::decode::<T>(data) else { return };
    let again: T = json::decode(&json::encode(&read)).expect("what we write, we read");
    assert_eq!(again, read);
}

fn register(data: &[u8]) {
    for version in [0, 479] {
        // Inflating is what `compressed` looks at.
        let _read = RegisterBody::decode(data, version).is_ok();
    }
    let _inner = RegisterBody::decode(&compress_zlib(data), 479).is_ok();
}

fn compressed(data: &[u8]) {
    assert!(INFLATED_MAX_BYTES <= limits::BODY_INFLATED_MAX_BYTES);
    for kind in
        [0, sys_flag::COMPRESSION_LZ4, sys_flag::COMPRESSION_ZSTD, sys_flag::COMPRESSION_ZLIB]
    {
        if let Ok(body) = decompress(sys_flag::COMPRESSED | kind, data, INFLATED_MAX_BYTES) {
            assert!(body.len() <= INFLATED_MAX_BYTES);
        }
    }
    let packed = compress_zlib(data);
    let body = decompress(sys_flag::COMPRESSED, &packed, data.len()).expect("we read our own");
    assert_eq!(*body, *data);
}
