//! The demo's house: devices that remember what was done to them, so that results of tools are true.

use serde_json::{Map, Value, json};

type Arguments = Map<String, Value>;

/// Things that are switched on and off together when a call names a room and no kind.
const SWITCHED: &[&str] = &["light", "switch", "fan", "climate", "media_player"];

struct Device {
    name: &'static str,
    domain: &'static str,
    area: &'static str,
    class: &'static str,
    state: String,
    /// What was set besides, as "30%".
    setting: String,
}

/// What a call did.
pub(super) struct Outcome {
    /// For the model, in the shape of Home Assistant's results.
    pub(super) result: Value,
    /// For the reader, a line each.
    pub(super) changes: Vec<String>,
}

pub(super) struct House {
    devices: Vec<Device>,
}

impl House {
    pub(super) fn new() -> House {
        let device = |name, domain, area, class, state: &str| Device {
            name,
            domain,
            area,
            class,
            state: state.to_owned(),
            setting: String::new(),
        };
        House {
            devices: vec![
                device("Kitchen Light", "light", "Kitchen", "", "off"),
                device("Coffee Maker", "switch", "Kitchen", "", "off"),
                device("Ceiling Light", "light", "Living Room", "", "on"),
                device("Reading Lamp", "light", "Living Room", "", "off"),
                device("Living Room Blinds", "cover", "Living Room", "blind", "open"),
                device("Soundbar", "media_player", "Living Room", "", "playing"),
                device("Bedroom Lamp", "light", "Bedroom", "", "on"),
                device("Bedroom Thermostat", "climate", "Bedroom", "", "heat"),
                device("Bedroom Temperature", "sensor", "Bedroom", "temperature", "17.5 °C"),
                device("Front Door", "lock", "Hallway", "", "unlocked"),
                device("Robot Vacuum", "vacuum", "Hallway", "", "docked"),
                device("Movie Night", "scene", "", "", "unknown"),
                device("Shopping List", "todo", "", "", "unknown"),
            ],
        }
    }

    /// The system turn: the house as Home Assistant tells of one.
    pub(super) fn describe(&self) -> String {
        let mut text =
            "You are a voice assistant for a smart home. Answer in plain text and keep it short.\n\
                        An overview of the areas and the devices in this home:"
                .to_owned();
        for d in &self.devices {
            text += &format!("\n- names: {}\n  domain: {}", d.name, d.domain);
            if !d.area.is_empty() {
                text += &format!("\n  areas: {}", d.area);
            }
        }
        text
    }

    /// Carries out a call, whose arguments are valid against its tool's declaration.
    pub(super) fn call(&mut self, tool: &str, arguments: &Arguments) -> Outcome {
        let text = |key: &str| arguments.get(key).map(shown).unwrap_or_default();
        match tool {
            "HassTurnOn" => self.change(arguments, &[], |d| d.set(d.switched(true), "")),
            "HassTurnOff" => self.change(arguments, &[], |d| d.set(d.switched(false), "")),
            "HassLightSet" => {
                let brightness = arguments.get("brightness").map(|v| format!("{}%", shown(v)));
                let wanted: Vec<String> =
                    brightness.into_iter().chain(arguments.get("color").map(shown)).collect();
                self.change(arguments, &["light"], |d| d.set("on", &wanted.join(", ")))
            }
            "HassClimateSetTemperature" => self
                .change(arguments, &["climate"], |d| d.set("heat", &format!("{} °C", text("temperature")))),
            "HassSetPosition" => {
                let state = if arguments.get("position") == Some(&json!(0)) { "closed" } else { "open" };
                self.change(arguments, &["cover"], |d| d.set(state, &format!("{}%", text("position"))))
            }
            "HassSetVolume" => self.change(arguments, &["media_player"], |d| {
                let state = d.state.clone();
                d.set(&state, &format!("volume {}%", text("volume_level")));
            }),
            "HassMediaPause" => self.change(arguments, &["media_player"], |d| d.set("paused", "")),
            "HassMediaUnpause" => self.change(arguments, &["media_player"], |d| d.set("playing", "")),
            "HassMediaNext" => {
                self.change(arguments, &["media_player"], |d| d.set("playing", "the next track"))
            }
            "HassVacuumStart" => self.change(arguments, &["vacuum"], |d| d.set("cleaning", "")),
            "HassListAddItem" => {
                let item = text("item");
                self.change(arguments, &["todo"], |d| d.setting = format!("has {item} on it"))
            }
            "HassGetState" => self.states(arguments),
            "HassStartTimer" => said(&format!("a timer runs: {}", Value::Object(arguments.clone()))),
            "HassCancelTimer" => said("the timer is cancelled"),
            "HassBroadcast" => said(&format!("all speakers say \"{}\"", text("message"))),
            _ => failed(),
        }
    }

    /// Does something to every device that is meant. `domains` says what kinds it is possible with.
    fn change(
        &mut self,
        arguments: &Arguments,
        domains: &[&str],
        mut act: impl FnMut(&mut Device),
    ) -> Outcome {
        let (mut changes, mut named) = (Vec::new(), Vec::new());
        let by_room_alone =
            ["name", "domain", "device_class"].iter().all(|key| !arguments.contains_key(*key));
        let domains = if domains.is_empty() && by_room_alone { SWITCHED } else { domains };
        for d in &mut self.devices {
            if d.is_meant(arguments) && (domains.is_empty() || domains.contains(&d.domain)) {
                act(d);
                changes.push(d.told());
                named.push(json!({ "name": d.name, "type": "entity" }));
            }
        }
        if changes.is_empty() {
            return failed();
        }
        if let (None, Some(area)) = (arguments.get("name"), arguments.get("area")) {
            named = vec![json!({ "name": area, "type": "area" })];
        }
        let result = json!({ "response_type": "action_done", "data": { "success": named, "failed": [] } });
        Outcome { result, changes }
    }

    fn states(&self, arguments: &Arguments) -> Outcome {
        let meant: Vec<&Device> = self.devices.iter().filter(|d| d.is_meant(arguments)).collect();
        if meant.is_empty() {
            return failed();
        }
        let found: Vec<Value> = meant.iter().map(|d| json!({ "name": d.name, "state": d.state })).collect();
        let result = json!({ "response_type": "query_answer", "data": { "success": found, "failed": [] } });
        Outcome { result, changes: meant.iter().map(|d| d.told()).collect() }
    }
}

impl Device {
    /// Whether the arguments that say which things are meant fit.
    fn is_meant(&self, arguments: &Arguments) -> bool {
        let same = |key: &str, own: &str| match arguments.get(key) {
            None => true,
            Some(Value::Array(any)) => any.iter().any(|v| shown(v).eq_ignore_ascii_case(own)),
            Some(value) => shown(value).eq_ignore_ascii_case(own),
        };
        same("name", self.name)
            && same("area", self.area)
            && same("domain", self.domain)
            && same("device_class", self.class)
    }

    /// What switching on or off makes of a thing of this kind.
    fn switched(&self, on: bool) -> &'static str {
        match (self.domain, on) {
            ("lock", true) => "locked",
            ("lock", false) => "unlocked",
            ("cover", true) => "open",
            ("cover", false) => "closed",
            ("scene", _) => "active",
            ("climate", true) => "heat",
            ("media_player", true) => "playing",
            (_, true) => "on",
            (_, false) => "off",
        }
    }

    fn set(&mut self, state: &str, setting: &str) {
        self.state = state.to_owned();
        self.setting = setting.to_owned();
    }

    fn told(&self) -> String {
        match (self.domain, self.setting.as_str()) {
            ("todo", setting) => format!("{} {setting}", self.name),
            (_, "") => format!("{} is {}", self.name, self.state),
            (_, setting) => format!("{} is {}, {setting}", self.name, self.state),
        }
    }
}

/// A value as words.
fn shown(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn said(change: &str) -> Outcome {
    Outcome { result: json!({ "success": true }), changes: vec![change.to_owned()] }
}

fn failed() -> Outcome {
    let result = json!({ "response_type": "error", "speech": {}, "data": { "code": "no_valid_targets" } });
    Outcome { result, changes: vec!["there is no such thing here".to_owned()] }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(house: &mut House, tool: &str, arguments: Value) -> Outcome {
        let Value::Object(arguments) = arguments else { panic!("{arguments}") };
        house.call(tool, &arguments)
    }

    #[test]
    fn what_is_done_to_a_device_is_told_of_it_afterwards() {
        let mut house = House::new();
        let door = json!({ "name": "front door" });
        let state = |o: Outcome| o.result["data"]["success"][0]["state"].clone();
        assert_eq!(state(call(&mut house, "HassGetState", door.clone())), "unlocked");
        assert_eq!(call(&mut house, "HassTurnOn", door.clone()).changes, ["Front Door is locked"]);
        assert_eq!(state(call(&mut house, "HassGetState", door)), "locked");
        let bedroom = json!({ "area": "Bedroom", "temperature": 19 });
        let set = call(&mut house, "HassClimateSetTemperature", bedroom);
        assert_eq!(set.changes, ["Bedroom Thermostat is heat, 19 °C"]);
        assert_eq!(set.result["data"]["success"], json!([{ "name": "Bedroom", "type": "area" }]));
    }

    #[test]
    fn a_room_means_its_things_of_the_kind_or_all_that_can_be_switched() {
        let mut house = House::new();
        let lights = json!({ "area": "Living Room", "domain": ["light"] });
        assert_eq!(call(&mut house, "HassTurnOff", lights).changes.len(), 2);
        let room = call(&mut house, "HassTurnOff", json!({ "area": "Living Room" }));
        assert_eq!(room.changes.len(), 3, "{:?}", room.changes);
        let warm = json!({ "area": "Bedroom", "device_class": ["temperature"], "domain": ["sensor"] });
        let told = call(&mut house, "HassGetState", warm);
        assert_eq!(told.result["data"]["success"][0]["state"], "17.5 °C");
    }

    #[test]
    fn what_is_not_there_fails() {
        let mut house = House::new();
        for (tool, arguments) in [
            ("HassTurnOn", json!({ "name": "Sauna" })),
            ("HassLightSet", json!({ "name": "Front Door", "brightness": 5 })),
            ("HassGetState", json!({ "area": "Attic" })),
            ("HassFly", json!({})),
        ] {
            assert_eq!(call(&mut house, tool, arguments).result["response_type"], "error", "{tool}");
        }
    }
}
