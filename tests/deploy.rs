//! What goes onto a machine beside the program: units that agree, a configuration that starts, and manual pages of
//! every command.

mod support;

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use support::program::pled;

fn deployed(name: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy").join(name)).unwrap()
}

#[test]
fn an_instance_is_the_service_with_a_configuration_of_its_own() {
    let service = deployed("pled.service");
    let expected = service
        .replace("Description=pled, a language model", "Description=pled (%i), a language model")
        .replace("--config /etc/pled/pled.toml", "--config /etc/pled/%i.toml");
    assert_ne!(expected, service);
    assert_eq!(deployed("pled@.service"), expected);
}

#[test]
fn the_socket_is_where_the_configuration_listens() {
    let socket = deployed("pled.socket");
    let address = socket.lines().find_map(|line| line.strip_prefix("ListenStream=")).unwrap();
    assert!(deployed("pled.toml").contains(&format!("#listen = [\"{address}\"]")), "{address}");
}

/// Killed if a test ends before it.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn the_configuration_of_the_package_starts_as_it_is() {
    let config = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/pled.toml");
    let mut command = pled();
    command.arg("serve").arg("--config").arg(config);
    // Its port may be taken here.
    command.env("PLED_LISTEN", "127.0.0.1:0").env_remove("JOURNAL_STREAM").stderr(Stdio::piped());
    let mut running = Running(command.spawn().unwrap());
    let mut lines = BufReader::new(running.0.stderr.take().unwrap()).lines().map(Result::unwrap);
    let told: Vec<String> = lines.by_ref().take_while(|line| !line.contains("] ready")).collect();
    assert!(told.iter().any(|line| line.contains("home-mini (built in)")), "{told:?}");
    kill_process(Pid::from_child(&running.0), Signal::TERM).unwrap();
    let told: Vec<String> = lines.collect();
    assert!(running.0.wait().unwrap().success(), "{told:?}");
    assert!(told.iter().any(|line| line.contains("stopped")), "{told:?}");
}

#[test]
fn the_package_owns_what_the_unit_and_the_scripts_name() {
    let manifest = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml")).unwrap();
    let manifest: toml::Table = manifest.parse().unwrap();
    let deb = &manifest["package"]["metadata"]["deb"];
    let assets: Vec<&str> =
        deb["assets"].as_array().unwrap().iter().map(|a| a[1].as_str().unwrap()).collect();
    for path in ["usr/bin/pled", "etc/pled/pled.toml"] {
        assert!(
            assets.contains(&path) || assets.iter().any(|a| format!("{a}pled") == path),
            "{path}: {assets:?}"
        );
        assert!(deployed("pled.service").contains(&format!("/{path}")), "{path}");
    }
    // Debian's changelog begins with this version.
    let version = manifest["package"]["version"].as_str().unwrap();
    assert!(deployed("debian/changelog").starts_with(&format!("pled ({version}-1) ")));
}

#[test]
fn every_command_and_flag_is_in_the_manual() {
    let folder = tempfile::tempdir().unwrap();
    let command = pled::cli::command();
    clap_mangen::generate_to(command.clone(), folder.path()).unwrap();
    for command in command.get_subcommands() {
        let name = command.get_name();
        let page = std::fs::read_to_string(folder.path().join(format!("pled-{name}.1"))).unwrap();
        for flag in command.get_arguments().filter(|arg| !arg.is_hide_set()).filter_map(clap::Arg::get_long) {
            // roff takes a bare hyphen for a place to break words.
            let flag = format!("\\-\\-{}", flag.replace('-', "\\-"));
            assert!(page.contains(&flag), "{name} {flag}: {page}");
        }
    }
}
