//! What the store lies on: a directory, or a file system in a file in memory, which can be cut off,
//! filled, broken and frozen. Everything of a run is below one directory that is named after the
//! process, so that the next run can clean up after one that was killed.

use std::{
    ffi::OsStr,
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use rustix::{
    fs::{FallocateFlags, fallocate, statvfs},
    mount::{MountFlags, UnmountFlags, mount, mount_remount, unmount},
    process::{Pid, Signal, kill_process},
};

const PREFIX: &str = "mqtool-torture-";
const MIB: u64 = 1 << 20;
/// Size of the file system under test. XFS takes no less.
const IMAGE_BYTES: u64 = 320 * MIB;
/// Memory that the image may take.
const DISK_BYTES: u64 = 400 * MIB;
const PAGE_BYTES: u64 = 4096;

/// Kinds of file systems.
#[derive(Clone, Copy, Debug, Eq, PartialEq, clap::ValueEnum)]
pub(super) enum Fs {
    /// Just a directory: for nemeses that leave the disk alone
    Dir,
    /// ext4 in a loop device
    Ext4,
    /// XFS in a loop device
    Xfs,
}

impl Fs {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Dir => "dir",
            Self::Ext4 => "ext4",
            Self::Xfs => "xfs",
        }
    }
}

/// Where runs have their directories.
fn home() -> PathBuf {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() }
}

/// What is under the store. Taken apart when dropped.
#[derive(Debug)]
pub(super) struct Medium {
    fs: Fs,
    root: PathBuf,
    device: Option<PathBuf>,
}

impl Medium {
    /// Makes an empty one, and removes what dead runs have left. `fails` prepares for
    /// [`Medium::choke`].
    pub(super) fn make(fs: Fs, fails: bool) -> io::Result<Self> {
        Self::make_at(home().join(format!("{PREFIX}{}", std::process::id())), fs, fails)
    }

    /// Makes one of several that a run has at the same time.
    pub(super) fn make_one_of(fs: Fs, name: &str) -> io::Result<Self> {
        let root = home().join(format!("{PREFIX}{}", std::process::id()));
        Self::make_at(root.join(name), fs, false)
    }

    fn make_at(root: PathBuf, fs: Fs, fails: bool) -> io::Result<Self> {
        remove_stale()?;
        let mut medium = Self { fs, root, device: None };
        medium.take_apart();
        fs::create_dir_all(medium.store())?;
        if fs != Fs::Dir {
            medium.make_disk(fails)?;
        }
        Ok(medium)
    }

    fn disk(&self) -> PathBuf {
        self.root.join("disk")
    }

    fn top(&self) -> PathBuf {
        self.root.join("mnt")
    }

    /// The directory for the store.
    pub(super) fn store(&self) -> PathBuf {
        self.top().join("store")
    }

    fn make_disk(&mut self, fails: bool) -> io::Result<()> {
        let disk = self.disk();
        fs::create_dir_all(&disk)?;
        let options = format!("size={DISK_BYTES}");
        let options = std::ffi::CString::new(options).map_err(io::Error::other)?;
        mount("none", &disk, "tmpfs", MountFlags::empty(), Some(options.as_c_str()))?;
        let image = disk.join("image");
        File::create(&image)?.set_len(IMAGE_BYTES)?;
        let device = run("losetup", ["-f", "--sector-size", "4096", "--show"], &image)?;
        let device = PathBuf::from(device.trim());
        self.device = Some(device.clone());
        if fails {
            whole_pages(&device)?;
        }
        match self.fs {
            // Everything at once: what is written in the background would disturb.
            Fs::Ext4 => {
                let now = "nodiscard,lazy_itable_init=0,lazy_journal_init=0";
                run("mkfs.ext4", ["-q", "-F", "-b", "4096", "-E", now], &device)?
            }
            Fs::Xfs | Fs::Dir => run("mkfs.xfs", ["-q", "-f", "-K"], &device)?,
        };
        self.mount()?;
        fs::create_dir_all(self.store())
    }

    fn mount(&self) -> io::Result<()> {
        let Some(device) = &self.device else { return Ok(()) };
        Ok(mount(device, self.top(), self.fs.name(), MountFlags::NOATIME, None)?)
    }

    /// Takes the file system off and puts it on again: what was not durable is gone.
    pub(super) fn remount(&self) -> io::Result<()> {
        if self.device.is_none() {
            return Ok(());
        }
        unmount_soon(&self.top())?;
        self.mount()
    }

    /// Cuts the power: from now on nothing reaches the disk.
    pub(super) fn cut(&self) -> io::Result<()> {
        // FS_IOC_SHUTDOWN without a flush of the journal.
        run("xfs_io", ["-x", "-c", "shutdown"], &self.top()).map(drop)
    }

    /// Copies the end of the log away before recovery changes it.
    pub(super) fn copy_end(&self, to: &Path) -> io::Result<()> {
        let _first = fs::remove_dir_all(to);
        fs::create_dir_all(to)?;
        let mut paths = self.segments()?;
        paths.drain(..paths.len().saturating_sub(3));
        paths.push(self.store().join("commitlog.watermark"));
        for path in paths {
            fs::copy(&path, to.join(path.file_name().unwrap_or_default()))?;
        }
        Ok(())
    }

    /// The segment files in order.
    pub(super) fn segments(&self) -> io::Result<Vec<PathBuf>> {
        let mut segments: Vec<_> = fs::read_dir(self.store().join("commitlog"))?
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|path| path.extension().is_none())
            .collect();
        segments.sort_unstable();
        Ok(segments)
    }

    /// Lets a foreign file take all room of the file system.
    pub(super) fn fill(&self) -> io::Result<()> {
        let mut foreign = File::create(self.top().join("foreign"))?;
        let mut at = 0;
        for step in [16 * MIB, MIB, 64 * 1024, PAGE_BYTES] {
            while fallocate(&foreign, FallocateFlags::empty(), at, step).is_ok() {
                at += step;
            }
        }
        let block = [1; 4096];
        while foreign.write_all(&block).is_ok() && at > 0 {
            at = at.saturating_sub(PAGE_BYTES);
        }
        Ok(())
    }

    /// Removes the foreign file.
    pub(super) fn free(&self) -> io::Result<()> {
        match fs::remove_file(self.top().join("foreign")) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Leaves the disk under the file system so little room that writing fails.
    pub(super) fn choke(&self, spare_bytes: u64) -> io::Result<()> {
        let disk = self.disk();
        let stat = statvfs(&disk)?;
        let used = (stat.f_blocks - stat.f_bfree) * stat.f_frsize;
        resize(&disk, used + spare_bytes / PAGE_BYTES * PAGE_BYTES)
    }

    /// Gives the room back.
    pub(super) fn heal(&self) -> io::Result<()> {
        resize(&self.disk(), DISK_BYTES)
    }

    /// Stops all writing to the file system.
    pub(super) fn freeze(&self) -> io::Result<()> {
        run("fsfreeze", ["-f"], &self.top()).map(drop)
    }

    /// Lets it go on.
    pub(super) fn thaw(&self) -> io::Result<()> {
        run("fsfreeze", ["-u"], &self.top()).map(drop)
    }

    fn take_apart(&mut self) {
        clean(&self.root);
        self.device = None;
    }
}

impl Drop for Medium {
    fn drop(&mut self) {
        self.take_apart();
        // The directory of a run that has several, when the last of them goes.
        if let Some(run) = self.root.parent().filter(|parent| *parent != home()) {
            let _not_empty = fs::remove_dir(run);
        }
    }
}

/// Makes a loop device write page by page. It takes a write of which only the beginning fits for a
/// success, so a disk that runs full would lose data that it has confirmed; a page fits or does not.
fn whole_pages(device: &Path) -> io::Result<()> {
    let name = device.file_name().unwrap_or_default();
    let limit = Path::new("/sys/block").join(name).join("queue/max_sectors_kb");
    fs::write(limit, "4")
}

fn resize(tmpfs: &Path, bytes: u64) -> io::Result<()> {
    Ok(mount_remount(tmpfs, MountFlags::empty(), format!("size={bytes}"))?)
}

/// Runs a command; its output. Its last argument is a path.
fn run<const N: usize>(
    program: &str,
    arguments: [&str; N],
    path: &(impl AsRef<OsStr> + ?Sized),
) -> io::Result<String> {
    let output = Command::new(program)
        .args(arguments)
        .arg(path)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| io::Error::new(error.kind(), format!("{program}: {error}")))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let words = String::from_utf8_lossy(&output.stderr);
    let path = Path::new(path).display();
    let text = format!("{program} {} {path}: {}", arguments.join(" "), words.trim());
    Err(io::Error::other(text))
}

/// A process that was killed may hold the file system a little longer.
fn unmount_soon(at: &Path) -> io::Result<()> {
    let until = Instant::now() + Duration::from_secs(10);
    loop {
        match unmount(at, UnmountFlags::empty()) {
            Err(rustix::io::Errno::BUSY) if Instant::now() < until => {
                std::thread::sleep(Duration::from_millis(2));
            }
            other => return Ok(other?),
        }
    }
}

/// What a run on this kind of file system lacks, if anything.
pub(super) fn lacks(fs: Fs) -> Option<String> {
    let found = |program: &str| {
        let path = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&path).any(|dir| dir.join(program).is_file())
    };
    let programs: &[(&str, &str)] = match fs {
        Fs::Dir => &[("python3", "python3")],
        Fs::Ext4 | Fs::Xfs => &[
            ("python3", "python3"),
            ("mkfs.ext4", "e2fsprogs"),
            ("mkfs.xfs", "xfsprogs"),
            ("xfs_io", "xfsprogs"),
            ("losetup", "mount"),
            ("fsfreeze", "util-linux"),
        ],
    };
    let missing = programs.iter().find(|(program, _)| !found(program));
    if let Some((program, package)) = missing {
        return Some(format!("{program} is not in PATH; install the package {package}"));
    }
    if fs == Fs::Dir {
        return None;
    }
    if !rustix::process::geteuid().is_root() {
        return Some("file systems can only be made and mounted by root".to_owned());
    }
    let control = OpenOptions::new().read(true).write(true).open("/dev/loop-control");
    control.err().map(|error| format!("there are no loop devices: /dev/loop-control: {error}"))
}

/// Takes apart what runs have left whose process is gone.
fn remove_stale() -> io::Result<()> {
    for entry in fs::read_dir(home())? {
        let entry = entry?;
        let name = entry.file_name();
        let Some(id) = name.to_str().and_then(|name| name.strip_prefix(PREFIX)) else { continue };
        let name_of = fs::read_to_string(format!("/proc/{id}/comm"));
        if !name_of.is_ok_and(|name| name.trim() == "mqtool") {
            clean(&entry.path());
        }
    }
    Ok(())
}

/// Removes a directory of a run with the processes, mounts and devices that belong to it. As far as
/// that goes: it also runs while something else has failed.
fn clean(root: &Path) {
    if !root.exists() {
        return;
    }
    kill_users(root);
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let below = mounts.lines().filter_map(|line| line.split(' ').nth(1));
    let mut below: Vec<_> = below.map(Path::new).filter(|at| at.starts_with(root)).collect();
    // What was mounted last is on top.
    below.reverse();
    let (loops, disks): (Vec<_>, Vec<_>) = below.into_iter().partition(|at| at.ends_with("mnt"));
    for at in loops {
        let _not_frozen = run("fsfreeze", ["-u"], at);
        if unmount_soon(at).is_err() {
            let _last_try = unmount(at, UnmountFlags::DETACH);
        }
    }
    for device in devices(root) {
        let _gone = run("losetup", ["-d"], &device);
    }
    for at in disks {
        if unmount_soon(at).is_err() {
            let _last_try = unmount(at, UnmountFlags::DETACH);
        }
    }
    let _left = fs::remove_dir_all(root);
}

/// Loop devices whose file lies below `root`.
fn devices(root: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir("/sys/block") else { return Vec::new() };
    let device = |entry: io::Result<fs::DirEntry>| {
        let entry = entry.ok()?;
        let file = fs::read_to_string(entry.path().join("loop/backing_file")).ok()?;
        Path::new(file.trim()).starts_with(root).then(|| Path::new("/dev").join(entry.file_name()))
    };
    entries.filter_map(device).collect()
}

/// Kills brokers that were started on a store below `root`.
fn kill_users(root: &Path) {
    let Ok(entries) = fs::read_dir("/proc") else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let Some(id) = name.to_str().and_then(|name| name.parse().ok()) else { continue };
        let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let mut words = line.split(|&byte| byte == 0);
        let store = words.any(|word| word == b"--store")
            && words.next().is_some_and(|word| {
                String::from_utf8_lossy(word).starts_with(&*root.to_string_lossy())
            });
        if let Some(id) = Pid::from_raw(id).filter(|_| store) {
            let _gone = kill_process(id, Signal::KILL);
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// Copies a store away, as far as it goes, without the holes of its files.
pub(super) fn keep(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            keep(&entry.path(), &target)?;
            continue;
        }
        let bytes = fs::read(entry.path())?;
        let end = bytes.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
        let file = File::create(&target)?;
        file.write_all_at(bytes.get(..end).unwrap_or_default(), 0)?;
        file.set_len(u64::try_from(bytes.len()).unwrap_or(0))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_is_kept_with_its_length_and_content() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        fs::create_dir_all(from.join("commitlog")).unwrap();
        let mut bytes = vec![0; 100_000];
        bytes[5] = 7;
        fs::write(from.join("commitlog/0"), &bytes).unwrap();
        keep(&from, &to).unwrap();
        assert_eq!(fs::read(to.join("commitlog/0")).unwrap(), bytes);
    }
}
