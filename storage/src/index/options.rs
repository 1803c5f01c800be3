//! How RocksDB is set up: small memory, a bounded WAL, a quiet log.

use rocksdb::{
    BlockBasedOptions, Cache, DBCompactionStyle, DBCompressionType, DBRecoveryMode, LogLevel,
    Options, UniversalCompactOptions,
};

use super::Family;

/// All memtables together; the largest is flushed beyond it.
const MEMTABLES_BYTES: usize = 64 << 20;
/// An idle family keeps the WAL alive; beyond this it is flushed so that the WAL can go.
const WAL_MAX_BYTES: u64 = 256 << 20;

/// `kept_wal_bytes`: how much of the WAL stays for slaves after it is of no use here.
pub(crate) fn of_database(kept_wal_bytes: u64) -> Options {
    let mut options = Options::default();
    options.create_if_missing(true);
    options.create_missing_column_families(true);
    options.set_max_background_jobs(2);
    options.set_db_write_buffer_size(MEMTABLES_BYTES);
    options.set_max_total_wal_size(WAL_MAX_BYTES);
    // A hole in the WAL ends recovery there: what was written later may depend on what is lost.
    options.set_wal_recovery_mode(DBRecoveryMode::PointInTime);
    options.set_track_and_verify_wals_in_manifest(true);
    options.set_wal_size_limit_mb(kept_wal_bytes >> 20);
    options.set_paranoid_checks(true);
    options.set_max_open_files(1024);
    options.set_bytes_per_sync(1 << 20);
    options.set_wal_bytes_per_sync(1 << 20);
    options.set_skip_stats_update_on_db_open(true);
    options.set_stats_dump_period_sec(0);
    options.set_stats_persist_period_sec(0);
    options.set_log_level(LogLevel::Warn);
    options.set_max_log_file_size(1 << 20);
    options.set_keep_log_file_num(2);
    options.set_max_manifest_file_size(16 << 20);
    options
}

pub(crate) fn of_family(family: Family, cache: &Cache) -> Options {
    let mut table = BlockBasedOptions::default();
    table.set_format_version(5);
    table.set_block_cache(cache);
    table.set_block_size(16 << 10);
    table.set_cache_index_and_filter_blocks(true);
    table.set_pin_l0_filter_and_index_blocks_in_cache(true);
    let mut options = Options::default();
    options.set_block_based_table_factory(&table);
    options.set_compression_type(DBCompressionType::Lz4);
    options.set_max_write_buffer_number(3);
    match family {
        // Blocks of all queues arrive interleaved and are written once or twice: merging whole
        // runs costs less than keeping levels.
        Family::ConsumeQueue => {
            options.set_write_buffer_size(16 << 20);
            options.set_compaction_style(DBCompactionStyle::Universal);
            let mut universal = UniversalCompactOptions::default();
            universal.set_max_size_amplification_percent(100);
            options.set_universal_compaction_options(&universal);
        }
        // Slices arrive in the order of their keys: levels move them down without rewriting.
        Family::KeyIndex => options.set_write_buffer_size(16 << 20),
        Family::Default | Family::Topic | Family::Group | Family::ConsumerOffset => {
            options.set_write_buffer_size(4 << 20);
        }
    }
    options
}
