//! Reading the header of a send in both encodings, and writing its reply.

#![expect(clippy::unwrap_used, reason = "a bench that cannot run has nothing to say")]

use std::hint::black_box;

use benches::properties;
use bytes::{Buf as _, Bytes, BytesMut};
use criterion::{Criterion, criterion_group, criterion_main};
use protocol::{
    code::ResponseCode,
    frame::{self, Encoding, Frame, Head},
    request::send::{Send, Sent},
};

fn send_frame(encoding: Encoding) -> Bytes {
    let properties = properties(1);
    let send = Send {
        producer_group: "please_rename_unique_group_name",
        topic: "TopicTest",
        default_topic: Some("TBW102"),
        default_topic_queues: 4,
        queue_id: 1,
        sys_flag: 0,
        born_timestamp: 1_700_000_000_000,
        flag: 0,
        properties: Some(&properties),
        reconsume_times: 0,
        unit_mode: false,
        max_reconsume_times: None,
        batch: false,
        broker_name: Some("broker-a"),
    };
    let mut out = BytesMut::new();
    frame::write(&mut out, &Head::request(310, 7, encoding, false), &send, 0);
    out.advance(4);
    out.freeze()
}

fn headers(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("header");
    for (name, encoding) in [("json", Encoding::Json), ("binary", Encoding::Binary)] {
        let bytes = send_frame(encoding);
        group.bench_function(format!("read_send/{name}"), |bencher| {
            bencher.iter(|| {
                let frame = Frame::decode(black_box(bytes.clone())).unwrap();
                let send = Send::decode(&frame.fields).unwrap();
                black_box((send.queue_id, send.topic.len()));
            });
        });
        let ticket = Frame::decode(bytes).unwrap().ticket();
        let sent = Sent {
            message_id: "7F00000100002A9F0000000000001000".to_owned(),
            queue_id: 1,
            queue_offset: 42,
            transaction_id: None,
            region_id: Some("DefaultRegion".to_owned()),
            trace_on: Some("true".to_owned()),
        };
        let mut out = BytesMut::with_capacity(1024);
        group.bench_function(format!("write_reply/{name}"), |bencher| {
            bencher.iter(|| {
                out.clear();
                let head = Head::reply(ticket, ResponseCode::SUCCESS, None);
                frame::write(&mut out, &head, black_box(&sent), 0);
            });
        });
    }
    group.finish();
}

criterion_group!(benches, headers);
criterion_main!(benches);
