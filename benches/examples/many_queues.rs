//! What very many queues cost next to few: creating, opening, memory, sending.
//!
//! ```text
//! cargo run --release --example many_queues               # 1,000 and 20,000 queues
//! cargo run --release --example many_queues 1000 1000000  # the same with these numbers
//! ```
//!
//! Topics have 10 queues each. Every step runs in a process of its own, so that memory is that of
//! the step; one of them is killed in the middle of sending, with a log that nobody has synced.
//! The directory is made in `TMPDIR`; it takes 2 GiB with a million queues.

#![expect(clippy::print_stdout, reason = "a program that prints what it measured")]

use std::{
    env, fs,
    io::{self, BufRead as _, BufReader, Read as _},
    path::Path,
    process::{Command, Stdio},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use benches::{properties, push};
use protocol::clock::Clock;
use storage::{AppendBatch, AppendError, Config, FlushMode, Store, Topic, TopicConfig};
use tokio::task::JoinSet;

const QUEUES_PER_TOPIC: u32 = 10;
/// Topics that are being created at a time, as by many clients.
const CREATING: usize = 64;
const BODY: [u8; 1_000] = [b'x'; 1_000];
/// Sends whose time is taken.
const SENDS: u32 = 50_000;
/// Log that is appended before the kill, bytes.
const UNSYNCED_BYTES: u64 = 512 << 20;
const GIB: f64 = 1_073_741_824.0;
/// What the process that is to be killed says when it is ready.
const READY: &str = "ready";

fn main() -> io::Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    if let [step, dir, queues] = &arguments[..]
        && let Ok(queues) = queues.parse()
    {
        match step.as_str() {
            "create" => return create(dir.as_ref(), queues),
            "serve" => return serve(dir.as_ref(), queues),
            "reopen" => return reopen(dir.as_ref(), queues),
            _ => {}
        }
    }
    let numbers: Result<Vec<u32>, _> = arguments.iter().map(|text| text.parse()).collect();
    let numbers = numbers.map_err(|_| io::Error::other("expected numbers of queues"))?;
    let numbers = if numbers.is_empty() { vec![1_000, 20_000] } else { numbers };
    for queues in numbers {
        println!("{queues} queues of {} topics", queues / QUEUES_PER_TOPIC);
        let dir = tempfile::tempdir()?;
        run("create", dir.path(), queues, false)?;
        run("serve", dir.path(), queues, true)?;
        run("reopen", dir.path(), queues, false)?;
    }
    Ok(())
}

/// Runs a step in a process of its own and kills it when it is ready, if it is to be killed.
fn run(step: &str, dir: &Path, queues: u32, kill: bool) -> io::Result<()> {
    let mut child = Command::new(env::current_exe()?)
        .arg(step)
        .arg(dir)
        .arg(queues.to_string())
        .stdout(Stdio::piped())
        .spawn()?;
    let output = child.stdout.take().ok_or_else(|| io::Error::other("no output"))?;
    for line in BufReader::new(output).lines() {
        let line = line?;
        if line == READY {
            child.kill()?;
            break;
        }
        println!("  {line}");
    }
    let ended = child.wait()?;
    if ended.success() || kill {
        Ok(())
    } else {
        Err(io::Error::other(format!("the step {step} failed: {ended}")))
    }
}

/// Creates the topics, puts one message into each queue, and closes in order.
fn create(dir: &Path, queues: u32) -> io::Result<()> {
    let store = open(dir)?;
    let began = Instant::now();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut creating = JoinSet::new();
        for number in 0..queues / QUEUES_PER_TOPIC {
            let (store, config) = (Arc::clone(&store), topic_config(number));
            creating.spawn(async move { store.put_topic(config).await.map(drop) });
            if creating.len() >= CREATING {
                created(creating.join_next().await)?;
            }
        }
        while !creating.is_empty() {
            created(creating.join_next().await)?;
        }
        Ok::<(), io::Error>(())
    })?;
    println!("created, {CREATING} at a time: {}", ms(began));
    let began = Instant::now();
    let topics = topics(&store, queues)?;
    let mut batch = AppendBatch::default();
    for topic in &topics {
        for queue in 0..QUEUES_PER_TOPIC {
            push(&mut batch, topic, queue, &properties(0), &BODY[..100]);
        }
        append(&store, &mut batch)?;
    }
    drop(topics);
    println!("one message in each: {}", ms(began));
    let began = Instant::now();
    store.close();
    println!("closed: {}", ms(began));
    Ok(())
}

fn created(
    outcome: Option<Result<Result<(), storage::StateError>, tokio::task::JoinError>>,
) -> io::Result<()> {
    match outcome {
        Some(Ok(Err(error))) => Err(io::Error::other(error)),
        Some(Err(error)) => Err(io::Error::other(error)),
        _ => Ok(()),
    }
}

/// Opens, touches some queues, sends to any, and goes on until it is killed.
fn serve(dir: &Path, queues: u32) -> io::Result<()> {
    let began = Instant::now();
    let store = open(dir)?;
    println!("opened after a clean stop: {}, {}", ms(began), memory(&store)?);
    let topics = topics(&store, queues)?;
    let mut random = Random(7);
    let began = Instant::now();
    for _ in 0..queues / 100 {
        let (topic, queue) = random.queue(&topics);
        topic
            .queue(queue)
            .ok_or_else(|| io::Error::other("no queue"))?
            .max()
            .map_err(io::Error::other)?;
    }
    println!("1 in 100 queues touched: {}, {}", ms(began), memory(&store)?);
    for times in ["first", "second"] {
        // The same queues both times: in memory the second time.
        let mut random = Random(11);
        let mut taken = Vec::new();
        let mut batch = AppendBatch::default();
        for number in 0..SENDS {
            let (topic, queue) = random.queue(&topics);
            let properties = properties(number.into());
            let began = Instant::now();
            push(&mut batch, topic, queue, &properties, &BODY);
            append(&store, &mut batch)?;
            taken.push(began.elapsed());
        }
        println!(
            "{SENDS} sends to random queues, {times} time: {}, {}",
            percentiles(&mut taken),
            memory(&store)?
        );
    }
    let began = Instant::now();
    let end = store.appended().0 + UNSYNCED_BYTES;
    let mut batch = AppendBatch::default();
    let mut number = 0;
    while store.appended().0 < end {
        let (topic, queue) = random.queue(&topics);
        push(&mut batch, topic, queue, &properties(number), &BODY);
        number += 1;
        if batch.len() == 32 {
            append(&store, &mut batch)?;
        }
    }
    println!("{number} more sends: {}, {}", ms(began), memory(&store)?);
    println!("{READY}");
    loop {
        thread::park();
    }
}

/// Opens after the kill.
fn reopen(dir: &Path, queues: u32) -> io::Result<()> {
    let began = Instant::now();
    let store = open(dir)?;
    let found = store.recovery();
    let (took, memory) = (began.elapsed(), memory(&store)?);
    println!(
        "opened after the kill: {} ms, {} records replayed, {memory}",
        took.as_millis(),
        found.replayed_records,
    );
    let (bytes, synced_in) = (found.unsynced_bytes, found.synced_in);
    let alone = sync_alone(dir, bytes)?;
    let per_gib = |time: Duration| time.as_secs_f64() * GIB / bytes as f64;
    println!(
        "for {} MiB that nobody had synced: {} ms the disk ({:.2} of what it takes for a plain file), and \
         {} ms all else, {:.2} s a GiB",
        bytes >> 20,
        synced_in.as_millis(),
        synced_in.as_secs_f64() / alone.as_secs_f64(),
        (took - synced_in).as_millis(),
        per_gib(took - synced_in),
    );
    let mut random = Random(13);
    let topics = topics(&store, queues)?;
    for _ in 0..1_000 {
        let (topic, queue) = random.queue(&topics);
        let max = topic.queue(queue).map(|queue| queue.max());
        if !matches!(max, Some(Ok(max)) if max.0 > 0) {
            return Err(io::Error::other(format!(
                "queue {queue} of {} has lost messages",
                topic.config.name
            )));
        }
    }
    Ok(())
}

/// How long a sync takes of a plain file with so many bytes of the same log.
fn sync_alone(dir: &Path, bytes: u64) -> io::Result<Duration> {
    let path = dir.join("plain");
    let log = fs::File::open(dir.join("commitlog/00000000000000000000"))?;
    let mut file = fs::File::create(&path)?;
    io::copy(&mut log.take(bytes), &mut file)?;
    let began = Instant::now();
    file.sync_data()?;
    let took = began.elapsed();
    fs::remove_file(&path)?;
    Ok(took)
}

fn open(dir: &Path) -> io::Result<Arc<Store>> {
    let mut config = Config::new(dir);
    // Nothing is synced before the kill, and no checkpoint shortens the way back.
    config.flush = FlushMode::Async { interval_ms: 3_600_000 };
    config.checkpoint_interval_ms = 3_600_000;
    config.checkpoint_log_bytes = 1 << 40;
    Store::open(config, Clock::system()).map_err(io::Error::other)
}

fn topic_config(number: u32) -> TopicConfig {
    TopicConfig {
        name: format!("orders-of-region-{number:06}"),
        read_queues: QUEUES_PER_TOPIC,
        write_queues: QUEUES_PER_TOPIC,
        perm: 6,
        ..TopicConfig::default()
    }
}

fn topics(store: &Store, queues: u32) -> io::Result<Vec<Arc<Topic>>> {
    let named = |number| store.topic(&topic_config(number).name);
    let topics: Option<Vec<_>> = (0..queues / QUEUES_PER_TOPIC).map(named).collect();
    topics.ok_or_else(|| io::Error::other("a topic is missing"))
}

/// Appends and empties the batch; waits while the index is behind.
fn append(store: &Store, batch: &mut AppendBatch) -> io::Result<()> {
    while let Err(error) = store.append(batch) {
        if !matches!(error, AppendError::Busy { .. }) {
            return Err(io::Error::other(error));
        }
        thread::sleep(Duration::from_millis(1));
    }
    batch.clear();
    Ok(())
}

fn ms(since: Instant) -> String {
    format!("{} ms", since.elapsed().as_millis())
}

fn percentiles(taken: &mut [Duration]) -> String {
    taken.sort_unstable();
    let at = |share: usize| {
        let place = (taken.len() * share / 1_000).min(taken.len().saturating_sub(1));
        taken.get(place).copied().unwrap_or_default()
    };
    format!("p50 {:?}, p99 {:?}, p99.9 {:?}", at(500), at(990), at(999))
}

/// Memory of this process: its own, without the mapped log.
fn memory(store: &Store) -> io::Result<String> {
    let status = fs::read_to_string("/proc/self/status")?;
    let kib = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|line| line.split_whitespace().next())
            .and_then(|text| text.parse::<u64>().ok())
    };
    let (own, all) = (kib("RssAnon:").unwrap_or_default(), kib("VmRSS:").unwrap_or_default());
    let queues = store.queues_in_memory();
    Ok(format!("memory {} MiB (resident {} MiB), {queues} queues in it", own / 1024, all / 1024))
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn queue<'a>(&mut self, topics: &'a [Arc<Topic>]) -> (&'a Arc<Topic>, u32) {
        let topic = usize::try_from(self.next()).unwrap_or(0) % topics.len();
        let queue = u32::try_from(self.next() % u64::from(QUEUES_PER_TOPIC)).unwrap_or(0);
        (topics.get(topic).expect("below the number of topics"), queue)
    }
}
