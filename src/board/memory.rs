//! Memory, the controller that bounds it, and where it is swapped to.

use super::device::{Device, DeviceKind, block_device, device_of};
use super::{Finding, Root, Verdict};

/// Below this no Gemma 4 fits beside the system, bytes: E2B's dense weights take 1.4 GB.
const LEAST_FOR_E2B_BYTES: u64 = 1_900_000_000;

/// What /proc/meminfo tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    /// All memory that the kernel has, bytes.
    pub total_bytes: u64,
    /// What a new program can have without swapping, bytes.
    pub available_bytes: u64,
}

/// Reads /proc/meminfo; `None` if it is not there or tells nothing.
pub fn read_memory(root: &Root) -> Option<Memory> {
    let text = root.read("/proc/meminfo")?;
    let bytes = |key: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?;
        line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
    };
    Some(Memory { total_bytes: bytes("MemTotal")?, available_bytes: bytes("MemAvailable")? })
}

/// What this process can still take, bytes: what is available, or less where a control group bounds it. Page cache does not
/// count as taken, since it makes room. `None` if the system tells neither.
pub fn memory_left(root: &Root) -> Option<u64> {
    let available = read_memory(root).map(|memory| memory.available_bytes);
    [available, left_by_groups(root)].into_iter().flatten().min()
}

/// What the control groups (v2) that this process is in leave, bytes; `None` if none bounds it.
fn left_by_groups(root: &Root) -> Option<u64> {
    let table = root.read("/proc/self/cgroup")?;
    let mut group = table.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let mut least = None;
    loop {
        let folder = format!("/sys/fs/cgroup/{group}");
        let number = |name: &str| u64::try_from(root.read_number(&format!("{folder}/{name}"))?).ok();
        if let (Some(max), Some(current)) = (number("memory.max"), number("memory.current")) {
            let stat = root.read(&format!("{folder}/memory.stat")).unwrap_or_default();
            let cache = stat.lines().find_map(|line| line.strip_prefix("file ")?.parse::<u64>().ok());
            let left = max.saturating_sub(current.saturating_sub(cache.unwrap_or(0)));
            least = Some(least.unwrap_or(left).min(left));
        }
        if group.is_empty() {
            return least;
        }
        group = group.rsplit_once('/').map_or("", |(parent, _)| parent);
    }
}

/// `memory`: all of it, and what is left of it.
pub(super) fn memory(root: &Root) -> Finding {
    let Some(memory) = read_memory(root) else { return Finding::untold("memory") };
    let gb = |bytes: u64| bytes as f64 / 1e9;
    let found =
        format!("{:.2} GB, {:.2} GB of it available", gb(memory.total_bytes), gb(memory.available_bytes));
    if memory.total_bytes < LEAST_FOR_E2B_BYTES {
        let advice = "too little for Gemma 4 E2B (1.4 GB of dense weights): take a smaller model, or a board with 2 GB";
        return Finding::with_advice("memory", Verdict::Notice, found, advice);
    }
    Finding::ok("memory", found)
}

/// `memory_cgroup`: without the controller `MemoryHigh=` and `MemoryMax=` of a unit are ignored in silence.
pub(super) fn memory_cgroup(root: &Root) -> Finding {
    let v2 = root.read("/sys/fs/cgroup/cgroup.controllers");
    let is_on = match &v2 {
        Some(controllers) => controllers.split_whitespace().any(|name| name == "memory"),
        None => {
            // The fields are name, hierarchy, number of groups, enabled.
            let Some(table) = root.read("/proc/cgroups") else { return Finding::untold("memory_cgroup") };
            table.lines().any(|line| {
                let fields: Vec<&str> = line.split_whitespace().collect();
                fields.first() == Some(&"memory") && fields.get(3) == Some(&"1")
            })
        }
    };
    if is_on {
        return Finding::ok("memory_cgroup", "on");
    }
    let by_command_line = root
        .read("/proc/cmdline")
        .is_some_and(|line| line.split_whitespace().any(|w| w == "cgroup_disable=memory"));
    let found = if by_command_line { "off (cgroup_disable=memory)" } else { "off" };
    Finding::with_advice(
        "memory_cgroup",
        Verdict::Notice,
        found,
        "MemoryHigh= and MemoryMax= of the unit do nothing: bound pled by memory_limit_bytes, or add \
         cgroup_enable=memory to the line in /boot/firmware/cmdline.txt and reboot",
    )
}

/// A line of /proc/swaps.
struct Swap {
    name: String,
    bytes: u64,
}

/// `None` if the system does not tell.
fn swaps(root: &Root) -> Option<Vec<Swap>> {
    let table = root.read("/proc/swaps")?;
    let read = |line: &str| {
        let mut fields = line.split_whitespace();
        let (name, _kind, kib) = (fields.next()?, fields.next()?, fields.next()?);
        Some(Swap { name: name.to_owned(), bytes: kib.parse::<u64>().ok()?.saturating_mul(1024) })
    };
    Some(table.lines().skip(1).filter_map(read).collect())
}

fn is_zram(swap: &Swap) -> bool {
    swap.name.starts_with("/dev/zram")
}

/// `swap`: on a card it is slow, wears the card, and weights that went there are read back for each token.
pub(super) fn swap(root: &Root) -> Finding {
    let Some(swaps) = swaps(root) else { return Finding::untold("swap") };
    let on_storage: Vec<&Swap> = swaps.iter().filter(|swap| !is_zram(swap)).collect();
    if on_storage.is_empty() {
        return Finding::ok("swap", "none on storage");
    }
    let place = |swap: &Swap| -> Option<Device> {
        match swap.name.strip_prefix("/dev/") {
            Some(name) => block_device(root, name),
            None => device_of(root, std::path::Path::new(&swap.name)),
        }
    };
    let described = |swap: &&Swap| {
        let device =
            place(swap).map_or_else(|| "unknown device".to_owned(), |device| device.kind.to_string());
        format!("{} ({:.1} GB, {device})", swap.name, swap.bytes as f64 / 1e9)
    };
    let found = on_storage.iter().map(described).collect::<Vec<_>>().join(", ");
    let on_card = |swap: &&Swap| place(swap).is_some_and(|device| device.kind == DeviceKind::Card);
    if on_storage.iter().any(on_card) {
        return Finding::with_advice(
            "swap",
            Verdict::Warning,
            found,
            "swapped weights would be read from the card for each token, and swapping wears it: turn it off \
             (sudo dphys-swapfile swapoff, then sudo systemctl disable dphys-swapfile; or Mechanism=zram in \
             /etc/rpi/swap.conf), or set mlock = true",
        );
    }
    Finding::with_advice(
        "swap",
        Verdict::Notice,
        found,
        "weights that are swapped out are read back for each token: set mlock = true if memory is short",
    )
}

/// `zram`: compressed swap in memory. Quantised weights hardly compress.
pub(super) fn zram(root: &Root) -> Finding {
    let (Some(swaps), Some(memory)) = (swaps(root), read_memory(root)) else {
        return Finding::untold("zram");
    };
    let bytes: u64 = swaps.iter().filter(|swap| is_zram(swap)).map(|swap| swap.bytes).sum();
    if bytes == 0 {
        return Finding::ok("zram", "none");
    }
    let found = format!("{:.1} GB of compressed swap", bytes as f64 / 1e9);
    if bytes > memory.total_bytes / 2 {
        return Finding::with_advice(
            "zram",
            Verdict::Notice,
            found,
            "quantised weights hardly compress, so that this is no room for a model: count on the memory alone, \
             and set mlock = true so that the weights stay out of it",
        );
    }
    Finding::ok("zram", found)
}
