use std::path::Path;

use super::*;

/// A folder that stands for the system, with these files.
fn tree(files: &[(&str, &str)]) -> (tempfile::TempDir, Root) {
    let folder = tempfile::tempdir().unwrap();
    for (path, text) in files {
        let path = folder.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    let root = Root::folder(folder.path());
    (folder, root)
}

fn seen(root: Root) -> Surroundings {
    Surroundings { root, kernels: "neon+dotprod", page_bytes: 16 << 10, unix_s: 1_800_000_000 }
}

/// The finding `id` of a system with these files.
fn finding(id: &str, files: &[(&str, &str)]) -> Finding {
    let (_folder, root) = tree(files);
    findings(&seen(root)).into_iter().find(|finding| finding.id == id).unwrap()
}

/// Checks verdict and text, and that advice is given where something is to be done.
#[track_caller]
fn expect(id: &str, files: &[(&str, &str)], verdict: Verdict, found: &str) {
    let finding = finding(id, files);
    assert_eq!(finding.verdict, verdict, "{finding:?}");
    assert!(finding.found.contains(found), "{finding:?} lacks {found:?}");
    assert_eq!(finding.advice.is_some(), verdict != Verdict::Ok, "{finding:?}");
}

const PI_5: (&str, &str) = ("proc/device-tree/model", "Raspberry Pi 5 Model B Rev 1.0\0");
const MEMORY_8_GB: (&str, &str) =
    ("proc/meminfo", "MemTotal:        8245184 kB\nMemFree: 1 kB\nMemAvailable:    7000000 kB\n");
const SWAPS: &str = "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n";

#[test]
fn a_system_that_tells_nothing_is_not_blamed() {
    let (_folder, root) = tree(&[]);
    let all = findings(&seen(root));
    assert!(all.iter().all(|finding| finding.verdict == Verdict::Ok), "{all:?}");
    let mut ids: Vec<&str> = all.iter().map(|finding| finding.id).collect();
    let n = ids.len();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), n, "ids are unique");
}

#[test]
fn board() {
    expect("board", &[PI_5], Verdict::Ok, "Raspberry Pi 5 Model B Rev 1.0");
    expect(
        "board",
        &[("sys/class/dmi/id/product_name", "Laptop\u{1b}[31m\n")],
        Verdict::Ok,
        "Laptop\u{fffd}[31m",
    );
}

#[test]
fn cpu() {
    let core = "processor\t: 0\nFeatures\t: fp asimd asimddp\nCPU part\t: 0xd0b\n\n";
    let text = core.repeat(4);
    expect(
        "cpu",
        &[("proc/cpuinfo", &text)],
        Verdict::Ok,
        "Cortex-A76 4 cores (asimd asimddp); kernels: neon+dotprod",
    );
    let (_folder, root) = tree(&[("proc/cpuinfo", &text)]);
    let scalar = processor::cpu(&root, "scalar");
    assert_eq!(scalar.verdict, Verdict::Warning);
    assert!(scalar.advice.unwrap().contains("NEON"));
}

#[test]
fn page_size() {
    let (_folder, root) = tree(&[PI_5]);
    assert_eq!(processor::page_size(&root, 16 << 10).verdict, Verdict::Ok);
    assert_eq!(processor::page_size(&root, 4 << 10).verdict, Verdict::Notice);
    let (_folder, root) = tree(&[("proc/device-tree/model", "Raspberry Pi 4 Model B\0")]);
    assert_eq!(processor::page_size(&root, 4 << 10).verdict, Verdict::Ok);
}

#[test]
fn governor() {
    let file = "sys/devices/system/cpu/cpufreq/policy0/scaling_governor";
    expect("governor", &[(file, "ondemand\n")], Verdict::Ok, "ondemand");
    expect("governor", &[(file, "powersave\n")], Verdict::Warning, "powersave");
    let driver = ("sys/devices/system/cpu/cpufreq/policy0/scaling_driver", "intel_pstate\n");
    expect("governor", &[(file, "powersave\n"), driver], Verdict::Ok, "powersave");
    let bounded = [
        (file, "ondemand\n"),
        ("sys/devices/system/cpu/cpufreq/policy0/scaling_max_freq", "1500000\n"),
        ("sys/devices/system/cpu/cpufreq/policy0/cpuinfo_max_freq", "2400000\n"),
    ];
    expect("governor", &bounded, Verdict::Warning, "1500 of 2400 MHz");
}

#[test]
fn memory() {
    expect("memory", &[MEMORY_8_GB], Verdict::Ok, "8.44 GB, 7.17 GB");
    let small = ("proc/meminfo", "MemTotal: 948000 kB\nMemAvailable: 500000 kB\n");
    expect("memory", &[small], Verdict::Notice, "0.97 GB");
    // A file that makes no sense is one that tells nothing.
    for text in
        ["", "MemTotal: 1 kB", "MemTotal: -1 kB\nMemAvailable: 1 kB", "MemTotal: 99999999999999999999 kB"]
    {
        expect("memory", &[("proc/meminfo", text)], Verdict::Ok, "not told");
    }
}

#[test]
fn memory_cgroup() {
    let v2 = "sys/fs/cgroup/cgroup.controllers";
    expect("memory_cgroup", &[(v2, "cpuset cpu io memory pids\n")], Verdict::Ok, "on");
    expect("memory_cgroup", &[(v2, "cpuset cpu io pids\n")], Verdict::Notice, "off");
    let line = ("proc/cmdline", "console=tty1 cgroup_disable=memory root=/dev/mmcblk0p2\n");
    expect("memory_cgroup", &[(v2, ""), line], Verdict::Notice, "cgroup_disable=memory");
    let v1 = "#subsys_name\thierarchy\tnum_cgroups\tenabled\nmemory\t4\t90\t";
    expect("memory_cgroup", &[("proc/cgroups", &format!("{v1}1\n"))], Verdict::Ok, "on");
    expect("memory_cgroup", &[("proc/cgroups", &format!("{v1}0\n"))], Verdict::Notice, "off");
}

/// The files of a board whose root is on an SD card.
const CARD: [(&str, &str); 3] = [
    (
        "proc/self/mountinfo",
        "22 1 179:2 / / rw,noatime shared:1 - ext4 /dev/root rw\n\
         23 22 0:21 / /run rw - tmpfs tmpfs rw\n24 22 259:1 / /mnt/fast\\040drive rw - ext4 /dev/nvme0n1p1 rw\n",
    ),
    ("sys/dev/block/179:2/uevent", "MAJOR=179\nDEVNAME=mmcblk0p2\nDEVTYPE=partition\n"),
    ("sys/block/mmcblk0/device/type", "SD\n"),
];

#[test]
fn swap() {
    let with = |line: &str| {
        let swaps = format!("{SWAPS}{line}");
        let mut files = CARD.to_vec();
        files.push(("proc/swaps", &swaps));
        finding("swap", &files)
    };
    assert_eq!(with("").verdict, Verdict::Ok);
    assert_eq!(with("/dev/zram0 partition 2097148 0 100\n").verdict, Verdict::Ok);
    let file = with("/var/swap file 204796 0 -2\n");
    assert_eq!(file.verdict, Verdict::Warning);
    assert_eq!(file.found, "/var/swap (0.2 GB, SD card)");
    assert_eq!(with("/dev/mmcblk0p3 partition 204796 0 -2\n").verdict, Verdict::Warning);
    assert_eq!(with("/dev/nvme0n1p2 partition 204796 0 -2\n").verdict, Verdict::Notice);
}

#[test]
fn zram() {
    let with = |kib: u64| {
        let swaps = format!("{SWAPS}/dev/zram0 partition {kib} 0 100\n");
        finding("zram", &[("proc/swaps", &swaps), MEMORY_8_GB])
    };
    assert_eq!(finding("zram", &[("proc/swaps", SWAPS), MEMORY_8_GB]).found, "none");
    assert_eq!(with(2 << 20).verdict, Verdict::Ok);
    assert_eq!(with(6 << 20).verdict, Verdict::Notice);
}

/// The firmware's flags, where a Pi 4 and a Pi 5 have them.
const FLAGS_4: &str = "sys/devices/platform/soc/soc:firmware/get_throttled";
const FLAGS_5: &str = "sys/devices/platform/soc@107c000000/soc@107c000000:firmware/get_throttled";

#[test]
fn undervoltage() {
    for path in [FLAGS_4, FLAGS_5] {
        expect("undervoltage", &[(path, "0\n")], Verdict::Ok, "none");
        expect("undervoltage", &[(path, "10000\n")], Verdict::Warning, "has been too low");
        expect("undervoltage", &[(path, "0x50005\n")], Verdict::Error, "too low now");
        expect("undervoltage", &[(path, "e0000\n")], Verdict::Ok, "none");
        expect("undervoltage", &[(path, "nonsense\n")], Verdict::Ok, "not told");
    }
    let monitor = |alarm| {
        let files = [
            ("sys/class/hwmon/hwmon0/name", "cpu_thermal\n"),
            ("sys/class/hwmon/hwmon2/name", "rpi_volt\n"),
            ("sys/class/hwmon/hwmon2/in0_lcrit_alarm", alarm),
        ];
        finding("undervoltage", &files).verdict
    };
    assert_eq!((monitor("0\n"), monitor("1\n")), (Verdict::Ok, Verdict::Error));
}

#[test]
fn throttling() {
    expect("throttling", &[(FLAGS_4, "0\n")], Verdict::Ok, "none");
    expect("throttling", &[(FLAGS_4, "50005\n")], Verdict::Warning, "now: throttled");
    expect(
        "throttling",
        &[(FLAGS_5, "a0000\n")],
        Verdict::Notice,
        "frequency capped, soft temperature limit",
    );
    // Undervoltage alone is not throttling.
    expect("throttling", &[(FLAGS_4, "10001\n")], Verdict::Ok, "none");
}

#[test]
fn temperature() {
    let file = "sys/class/thermal/thermal_zone0/temp";
    expect("temperature", &[(file, "48312\n")], Verdict::Ok, "48 °C");
    expect("temperature", &[(file, "74000\n")], Verdict::Notice, "74 °C");
    expect(
        "temperature",
        &[(file, "48312\n"), ("sys/class/thermal/thermal_zone1/temp", "83000")],
        Verdict::Warning,
        "83 °C",
    );
}

#[test]
fn clock() {
    expect("clock", &[("run/systemd/timesync/synchronized", "")], Verdict::Ok, "set from the network");
    expect("clock", &[("run/chrony/chronyd.pid", "1\n")], Verdict::Ok, "chronyd");
    expect("clock", &[("run/systemd/timesync/other", "")], Verdict::Warning, "not yet");
    let (_folder, root) = tree(&[]);
    assert_eq!(clock::clock(&root, 0).verdict, Verdict::Error);
}

#[test]
fn a_path_lies_on_the_deepest_mount() {
    let (_folder, root) = tree(&CARD);
    let on = |path: &str| device_of(&root, Path::new(path)).unwrap();
    assert_eq!(on("/var/lib/pled/model.gguf"), Device { name: "mmcblk0p2".into(), kind: DeviceKind::Card });
    assert_eq!(on("/run/x").kind, DeviceKind::Memory);
    assert_eq!(on("/mnt/fast drive/m.gguf"), Device { name: "nvme0n1p1".into(), kind: DeviceKind::Nvme });
    let (_folder, root) = tree(&[]);
    assert_eq!(device_of(&root, Path::new("/x")), None);
}

#[test]
fn memory_left_is_bounded_by_control_groups() {
    let left = |files: &[(&str, &str)]| memory_left(&tree(files).1);
    let own = ("proc/self/cgroup", "0::/system.slice/pled.service\n");
    let group = "sys/fs/cgroup/system.slice/pled.service";
    let (max, current, stat) =
        (format!("{group}/memory.max"), format!("{group}/memory.current"), format!("{group}/memory.stat"));
    assert_eq!(left(&[]), None);
    assert_eq!(left(&[MEMORY_8_GB]), Some(7_000_000 << 10));
    assert_eq!(left(&[MEMORY_8_GB, own, (&max, "max\n"), (&current, "5\n")]), Some(7_000_000 << 10));
    let bounded = [MEMORY_8_GB, own, (&max, "1000\n"), (&current, "600\n"), (&stat, "anon 1\nfile 200\n")];
    assert_eq!(left(&bounded), Some(600));
    // The group above is tighter.
    let (above, used) =
        ("sys/fs/cgroup/system.slice/memory.max", "sys/fs/cgroup/system.slice/memory.current");
    assert_eq!(left(&[&bounded[..], &[(above, "700\n"), (used, "650\n")]].concat()), Some(50));
    assert_eq!(left(&[&bounded[1..], &[(above, "700\n"), (used, "900\n")]].concat()), Some(0));
}
