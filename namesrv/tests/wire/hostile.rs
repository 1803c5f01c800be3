//! Peers that mean harm or speak something else: they are cut off, nobody else notices.

use tokio::io::AsyncWriteExt;

use crate::peer::{body, hex, start};

#[tokio::test]
async fn impossible_frames_close_only_their_connection() {
    let namesrv = start().await;
    let mut witness = namesrv.peer().await;
    witness.register(("a", "0", "a:1"), &["T", "U"], 1).await;
    let frames: [&[u8]; 7] = [
        b"\x40\x00\x00\x00xxxx",                 // 1 GiB announced
        b"\x00\x00\x00\x00",                     // no header
        b"\x00\x00\x00\x08\x00\x00\xff\xffabcd", // a header longer than its frame
        b"\x00\x00\x00\x08\x07\x00\x00\x04abcd", // unknown header type
        b"\x00\x00\x00\x08\x00\x00\x00\x04{{{{", // no JSON
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", // TLS
    ];
    for frame in frames {
        let mut peer = namesrv.peer().await;
        peer.stream.write_all(frame).await.unwrap();
        peer.closed().await;
        assert_eq!(witness.route("T").await.code, 0);
    }
}

/// 64 MiB of zeros in 64 kB: more than any registration may become.
#[tokio::test]
async fn body_that_grows_without_bound_is_refused() {
    let namesrv = start().await;
    let mut peer = namesrv.peer().await;
    let fields = [
        ("brokerName", "a"),
        ("brokerId", "0"),
        ("brokerAddr", "a:1"),
        ("clusterName", "C"),
        ("haServerAddr", "h:1"),
    ];
    // A zlib header, then stored-block and dynamic-block bombs are all made by the same tool.
    let mut bomb = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::best());
    let zeros = vec![0; 1 << 20];
    for _ in 0..80 {
        std::io::Write::write_all(&mut bomb, &zeros).unwrap();
    }
    let reply = peer.ask(103, &fields, &bomb.finish().unwrap()).await;
    assert_eq!(reply.code, 1, "{}", reply.remark);
    assert_eq!(peer.route("T").await.code, 17);
}

/// Every prefix of good bodies, and good bodies with each byte changed: an answer to all of them.
#[tokio::test]
async fn damaged_bodies_of_every_request_are_answered() {
    let namesrv = start().await;
    let mut peer = namesrv.peer().await;
    let fields = [
        ("brokerName", "a"),
        ("brokerId", "0"),
        ("brokerAddr", "a:1"),
        ("clusterName", "C"),
        ("topic", "T"),
    ];
    let compressed = hex("78da636060b0a8564ace2fcd2b492d52b232d7512a2e492c490d4b2d2acecccf\
        53b232d0512ac9cc4d050ae6162859199a1b20402d0303032310cb86e41764268700d5289800a19942b0a79fbb8f\
        6b7c88a3bb4235481153742c90640000549f1b67");
    let json = body(&["T", "U"], 1).into_bytes();
    let mut answered = 0;
    for good in [compressed, json] {
        for at in 0..good.len() {
            let mut changed = good.clone();
            changed[at] ^= 0x55;
            for bytes in [&good[..at], &changed] {
                for code in [103, 322, 217, 318] {
                    peer.ask(code, &fields, bytes).await;
                    answered += 1;
                }
            }
        }
    }
    assert!(answered > 4_000);
}

#[tokio::test]
async fn numbers_that_make_no_sense_are_survived() {
    let namesrv = start().await;
    let mut peer = namesrv.peer().await;
    let text = body(&["T", "U"], i64::MAX);
    for (id, timeout) in [
        ("-1", "-5"),
        ("9223372036854775807", "9223372036854775807"),
        ("-9223372036854775808", "0"),
    ] {
        let fields = [
            ("brokerName", "a"),
            ("brokerId", id),
            ("brokerAddr", id),
            ("clusterName", "C"),
            ("haServerAddr", "h:1"),
            ("heartbeatTimeoutMillis", timeout),
        ];
        assert_eq!(peer.ask(103, &fields, text.as_bytes()).await.code, 0, "{id}");
    }
    let bad =
        [("brokerName", "a"), ("brokerId", "one"), ("brokerAddr", "a:1"), ("clusterName", "C")];
    let reply = peer.ask(103, &bad, text.as_bytes()).await;
    assert_eq!(reply.code, 1);
    assert!(reply.remark.contains("brokerId"), "{}", reply.remark);
    assert_eq!(peer.ask(106, &[], b"").await.code, 0);
}
