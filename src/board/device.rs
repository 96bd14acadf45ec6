//! The storage that a path lies on.

use std::fmt;
use std::path::{Path, PathBuf};

use super::Root;

/// A kind of storage, as far as it tells what random reads cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceKind {
    /// An SD card.
    Card,
    /// Soldered flash.
    Emmc,
    /// An NVMe drive.
    Nvme,
    /// A SCSI disk, which on a small board is one on USB.
    Disk,
    /// The memory of the machine.
    Memory,
    /// A network file system.
    Network,
    /// Something else: a virtual disk, a loop, a mapped device.
    Other,
}

impl fmt::Display for DeviceKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            DeviceKind::Card => "SD card",
            DeviceKind::Emmc => "eMMC",
            DeviceKind::Nvme => "NVMe",
            DeviceKind::Disk => "USB or SATA disk",
            DeviceKind::Memory => "memory",
            DeviceKind::Network => "network",
            DeviceKind::Other => "other storage",
        })
    }
}

/// Where a path lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// Name of the block device (`mmcblk0p2`), or of the file system where there is none.
    pub name: String,
    /// Its kind.
    pub kind: DeviceKind,
}

/// The storage below `path`, which is absolute; `None` if the system does not tell.
pub fn device_of(root: &Root, path: &Path) -> Option<Device> {
    let table = root.read("/proc/self/mountinfo")?;
    // The deepest mount point that the path is below of, and of those the last: it covers the others.
    let mount = table
        .lines()
        .filter_map(Mount::read)
        .filter(|mount| path.starts_with(&mount.point))
        .max_by_key(|mount| mount.point.components().count())?;
    let numbers = format!("/sys/dev/block/{}/uevent", mount.numbers);
    let name = root
        .read(&numbers)
        .and_then(|text| text.lines().find_map(|line| line.strip_prefix("DEVNAME=").map(str::to_owned)));
    let kind = match mount.file_system.as_str() {
        "tmpfs" | "ramfs" => DeviceKind::Memory,
        "nfs" | "nfs4" | "cifs" | "smb3" | "fuse.sshfs" | "9p" => DeviceKind::Network,
        _ => {
            let name = name.or_else(|| mount.source.strip_prefix("/dev/").map(str::to_owned));
            return match name {
                Some(name) => block_device(root, &name),
                None => Some(Device { name: mount.file_system, kind: DeviceKind::Other }),
            };
        }
    };
    Some(Device { name: mount.file_system, kind })
}

/// The block device of that name; `None` if its kind is not told.
pub(super) fn block_device(root: &Root, name: &str) -> Option<Device> {
    let kind = if let Some(rest) = name.strip_prefix("mmcblk") {
        let number: String = rest.chars().take_while(char::is_ascii_digit).collect();
        match root.read(&format!("/sys/block/mmcblk{number}/device/type"))?.as_str() {
            "SD" => DeviceKind::Card,
            "MMC" => DeviceKind::Emmc,
            _ => DeviceKind::Other,
        }
    } else if name.starts_with("nvme") {
        DeviceKind::Nvme
    } else if name.starts_with("sd") {
        DeviceKind::Disk
    } else {
        DeviceKind::Other
    };
    Some(Device { name: name.to_owned(), kind })
}

/// A line of /proc/self/mountinfo.
struct Mount {
    /// Major and minor number, as `179:2`.
    numbers: String,
    point: PathBuf,
    file_system: String,
    source: String,
}

impl Mount {
    fn read(line: &str) -> Option<Mount> {
        let (before, after) = line.split_once(" - ")?;
        let before: Vec<&str> = before.split(' ').collect();
        let mut after = after.split(' ');
        Some(Mount {
            numbers: (*before.get(2)?).to_owned(),
            // The kernel writes blanks as \040.
            point: PathBuf::from(before.get(4)?.replace("\\040", " ")),
            file_system: after.next()?.to_owned(),
            source: after.next()?.to_owned(),
        })
    }
}
