//! The door: connects, and makes producers, consumers, readers and the rest.

use std::{
    sync::{
        Arc, Mutex, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use protocol::{
    channel::{Channels, DialOptions},
    code::RequestCode,
    message_id::UniqueIds,
    request::heartbeat::Unregister,
};
use tokio::time::{MissedTickBehavior, interval, sleep};

use crate::{
    admin::Admin,
    callbacks::Callbacks,
    consumer::ConsumerBuilder,
    core::{Core, NameServers},
    error::Error,
    options::{ClientBuilder, parse_addresses},
    producer::ProducerBuilder,
    queue::Queue,
    reader::Reader,
    registry::{Registry, lock},
    route::Routes,
};

/// Heartbeats that are asked for in this time become one.
const GATHER: Duration = Duration::from_millis(100);
/// When a broker could not be told, it is told again after this.
const RETRY: Duration = Duration::from_secs(3);

static INSTANCES: AtomicU64 = AtomicU64::new(0);

/// A connected client. Cheap to clone; clones share connections, routes and identity.
///
/// ```no_run
/// # async fn example() -> Result<(), basaltmq::Error> {
/// let client = basaltmq::Client::connect("127.0.0.1:9876").await?;
/// println!("topics: {:?}", client.admin().topics().await?);
/// client.close().await;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Client {
    core: Arc<Core>,
    closed: Arc<AtomicBool>,
}

impl Client {
    /// Connects to a name server. Several addresses are separated by `;` or `,`; port 9876 may be
    /// left out.
    ///
    /// # Errors
    ///
    /// [`Error::Address`] for a malformed list, [`Error::NameServerUnreachable`] when no name
    /// server of the list accepts a connection.
    pub async fn connect(name_servers: impl Into<String>) -> Result<Self, Error> {
        Self::builder(name_servers).connect().await
    }

    /// A client with settings of its own.
    pub fn builder(name_servers: impl Into<String>) -> ClientBuilder {
        ClientBuilder::new(name_servers)
    }

    pub(crate) async fn open(builder: ClientBuilder) -> Result<Self, Error> {
        builder.check()?;
        let name_servers = NameServers::new(parse_addresses(&builder.addresses)?);
        let registry = Arc::new(Registry::default());
        let config = DialOptions {
            connect_timeout: builder.settings.connect_timeout,
            ..DialOptions::default()
        };
        let callbacks = Arc::new(Callbacks::new(Arc::clone(&registry)));
        let channels = Arc::new(Channels::new(callbacks, config));
        let ip = Core::local_ip(&channels, &name_servers).await?;
        let instance = builder.instance_name.unwrap_or_else(|| {
            let count = INSTANCES.fetch_add(1, Ordering::Relaxed);
            let now_ms = builder.settings.clock.now_ms();
            format!("{}#{now_ms}-{count}", std::process::id())
        });
        let core = Arc::new(Core {
            ids: UniqueIds::new(ip, builder.settings.clock.clone()),
            settings: builder.settings,
            id: format!("{ip}@{instance}").into(),
            channels,
            name_servers,
            routes: Routes::default(),
            registry,
            closed: AtomicBool::new(false),
            tasks: Mutex::default(),
        });
        let tasks = [
            tokio::spawn(beat(Arc::downgrade(&core))).abort_handle(),
            tokio::spawn(refresh(Arc::downgrade(&core))).abort_handle(),
        ];
        lock(&core.tasks).extend(tasks);
        Ok(Self { core, closed: Arc::new(AtomicBool::new(false)) })
    }

    /// The name under which brokers know this client: `ip@instance`.
    pub fn id(&self) -> &str {
        &self.core.id
    }

    /// A producer of `group`; the group's name appears in the brokers' connection lists.
    pub fn producer(&self, group: impl Into<String>) -> ProducerBuilder {
        ProducerBuilder::new(self.clone(), group)
    }

    /// A consumer as a member of `group`.
    pub fn consumer(&self, group: impl Into<String>) -> ConsumerBuilder {
        ConsumerBuilder::new(self.clone(), group)
    }

    /// Reads one queue at offsets of the caller's choice, outside of any group.
    pub fn reader(&self, queue: Queue) -> Reader {
        Reader::new(Arc::clone(&self.core), queue)
    }

    /// The readable queues of a topic, sorted.
    ///
    /// # Errors
    ///
    /// [`Error::TopicNotFound`], or that no name server answers.
    pub async fn queues(&self, topic: &str) -> Result<Vec<Queue>, Error> {
        Ok(self.core.route(topic).await?.readable().to_vec())
    }

    /// Topics, groups and clusters.
    pub fn admin(&self) -> Admin {
        Admin::new(Arc::clone(&self.core))
    }

    /// Stops every consumer of this client as [`crate::Consumer::close`] does, takes leave of the
    /// brokers and ends all connections. Handles that are left fail with [`Error::Closed`].
    ///
    /// # Cancel safety
    ///
    /// If dropped, consumers stop in the background and connections end when they are idle.
    pub async fn close(&self) {
        if self.closed.swap(true, Ordering::AcqRel) {
            return;
        }
        let consumers = self.core.registry.consumers();
        for member in &consumers {
            member.stop();
        }
        for member in &consumers {
            member.wait_stopped().await;
        }
        for task in lock(&self.core.tasks).drain(..) {
            task.abort();
        }
        for group in self.core.registry.producers() {
            let header = Unregister {
                client_id: &self.core.id,
                producer_group: Some(&group),
                consumer_group: None,
            };
            self.core.tell_brokers(RequestCode::UnregisterClient, &header).await;
        }
        self.core.closed.store(true, Ordering::Release);
        self.core.channels.close_all().await;
    }

    /// The shared part, unless the client was closed.
    pub(crate) fn open_core(&self) -> Result<&Arc<Core>, Error> {
        if self.closed.load(Ordering::Acquire) { Err(Error::Closed) } else { Ok(&self.core) }
    }

    pub(crate) fn core(&self) -> &Arc<Core> {
        &self.core
    }
}

/// Heartbeats, regularly and when somebody asks for one. Ends with the last handle.
async fn beat(core: Weak<Core>) {
    let Some((registry, every)) =
        core.upgrade().map(|core| (Arc::clone(&core.registry), core.settings.heartbeat_interval))
    else {
        return;
    };
    let mut wait = every;
    loop {
        tokio::select! {
            () = sleep(wait) => {}
            () = registry.beat.notified() => sleep(GATHER).await,
        }
        let Some(core) = core.upgrade() else { return };
        wait = if core.heartbeat().await { every } else { RETRY.min(every) };
    }
}

/// Reads the routes in use again and again. Ends with the last handle.
async fn refresh(core: Weak<Core>) {
    let Some(every) = core.upgrade().map(|core| core.settings.route_refresh_interval) else {
        return;
    };
    let mut due = interval(every);
    due.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // The first tick is immediate, and nothing is in use yet.
    due.tick().await;
    loop {
        due.tick().await;
        let Some(core) = core.upgrade() else { return };
        core.refresh_routes().await;
    }
}
