//! `pled doctor` from outside, over a folder that stands for the system.

mod support;

use std::path::Path;
use std::process::Output;

use serde_json::Value;
use support::fixture;
use support::program::pled;

/// A Pi 4 with swap on its card and a supply that is too weak.
const FILES: [(&str, &str); 7] = [
    ("proc/device-tree/model", "Raspberry Pi 4 Model B Rev 1.5\0"),
    ("proc/meminfo", "MemTotal: 3884348 kB\nMemAvailable: 3500000 kB\n"),
    ("proc/swaps", "Filename Type Size Used Priority\n/dev/mmcblk0p3 partition 102396 0 -2\n"),
    ("sys/block/mmcblk0/device/type", "SD\n"),
    ("sys/dev/block/179:2/uevent", "DEVNAME=mmcblk0p2\n"),
    ("proc/self/mountinfo", "22 1 179:2 / / rw - ext4 /dev/root rw\n"),
    ("sys/devices/platform/soc/soc:firmware/get_throttled", "50000\n"),
];

fn doctor(root: &Path, arguments: &[&str]) -> Output {
    pled().args(["doctor", "--root"]).arg(root).args(arguments).output().unwrap()
}

fn write(root: &Path, path: &str, text: &str) {
    let path = root.join(path);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
}

fn a_pi() -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    for (path, text) in FILES {
        write(root.path(), path, text);
    }
    root
}

/// The finding `id` as (verdict, what was found).
fn finding<'a>(report: &'a Value, id: &str) -> (&'a str, &'a str) {
    let all = report["findings"].as_array().unwrap();
    let one = all.iter().find(|finding| finding["id"] == id).unwrap_or_else(|| panic!("no {id} in {report}"));
    assert_eq!(one["verdict"] == "ok", one["advice"].is_null(), "{one}");
    (one["verdict"].as_str().unwrap(), one["found"].as_str().unwrap())
}

#[test]
fn a_board_and_its_model_are_looked_at() {
    let root = a_pi();
    let model = fixture("gemma4-ple/model-q4_0.gguf");
    let output = doctor(root.path(), &["--json", "--model", model.to_str().unwrap()]);
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["verdict"], "warning");
    assert_eq!(finding(&report, "board"), ("ok", "Raspberry Pi 4 Model B Rev 1.5"));
    assert_eq!(finding(&report, "swap").0, "warning");
    assert_eq!(finding(&report, "undervoltage").0, "warning");
    assert_eq!(finding(&report, "storage"), ("ok", "SD card (mmcblk0p2)"));
    assert_eq!(finding(&report, "model_fit").0, "ok");
    assert_eq!(finding(&report, "access").0, "ok");
    assert!(finding(&report, "storage_rows").1.contains("rows/s"));
    assert!(finding(&report, "token_rate").1.contains("tokens/s"));
    for number in ["read_bandwidth_gb_s", "max_decode_tok_s"] {
        assert!(report["measured"][number].as_f64().unwrap() > 0.0, "{report}");
    }
    assert!(report["measured"]["rows"]["rows_per_s"].as_f64().unwrap() > 0.0);

    // Without a file the model that is part of the program is served, and looked at.
    let output = doctor(root.path(), &["--json"]);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let (verdict, found) = finding(&report, "model");
    assert!(verdict == "ok" && found.contains("home-mini (built in)"), "{found}");
    assert_eq!(finding(&report, "model_fit").0, "ok");
    assert!(finding(&report, "token_rate").1.contains("tokens/s"));

    let text = doctor(root.path(), &[]);
    let text = String::from_utf8(text.stdout).unwrap();
    assert!(text.contains("\nwarning  undervoltage "), "{text}");
    assert!(text.contains("\n                         -> "), "{text}");
}

#[test]
fn errors_are_findings_and_an_exit_code() {
    let root = a_pi();
    let report = |arguments: &[&str]| -> Value {
        let output = doctor(root.path(), &[&["--json"], arguments].concat());
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(stderr.lines().count(), 1, "{stderr}");
        serde_json::from_slice(&output.stdout).unwrap()
    };
    let lost = report(&["--model", "/nowhere/model.gguf"]);
    assert!(finding(&lost, "model").1.contains("/nowhere/model.gguf"), "{lost}");
    let open = report(&["--listen", "0.0.0.0:1"]);
    assert_eq!(finding(&open, "configuration").0, "error");
    // The service's own file is looked at without being named.
    write(root.path(), "etc/pled/pled.toml", "thread = 3\n");
    let wrong = report(&[]);
    assert!(finding(&wrong, "configuration").1.contains("thread"), "{wrong}");
}
