//! Counters of the whole broker and the rates that operators' tools read, in RocketMQ's format.

use std::{
    collections::VecDeque,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

/// Seconds that a rate looks back: RocketMQ's "10 s, 1 min, 10 min".
const WINDOWS_S: [usize; 3] = [10, 60, 600];
const DAY_MS: i64 = 24 * 3600 * 1000;

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// What is counted. Updated once per turn or pull, never per message.
        #[derive(Debug, Default)]
        struct Counters { $($(#[$doc])* $name: AtomicU64,)* }

        /// The counters at one moment.
        #[derive(Clone, Copy, Debug, Default)]
        pub(crate) struct Totals { $($(#[$doc])* pub(crate) $name: u64,)* }

        impl Counters {
            fn totals(&self) -> Totals {
                Totals { $($name: self.$name.load(Relaxed),)* }
            }
        }
    };
}

counters! {
    /// Messages stored.
    put_messages,
    /// Bytes of the records stored.
    put_bytes,
    /// Sends that the store refused.
    put_failed,
    /// Pulls that found messages.
    get_found,
    /// Pulls that did not.
    get_miss,
    /// Messages handed to consumers.
    get_messages,
}

/// Message totals at the last two midnights, UTC.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Mornings {
    day: i64,
    /// Messages stored before yesterday began.
    pub(crate) put_yesterday: u64,
    /// Messages stored before today began.
    pub(crate) put_today: u64,
    /// Messages handed out before yesterday began.
    pub(crate) get_yesterday: u64,
    /// Messages handed out before today began.
    pub(crate) get_today: u64,
}

/// The broker's counters with their recent history.
#[derive(Debug, Default)]
pub(crate) struct Stats {
    counters: Counters,
    history: Mutex<VecDeque<(i64, Totals)>>,
    mornings: Mutex<Mornings>,
}

impl Stats {
    /// Counts stored messages.
    pub(crate) fn put(&self, messages: usize, bytes: u64) {
        self.counters.put_messages.fetch_add(wide(messages), Relaxed);
        self.counters.put_bytes.fetch_add(bytes, Relaxed);
    }

    /// Counts sends that the store refused.
    pub(crate) fn put_failed(&self, messages: usize) {
        self.counters.put_failed.fetch_add(wide(messages), Relaxed);
    }

    /// Counts a pull that was answered with so many messages.
    pub(crate) fn pulled(&self, messages: usize) {
        if messages == 0 {
            self.counters.get_miss.fetch_add(1, Relaxed);
        } else {
            self.counters.get_found.fetch_add(1, Relaxed);
            self.counters.get_messages.fetch_add(wide(messages), Relaxed);
        }
    }

    /// Everything counted since the start.
    pub(crate) fn totals(&self) -> Totals {
        self.counters.totals()
    }

    /// The totals at the last two midnights.
    pub(crate) fn mornings(&self) -> Mornings {
        *self.mornings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes the counters; to be called once a second.
    pub(crate) fn tick(&self, now_ms: i64) {
        let totals = self.totals();
        let mut history = self.history.lock().unwrap_or_else(PoisonError::into_inner);
        history.push_back((now_ms, totals));
        while history.len() > WINDOWS_S.iter().max().map_or(0, |longest| longest + 1) {
            history.pop_front();
        }
        drop(history);
        let mut mornings = self.mornings.lock().unwrap_or_else(PoisonError::into_inner);
        let day = now_ms.div_euclid(DAY_MS);
        if day != mornings.day {
            // The first tick after the start sees no earlier day.
            let first = mornings.day == 0;
            *mornings = Mornings {
                day,
                put_yesterday: mornings.put_today,
                put_today: if first { 0 } else { totals.put_messages },
                get_yesterday: mornings.get_today,
                get_today: if first { 0 } else { totals.get_messages },
            };
        }
    }

    /// Rates per second of one counter over the last 10 s, 1 min and 10 min, as tools parse them:
    /// three decimals separated by spaces.
    pub(crate) fn rates(&self, now_ms: i64, of: fn(&Totals) -> u64) -> String {
        let now = of(&self.totals());
        let history = self.history.lock().unwrap_or_else(PoisonError::into_inner);
        let rate = |seconds: usize| {
            let oldest = history.len().saturating_sub(seconds + 1);
            history.get(oldest).map_or(0.0, |(then_ms, then)| {
                per_second(now.saturating_sub(of(then)), now_ms - then_ms)
            })
        };
        let [short, middle, long] = WINDOWS_S.map(rate);
        format!("{short:.3} {middle:.3} {long:.3}")
    }
}

/// Events per second.
pub(crate) fn per_second(events: u64, elapsed_ms: i64) -> f64 {
    events as f64 * 1_000.0 / elapsed_ms.max(1) as f64
}

fn wide(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_three_decimals_over_growing_windows() {
        let stats = Stats::default();
        assert_eq!(stats.rates(0, |totals| totals.put_messages), "0.000 0.000 0.000");
        for second in 0..700 {
            stats.tick(second * 1_000);
            // 600 messages a second in the last minute, nothing before.
            stats.put(if second >= 640 { 600 } else { 0 }, 0);
        }
        stats.tick(700_000);
        assert_eq!(stats.rates(700_000, |totals| totals.put_messages), "600.000 600.000 60.000");
    }

    #[test]
    fn midnight_moves_the_daily_totals() {
        let stats = Stats::default();
        stats.put(5, 100);
        stats.tick(10 * DAY_MS + 1);
        assert_eq!(stats.mornings().put_today, 0, "the start's day begins at 0");
        stats.put(2, 10);
        stats.pulled(3);
        stats.tick(11 * DAY_MS);
        stats.put(1, 10);
        let mornings = stats.mornings();
        assert_eq!((mornings.put_yesterday, mornings.put_today), (0, 7));
        assert_eq!((mornings.get_yesterday, mornings.get_today), (0, 3));
        stats.tick(12 * DAY_MS);
        assert_eq!((stats.mornings().put_yesterday, stats.mornings().put_today), (7, 8));
    }

    #[test]
    fn rates_have_fractions() {
        assert!((per_second(1, 3_000) - 0.333).abs() < 0.001);
        assert!((per_second(0, 0)).abs() < f64::EPSILON);
    }
}
