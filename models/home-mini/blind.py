"""Blind cases: homes, sentences and calls written by hand, to see how the model does on what others say.

Their author knew the tools and the rules at the head of commands.py, and nothing of the text that the model is
trained on. Homes have no floors, and questions are asked without an expected state, so neither is declared.

    python blind.py > blind.jsonl
"""

import json
import sys
from collections.abc import Callable, Iterator
from typing import Any

from tools import TOOLS, declaration

Call = dict[str, Any]
Message = dict[str, Any]

# Home -> (its tools without "Hass", or what it lacks of them; its rooms).
HOMES: dict[str, tuple[str, str]] = {
    "terrace": ("all but", """
        Lounge: Corner Lamp (light), Big Light (light), Telly (media_player), Lounge Curtains (cover), Hive (climate)
        Kitchen: Under Cabinet (light), Kitchen Spots (light), Kettle (switch), Kitchen Radio (media_player), Fridge Temperature (sensor)
        Landing: Landing Light (light)
        Front Bedroom: Bedside Lamp (light), Tower Fan (fan), Drayton Valve (climate), Velux Blind (cover)
        Box Room: Desk Lamp (light), Printer (switch)
        Porch: Front Door (lock), Porch Light (light)
        Others: Shopping List (todo), Cosy Evening (scene), Henry (vacuum)"""),
    "altbau": ("all but Broadcast", """
        Living Room: Arc Lamp (light), String Lights (light), Sonos Beam (media_player), Balcony Door (binary_sensor)
        Kitchen: Pendant (light), Espresso Machine (switch), Bosch Dishwasher (switch)
        Bedroom: Left Lamp (light), Right Lamp (light), Roller Shutter (cover), Tado Bedroom (climate)
        Hallway: Hallway Strip (light), Nuki (lock)
        Study: Screen Bar (light), Studio Monitors (media_player), Tado Study (climate), Study Humidity (sensor)
        Balcony: Awning (cover)
        Others: Groceries (todo), Dreame (vacuum), Good Night (scene), Focus (scene)"""),
    "shop": ("all but VacuumStart MediaNext CancelTimer", """
        Shopfront: Window Display (light), Neon Sign (switch), Shopfront Shutter (cover), Entrance (lock), Door Counter (sensor)
        Counter: Till Lamp (light), Coffee Grinder (switch), Counter Speaker (media_player)
        Reading Corner: Globe Lamp (light), Paper Lantern (light), Armchair Heater (switch)
        Stockroom: Stockroom Tube (light), Dehumidifier (switch), Back Door (lock), Stockroom Temperature (sensor)
        Upstairs Office: Banker Lamp (light), Split System (climate), Office Blind (cover)
        Others: Opening Time (scene), Closing Time (scene), Reorder List (todo)"""),
    "cabin": ("all but VacuumStart Broadcast StartTimer CancelTimer", """
        Great Room: Moose Lamp (light), Fireplace Spots (light), Heat Pump (climate), Panorama Blinds (cover), Bluetooth Speaker (media_player)
        Loft: Reading Lamp (light), Skylight (cover), Panel Heater (climate)
        Bunk Room: Bunk Light (light), Bunk Heater (climate)
        Sauna: Sauna Stove (switch), Sauna Light (light), Sauna Temperature (sensor)
        Boathouse: Floodlight (light), Boathouse Door (lock), Water Pump (switch)
        Terrace: Lanterns (light), Hot Tub (switch), Lake Temperature (sensor)
        Others: Arrival (scene), Winter Sleep (scene), Packing List (todo)"""),
    "workshop": ("all but Broadcast SetPosition", """
        Workshop: Bench Light (light), Overhead Tubes (light), Dust Collector (switch), Air Compressor (switch), Shop Radio (media_player), Bay Door (cover)
        Paint Booth: Booth Light (light), Booth Fan (fan), Booth Humidity (sensor)
        Office: Drafting Lamp (light), Window Unit (climate), Office Door (lock)
        Lumber Shed: Caged Bulb (light), Shed Lock (lock), Shed Window (binary_sensor)
        Others: Hardware List (todo), Glue Up (scene), Sawdust Sam (vacuum)"""),
    "loft": ("all but Broadcast", """
        Living Area: Track Lights (light), Uplight (light), Apple TV (media_player), HomePod (media_player), East Shades (cover), West Shades (cover)
        Kitchenette: Island Pendants (light), Toaster (switch), Range Hood (fan)
        Bedroom: Neon Cloud (light), Nanoleaf (light), Blackout Shade (cover), Bedroom AC (climate)
        Bathroom: Mirror Light (light), Towel Rail (switch), Bathroom Humidity (sensor)
        Entry: Yale Lock (lock), Entry Lamp (light)
        Others: To Do (todo), Date Night (scene), Workout (scene), Roomba (vacuum)"""),
    "villa": ("all but CancelTimer", """
        Salon: Chandelier (light), Piano Lamp (light), Salon TV (media_player), North Shutter (cover), South Shutter (cover)
        Dining Room: Dining Pendant (light), Wine Fridge (switch)
        Master Suite: Headboard Light (light), Ceiling Fan (fan), Master AC (climate)
        Kids Room: Dino Lamp (light), Star Projector (light), Toniebox (media_player), Fujitsu (climate)
        Pool: Pool Lights (light), Pool Pump (switch), Pool Temperature (sensor)
        Patio: Patio Strip (light), Patio Speaker (media_player), Pergola (cover)
        Garage: Garage Door (cover), EV Charger (switch), Side Door (lock)
        Others: Family List (todo), Siesta (scene), Pool Party (scene), Paco (vacuum)"""),
    "share": ("all but SetPosition ClimateSetTemperature", """
        Shared Kitchen: Strip Light (light), Microwave (switch), Kitchen Echo (media_player)
        Sitting Room: Lava Lamp (light), Standing Lamp (light), Xbox (media_player)
        Aoife's Room: Aoife's Lamp (light), Electric Blanket (switch)
        Tom's Room: Tom's Lamp (light), LED Strip (light), Desk Fan (fan), Gaming PC (switch)
        Bathroom: Shower Light (light), Immersion (switch), Extractor (fan)
        Hall: Hall Light (light), Hall Door (lock)
        Back Garden: Bike Shed (lock)
        Others: Chores (todo), Shopping (todo), House Party (scene), Dobby (vacuum)"""),
    "condo": ("all but Broadcast MediaNext", """
        Living Room: Cove Light (light), Paper Lamp (light), Daikin (climate), Bravia (media_player), Day Curtain (cover), Night Curtain (cover)
        Kitchen: Counter Light (light), Rice Cooker (switch)
        Common Room: Study Lamp (light), Mitsubishi (climate), DC Fan (fan)
        Master Bedroom: Wardrobe Light (light), Salt Lamp (light), Panasonic (climate), Purifier (fan)
        Service Yard: Washing Machine (switch), Dryer (switch), Yard Light (light)
        Foyer: Samsung Lock (lock), Gate (lock), Shoe Cabinet Light (light)
        Others: FairPrice List (todo), Leaving Home (scene), Chill Mode (scene), Roborock (vacuum), Haze Index (sensor)"""),
    "farm": ("all but VacuumStart", """
        Old Kitchen: Beam Lights (light), Bread Oven (switch)
        Cellar: Cellar Bulb (light), Cellar Humidity (sensor), Cellar Door (lock)
        Library: Green Lamp (light), Gramophone (media_player), Cast Iron Radiator (climate), Velvet Curtains (cover)
        Blue Room: Sconce (light), Left Shutter (cover), Right Shutter (cover)
        Barn: Barn Floods (light), Barn Doors (cover), Tractor Charger (switch)
        Henhouse: Heat Lamp (switch), Hatch (cover), Egg Counter (sensor)
        Courtyard: Fountain (switch), Stone Lanterns (light)
        Others: Market List (todo), Harvest Dinner (scene)"""),
    "boat": ("all but CancelTimer", """
        Wheelhouse: Chart Lamp (light), Webasto (climate), Hatch Lock (lock)
        Galley: Galley Spots (light), Galley Speaker (media_player), Water Boiler (switch)
        Saloon: Porthole Lights (light), Reef Tank (light), Port Blind (cover), Starboard Blind (cover), Projector (media_player), Screen (cover)
        Aft Cabin: Berth Light (light), Alde (climate)
        Deck: Mast Light (light), Bilge Pump (switch), Gangway (lock)
        Others: Captain's List (todo), Sunset (scene), Night Watch (scene), Barnacle (vacuum), Battery Level (sensor)"""),
    "suburb": ("all but", """
        Family Room: Pot Lights (light), Ecobee (climate), Nest Hub (media_player), Fireplace (switch)
        Basement: Bar Lights (light), Pinball (switch), Basement TV (media_player), Freezer Temperature (sensor)
        Mudroom: Mudroom Light (light), Boot Dryer (switch), Mudroom Door (lock)
        Nursery: Night Light (light), White Noise (media_player), Oil Heater (climate)
        Primary Bedroom: His Lamp (light), Her Lamp (light), Heated Blanket (switch), Drapes (cover)
        Garage: Garage Light (light), Left Garage Door (cover), Right Garage Door (cover), Block Heater (switch)
        Driveway: Mailbox (binary_sensor)
        Others: Costco (todo), Groceries (todo), Bedtime Story (scene), Movie Time (scene), Dusty (vacuum)"""),
    "studio": ("TurnOn TurnOff LightSet ClimateSetTemperature SetVolume", """
        Main Room: Sofa Lamp (light), Ikea Strip (light), JBL (media_player), Radiator (climate), Curtain (cover)
        Kitchen Nook: Hob Light (light), Kettle (switch)
        Others: Lazy Sunday (scene)"""),
}

INSTRUCTIONS = [
    "", "You look after the home. Use the tools to do what is asked.", "",
    "You are the voice assistant of this house.", "Control the home with the tools below. Answer briefly.",
]


def tool(name: str) -> Callable[..., Call]:
    """Makes calls of a tool; an argument without a key is the name."""
    def call(target: str | None = None, **arguments: Any) -> Call:
        return {"name": "Hass" + name, "arguments": ({"name": target} if target else {}) | arguments}
    return call


on, off, light, heat = tool("TurnOn"), tool("TurnOff"), tool("LightSet"), tool("ClimateSetTemperature")
state, position, volume = tool("GetState"), tool("SetPosition"), tool("SetVolume")
pause, resume, skip = tool("MediaPause"), tool("MediaUnpause"), tool("MediaNext")
timer, cancel, vacuum = tool("StartTimer"), tool("CancelTimer"), tool("VacuumStart")


def add(item: str, name: str) -> Call:
    return {"name": "HassListAddItem", "arguments": {"item": item, "name": name}}


def announce(message: str) -> Call:
    return {"name": "HassBroadcast", "arguments": {"message": message}}


def lights(area: str) -> dict[str, Any]:
    return {"area": area, "domain": ["light"]}


def covers(area: str, device_class: str) -> dict[str, Any]:
    return {"area": area, "domain": ["cover"], "device_class": [device_class]}


# Kind -> (home, sentence, call).
SINGLE: dict[str, list[tuple[str, str, Call]]] = {
    "on and off": [
        ("terrace", "turn on the corner lamp", on("Corner Lamp")),
        ("terrace", "Pop the kettle on", on("Kettle")),
        ("altbau", "switch off the espresso machine", off("Espresso Machine")),
        ("altbau", "String lights on please", on("String Lights")),
        ("shop", "Switch the neon sign on", on("Neon Sign")),
        ("cabin", "can you turn the hot tub on", on("Hot Tub")),
        ("workshop", "kill the dust collector", off("Dust Collector")),
        ("loft", "Turn the towel rail off.", off("Towel Rail")),
        ("villa", "Switch on the pool pump", on("Pool Pump")),
        ("share", "turn Tom's lamp off", off("Tom's Lamp")),
        ("condo", "rice cooker on", on("Rice Cooker")),
        ("farm", "Turn off the fountain, will you", off("Fountain")),
        ("boat", "put the bilge pump on", on("Bilge Pump")),
        ("suburb", "Could you turn off the heated blanket?", off("Heated Blanket")),
        ("studio", "sofa lamp off", off("Sofa Lamp")),
    ],
    "rooms": [
        ("terrace", "turn on the lights in the lounge", on(**lights("Lounge"))),
        ("terrace", "Kitchen lights off", off(**lights("Kitchen"))),
        ("altbau", "lights out in the bedroom", off(**lights("Bedroom"))),
        ("altbau", "Switch on all the living room lights", on(**lights("Living Room"))),
        ("shop", "turn off every light in the reading corner", off(**lights("Reading Corner"))),
        ("cabin", "Great room lights on, please", on(**lights("Great Room"))),
        ("workshop", "turn everything off in the workshop", off(area="Workshop")),
        ("loft", "Turn the bedroom lights on", on(**lights("Bedroom"))),
        ("villa", "put the lights on in the salon", on(**lights("Salon"))),
        ("share", "turn off the lights in Tom's room", off(**lights("Tom's Room"))),
        ("condo", "shut everything off in the service yard", off(area="Service Yard")),
        ("condo", "Master bedroom lights off", off(**lights("Master Bedroom"))),
        ("boat", "I need the lights on in the saloon", on(**lights("Saloon"))),
        ("suburb", "switch off the primary bedroom lights", off(**lights("Primary Bedroom"))),
        ("studio", "Everything off in the main room", off(area="Main Room")),
    ],
    "brightness": [
        ("terrace", "dim the bedside lamp to 20%", light("Bedside Lamp", brightness=20)),
        ("terrace", "Set the kitchen spots to 70 percent", light("Kitchen Spots", brightness=70)),
        ("altbau", "hallway strip at 15 percent", light("Hallway Strip", brightness=15)),
        ("altbau", "Turn the arc lamp down to 35%", light("Arc Lamp", brightness=35)),
        ("shop", "Window display to 80 percent please", light("Window Display", brightness=80)),
        ("shop", "set the reading corner lights to 40%", light(area="Reading Corner", brightness=40)),
        ("cabin", "make the moose lamp 25 percent", light("Moose Lamp", brightness=25)),
        ("workshop", "Bench light to full brightness", light("Bench Light", brightness=100)),
        ("loft", "put the track lights at 60", light("Track Lights", brightness=60)),
        ("loft", "Dim the bedroom lights to 10 percent", light(area="Bedroom", brightness=10)),
        ("villa", "bring the chandelier up to 90 percent", light("Chandelier", brightness=90)),
        ("share", "Set the standing lamp to half brightness", light("Standing Lamp", brightness=50)),
        ("condo", "living room lights at 30%", light(area="Living Room", brightness=30)),
        ("farm", "Can you dim the beam lights to 45 percent?", light("Beam Lights", brightness=45)),
        ("suburb", "night light down to 5 percent", light("Night Light", brightness=5)),
    ],
    "colors": [
        ("terrace", "turn the bedside lamp red", light("Bedside Lamp", color="red")),
        ("altbau", "Make the arc lamp orange", light("Arc Lamp", color="orange")),
        ("altbau", "hallway strip to blue", light("Hallway Strip", color="blue")),
        ("shop", "I'd like the window display in pink", light("Window Display", color="pink")),
        ("cabin", "change the sauna light to green", light("Sauna Light", color="green")),
        ("loft", "Nanoleaf purple please", light("Nanoleaf", color="purple")),
        ("loft", "make the bedroom lights blue", light(area="Bedroom", color="blue")),
        ("villa", "turn the pool lights turquoise", light("Pool Lights", color="turquoise")),
        ("villa", "Dino lamp green", light("Dino Lamp", color="green")),
        ("share", "set the LED strip to magenta", light("LED Strip", color="magenta")),
        ("share", "Change Aoife's lamp to yellow", light("Aoife's Lamp", color="yellow")),
        ("condo", "Set the cove light to white", light("Cove Light", color="white")),
        ("boat", "reef tank in cyan please", light("Reef Tank", color="cyan")),
        ("suburb", "Can you make the bar lights red?", light("Bar Lights", color="red")),
        ("studio", "turn the main room lights purple", light(area="Main Room", color="purple")),
    ],
    "heating": [
        ("terrace", "set the Hive to 19", heat("Hive", temperature=19)),
        ("terrace", "Make the front bedroom 18 degrees", heat(area="Front Bedroom", temperature=18)),
        ("altbau", "heat the study to 21.5 degrees", heat(area="Study", temperature=21.5)),
        ("altbau", "Tado Bedroom to 17", heat("Tado Bedroom", temperature=17)),
        ("shop", "split system to 23 degrees", heat("Split System", temperature=23)),
        ("cabin", "turn the heat pump up to 22", heat("Heat Pump", temperature=22)),
        ("cabin", "I want it 19 degrees in the loft", heat(area="Loft", temperature=19)),
        ("workshop", "Set the window unit to 68", heat("Window Unit", temperature=68)),
        ("loft", "Bedroom AC to 72 degrees", heat("Bedroom AC", temperature=72)),
        ("villa", "cool the kids room down to 24", heat(area="Kids Room", temperature=24)),
        ("condo", "Put the Daikin on 25", heat("Daikin", temperature=25)),
        ("condo", "make it 26 in the common room", heat(area="Common Room", temperature=26)),
        ("farm", "Library to 20 degrees please", heat(area="Library", temperature=20)),
        ("suburb", "bump the Ecobee to 20.5", heat("Ecobee", temperature=20.5)),
        ("studio", "turn the radiator down to 16 degrees", heat("Radiator", temperature=16)),
    ],
    "covers": [
        ("terrace", "close the lounge curtains", off("Lounge Curtains")),
        ("terrace", "Open the velux blind", on("Velux Blind")),
        ("altbau", "roll the roller shutter down", off("Roller Shutter")),
        ("altbau", "Open the awning please", on("Awning")),
        ("shop", "roll up the shopfront shutter", on("Shopfront Shutter")),
        ("cabin", "It's stuffy, open the skylight", on("Skylight")),
        ("workshop", "close the bay door", off("Bay Door")),
        ("loft", "Close the shades in the living area", off(**covers("Living Area", "shade"))),
        ("loft", "shut the blackout shade", off("Blackout Shade")),
        ("villa", "Open the shutters in the salon", on(**covers("Salon", "shutter"))),
        ("villa", "shut the garage door", off("Garage Door")),
        ("condo", "close the curtains in the living room", off(**covers("Living Room", "curtain"))),
        ("farm", "Let the chickens out, open the hatch", on("Hatch")),
        ("boat", "raise the port blind", on("Port Blind")),
        ("suburb", "Open the left garage door", on("Left Garage Door")),
    ],
    "positions": [
        ("terrace", "set the velux blind to 40 percent", position("Velux Blind", position=40)),
        ("terrace", "Lounge curtains to 75%", position("Lounge Curtains", position=75)),
        ("altbau", "put the roller shutter at 30%", position("Roller Shutter", position=30)),
        ("altbau", "awning to 60 percent please", position("Awning", position=60)),
        ("shop", "Open the office blind halfway", position("Office Blind", position=50)),
        ("cabin", "Set the panorama blinds to 20 percent", position("Panorama Blinds", position=20)),
        ("cabin", "skylight open 15 percent", position("Skylight", position=15)),
        ("loft", "East shades to 50%", position("East Shades", position=50)),
        ("loft", "set the shades in the living area to 80 percent", position(**covers("Living Area", "shade"), position=80)),
        ("villa", "Move the pergola to 45 percent", position("Pergola", position=45)),
        ("condo", "night curtain at 90 percent", position("Night Curtain", position=90)),
        ("farm", "Open the barn doors to 25%", position("Barn Doors", position=25)),
        ("boat", "bring the screen to 70 percent", position("Screen", position=70)),
        ("boat", "Blinds in the saloon to 35 percent", position(**covers("Saloon", "blind"), position=35)),
        ("suburb", "can you put the drapes at 65%", position("Drapes", position=65)),
    ],
    "locks": [
        ("terrace", "lock the front door", on("Front Door")),
        ("altbau", "Unlock the Nuki", off("Nuki")),
        ("shop", "lock up the entrance", on("Entrance")),
        ("shop", "unlock the back door for the delivery", off("Back Door")),
        ("cabin", "Lock the boathouse door", on("Boathouse Door")),
        ("workshop", "please lock the office door", on("Office Door")),
        ("workshop", "unlock the shed lock", off("Shed Lock")),
        ("loft", "Lock the Yale lock", on("Yale Lock")),
        ("villa", "can you unlock the side door", off("Side Door")),
        ("share", "Unlock the hall door, Tom's outside", off("Hall Door")),
        ("share", "I left my bike, lock the bike shed", on("Bike Shed")),
        ("condo", "lock the gate", on("Gate")),
        ("farm", "Unlock the cellar door", off("Cellar Door")),
        ("boat", "get the gangway unlocked", off("Gangway")),
        ("suburb", "Lock the mudroom door please", on("Mudroom Door")),
    ],
    "media": [
        ("terrace", "pause the telly", pause("Telly")),
        ("terrace", "Resume the kitchen radio", resume("Kitchen Radio")),
        ("altbau", "skip this song on the Sonos Beam", skip("Sonos Beam")),
        ("altbau", "Pause the music in the study", pause(area="Study")),
        ("shop", "customer here, pause the counter speaker", pause("Counter Speaker")),
        ("cabin", "Next track on the bluetooth speaker", skip("Bluetooth Speaker")),
        ("workshop", "next song on the shop radio", skip("Shop Radio")),
        ("loft", "Resume the Apple TV", resume("Apple TV")),
        ("loft", "skip to the next one on the HomePod", skip("HomePod")),
        ("villa", "pause the music on the patio", pause(area="Patio")),
        ("share", "Unpause the Xbox", resume("Xbox")),
        ("condo", "Put the Bravia on pause", pause("Bravia")),
        ("farm", "keep playing on the gramophone", resume("Gramophone")),
        ("boat", "Next song in the galley", skip(area="Galley")),
        ("suburb", "continue the white noise", resume("White Noise")),
    ],
    "volume": [
        ("terrace", "set the telly to volume 25", volume("Telly", volume_level=25)),
        ("terrace", "Kitchen radio volume 40", volume("Kitchen Radio", volume_level=40)),
        ("altbau", "volume of the Sonos Beam to 30 percent", volume("Sonos Beam", volume_level=30)),
        ("altbau", "Mute the studio monitors", volume("Studio Monitors", volume_level=0)),
        ("shop", "turn the counter speaker down to 15", volume("Counter Speaker", volume_level=15)),
        ("cabin", "Bluetooth speaker volume to 55%", volume("Bluetooth Speaker", volume_level=55)),
        ("workshop", "crank the shop radio up to 80", volume("Shop Radio", volume_level=80)),
        ("loft", "HomePod volume 20", volume("HomePod", volume_level=20)),
        ("loft", "mute the Apple TV", volume("Apple TV", volume_level=0)),
        ("villa", "Volume in the kids room to 10 percent", volume(area="Kids Room", volume_level=10)),
        ("share", "Kitchen Echo at volume 35 please", volume("Kitchen Echo", volume_level=35)),
        ("condo", "bravia volume at 18", volume("Bravia", volume_level=18)),
        ("farm", "Set the volume in the library to 45", volume(area="Library", volume_level=45)),
        ("suburb", "basement TV to 50 percent volume", volume("Basement TV", volume_level=50)),
        ("studio", "Can you set the JBL volume to 70?", volume("JBL", volume_level=70)),
    ],
    "scenes": [
        ("terrace", "activate cosy evening", on("Cosy Evening")),
        ("altbau", "Start the good night scene", on("Good Night")),
        ("altbau", "focus scene please", on("Focus")),
        ("shop", "run closing time", on("Closing Time")),
        ("shop", "Activate opening time", on("Opening Time")),
        ("cabin", "we're here, turn on the arrival scene", on("Arrival")),
        ("workshop", "turn on glue up", on("Glue Up")),
        ("loft", "Put on date night", on("Date Night")),
        ("villa", "siesta scene on", on("Siesta")),
        ("share", "Activate the house party scene", on("House Party")),
        ("condo", "switch to chill mode", on("Chill Mode")),
        ("condo", "I'm off, run leaving home", on("Leaving Home")),
        ("farm", "Turn on harvest dinner", on("Harvest Dinner")),
        ("boat", "start the night watch scene", on("Night Watch")),
        ("suburb", "Set the movie time scene", on("Movie Time")),
    ],
    "timers": [
        ("terrace", "set a timer for 10 minutes", timer(minutes=10)),
        ("terrace", "Cancel the 10 minute timer", cancel(start_minutes=10)),
        ("altbau", "pasta timer, 9 minutes", timer("pasta", minutes=9)),
        ("altbau", "cancel the pasta timer", cancel("pasta")),
        ("shop", "Timer for 45 seconds", timer(seconds=45)),
        ("workshop", "start a glue timer for 40 minutes", timer("glue", minutes=40)),
        ("workshop", "Cancel the timer", cancel()),
        ("loft", "give me a 90 second timer", timer(seconds=90)),
        ("loft", "stop my laundry timer", cancel("laundry")),
        ("villa", "Start a timer for 1 hour and 30 minutes", timer(hours=1, minutes=30)),
        ("share", "6 minute timer called eggs", timer("eggs", minutes=6)),
        ("condo", "set a 2 hour timer", timer(hours=2)),
        ("farm", "Set a 25 minute timer for the bread", timer("bread", minutes=25)),
        ("boat", "set a timer for 3 minutes and 20 seconds", timer(minutes=3, seconds=20)),
        ("suburb", "Cancel the 1 hour timer", cancel(start_hours=1)),
    ],
    "lists": [
        ("terrace", "add milk to the shopping list", add("milk", "Shopping List")),
        ("terrace", "Put teabags on the shopping list", add("teabags", "Shopping List")),
        ("altbau", "add oat milk to groceries", add("oat milk", "Groceries")),
        ("shop", "Receipt rolls need to go on the reorder list", add("receipt rolls", "Reorder List")),
        ("cabin", "put wool socks on the packing list", add("wool socks", "Packing List")),
        ("workshop", "Add 80 grit sandpaper to the hardware list", add("80 grit sandpaper", "Hardware List")),
        ("workshop", "stick wood glue on the hardware list", add("wood glue", "Hardware List")),
        ("loft", "Add call the landlord to my to do list", add("call the landlord", "To Do")),
        ("villa", "swimming goggles on the family list please", add("swimming goggles", "Family List")),
        ("share", "Add take out the bins to chores", add("take out the bins", "Chores")),
        ("share", "we're out of toilet paper, put it on the shopping list", add("toilet paper", "Shopping")),
        ("condo", "FairPrice list, add soy sauce", add("soy sauce", "FairPrice List")),
        ("farm", "can you add goat cheese to the market list?", add("goat cheese", "Market List")),
        ("boat", "Write rope on the captain's list", add("rope", "Captain's List")),
        ("suburb", "add paper towels to Costco", add("paper towels", "Costco")),
    ],
    "broadcasts": [
        ("terrace", "announce that dinner is ready", announce("dinner is ready")),
        ("terrace", "Tell everyone the taxi is here", announce("the taxi is here")),
        ("shop", "announce that the shop closes in 10 minutes", announce("the shop closes in 10 minutes")),
        ("shop", "Broadcast fresh scones at the counter", announce("fresh scones at the counter")),
        ("villa", "broadcast lunch is on the table", announce("lunch is on the table")),
        ("villa", "Announce the pool is open", announce("the pool is open")),
        ("villa", "tell everyone we're leaving in 5 minutes", announce("we're leaving in 5 minutes")),
        ("share", "Announce the pizza's here", announce("the pizza's here")),
        ("share", "tell everybody that the wifi is back", announce("the wifi is back")),
        ("farm", "Let everyone know the bread is out of the oven", announce("the bread is out of the oven")),
        ("farm", "announce that the vet has arrived", announce("the vet has arrived")),
        ("boat", "Broadcast all hands on deck", announce("all hands on deck")),
        ("boat", "tell everyone that the lock opens at 4", announce("the lock opens at 4")),
        ("suburb", "Broadcast it's time for school", announce("it's time for school")),
        ("suburb", "tell everyone grandma is on the phone", announce("grandma is on the phone")),
    ],
    "vacuum": [
        ("terrace", "start Henry", vacuum("Henry")),
        ("terrace", "Get Henry going", vacuum("Henry")),
        ("altbau", "run the Dreame", vacuum("Dreame")),
        ("altbau", "Start cleaning with the Dreame please", vacuum("Dreame")),
        ("workshop", "send Sawdust Sam out", vacuum("Sawdust Sam")),
        ("workshop", "The floor's filthy, start Sawdust Sam", vacuum("Sawdust Sam")),
        ("loft", "start the Roomba", vacuum("Roomba")),
        ("loft", "Have the Roomba clean up", vacuum("Roomba")),
        ("villa", "let Paco vacuum", vacuum("Paco")),
        ("villa", "Paco should start cleaning", vacuum("Paco")),
        ("share", "set Dobby to work", vacuum("Dobby")),
        ("condo", "Start vacuuming with the Roborock", vacuum("Roborock")),
        ("condo", "Roborock, start", vacuum("Roborock")),
        ("boat", "could Barnacle start cleaning?", vacuum("Barnacle")),
        ("suburb", "fire up Dusty", vacuum("Dusty")),
    ],
    "questions": [
        ("terrace", "what's the fridge temperature?", state("Fridge Temperature")),
        ("terrace", "Is the front door locked?", state("Front Door")),
        ("altbau", "is the balcony door open", state("Balcony Door")),
        ("altbau", "How's the study humidity?", state("Study Humidity")),
        ("shop", "what does the door counter say?", state("Door Counter")),
        ("shop", "Did I leave the neon sign on?", state("Neon Sign")),
        ("cabin", "check the lake temperature", state("Lake Temperature")),
        ("cabin", "What's the sauna temperature now?", state("Sauna Temperature")),
        ("workshop", "is the shed window open?", state("Shed Window")),
        ("loft", "Read me the bathroom humidity", state("Bathroom Humidity")),
        ("villa", "are the lights on in the salon?", state(**lights("Salon"))),
        ("condo", "What's the haze index right now?", state("Haze Index")),
        ("farm", "what's on the egg counter today", state("Egg Counter")),
        ("boat", "How high is the battery level?", state("Battery Level")),
        ("suburb", "is the right garage door closed", state("Right Garage Door")),
    ],
}

# Home, sentence, calls.
TWO: list[tuple[str, str, list[Call]]] = [
    ("terrace", "turn off the telly and lock the front door", [off("Telly"), on("Front Door")]),
    ("terrace", "Close the lounge curtains and put the corner lamp on", [off("Lounge Curtains"), on("Corner Lamp")]),
    ("terrace", "set a timer for 4 minutes and turn the kettle on", [timer(minutes=4), on("Kettle")]),
    ("terrace", "landing light off and bedside lamp to 10%", [off("Landing Light"), light("Bedside Lamp", brightness=10)]),
    ("terrace", "add bread and butter to the shopping list", [add("bread", "Shopping List"), add("butter", "Shopping List")]),
    ("altbau", "Espresso machine on and hallway strip off", [on("Espresso Machine"), off("Hallway Strip")]),
    ("altbau", "lock the Nuki, then run the Dreame", [on("Nuki"), vacuum("Dreame")]),
    ("altbau", "turn on the left lamp and the right lamp", [on("Left Lamp"), on("Right Lamp")]),
    ("altbau", "Pause the Sonos Beam and turn off the string lights", [pause("Sonos Beam"), off("String Lights")]),
    ("shop", "unlock the entrance and switch on the neon sign", [off("Entrance"), on("Neon Sign")]),
    ("shop", "Coffee grinder off, and lock the back door", [off("Coffee Grinder"), on("Back Door")]),
    ("shop", "set the window display to 60% and the counter speaker to volume 20", [
        light("Window Display", brightness=60), volume("Counter Speaker", volume_level=20)]),
    ("shop", "close the shopfront shutter and activate closing time", [off("Shopfront Shutter"), on("Closing Time")]),
    ("cabin", "Heat pump to 21 and turn on the hot tub", [heat("Heat Pump", temperature=21), on("Hot Tub")]),
    ("cabin", "turn the sauna stove and the water pump off", [off("Sauna Stove"), off("Water Pump")]),
    ("cabin", "switch on the lanterns and open the panorama blinds", [on("Lanterns"), on("Panorama Blinds")]),
    ("cabin", "put candles on the packing list and lock the boathouse door", [add("candles", "Packing List"), on("Boathouse Door")]),
    ("workshop", "Dust collector on and booth fan on", [on("Dust Collector"), on("Booth Fan")]),
    ("workshop", "close the bay door and turn off the lights in the workshop", [off("Bay Door"), off(**lights("Workshop"))]),
    ("workshop", "start a 30 minute timer and pause the shop radio", [timer(minutes=30), pause("Shop Radio")]),
    ("loft", "turn the track lights off and make the nanoleaf pink", [off("Track Lights"), light("Nanoleaf", color="pink")]),
    ("loft", "Range hood off, then start the Roomba", [off("Range Hood"), vacuum("Roomba")]),
    ("loft", "lock the Yale lock and close the west shades", [on("Yale Lock"), off("West Shades")]),
    ("loft", "Bedroom AC to 70 and shut the blackout shade", [heat("Bedroom AC", temperature=70), off("Blackout Shade")]),
    ("villa", "pool lights on and patio speaker to volume 40", [on("Pool Lights"), volume("Patio Speaker", volume_level=40)]),
    ("villa", "Shut the garage door and start the EV charger", [off("Garage Door"), on("EV Charger")]),
    ("villa", "turn off the chandelier and turn the piano lamp down to 20 percent", [
        off("Chandelier"), light("Piano Lamp", brightness=20)]),
    ("villa", "set the fujitsu to 23 and put the star projector on", [heat("Fujitsu", temperature=23), on("Star Projector")]),
    ("share", "Turn the immersion on and set a timer for 20 minutes", [on("Immersion"), timer(minutes=20)]),
    ("share", "lava lamp on and LED strip to green", [on("Lava Lamp"), light("LED Strip", color="green")]),
    ("share", "lock the bike shed and the hall door", [on("Bike Shed"), on("Hall Door")]),
    ("condo", "Close the day curtain and set the Daikin to 24", [off("Day Curtain"), heat("Daikin", temperature=24)]),
    ("condo", "turn on the DC fan and turn off the study lamp", [on("DC Fan"), off("Study Lamp")]),
    ("condo", "Lock the gate, then run leaving home", [on("Gate"), on("Leaving Home")]),
    ("farm", "shut the hatch and turn on the heat lamp", [off("Hatch"), on("Heat Lamp")]),
    ("farm", "Bread oven on, and announce the dough is rising", [on("Bread Oven"), announce("the dough is rising")]),
    ("boat", "lower the screen to 30 percent and turn off the porthole lights", [position("Screen", position=30), off("Porthole Lights")]),
    ("boat", "Turn the water boiler off and lock the gangway", [off("Water Boiler"), on("Gangway")]),
    ("suburb", "fireplace on and pot lights to 25%", [on("Fireplace"), light("Pot Lights", brightness=25)]),
    ("suburb", "add diapers to Costco and bananas to groceries", [add("diapers", "Costco"), add("bananas", "Groceries")]),
]

DONE = '{"success": true}'

# Home, sentence, call, its result, the assistant's word, the sentence that corrects it, call.
CORRECTIONS: list[tuple[str, str, Call, str, str, str, Call]] = [
    ("altbau", "turn on the left lamp", on("Left Lamp"), DONE, "Done.", "no, the right one", on("Right Lamp")),
    ("suburb", "turn off his lamp", off("His Lamp"), DONE, "His Lamp is off.", "No, hers", off("Her Lamp")),
    ("suburb", "Open the left garage door", on("Left Garage Door"), DONE, "Opening it.", "not that one, the other one", on("Right Garage Door")),
    ("loft", "close the east shades", off("East Shades"), DONE, "Done.", "I meant the west shades", off("West Shades")),
    ("condo", "open the night curtain", on("Night Curtain"), DONE, "Okay.", "Sorry, the day curtain", on("Day Curtain")),
    ("terrace", "kitchen lights on", on(**lights("Kitchen")), DONE, "The kitchen lights are on.", "I meant the lounge", on(**lights("Lounge"))),
    ("share", "turn off the lights in the sitting room", off(**lights("Sitting Room")), DONE, "Done.",
     "no, in Tom's room", off(**lights("Tom's Room"))),
    ("terrace", "Dim the bedside lamp to 40%", light("Bedside Lamp", brightness=40), DONE, "Done.", "make it 20",
     light("Bedside Lamp", brightness=20)),
    ("farm", "set the beam lights to 80 percent", light("Beam Lights", brightness=80), DONE, "Beam Lights at 80%.",
     "Too bright, 55", light("Beam Lights", brightness=55)),
    ("loft", "put the track lights at 30", light("Track Lights", brightness=30), DONE, "Okay.", "actually 65 percent",
     light("Track Lights", brightness=65)),
    ("altbau", "heat the study to 20", heat(area="Study", temperature=20), DONE, "The study is set to 20.", "better make it 22",
     heat(area="Study", temperature=22)),
    ("condo", "set the Daikin to 23", heat("Daikin", temperature=23), DONE, "Done.", "No, I said 25", heat("Daikin", temperature=25)),
    ("studio", "radiator to 19", heat("Radiator", temperature=19), DONE, "Okay.", "a bit more, 20.5", heat("Radiator", temperature=20.5)),
    ("boat", "put the Webasto on 18", heat("Webasto", temperature=18), DONE, "Done.", "no, the Alde", heat("Alde", temperature=18)),
    ("workshop", "shop radio to volume 60", volume("Shop Radio", volume_level=60), DONE, "Volume set to 60.", "that's too loud, 35",
     volume("Shop Radio", volume_level=35)),
    ("villa", "set the patio speaker to 20", volume("Patio Speaker", volume_level=20), DONE, "Done.", "I meant the salon TV",
     volume("Salon TV", volume_level=20)),
    ("loft", "Mute the HomePod", volume("HomePod", volume_level=0), DONE, "The HomePod is muted.", "no no, the Apple TV",
     volume("Apple TV", volume_level=0)),
    ("share", "make the LED strip blue", light("LED Strip", color="blue"), DONE, "Done.", "hmm, red instead", light("LED Strip", color="red")),
    ("loft", "Nanoleaf green", light("Nanoleaf", color="green"), DONE, "Okay.", "I meant the neon cloud", light("Neon Cloud", color="green")),
    ("villa", "turn the pool lights purple", light("Pool Lights", color="purple"), DONE, "Done.", "Make that orange",
     light("Pool Lights", color="orange")),
    ("cabin", "panorama blinds to 50 percent", position("Panorama Blinds", position=50), DONE, "Done.", "make it 30",
     position("Panorama Blinds", position=30)),
    ("boat", "set the port blind to 60%", position("Port Blind", position=60), DONE, "Okay.", "no, the starboard one",
     position("Starboard Blind", position=60)),
    ("shop", "unlock the entrance", off("Entrance"), DONE, "The entrance is unlocked.", "Wait, I meant the back door", off("Back Door")),
    ("condo", "lock the gate", on("Gate"), DONE, "Locked.", "no, unlock it", off("Gate")),
    ("cabin", "turn on the hot tub", on("Hot Tub"), DONE, "The hot tub is on.", "Actually, turn it off again", off("Hot Tub")),
    ("altbau", "pause the Sonos Beam", pause("Sonos Beam"), DONE, "Paused.", "not the Sonos Beam, the studio monitors",
     pause("Studio Monitors")),
    ("suburb", "activate movie time", on("Movie Time"), DONE, "Movie Time is on.", "Oops, bedtime story", on("Bedtime Story")),
    ("share", "add sponges to chores", add("sponges", "Chores"), DONE, "Added.", "No, put them on the shopping list",
     add("sponges", "Shopping")),
    ("suburb", "put yogurt on Costco", add("yogurt", "Costco"), DONE, "Done.", "I meant groceries", add("yogurt", "Groceries")),
    ("cabin", "what's the sauna temperature?", state("Sauna Temperature"), '{"success": true, "result": "74 °C"}',
     "It is 74 °C.", "and the lake temperature?", state("Lake Temperature")),
]

# Home, sentence, what may be said.
DECLINED: list[tuple[str, str, str]] = [
    # Things and rooms that the home does not have.
    ("terrace", "turn on the sprinklers", "There are no sprinklers here."),
    ("terrace", "Switch off the conservatory lights", "There is no conservatory here."),
    ("altbau", "open the garage door", "There is no garage door here."),
    ("altbau", "Turn off the aquarium", "There is no aquarium here."),
    ("shop", "set the greenhouse to 18 degrees", "There is no greenhouse here."),
    ("loft", "start the coffee maker", "There is no coffee maker here."),
    ("condo", "Lock the balcony door", "There is no balcony door here."),
    ("farm", "turn on the jacuzzi", "There is no jacuzzi here."),
    ("suburb", "Dim the attic lights to 30%", "There is no attic here."),
    ("boat", "pause the jukebox", "There is no jukebox here."),
    # What the home has no tool for.
    ("studio", "set an egg timer for 5 minutes", "I can't set timers here."),
    ("studio", "Add eggs to the shopping list", "There is no list here."),
    ("cabin", "start a 15 minute timer", "I can't set timers here."),
    ("cabin", "Announce that the sauna is ready", "I can't make announcements here."),
    ("altbau", "tell everyone dinner is ready", "I can't make announcements here."),
    ("workshop", "Broadcast lunch in 5 minutes", "I can't make announcements here."),
    ("studio", "is the radiator on?", "I can't look that up here."),
    ("shop", "start the vacuum", "There is no vacuum here."),
    # What no home has a tool for.
    ("terrace", "tell me a joke", "I can only control the home."),
    ("terrace", "Book me a taxi to the station", "I can't book taxis."),
    ("altbau", "send Jonas an email", "I can't send emails."),
    ("shop", "what's 17 times 23", "I can only control the home."),
    ("cabin", "How deep is the North Sea?", "I can only control the home."),
    ("workshop", "order more sanding discs", "I can't order things."),
    ("loft", "Call my sister", "I can't make calls."),
    ("villa", "how do you say good morning in Portuguese?", "I can only control the home."),
    ("share", "who won the match last night", "I can only control the home."),
    ("condo", "Reserve a table for 4 at 8 o'clock", "I can't make reservations."),
    ("farm", "write me a poem about tomatoes", "I can only control the home."),
    ("suburb", "Who wrote The Old Man and the Sea?", "I can only control the home."),
]


def devices(home: str) -> Iterator[tuple[str, str, str | None]]:
    """The name, domain and area of each device of a home."""
    for line in HOMES[home][1].strip().splitlines():
        area, things = line.strip().split(": ")
        for thing in things.split(", "):
            name, domain = thing.removesuffix(")").split(" (")
            yield name, domain, None if area == "Others" else area


def system(home: str, number: int) -> Message:
    """The system message of case `number`: layouts and instructions take turns."""
    lines = []
    if number % 4 == 0:
        lines = ["Devices:"]
        for name, domain, area in devices(home):
            lines += [f"- names: {name}", f"  domain: {domain}"] + ([f"  areas: {area}"] if area else [])
    elif number % 4 == 1:
        lines = [line.strip() for line in HOMES[home][1].strip().splitlines()]
    elif number % 4 == 2:
        lines = [f"{name}: {domain}" + (f", {area}" if area else "") for name, domain, area in devices(home)]
    else:
        lines = [f"{domain} - {name}" + (f" - {area}" if area else "") for name, domain, area in devices(home)]
    instruction = INSTRUCTIONS[number % len(INSTRUCTIONS)]
    return {"role": "system", "content": "\n".join(([instruction] if instruction else []) + lines)}


def declarations(home: str, number: int, calls: list[Call], messages: list[Message]) -> list[dict[str, Any]]:
    """The tools of case `number`: the home's, or in every third case with calls about half of those and all it needs."""
    words = HOMES[home][0].split()
    without = words[:2] == ["all", "but"]
    names = [name for name in TOOLS if (name.removeprefix("Hass") in words) != without]
    if calls and number % 3 == 2 and len(names) > 10:
        needed = {call["name"] for call in calls}
        needed |= {made["function"]["name"] for message in messages for made in message.get("tool_calls", [])}
        names = [name for i, name in enumerate(names) if name in needed or (i + number) % 2 == 0]
    made = [declaration(name) for name in names]
    for one in made:
        one["function"]["parameters"]["properties"].pop("floor", None)
        one["function"]["parameters"]["properties"].pop("state", None)
    return made


def conversations() -> Iterator[tuple[str, str, list[Message], list[Call], str | None]]:
    """The category, the home, the messages after the system's, and what is expected."""
    for kind, triples in SINGLE.items():
        for home, sentence, call in triples:
            yield kind, home, [{"role": "user", "content": sentence}], [call], None
    for home, sentence, calls in TWO:
        yield "two commands", home, [{"role": "user", "content": sentence}], calls, None
    for home, sentence, before, result, word, correction, call in CORRECTIONS:
        yield "corrections", home, [
            {"role": "user", "content": sentence},
            {"role": "assistant", "content": "", "tool_calls": [{"id": "c0", "type": "function", "function": before}]},
            {"role": "tool", "tool_call_id": "c0", "content": result},
            {"role": "assistant", "content": word},
            {"role": "user", "content": correction},
        ], [call], None
    for home, sentence, text in DECLINED:
        yield "out of reach", home, [{"role": "user", "content": sentence}], [], text


def main() -> None:
    for number, (kind, home, messages, calls, text) in enumerate(conversations()):
        line = {"category": "blind: " + kind, "tools": declarations(home, number, calls, messages),
                "messages": [system(home, number)] + messages, "calls": calls, "text": text}
        sys.stdout.write(json.dumps(line, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
