"""Ways of saying things: for each intent sentence patterns (train, held_out).

Braces hold what a command fills in: {n} a device's name, {a} an area, {f} a floor, {v} a value, {k} the word for
a kind of device ("lights"), {x} an item, a message or a timer's name. Held-out patterns never occur in training.
"""

Patterns = tuple[list[str], list[str]]

ON: Patterns = (
    ["turn on {n}", "switch on {n}", "switch {n} on", "{n} on", "can you turn on {n}", "put {n} on", "i want {n} on", "power on {n}",
     "activate {n}", "enable {n}", "could you switch {n} on", "i need {n} on now", "please have {n} turned on", "{n} on please",
     "would you put on {n}", "let's have {n} on", "go ahead and turn {n} on", "i'd like {n} switched on", "make sure {n} is on",
     "power {n} up"],
    ["get {n} turned on", "turn {n} on", "start {n}"],
)
OFF: Patterns = (
    ["turn off {n}", "switch off {n}", "turn {n} off", "switch {n} off", "{n} off", "i want {n} off", "power off {n}",
     "deactivate {n}", "disable {n}", "stop {n}", "could you switch {n} off", "shut off {n}", "please have {n} turned off",
     "kill {n}", "i don't need {n} anymore", "shut {n} off", "get {n} turned off", "i'd like {n} switched off",
     "make sure {n} is off", "power {n} down"],
    ["go ahead and turn {n} off", "can you turn off {n}", "{n} off please"],
)
LOCK: Patterns = (
    ["lock {n}", "please lock {n}", "lock up {n}", "i want {n} locked", "could you lock {n} for me", "make sure {n} is locked",
     "go ahead and lock {n}"],
    ["get {n} locked", "can you lock {n}"],
)
UNLOCK: Patterns = (
    ["unlock {n}", "can you unlock {n}", "i want {n} unlocked", "could you unlock {n} for me", "go ahead and unlock {n}"],
    ["get {n} unlocked", "please unlock {n}"],
)
OPEN: Patterns = (
    ["please open {n}", "can you open {n}", "raise {n}", "open up {n}", "pull up {n}", "could you open {n} for me", "roll up {n}",
     "go ahead and open {n}", "get {n} opened"],
    ["make sure {n} is open", "i want {n} open", "open {n}"],
)
CLOSE: Patterns = (
    ["close {n}", "please close {n}", "can you close {n}", "shut {n}", "i want {n} closed", "pull down {n}",
     "could you close {n} for me", "go ahead and close {n}", "make sure {n} is closed"],
    ["get {n} shut", "roll down {n}", "lower {n}"],
)
SCENE: Patterns = (
    ["activate {n}", "turn on {n}", "start {n}", "run the {n} scene", "switch to {n}", "scene {n}", "i want the {n} scene",
     "{n} please", "turn on the {n} scene", "put on {n}", "bring up the {n} scene", "go to {n}", "change to the {n} scene"],
    ["let's do the {n} scene", "activate the scene {n}", "set the scene {n}"],
)
# Everything of a kind in a room; {k} is "lights", "fans", ...
AREA_ON: Patterns = (
    ["turn on the {k} in the {a}", "turn on the {a} {k}", "{a} {k} on", "switch on the {k} in the {a}", "switch the {a} {k} on",
     "all {a} {k} on", "can you turn on the {k} in the {a}", "turn the {k} in the {a} on", "i want the {k} in the {a} on",
     "put the {k} on in the {a}", "get the {a} {k} turned on", "make sure the {k} in the {a} are on"],
    ["i'd like the {k} on in the {a}", "in the {a} turn on the {k}", "turn on all {k} in the {a}"],
)
AREA_OFF: Patterns = (
    ["turn off the {k} in the {a}", "turn off the {a} {k}", "switch off the {k} in the {a}", "switch the {a} {k} off",
     "turn off all {k} in the {a}", "all {a} {k} off", "can you turn off the {k} in the {a}", "i want the {k} in the {a} off",
     "no {k} in the {a}", "in the {a} turn off the {k}", "get the {a} {k} turned off", "i'd like the {k} off in the {a}"],
    ["make sure the {k} in the {a} are off", "{a} {k} off", "turn the {k} in the {a} off"],
)
AREA_OPEN: Patterns = (
    ["open the {k} in the {a}", "raise the {k} in the {a}", "open all {k} in the {a}", "{a} {k} up", "can you open the {a} {k}",
     "please open the {k} in the {a}", "get the {k} in the {a} open"],
    ["i'd like the {a} {k} opened", "open the {a} {k}"],
)
AREA_CLOSE: Patterns = (
    ["close the {a} {k}", "lower the {k} in the {a}", "close all {k} in the {a}", "{a} {k} down", "can you close the {a} {k}",
     "please close the {k} in the {a}", "shut the {k} in the {a}", "i'd like the {a} {k} closed"],
    ["get the {k} in the {a} shut", "close the {k} in the {a}"],
)
FLOOR_ON: Patterns = (
    ["turn on all {k} on the {f}", "switch on the {f} {k}", "{f} {k} on", "all {k} on the {f} on", "get the {k} on the {f} turned on"],
    ["i'd like the {f} {k} on", "turn on the {k} on the {f}"],
)
FLOOR_OFF: Patterns = (
    ["turn off the {k} on the {f}", "turn off all {k} on the {f}", "switch off the {f} {k}", "all {k} on the {f} off",
     "i'd like the {f} {k} off"],
    ["get the {k} on the {f} turned off", "{f} {k} off"],
)
ALL_OFF: Patterns = (
    ["turn off everything in the {a}", "switch everything off in the {a}", "everything in the {a} off",
     "turn everything in the {a} off", "turn off all devices in the {a}", "power everything down in the {a}"],
    ["get everything in the {a} turned off", "shut everything off in the {a}"],
)
BRIGHTNESS: Patterns = (
    ["set {n} to {v} percent", "dim {n} to {v} percent", "{n} to {v} percent", "set the brightness of {n} to {v} percent",
     "make {n} {v} percent bright", "change {n} to {v}%", "brightness of {n} to {v}", "turn {n} to {v} percent",
     "brighten {n} to {v} percent", "{n} {v} percent", "turn {n} down to {v} percent", "turn {n} up to {v}%",
     "i'd like {n} at {v} percent", "bring {n} to {v} percent", "adjust {n} to {v} percent"],
    ["put {n} at {v}%", "set {n} to {v}%", "dim {n} to {v}"],
)
AREA_BRIGHTNESS: Patterns = (
    ["set the {a} lights to {v} percent", "dim the lights in the {a} to {v} percent", "dim the {a} lights to {v} percent",
     "set the lights in the {a} to {v}%", "set the brightness in the {a} to {v} percent",
     "make the lights in the {a} {v} percent bright", "turn the {a} lights down to {v} percent",
     "bring the lights in the {a} to {v} percent", "adjust the {a} lights to {v}%"],
    ["i'd like the {a} lights at {v} percent", "{a} lights to {v}%", "{a} brightness {v} percent"],
)
COLOR: Patterns = (
    ["set {n} to {v}", "turn {n} {v}", "change {n} to {v}", "set the color of {n} to {v}", "{n} in {v} please", "color {n} {v}",
     "can you make {n} {v}", "switch {n} to {v}", "i'd like {n} in {v}", "paint {n} {v}"],
    ["give {n} a {v} color", "make {n} {v}", "{n} {v}"],
)
AREA_COLOR: Patterns = (
    ["make the {a} lights {v}", "set the lights in the {a} to {v}", "turn the {a} lights {v}", "change the lights in the {a} to {v}",
     "{a} lights {v}", "i'd like the {a} lights in {v}"],
    ["give the {a} a {v} color", "make the lights in the {a} {v}"],
)
TEMPERATURE: Patterns = (
    ["set {n} to {v} degrees", "turn {n} to {v} degrees", "change {n} to {v} degrees", "{n} to {v} degrees",
     "set the temperature of {n} to {v}", "turn {n} up to {v} degrees", "turn {n} down to {v}",
     "set the target of {n} to {v} degrees", "adjust {n} to {v} degrees", "bring {n} to {v} degrees"],
    ["i'd like {n} at {v} degrees", "put {n} at {v} degrees", "set {n} to {v}"],
)
AREA_TEMPERATURE: Patterns = (
    ["set the {a} to {v} degrees", "set the temperature in the {a} to {v} degrees", "heat the {a} to {v} degrees",
     "make it {v} degrees in the {a}", "warm the {a} to {v} degrees", "cool the {a} to {v} degrees", "{a} temperature {v}",
     "set the {a} temperature to {v}", "change the temperature in the {a} to {v}", "i want {v} degrees in the {a}",
     "turn the heating in the {a} up to {v}", "set {a} to {v} degrees", "i'd like the {a} at {v} degrees",
     "get the {a} to {v} degrees", "bring the temperature in the {a} to {v}"],
    ["adjust the {a} to {v} degrees", "{a} to {v} degrees", "set the heating in the {a} to {v} degrees"],
)
POSITION: Patterns = (
    ["set {n} to {v} percent", "open {n} to {v} percent", "{n} to {v} percent", "set the position of {n} to {v}%",
     "open {n} {v} percent", "put {n} at {v}%", "raise {n} to {v} percent", "move {n} to {v} percent", "i'd like {n} at {v} percent",
     "bring {n} to {v} percent"],
    ["adjust {n} to {v}%", "set {n} to {v}%", "lower {n} to {v} percent"],
)
VOLUME: Patterns = (
    ["set the volume of {n} to {v} percent", "set {n} volume to {v}", "volume of {n} to {v} percent", "turn {n} down to {v} percent",
     "turn the volume of {n} to {v}", "{n} volume {v} percent", "change the volume of {n} to {v}%", "put {n} at volume {v}",
     "make {n} {v} percent loud", "bring the volume of {n} to {v}", "adjust {n} to volume {v}"],
    ["i'd like {n} at {v} percent volume", "set the {n} volume to {v}%", "turn {n} up to {v} percent"],
)
AREA_VOLUME: Patterns = (
    ["set the volume in the {a} to {v} percent", "{a} volume {v}", "set the {a} volume to {v}",
     "turn the music in the {a} down to {v} percent", "volume in the {a} to {v}%", "bring the {a} volume to {v} percent"],
    ["i'd like the volume in the {a} at {v}", "turn the volume in the {a} to {v} percent"],
)
MUTE: Patterns = (
    ["mute {n}", "get {n} muted", "silence {n}", "make {n} silent"],
    ["please mute {n}", "can you mute {n}"],
)
PAUSE: Patterns = (
    ["pause {n}", "pause the music on {n}", "hold {n}", "can you pause {n}", "pause what {n} is playing", "stop the music on {n}",
     "pause playback on {n}", "interrupt {n}", "halt the playback on {n}"],
    ["put {n} on pause", "please pause {n}"],
)
UNPAUSE: Patterns = (
    ["continue {n}", "unpause {n}", "resume the music on {n}", "continue playing on {n}", "please resume {n}", "go on playing on {n}",
     "continue the music on {n}", "let {n} go on", "take {n} off pause"],
    ["carry on playing on {n}", "play {n} again", "resume {n}"],
)
NEXT: Patterns = (
    ["skip the song on {n}", "next track on {n}", "skip this on {n}", "play the next song on {n}", "go to the next track on {n}",
     "skip {n} to the next song", "forward to the next track on {n}", "jump to the next one on {n}", "i don't like this song, skip it on {n}"],
    ["{n} next song", "next song on {n}"],
)
# No player named: whatever plays here.
PAUSE_HERE: Patterns = (
    ["pause", "pause the music", "stop the music", "please pause", "pause playback", "interrupt the music"],
    ["put the music on pause", "hold the music"],
)
UNPAUSE_HERE: Patterns = (
    ["resume", "resume the music", "continue playing", "unpause", "go on playing", "play on", "carry on with the music"],
    ["let the music go on", "continue the music"],
)
NEXT_HERE: Patterns = (
    ["next song", "next track", "skip", "skip this song", "play the next song", "skip this one", "jump to the next song"],
    ["i don't like this song, skip it", "next please"],
)
VACUUM: Patterns = (
    ["start {n}", "run {n}", "start cleaning with {n}", "send {n} to clean", "start {n} please", "start vacuuming with {n}",
     "get {n} going", "put {n} to work", "go ahead and start {n}"],
    ["{n} start", "let {n} clean", "have {n} clean the floor"],
)
AREA_VACUUM: Patterns = (
    ["vacuum the {a}", "clean the {a}", "i'd like the {a} vacuumed", "please vacuum the {a}", "start vacuuming the {a}",
     "hoover the {a}", "vacuum in the {a}", "give the {a} a clean", "get the floor in the {a} cleaned"],
    ["clean the floor in the {a}", "send the vacuum to the {a}"],
)
TIMER: Patterns = (
    ["start a timer for {v}", "timer for {v}", "{v} timer", "set a {v} timer", "start a {v} timer", "timer {v}", "wake me in {v}",
     "remind me in {v}", "count down {v}", "give me {v}", "set the timer to {v}", "i need a timer of {v}", "begin a countdown of {v}",
     "let me know in {v}"],
    ["put {v} on the clock", "can you set a timer for {v}", "set a timer for {v}"],
)
NAMED_TIMER: Patterns = (
    ["set a {x} timer for {v}", "start a timer for {v} called {x}", "set a timer named {x} for {v}", "{x} timer for {v}",
     "{x} timer {v}", "set a timer for {v} for {x}", "start the {x} timer with {v}", "put {v} on the clock for the {x}",
     "let the {x} timer run for {v}"],
    ["i need a {x} timer of {v}", "start a {v} timer for the {x}", "timer for the {x} {v}"],
)
CANCEL_NAMED: Patterns = (
    ["cancel the {x} timer", "stop the {x} timer", "cancel the timer for the {x}", "delete the {x} timer",
     "cancel the timer called {x}", "{x} timer off", "forget the {x} timer", "get rid of the {x} timer"],
    ["drop the {x} timer", "end the {x} timer"],
)
CANCEL_TIME: Patterns = (
    ["cancel the {v} timer", "stop the {v} timer", "cancel the timer of {v}", "end the timer for {v}", "forget the {v} timer"],
    ["drop the timer of {v}", "delete the {v} timer"],
)
CANCEL: Patterns = (
    ["cancel the timer", "stop the timer", "delete the timer", "cancel my timer", "timer off", "drop the timer"],
    ["forget the timer", "end the timer"],
)
LIST_ADD: Patterns = (
    ["add {x} to {n}", "put {x} on {n}", "add {x} on {n}", "jot {x} down on {n}", "can you put {x} on {n}", "i need {x} on {n}",
     "{n}: {x}", "note {x} on {n}", "write {x} on {n}", "make sure {x} is on {n}", "{x} goes on {n}", "extend {n} with {x}"],
    ["please add {x} to {n}", "put {x} down on {n}", "add to {n} {x}"],
)
BROADCAST: Patterns = (
    ["announce {x}", "say {x} on all speakers", "spread the word that {x}", "broadcast that {x}", "tell everybody that {x}",
     "let everyone know that {x}", "make an announcement: {x}", "send a message to everyone: {x}", "inform everybody that {x}",
     "shout through the house that {x}"],
    ["announce that {x}", "tell everyone {x}", "broadcast {x}"],
)
# Questions.
IS_STATE: Patterns = (
    ["is {n} {v} right now", "check if {n} is {v}", "tell me if {n} is {v}", "could you see if {n} is {v}", "is {n} still {v}",
     "do you know if {n} is {v}", "would {n} be {v} at the moment", "i wonder whether {n} is {v}"],
    ["can you check whether {n} is {v}", "is {n} {v}"],
)
WHAT_STATE: Patterns = (
    ["what is the state of {n}", "how is {n}", "check {n}", "status of {n}", "what's the status of {n}", "what is {n} doing",
     "is {n} on or off", "what does {n} say", "give me the status of {n}", "report on {n}"],
    ["what's up with {n}", "show me {n}", "tell me the state of {n}"],
)
SENSOR: Patterns = (  # {k} is the quantity
    ["what is {n}", "what's {n}", "what does {n} show", "read {n}", "how much is {n}", "what is the value of {n}", "check {n}",
     "give me the reading of {n}", "what's the number on {n}"],
    ["look up {n}", "{n}", "tell me {n}"],
)
AREA_SENSOR: Patterns = (
    ["what's the {k} in the {a}", "how much {k} is in the {a}", "tell me the {k} in the {a}", "{a} {k}", "check the {k} in the {a}",
     "what {k} does the {a} have", "the {k} in the {a} please", "which {k} do we have in the {a}", "look up the {k} in the {a}"],
    ["give me the {k} of the {a}", "what is the {k} in the {a}"],
)
AREA_WARM: Patterns = (
    ["how warm is it in the {a}", "how hot is it in the {a}", "how toasty is the {a}", "is it cold in the {a}",
     "how chilly is it in the {a}"],
    ["is it warm in the {a}", "how cold is it in the {a}"],
)
AREA_LIGHTS_ON: Patterns = (
    ["are the lights on in the {a}", "are any lights on in the {a}", "is the light on in the {a}",
     "did i leave the lights on in the {a}", "do any lights burn in the {a}", "have i left a light on in the {a}"],
    ["are the {a} lights on", "is there a light on in the {a}"],
)

POLITE_BEFORE = ["please ", "hey, ", "ok, ", "hi, ", "now ", "can you please ", "could you ", "would you "]
POLITE_AFTER = [" please", ", please", " now", " thanks", ", thank you", " for me"]

JOINS: Patterns = ([" and ", ", and ", " and then ", ", then ", " and also ", ". then ", ", also ", ". and ", ", "], [" plus ", ", after that ", " as well as "])

OTHER_ONE: Patterns = (
    ["no, the other one", "the other one", "i meant the other one", "no the other one please", "wrong one, the other",
     "other one please", "no, i meant the other", "that's not it, take the other one", "i was talking about the other one"],
    ["nope, i wanted the other one", "not that one, the other one", "sorry, the other one"],
)
MEANT: Patterns = (  # {n}: a device or "the <area>"
    ["no, i meant {n}", "i meant {n}", "sorry, {n}", "no, {n}", "that's not it, i mean {n}", "no, {n} please", "wrong one, {n}",
     "nope, i wanted {n}", "actually, {n}"],
    ["i said {n}", "not that, {n}"],
)
INSTEAD: Patterns = (
    ["make that {v}", "no, {v}", "make it {v} instead", "i meant {v}", "{v} instead", "let's say {v}", "better {v}",
     "actually, {v}", "on second thought {v}"],
    ["no, make it {v}", "change it to {v}", "sorry, {v}"],
)
ALSO: Patterns = (
    ["also {n}", "and {n}", "{n} too", "do the same for {n}", "likewise {n}", "and also {n}", "now {n}", "and {n} as well",
     "repeat that for {n}"],
    ["same for {n}", "and {n} too"],
)
BACK: Patterns = (  # {v}: on, off
    ["turn it back {v}", "turn it {v} again", "now turn it {v}", "turn it {v}", "back {v} please", "and {v} again",
     "undo that, {v} again", "on second thought turn it {v}"],
    ["put it back {v}", "switch it {v} again"],
)

# Answers of the model.
CONFIRM = {
    "on": "Turned on {n}.", "off": "Turned off {n}.", "lock": "Locked {n}.", "unlock": "Unlocked {n}.", "open": "Opened {n}.", "close": "Closed {n}.",
    "scene": "Activated {n}.", "brightness": "Set {n} to {v}%.", "color": "Set {n} to {v}.", "temperature": "Set {n} to {v} degrees.",
    "position": "Set {n} to {v}%.", "volume": "Set the volume to {v}%.", "pause": "Paused.", "unpause": "Resumed.", "next": "Skipped.",
    "vacuum": "Started cleaning.", "timer": "Timer started.", "cancel": "Timer cancelled.", "list": "Added {x}.", "broadcast": "Announced.",
}
DONE = "Done."
FAILED = "Sorry, that did not work."
DECLINE = "Sorry, I can't help with that. I can only control this home."
NO_DEVICE = "Sorry, I can't find that here."
NO_TOOL = "Sorry, I have no tool for that."

SMALL_TALK: list[tuple[Patterns, str]] = [
    ((["hello", "hi", "hey", "hi there", "hello there", "good morning", "good evening", "good afternoon", "hey you", "hello assistant"],
      ["howdy", "greetings", "good day"]), "Hello! What can I do for you?"),
    ((["thanks", "thank you", "thank you very much", "thanks a lot", "great, thanks", "cheers", "perfect, thank you", "many thanks", "nice, thanks"],
      ["thanks so much", "thank you kindly"]), "You're welcome."),
    ((["how are you", "how are you doing", "are you ok", "how do you do", "how is it going", "are you well", "how are you today"],
      ["how have you been", "how do you feel"]), "I'm fine, thank you. What can I do for you?"),
    ((["who are you", "what are you", "what is your name", "what's your name", "are you a robot", "are you human", "do you have a name", "who am i talking to"],
      ["tell me who you are", "what should i call you"]), "I'm the assistant of this home."),
    ((["what can you do", "what can i ask you", "help", "how can you help me", "what do you do", "what are you able to do", "what can i say"],
      ["what are you good at", "tell me what you can do"]), "I can control lights, heating, blinds, locks, music, timers and lists in this home."),
    ((["good night", "bye", "goodbye", "see you", "see you later", "bye bye", "sleep well", "see you tomorrow"], ["farewell", "until tomorrow"]), "Goodbye!"),
    ((["you are great", "well done", "good job", "i like you", "that was good", "you are the best", "nice work", "very good", "excellent", "awesome"],
      ["you did well", "i am impressed"]), "Thank you!"),
    ((["never mind", "forget it", "nothing", "it's ok", "leave it", "stop", "cancel that", "no thanks", "don't bother"], ["let it be", "drop it"]), "All right."),
]
