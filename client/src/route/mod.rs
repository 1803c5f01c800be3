//! Where a topic's queues are. Pure; [`table`] asks the name servers.

mod table;

use std::{collections::BTreeMap, sync::Arc};

use protocol::body::route::TopicRoute;
use tokio::time::Instant;

pub(crate) use self::table::Routes;
use crate::{error::Error, queue::Queue};

/// Permission bits of a topic.
const WRITE: i32 = 2;
const READ: i32 = 4;
/// The id of a master among the brokers of one name.
const MASTER: i64 = 0;

/// The route of one topic, as it was when it was read.
#[derive(Debug)]
pub(crate) struct Route {
    topic: Arc<str>,
    writable: Vec<Queue>,
    readable: Vec<Queue>,
    /// Addresses by broker name and broker id.
    brokers: BTreeMap<Arc<str>, BTreeMap<i64, Arc<str>>>,
    read_at: Instant,
    borrowed: bool,
}

impl Route {
    /// # Source: `MQClientInstance.topicRouteData2TopicPublishInfo`
    pub(crate) fn new(topic: &str, body: &TopicRoute) -> Self {
        let topic: Arc<str> = topic.into();
        let brokers: BTreeMap<Arc<str>, BTreeMap<i64, Arc<str>>> = body
            .broker_datas
            .iter()
            .map(|broker| {
                let addresses = broker.broker_addrs.iter();
                let addresses = addresses.map(|(id, address)| (*id, Arc::from(address.as_str())));
                (Arc::from(broker.broker_name.as_str()), addresses.collect())
            })
            .collect();
        let (mut writable, mut readable) = (Vec::new(), Vec::new());
        for data in &body.queue_datas {
            let Some((broker, addresses)) = brokers.get_key_value(data.broker_name.as_str()) else {
                continue;
            };
            let queue = |id| Queue::new(Arc::clone(&topic), Arc::clone(broker), id);
            if data.perm & WRITE != 0 && addresses.contains_key(&MASTER) {
                writable.extend((0..data.write_queue_nums).map(queue));
            }
            if data.perm & READ != 0 {
                readable.extend((0..data.read_queue_nums).map(queue));
            }
        }
        for queues in [&mut writable, &mut readable] {
            queues.sort();
            queues.dedup();
        }
        Self { topic, writable, readable, brokers, read_at: Instant::now(), borrowed: false }
    }

    /// The route that a topic will probably get that a broker creates from the template whose
    /// route this is.
    pub(crate) fn lent_to(body: &TopicRoute, topic: &str, max_queues: i32) -> Self {
        let mut body = body.clone();
        for data in &mut body.queue_datas {
            data.write_queue_nums = data.write_queue_nums.min(max_queues);
            data.read_queue_nums = data.read_queue_nums.min(max_queues);
        }
        Self { borrowed: true, ..Self::new(topic, &body) }
    }

    /// Whether the topic did not exist when this was read.
    pub(crate) fn is_borrowed(&self) -> bool {
        self.borrowed
    }

    pub(crate) fn read_at(&self) -> Instant {
        self.read_at
    }

    /// The queues that can be sent to, sorted.
    pub(crate) fn writable(&self) -> &[Queue] {
        &self.writable
    }

    /// The queues that can be read, sorted.
    pub(crate) fn readable(&self) -> &[Queue] {
        &self.readable
    }

    /// How many brokers can be sent to.
    pub(crate) fn masters(&self) -> usize {
        self.brokers.values().filter(|addresses| addresses.contains_key(&MASTER)).count()
    }

    /// The names of the topic's brokers, and one address of each: the master's if there is one.
    pub(crate) fn brokers(&self) -> impl Iterator<Item = (&Arc<str>, &Arc<str>)> {
        self.brokers.iter().filter_map(|(name, addresses)| {
            addresses.values().next().map(|address| (name, address))
        })
    }

    /// The addresses of the topic's brokers, masters first within each name.
    pub(crate) fn addresses(&self) -> impl Iterator<Item = &Arc<str>> {
        self.brokers.values().flat_map(BTreeMap::values)
    }

    /// Who takes messages and offsets for this queue.
    pub(crate) fn master(&self, queue: &Queue) -> Result<&str, Error> {
        self.brokers
            .get(queue.broker())
            .and_then(|addresses| addresses.get(&MASTER))
            .map(AsRef::as_ref)
            .ok_or_else(|| self.no_broker(queue))
    }

    /// Who to read this queue from: the broker with this id, else the master, else anyone. Also
    /// whether it is the master.
    pub(crate) fn reader(&self, queue: &Queue, broker_id: i64) -> Result<(&str, bool), Error> {
        let addresses = self.brokers.get(queue.broker()).ok_or_else(|| self.no_broker(queue))?;
        if self.readable.binary_search(queue).is_err() {
            return Err(self.no_queue(queue));
        }
        addresses
            .get_key_value(&broker_id)
            .or_else(|| addresses.first_key_value())
            .map(|(id, address)| (address.as_ref(), *id == MASTER))
            .ok_or_else(|| self.no_broker(queue))
    }

    /// Whether queues or addresses differ.
    pub(crate) fn differs_from(&self, other: &Self) -> bool {
        self.writable != other.writable
            || self.readable != other.readable
            || self.brokers != other.brokers
    }

    fn no_queue(&self, queue: &Queue) -> Error {
        Error::QueueNotFound {
            topic: self.topic.to_string(),
            broker: queue.broker().to_owned(),
            id: queue.id(),
            queues: self.readable.iter().filter(|own| own.broker() == queue.broker()).count(),
        }
    }

    fn no_broker(&self, queue: &Queue) -> Error {
        Error::BrokerNotFound { broker: queue.broker().to_owned(), topic: self.topic.to_string() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BODY: &str = r#"{"brokerDatas":[
        {"brokerAddrs":{"0":"10.0.0.1:1","1":"10.0.0.2:1"},"brokerName":"a","cluster":"c"},
        {"brokerAddrs":{"1":"10.0.0.3:1"},"brokerName":"b","cluster":"c"}],
        "queueDatas":[
        {"brokerName":"b","perm":6,"readQueueNums":1,"writeQueueNums":1},
        {"brokerName":"a","perm":6,"readQueueNums":2,"writeQueueNums":1},
        {"brokerName":"gone","perm":6,"readQueueNums":1,"writeQueueNums":1}]}"#;

    fn body() -> TopicRoute {
        protocol::json::decode(BODY.as_bytes()).unwrap()
    }

    fn names(queues: &[Queue]) -> Vec<String> {
        queues.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn only_queues_of_masters_can_be_written() {
        let route = Route::new("t", &body());
        assert_eq!(names(route.writable()), ["t/a/0"]);
        assert_eq!(names(route.readable()), ["t/a/0", "t/a/1", "t/b/0"]);
        assert_eq!(route.masters(), 1);
    }

    #[test]
    fn a_queue_is_read_from_the_suggested_broker_if_it_is_there() {
        let route = Route::new("t", &body());
        let queue = Queue::new("t", "a", 0);
        assert_eq!(route.master(&queue).unwrap(), "10.0.0.1:1");
        assert_eq!(route.reader(&queue, 1).unwrap(), ("10.0.0.2:1", false));
        assert_eq!(route.reader(&queue, 7).unwrap(), ("10.0.0.1:1", true));
        let orphan = Queue::new("t", "b", 0);
        assert_eq!(route.reader(&orphan, 0).unwrap(), ("10.0.0.3:1", false));
        assert!(matches!(route.master(&orphan), Err(Error::BrokerNotFound { .. })));
        let missing = route.reader(&Queue::new("t", "a", 2), 0).unwrap_err();
        assert!(matches!(missing, Error::QueueNotFound { id: 2, queues: 2, .. }), "{missing}");
    }

    #[test]
    fn permissions_hide_queues() {
        let mut body = body();
        body.queue_datas[1].perm = READ;
        assert_eq!(names(Route::new("t", &body).writable()), [""; 0]);
        body.queue_datas[1].perm = WRITE;
        assert_eq!(names(Route::new("t", &body).readable()), ["t/b/0"]);
    }

    #[test]
    fn a_lent_route_has_no_more_queues_than_asked_for() {
        let mut body = body();
        body.queue_datas[1].write_queue_nums = 8;
        let route = Route::lent_to(&body, "new", 4);
        assert!(route.is_borrowed());
        assert_eq!(route.writable().len(), 4);
        assert_eq!(route.writable()[0].topic(), "new");
    }

    #[test]
    fn a_route_differs_when_a_broker_moves() {
        let (before, mut body) = (Route::new("t", &body()), body());
        assert!(!before.differs_from(&Route::new("t", &body)));
        body.broker_datas[0].broker_addrs.insert(0, "10.0.0.9:1".into());
        assert!(before.differs_from(&Route::new("t", &body)));
    }
}
