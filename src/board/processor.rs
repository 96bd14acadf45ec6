//! The board, its cores, their pages and their speed.

use std::collections::BTreeSet;

use super::{Finding, Root, Verdict};

/// Features that choose or speed up kernels, as /proc/cpuinfo names them.
const FEATURES: [&str; 10] =
    ["asimd", "asimddp", "fphp", "asimdhp", "i8mm", "sve", "avx2", "fma", "f16c", "avx512_vnni"];

/// The name that the firmware gives the board.
fn board_name(root: &Root) -> Option<String> {
    ["/proc/device-tree/model", "/sys/firmware/devicetree/base/model", "/sys/class/dmi/id/product_name"]
        .iter()
        .find_map(|path| root.read(path).filter(|name| !name.is_empty()))
}

/// `board`: its name.
pub(super) fn board(root: &Root) -> Finding {
    board_name(root).map_or_else(|| Finding::untold("board"), |name| Finding::ok("board", name))
}

/// `cpu`: cores, features, and the kernels that were chosen for them.
pub(super) fn cpu(root: &Root, kernels: &str) -> Finding {
    let info = root.read("/proc/cpuinfo").unwrap_or_default();
    let values = |key: &str| {
        let key = key.to_owned();
        info.lines().filter_map(move |line| {
            let (name, value) = line.split_once(':')?;
            (name.trim() == key).then(|| value.trim().to_owned())
        })
    };
    let n_cores = values("processor").count();
    let listed = values("Features").chain(values("flags")).next().unwrap_or_default();
    let has: BTreeSet<&str> = listed.split_whitespace().collect();
    let features: Vec<&str> = FEATURES.into_iter().filter(|feature| has.contains(feature)).collect();
    let core = match values("CPU part").next().as_deref() {
        Some("0xd0b") => "Cortex-A76 ".to_owned(),
        Some("0xd08") => "Cortex-A72 ".to_owned(),
        Some("0xd03") => "Cortex-A53 ".to_owned(),
        _ => values("model name").next().map_or_else(String::new, |name| format!("{name} ")),
    };
    let cores = match n_cores {
        0 => "cores not told".to_owned(),
        n => format!("{n} cores"),
    };
    let found = format!("{core}{cores} ({}); kernels: {kernels}", features.join(" "));
    if kernels == "scalar" {
        return Finding::with_advice(
            "cpu",
            Verdict::Warning,
            found,
            "no vector instructions are used, which is many times slower: run a build for this processor, \
             or a processor with NEON or AVX2",
        );
    }
    Finding::ok("cpu", found)
}

/// `page_size`: the kernel that a Pi 5 boots by default has pages of 16 KiB.
pub(super) fn page_size(root: &Root, page_bytes: usize) -> Finding {
    let found = format!("{} KiB", page_bytes / 1024);
    let is_pi_5 = board_name(root).is_some_and(|name| name.starts_with("Raspberry Pi 5"));
    if is_pi_5 && page_bytes < 16 << 10 {
        return Finding::with_advice(
            "page_size",
            Verdict::Notice,
            found,
            "this is not the kernel that Raspberry Pi OS boots on a Pi 5; with its own (16 KiB) memory is mapped with \
             fewer entries: remove kernel= from /boot/firmware/config.txt unless it is wanted",
        );
    }
    Finding::ok("page_size", found)
}

/// `governor`: who sets the clock of the cores, and whether it may reach its maximum.
pub(super) fn governor(root: &Root) -> Finding {
    const FOLDER: &str = "/sys/devices/system/cpu/cpufreq";
    let policies = root.names(FOLDER, |name| name.starts_with("policy"));
    let governors: BTreeSet<String> = policies
        .iter()
        .filter_map(|policy| root.read(&format!("{FOLDER}/{policy}/scaling_governor")))
        .collect();
    if governors.is_empty() {
        return Finding::untold("governor");
    }
    let names = governors.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
    let bound = policies.iter().find_map(|policy| {
        let khz = |name: &str| root.read_number(&format!("{FOLDER}/{policy}/{name}"));
        let (allowed, possible) = (khz("scaling_max_freq")?, khz("cpuinfo_max_freq")?);
        (allowed < possible).then(|| format!("{} of {} MHz allowed", allowed / 1000, possible / 1000))
    });
    let found = bound.as_ref().map_or_else(|| names.clone(), |bound| format!("{names}, {bound}"));
    // intel_pstate calls by that name what others call ondemand.
    let driver = root.read(&format!("{FOLDER}/{}/scaling_driver", policies[0])).unwrap_or_default();
    let saves_power = governors.contains("powersave") && !driver.starts_with("intel_pstate");
    if saves_power || bound.is_some() {
        return Finding::with_advice(
            "governor",
            Verdict::Warning,
            found,
            "the cores are kept slow: echo ondemand | sudo tee /sys/devices/system/cpu/cpufreq/policy*/scaling_governor, \
             and look for whatever lowers scaling_max_freq",
        );
    }
    Finding::ok("governor", found)
}
