//! The routes in use, and when they are read again.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, Mutex},
    time::Duration,
};

use protocol::{
    body::route::TopicRoute,
    code::{RequestCode, ResponseCode},
    json,
    names::AUTO_CREATE_TOPIC,
    request::route::RouteInfo,
};
use tokio::time::Instant;

use super::Route;
use crate::{
    core::{Core, refused, unreadable},
    error::Error,
    registry::lock,
};

/// A route that was lent by the template topic is replaced by the topic's own after this: the
/// first send creates the topic.
const LENT_FOR: Duration = Duration::from_millis(500);
/// Callers that queue up while name servers hang share one failure for this long, instead of each
/// waiting for its own.
const OUTAGE: Duration = Duration::from_secs(1);
/// Queues of a lent route; brokers create no more unless asked to.
const LENT_QUEUES: i32 = 4;

/// Routes by topic.
#[derive(Debug, Default)]
pub(crate) struct Routes {
    known: Mutex<HashMap<String, Arc<Route>>>,
    /// Held while a route is read, so that many callers that miss the same route ask once.
    reading: tokio::sync::Mutex<()>,
    /// Brokers that the last heartbeat was for.
    told: Mutex<BTreeSet<Arc<str>>>,
    /// When no name server answered last, and why.
    outage: Mutex<Option<(Instant, Error)>>,
}

impl Routes {
    fn find(&self, topic: &str) -> Option<Arc<Route>> {
        lock(&self.known).get(topic).cloned()
    }

    fn find_for_sending(&self, topic: &str) -> Option<Arc<Route>> {
        self.find(topic)
            .filter(|route| !route.is_borrowed() || route.read_at().elapsed() < LENT_FOR)
    }

    /// The addresses of all brokers of all routes, which are about to be told of this client.
    pub(crate) fn brokers_to_tell(&self) -> BTreeSet<Arc<str>> {
        let all: BTreeSet<Arc<str>> =
            lock(&self.known).values().flat_map(|route| route.addresses().cloned()).collect();
        lock(&self.told).clone_from(&all);
        all
    }
}

impl Core {
    /// The route of an existing topic.
    pub(crate) async fn route(&self, topic: &str) -> Result<Arc<Route>, Error> {
        match self.routes.find(topic).filter(|route| !route.is_borrowed()) {
            Some(route) => Ok(route),
            None => self.read_route(topic, None).await,
        }
    }

    /// The route of a topic, or where a send would create it.
    pub(crate) async fn route_for_sending(&self, topic: &str) -> Result<Arc<Route>, Error> {
        if let Some(route) = self.routes.find_for_sending(topic) {
            return Ok(route);
        }
        let _reading = self.routes.reading.lock().await;
        if let Some(route) = self.routes.find_for_sending(topic) {
            return Ok(route);
        }
        let missing = match self.fetch_in_turn(topic).await {
            Ok(body) => return Ok(self.learn(topic, Route::new(topic, &body))),
            Err(error @ Error::TopicNotFound { .. }) => error,
            Err(error) => return Err(error),
        };
        match self.fetch_in_turn(AUTO_CREATE_TOPIC).await {
            Ok(body) => Ok(self.learn(topic, Route::lent_to(&body, topic, LENT_QUEUES))),
            Err(Error::TopicNotFound { .. }) => Err(missing),
            Err(error) => Err(error),
        }
    }

    /// Reads a route again, unless that has happened since the one read at `seen`.
    pub(crate) async fn refresh_route(
        &self,
        topic: &str,
        seen: Instant,
    ) -> Result<Arc<Route>, Error> {
        self.read_route(topic, Some(seen)).await
    }

    /// Reads all routes in use again.
    pub(crate) async fn refresh_routes(&self) {
        let topics: Vec<String> = lock(&self.routes.known).keys().cloned().collect();
        for topic in topics {
            match self.read_route(&topic, Some(Instant::now())).await {
                Ok(_) | Err(Error::TopicNotFound { .. }) => {}
                Err(error) => {
                    tracing::warn!(%topic, %error, "routes cannot be refreshed");
                    return;
                }
            }
        }
    }

    /// `seen` is when the route was read that is no longer good enough.
    async fn read_route(&self, topic: &str, seen: Option<Instant>) -> Result<Arc<Route>, Error> {
        let _reading = self.routes.reading.lock().await;
        // Somebody else may have read it while this caller waited.
        if let Some(route) = self
            .routes
            .find(topic)
            .filter(|route| !route.is_borrowed() && seen.is_none_or(|seen| route.read_at() > seen))
        {
            return Ok(route);
        }
        match self.fetch_in_turn(topic).await {
            Ok(body) => Ok(self.learn(topic, Route::new(topic, &body))),
            Err(error) => {
                if matches!(error, Error::TopicNotFound { .. }) {
                    self.forget(topic);
                }
                Err(error)
            }
        }
    }

    /// As [`Core::fetch_route`], for callers that hold the lock.
    async fn fetch_in_turn(&self, topic: &str) -> Result<TopicRoute, Error> {
        let outage = lock(&self.routes.outage).clone();
        if let Some((since, error)) = outage
            && since.elapsed() < OUTAGE
        {
            return Err(error);
        }
        let outcome = self.fetch_route(topic).await;
        *lock(&self.routes.outage) = match &outcome {
            Err(error @ Error::NameServerUnreachable { .. }) => {
                Some((Instant::now(), error.clone()))
            }
            _ => None,
        };
        outcome
    }

    /// Asks a name server, and keeps nothing.
    pub(crate) async fn fetch_route(&self, topic: &str) -> Result<TopicRoute, Error> {
        let code = RequestCode::GetRouteInfoByTopic;
        let header = RouteInfo { topic, standard_json_only: true };
        let (address, frame) = self.ask_name_server(code, &header).await?;
        match frame.response_code() {
            ResponseCode::SUCCESS => {
                json::decode(&frame.body).map_err(|error| unreadable(&address, code)(&error))
            }
            ResponseCode::TOPIC_NOT_EXIST => Err(Error::TopicNotFound { topic: topic.to_owned() }),
            _ => Err(refused(&frame, &address, code)),
        }
    }

    /// Keeps a route. What is new about it concerns consumers, and brokers that have not heard of
    /// this client.
    fn learn(&self, topic: &str, route: Route) -> Arc<Route> {
        let news = {
            let told = lock(&self.routes.told);
            route.addresses().any(|address| !told.contains(address))
        };
        let route = Arc::new(route);
        let before = lock(&self.routes.known).insert(topic.to_owned(), Arc::clone(&route));
        if before.is_none_or(|before| before.differs_from(&route)) {
            self.registry.nudge_all();
        }
        if news {
            self.registry.beat.notify_one();
        }
        route
    }

    fn forget(&self, topic: &str) {
        let mut known = lock(&self.routes.known);
        if known.get(topic).is_some_and(|route| !route.is_borrowed()) {
            known.remove(topic);
            drop(known);
            self.registry.nudge_all();
        }
    }
}
