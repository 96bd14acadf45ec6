//! Power and heat, which decide how fast a small board may run.

use super::{Finding, Root, Verdict};

/// What the firmware of a Raspberry Pi tells as one number: bits 0 to 3 hold now, 16 to 19 since start.
fn throttled(root: &Root) -> Option<u32> {
    const DEVICES: &str = "/sys/devices/platform";
    // /soc/soc:firmware on a Pi 4, with an address in both names on a Pi 5.
    let files = root.names(DEVICES, |name| name.starts_with("soc")).into_iter().flat_map(|soc| {
        let below = format!("{DEVICES}/{soc}");
        let firmware = root.names(&below, |name| name.ends_with(":firmware"));
        firmware.into_iter().map(move |name| format!("{below}/{name}/get_throttled"))
    });
    let text = files.into_iter().find_map(|path| root.read(&path))?;
    u32::from_str_radix(text.trim_start_matches("0x"), 16).ok()
}

/// What holds the clock down, by its bits.
const THROTTLING: [(u32, &str); 3] =
    [(1, "frequency capped"), (2, "throttled"), (3, "soft temperature limit")];

/// Why the firmware may slow the board down, and whether it does now; `None` where nothing tells.
pub fn held_down(root: &Root) -> Option<impl Iterator<Item = (&'static str, bool)> + use<>> {
    let flags = throttled(root)?;
    let all = std::iter::once((0, "undervoltage")).chain(THROTTLING);
    Some(all.map(move |(bit, why)| (why, flags & (1 << bit) != 0)))
}

/// The hottest of the board's temperatures.
pub fn celsius(root: &Root) -> Option<f64> {
    Some(milli_degrees(root)? as f64 / 1e3)
}

fn milli_degrees(root: &Root) -> Option<i64> {
    const FOLDER: &str = "/sys/class/thermal";
    let zones = root.names(FOLDER, |name| name.starts_with("thermal_zone"));
    zones.iter().filter_map(|zone| root.read_number(&format!("{FOLDER}/{zone}/temp"))).max()
}

/// Whether the voltage monitor of a Pi has its alarm on; `None` without one.
fn voltage_alarm(root: &Root) -> Option<bool> {
    const FOLDER: &str = "/sys/class/hwmon";
    let monitors = root.names(FOLDER, |name| name.starts_with("hwmon"));
    let monitor = monitors
        .into_iter()
        .find(|name| root.read(&format!("{FOLDER}/{name}/name")).as_deref() == Some("rpi_volt"))?;
    Some(root.read_number(&format!("{FOLDER}/{monitor}/in0_lcrit_alarm"))? != 0)
}

/// `undervoltage`: the supply or its cable is too weak.
pub(super) fn undervoltage(root: &Root) -> Finding {
    let (flags, alarm) = (throttled(root), voltage_alarm(root));
    if flags.is_none() && alarm.is_none() {
        return Finding::untold("undervoltage");
    }
    const ADVICE: &str = "the board slows down and may corrupt its card: use the supply made for it \
                          (5 V at 5 A for a Pi 5, 5.1 V at 3 A for a Pi 4) and a short cable, and fewer devices on USB";
    let (now, since_start) = (1 << 0, 1 << 16);
    let has = |bit: u32| flags.is_some_and(|flags| flags & bit != 0);
    if has(now) || alarm == Some(true) {
        return Finding::with_advice("undervoltage", Verdict::Error, "the voltage is too low now", ADVICE);
    }
    if has(since_start) {
        let found = "the voltage has been too low since the board was started";
        return Finding::with_advice("undervoltage", Verdict::Warning, found, ADVICE);
    }
    Finding::ok("undervoltage", "none")
}

/// `throttling`: the firmware holds the clock down.
pub(super) fn throttling(root: &Root) -> Finding {
    let Some(flags) = throttled(root) else { return Finding::untold("throttling") };
    let said = |shift: u32| {
        let set = THROTTLING.iter().filter(|(bit, _)| flags & (1 << (bit + shift)) != 0);
        set.map(|(_, name)| *name).collect::<Vec<_>>().join(", ")
    };
    const ADVICE: &str = "answers come slower than the board could give them: give it a fan or a heat sink, \
                          and mend undervoltage if it is told too";
    let (now, since_start) = (said(0), said(16));
    if !now.is_empty() {
        return Finding::with_advice("throttling", Verdict::Warning, format!("now: {now}"), ADVICE);
    }
    if !since_start.is_empty() {
        let found = format!("since the board was started: {since_start}");
        return Finding::with_advice("throttling", Verdict::Notice, found, ADVICE);
    }
    Finding::ok("throttling", "none")
}

/// `temperature`: a Pi slows down at 80 degrees, and more at 85.
pub(super) fn temperature(root: &Root) -> Finding {
    let Some(milli_degrees) = milli_degrees(root) else {
        return Finding::untold("temperature");
    };
    let found = format!("{:.0} °C", milli_degrees as f64 / 1e3);
    const ADVICE: &str =
        "a Pi slows down from 80 °C on, and computing heats it further: give it a fan or a heat sink";
    match milli_degrees {
        80_000.. => Finding::with_advice("temperature", Verdict::Warning, found, ADVICE),
        70_000.. => Finding::with_advice("temperature", Verdict::Notice, found, ADVICE),
        _ => Finding::ok("temperature", found),
    }
}
