//! A server whose answers the test decides: name server and broker in one.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use protocol::{
    code::{RequestCode, ResponseCode},
    connection::{Body, Connection},
    frame::Frame,
    server::{ServeOptions, Server, Service},
};
use tokio::task::JoinHandle;

/// What a fake does with one request.
pub(crate) enum Answer {
    /// Code, header fields and body.
    Reply(ResponseCode, Vec<(&'static str, String)>, Bytes),
    /// Nothing, ever.
    Silence,
}

/// Decides by request code, the request and how many with this code came before.
pub(crate) type Script =
    dyn Fn(RequestCode, &Frame, usize, &Arc<Connection>) -> Answer + Send + Sync + 'static;

pub(crate) struct Fake {
    pub(crate) address: SocketAddr,
    counts: Arc<Counts>,
    task: JoinHandle<()>,
}

type Counts = std::sync::Mutex<std::collections::HashMap<RequestCode, Arc<AtomicUsize>>>;

struct Scripted {
    script: Box<Script>,
    counts: Arc<Counts>,
}

impl Service for Scripted {
    type Turn = ();

    fn request(&self, connection: &Arc<Connection>, frame: Frame, (): &mut ()) {
        let Some(code) = RequestCode::from_i32(frame.code) else {
            return connection.unsupported(frame.ticket());
        };
        let count = Arc::clone(self.counts.lock().unwrap().entry(code).or_default());
        let before = count.fetch_add(1, Ordering::SeqCst);
        match (self.script)(code, &frame, before, connection) {
            Answer::Reply(code, fields, body) => {
                let fields: Vec<(&str, &str)> =
                    fields.iter().map(|(name, value)| (*name, value.as_str())).collect();
                let remark = (code != ResponseCode::SUCCESS).then_some("as the test wants");
                connection.reply(frame.ticket(), code, remark, &fields[..], Body::Bytes(body));
            }
            Answer::Silence => {}
        }
    }
}

impl Fake {
    pub(crate) async fn start(
        script: impl Fn(RequestCode, &Frame, usize, &Arc<Connection>) -> Answer + Send + Sync + 'static,
    ) -> Self {
        let server = Server::bind("127.0.0.1:0", ServeOptions::default()).await.unwrap();
        let address = server.local_addr();
        let counts = Arc::<Counts>::default();
        let service = Scripted { script: Box::new(script), counts: Arc::clone(&counts) };
        let task = tokio::spawn(server.run(Arc::new(service), std::future::pending()));
        Self { address, counts, task }
    }

    /// How many requests with this code came.
    pub(crate) fn count(&self, code: RequestCode) -> usize {
        self.counts.lock().unwrap().get(&code).map_or(0, |count| count.load(Ordering::SeqCst))
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Success without anything.
pub(crate) fn ok() -> Answer {
    Answer::Reply(ResponseCode::SUCCESS, Vec::new(), Bytes::new())
}

/// A refusal.
pub(crate) fn refusal(code: ResponseCode) -> Answer {
    Answer::Reply(code, Vec::new(), Bytes::new())
}

/// The route of any topic: one queue on each of these brokers, named `a`, `b`, …
pub(crate) fn route(brokers: &[SocketAddr]) -> Answer {
    let name = |index: usize| char::from(b'a' + u8::try_from(index).unwrap());
    let datas: Vec<_> = brokers
        .iter()
        .enumerate()
        .map(|(index, address)| {
            format!(
                r#"{{"brokerAddrs":{{"0":"{address}"}},"brokerName":"{}","cluster":"c"}}"#,
                name(index)
            )
        })
        .collect();
    let queues: Vec<_> = (0..brokers.len())
        .map(|index| {
            format!(
                r#"{{"brokerName":"{}","perm":6,"readQueueNums":1,"writeQueueNums":1,"topicSysFlag":0}}"#,
                name(index)
            )
        })
        .collect();
    let body = format!(
        r#"{{"brokerDatas":[{}],"filterServerTable":{{}},"queueDatas":[{}]}}"#,
        datas.join(","),
        queues.join(",")
    );
    Answer::Reply(ResponseCode::SUCCESS, Vec::new(), body.into())
}

/// A stored message.
pub(crate) fn sent() -> Answer {
    let fields = vec![
        ("msgId", "7F00000100002A9F0000000000000000".to_owned()),
        ("queueId", "0".to_owned()),
        ("queueOffset", "7".to_owned()),
    ];
    Answer::Reply(ResponseCode::SUCCESS, fields, Bytes::new())
}

/// An offset, of whatever was asked for.
pub(crate) fn offset(offset: i64) -> Answer {
    Answer::Reply(ResponseCode::SUCCESS, vec![("offset", offset.to_string())], Bytes::new())
}

/// The answer to a pull, from a queue with 100 messages.
pub(crate) fn pulled(code: ResponseCode, next: i64, records: Bytes) -> Answer {
    let fields = [("nextBeginOffset", next), ("minOffset", 0), ("maxOffset", 100)]
        .map(|(name, value)| (name, value.to_string()))
        .into_iter()
        .chain([("suggestWhichBrokerId", "0".to_owned())])
        .collect();
    Answer::Reply(code, fields, records)
}
