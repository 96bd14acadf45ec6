//! How rows of the table are read where the settings leave it open (`ple_mode = auto`).
//!
//! The table stays on storage, where it costs no memory, unless it is so small that the cache would hold it, or
//! storage is too slow for it and there is room.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::memory_plan::MemoryPlan;
use crate::board::{DeviceKind, Root, device_of, memory_left};
use crate::config::Settings;
use crate::ple::{FEW_ROWS_PER_S, Mode, Probe, TableLayout};
use crate::storage::DataFile;

/// Short, since each start waits for it; a card answers some hundred reads meanwhile.
const PROBE: Probe = Probe { duration: Duration::from_millis(150), max_rows: 128, rows_at_a_time: 32 };
/// What is left to the rest of the system. Unit: bytes.
const RESERVE_BYTES: u64 = 256 << 20;

/// The mode, and what decided.
#[derive(Debug, PartialEq)]
pub(super) struct Choice {
    pub(super) mode: Mode,
    pub(super) why: String,
    /// Prompts will wait for storage, and nothing can be done about it here.
    pub(super) is_slow: bool,
}

/// What decides.
#[derive(Clone, Copy, Debug)]
struct Facts {
    table_bytes: u64,
    cache_bytes: u64,
    /// Where the table lies, if the system tells.
    storage: Option<DeviceKind>,
    /// What the probe gave; nothing if it failed, or the table is too small to ask.
    rows_per_s: Option<f64>,
    /// Memory that the table could take, if the system tells.
    room_bytes: Option<u64>,
}

/// Looks at memory and storage and decides. The weights are in memory by now, `n_contexts` contexts of `n_ctx` tokens are
/// still to come.
pub(super) fn choose(
    settings: &Settings,
    plan: &MemoryPlan,
    contexts: (usize, usize),
    part: &Arc<DataFile>,
    layout: TableLayout,
) -> Choice {
    let (n_ctx, n_contexts) = contexts;
    let root = Root::system();
    let table_bytes = layout.n_bytes().unwrap_or(u64::MAX);
    let cache_bytes = settings.ple_cache_bytes as u64;
    let planned = plan.needed_bytes(n_ctx, n_contexts, 0);
    let to_come = planned - plan.resident_bytes + RESERVE_BYTES;
    let free = memory_left(&root).map(|left| left.saturating_sub(to_come));
    let allowed = settings.memory_limit_bytes.map(|limit| limit.saturating_sub(planned));
    let is_small = table_bytes <= cache_bytes;
    let on_disk = |path: &Path| std::path::absolute(path).ok().and_then(|path| device_of(&root, &path));
    choice(Facts {
        table_bytes,
        cache_bytes,
        storage: on_disk(part.path()).map(|device| device.kind),
        rows_per_s: (!is_small)
            .then(|| PROBE.measure(Arc::clone(part), layout))
            .and_then(|rate| rate.inspect_err(|e| log::warn!("cannot tell how fast rows come: {e}")).ok())
            .map(|rate| rate.rows_per_s),
        room_bytes: [free, allowed].into_iter().flatten().min(),
    })
}

fn choice(facts: Facts) -> Choice {
    let Facts { table_bytes, cache_bytes, storage, rows_per_s, room_bytes } = facts;
    let with = |mode, why, is_slow| Choice { mode, why, is_slow };
    if table_bytes <= cache_bytes {
        let why = format!("the table of {table_bytes} bytes is no larger than the cache for its rows");
        return with(Mode::Resident, why, false);
    }
    let storage_name = storage.map_or("storage".to_owned(), |kind| kind.to_string());
    let Some(rate) = rows_per_s else {
        // A row that cannot be read fails the request that needs it; who reads all of them could not even start.
        return with(Mode::Direct, format!("{storage_name} gave an error in place of a row"), true);
    };
    let found = format!("{storage_name} gives {rate:.0} rows a second");
    let is_fast = rate >= FEW_ROWS_PER_S;
    if is_fast && storage != Some(DeviceKind::Network) {
        return with(Mode::Direct, format!("{found}, at least {FEW_ROWS_PER_S:.0}"), false);
    }
    let wanted = if is_fast { "and may fail" } else { "too few" };
    match room_bytes {
        Some(room) if room >= table_bytes => {
            let why = format!("{found}, {wanted}, and memory has room for {table_bytes} bytes");
            with(Mode::Resident, why, false)
        }
        Some(room) => {
            let why = format!("{found}, {wanted}, but memory has room for {room} of {table_bytes} bytes");
            with(Mode::Direct, why, !is_fast)
        }
        None => with(Mode::Direct, format!("{found}, {wanted}, and memory is not told"), !is_fast),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_storage_and_probe_decide() {
        let large = Facts {
            table_bytes: 1 << 30,
            cache_bytes: 64 << 20,
            storage: Some(DeviceKind::Card),
            rows_per_s: Some(1500.0),
            room_bytes: Some(4 << 30),
        };
        let (slow, short) = (Some(120.0), Some(1 << 29));
        let network = Some(DeviceKind::Network);
        for (facts, mode, is_slow, word) in [
            (large, Mode::Direct, false, "SD card gives 1500 rows a second"),
            (Facts { room_bytes: None, ..large }, Mode::Direct, false, "1500"),
            (Facts { table_bytes: 64 << 20, ..large }, Mode::Resident, false, "no larger than the cache"),
            (Facts { rows_per_s: slow, ..large }, Mode::Resident, false, "120 rows a second, too few, and"),
            (
                Facts { rows_per_s: slow, room_bytes: short, ..large },
                Mode::Direct,
                true,
                "room for 536870912",
            ),
            (Facts { rows_per_s: None, ..large }, Mode::Direct, true, "gave an error in place of a row"),
            (Facts { rows_per_s: slow, room_bytes: None, ..large }, Mode::Direct, true, "memory is not told"),
            (Facts { storage: network, ..large }, Mode::Resident, false, "network gives 1500"),
            (Facts { storage: network, room_bytes: short, ..large }, Mode::Direct, false, "and may fail"),
            (Facts { storage: None, ..large }, Mode::Direct, false, "storage gives 1500"),
        ] {
            let choice = choice(facts);
            assert_eq!((choice.mode, choice.is_slow), (mode, is_slow), "{facts:?} {choice:?}");
            assert!(choice.why.contains(word), "{choice:?}");
        }
    }
}
