//! What the handlers of one broker share.

use std::{
    collections::HashSet,
    fmt::Write as _,
    hash::{BuildHasher as _, RandomState},
    net::{IpAddr, SocketAddr},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU32, Ordering::Relaxed},
    },
};

use bytes::Bytes;
use protocol::{
    clock::Clock,
    connection::Connection,
    message_id::{OffsetIds, UniqueIds},
};
use storage::{LogOffset, Store, Topic};
use tokio::sync::{MutexGuard, watch};

use crate::{
    budget::Budget,
    clients::{Clients, Notice},
    config::Config,
    ha::{Ha, HaStatus},
    hold::Places,
    locks::Locks,
    master::MasterPlace,
    progress::Progress,
    registrar::{Identity, Registrar},
    request::{heartbeat, reply::Refusal, stamp, suggest},
    rivals::Lookout,
    role::{Claim, Standing},
    run::Ended,
    stats::Stats,
};

/// What surrounds a body in its record: hosts, topic, properties.
pub(crate) const AROUND_BODY_BYTES: usize = 64 * 1024;

/// Where clients reach this broker.
#[derive(Debug)]
pub(crate) struct Host {
    /// The name or address that clients are told.
    pub(crate) name: String,
    /// The same as stored in records.
    pub(crate) address: SocketAddr,
}

impl Host {
    /// The host and port that clients are told.
    pub(crate) fn advertised(&self) -> String {
        self.with_port(self.address.port())
    }

    fn with_port(&self, port: u16) -> String {
        match self.name.parse() {
            Ok(IpAddr::V6(name)) => format!("[{name}]:{port}"),
            _ => format!("{}:{port}", self.name),
        }
    }
}

/// The broker's part among those of its name.
pub(crate) struct Part {
    /// Its role.
    pub(crate) standing: Standing,
    /// What it claims as a master; nothing as a slave.
    pub(crate) claim: Claim,
    /// Its replication.
    pub(crate) ha: Ha,
    /// Where a slave's master is.
    pub(crate) master: Arc<MasterPlace>,
    /// Looks for the others.
    pub(crate) lookout: Lookout,
}

/// What the handlers of one broker share.
pub(crate) struct State {
    pub(crate) config: Config,
    pub(crate) clock: Clock,
    pub(crate) store: Arc<Store>,
    pub(crate) part: Part,
    /// Copies that a send waits for, the own one among them: 1 on a slave and on an async master.
    pub(crate) copies: usize,
    /// Whether a master takes no more messages, because it is about to become a slave.
    fenced: AtomicBool,
    /// Of a master: whether a slave is in sync. Of a slave: whether it follows its master. As of
    /// the last second: pulls ask for it.
    pub(crate) reach: AtomicBool,
    /// Memory of this machine.
    pub(crate) memory_bytes: u64,
    /// Why the broker ends by itself, once it does.
    end: watch::Sender<Option<Ended>>,
    pub(crate) clients: Clients<Arc<Connection>>,
    pub(crate) locks: Locks,
    pub(crate) places: Places,
    pub(crate) budget: Budget,
    pub(crate) progress: Progress,
    pub(crate) stats: Stats,
    pub(crate) registrar: Registrar,
    /// Held while a topic or group comes into being, one of them by its name.
    creating: [tokio::sync::Mutex<()>; 64],
    /// The host and port that clients are told.
    pub(crate) address: String,
    /// The same as stored in records.
    pub(crate) store_host: SocketAddr,
    /// The properties that every stored message carries, encoded.
    pub(crate) stamps: String,
    /// Largest body: as configured, but no more than a log segment holds.
    pub(crate) body_max_bytes: usize,
    /// When this process began to serve, Unix milliseconds.
    pub(crate) started_ms: i64,
    hasher: RandomState,
    unique_ids: UniqueIds,
    offset_ids: OffsetIds,
    picks: AtomicU32,
    told_about_pauses: Mutex<HashSet<Box<str>>>,
}

impl State {
    /// What a broker with this configuration shares, reached by clients at `host`.
    pub(crate) fn new(
        config: Config,
        clock: Clock,
        store: Arc<Store>,
        host: &Host,
        part: Part,
    ) -> Self {
        let (address, store_host) = (host.advertised(), host.address);
        // A slave listens for nobody as long as it is one; RocketMQ's name servers want an address.
        let ha_port =
            part.ha.local_addr().map_or(store_host.port().saturating_add(1), |a| a.port());
        let identity = Identity {
            name: config.name.clone(),
            cluster: config.cluster.clone(),
            address: address.clone(),
            ha_address: host.with_port(ha_port),
            broker_id: part.standing.broker_id(),
        };
        let ms = |ms: u64| i64::try_from(ms).unwrap_or(i64::MAX);
        Self {
            clients: Clients::new(ms(config.client_expiry_ms), ms(config.subscription_expiry_ms)),
            locks: Locks::new(ms(config.lock_lease_ms)),
            places: Places::new(config.held_pulls_max),
            budget: Budget::default(),
            progress: Progress::default(),
            stats: Stats::default(),
            registrar: Registrar::new(identity, &config, Arc::clone(&part.master)),
            copies: if part.standing.is_master() { config.copies() } else { 1 },
            fenced: AtomicBool::new(false),
            reach: AtomicBool::new(false),
            memory_bytes: suggest::memory_bytes(),
            end: watch::Sender::new(None),
            part,
            creating: std::array::from_fn(|_| tokio::sync::Mutex::default()),
            body_max_bytes: body_max_bytes(&config),
            stamps: stamp::stamps(&config.region, config.trace_on, &config.cluster),
            started_ms: clock.now_ms(),
            picks: AtomicU32::new(0),
            hasher: RandomState::new(),
            told_about_pauses: Mutex::default(),
            offset_ids: OffsetIds::new(store_host),
            unique_ids: UniqueIds::new(store_host.ip(), clock.clone()),
            address,
            store_host,
            config,
            clock,
            store,
        }
    }

    /// Whether this broker is the master of its name.
    pub(crate) fn is_master(&self) -> bool {
        self.part.standing.is_master()
    }

    /// Whether this broker takes messages and changes; a master that is about to become a slave
    /// does not.
    pub(crate) fn takes_writes(&self) -> bool {
        self.is_master() && !self.fenced.load(Relaxed)
    }

    /// Notes whether the other side of replication is there; to be called once a second.
    pub(crate) fn note_reach(&self) {
        let there = match self.is_master() {
            true => self.part.ha.connected_in_sync() > 0,
            false => match self.part.ha.status() {
                HaStatus::Slave(master) => master.streaming,
                HaStatus::Master { .. } => false,
            },
        };
        self.reach.store(there, Relaxed);
    }

    /// Takes no more messages, or takes them again.
    pub(crate) fn fence(&self, fenced: bool) {
        self.fenced.store(fenced, Relaxed);
    }

    /// Ends the broker; the first reason stands.
    pub(crate) fn end(&self, why: Ended) {
        self.end.send_if_modified(|ended| {
            let first = ended.is_none();
            ended.get_or_insert(why);
            first
        });
    }

    /// Becomes something once the broker ends by itself.
    pub(crate) fn ended(&self) -> watch::Receiver<Option<Ended>> {
        self.end.subscribe()
    }

    /// A topic, or the refusal of what needs it.
    pub(crate) fn topic(&self, name: &str) -> Result<Arc<Topic>, Refusal> {
        self.store.topic(name).ok_or_else(|| Refusal::NoTopic {
            topic: name.to_owned(),
            broker: self.config.name.clone(),
        })
    }

    /// The refusal of something that the broker's permission excludes.
    pub(crate) fn forbids(&self, action: &'static str) -> Refusal {
        let broker = self.config.name.clone();
        Refusal::BrokerForbids { broker, action, permission: self.config.permission }
    }

    /// Keeps others from creating what has this name at the same time. Other names go on, so that
    /// what is created together is written together.
    pub(crate) async fn creating(&self, name: &str) -> MutexGuard<'_, ()> {
        let hash = usize::try_from(self.hasher.hash_one(name) % 64).unwrap_or(0);
        let [first, ..] = &self.creating;
        self.creating.get(hash).unwrap_or(first).lock().await
    }

    /// A number below `count`, another one each time; 0 if there is none.
    pub(crate) fn any_below(&self, count: u32) -> u32 {
        self.picks.fetch_add(1, Relaxed).checked_rem(count).unwrap_or(0)
    }

    /// Appends an id for a message whose client gave it none.
    pub(crate) fn push_unique_id(&self, text: &mut String) {
        // Writing to a string cannot fail.
        let _ = write!(text, "{}", self.unique_ids.make());
    }

    /// Appends the offset message id of the record at `offset`.
    pub(crate) fn push_message_id(&self, text: &mut String, offset: LogOffset) {
        self.offset_ids.push(text, offset.0.cast_signed());
    }

    /// The whole record at a log offset that a client named.
    pub(crate) async fn record_at(self: &Arc<Self>, log_offset: i64) -> Result<Bytes, Refusal> {
        let no_message = || Refusal::NoMessage {
            log_offset,
            broker: self.config.name.clone(),
            min: self.store.min_log_offset().0,
            max: self.store.max_log_offset().0,
        };
        let offset = LogOffset(u64::try_from(log_offset).map_err(|_| no_message())?);
        let store = Arc::clone(&self.store);
        let share = self.budget.share(self.largest_record()).await;
        let record = blocking(move || store.record_at(offset)).await?;
        share.spend(record.into_iter().collect()).pop().ok_or_else(no_message)
    }

    /// Bytes of the largest record that a client can have sent.
    pub(crate) fn largest_record(&self) -> usize {
        self.body_max_bytes + AROUND_BODY_BYTES
    }

    /// Whether this is the first time that someone asks for `group`.
    pub(crate) fn told_about_pauses(&self, group: &str) -> bool {
        let mut told = self.told_about_pauses.lock().unwrap_or_else(PoisonError::into_inner);
        !told.contains(group) && told.insert(group.into())
    }

    /// Tells the members of groups that changed, unless they do not want to know.
    pub(crate) fn notify(&self, notices: impl IntoIterator<Item = Notice<Arc<Connection>>>) {
        for notice in notices {
            let config = self.store.group(&notice.group);
            let wanted = config.is_none_or(|config| config.notify_consumer_ids_changed_enable);
            if self.config.notify_consumer_changes && wanted {
                heartbeat::notify(&notice);
            }
        }
    }
}

/// Runs what may block on a thread for it. A panic goes on in the caller.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(value) => value,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

fn body_max_bytes(config: &Config) -> usize {
    let segment = usize::try_from(config.segment_size_bytes).unwrap_or(usize::MAX);
    config.message_max_bytes.min(segment.saturating_sub(AROUND_BODY_BYTES))
}
