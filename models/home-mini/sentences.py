"""Ways of saying things: for each intent sentence patterns, those of training and those held out.

Braces hold what a command fills in: {n} a device's name, {a} an area, {f} a floor, {v} a value, {k} the word for
a kind of device ("lights"), {x} an item, a message or a timer's name. Held-out patterns never occur in training.
Many intents have cores besides, which frames.py combines with the ways to ask for anything.
"""

from frames import Patterns, grown, products

ON = Patterns(
    ["turn on {n}", "switch on {n}", "switch {n} on", "{n} on", "can you turn on {n}", "put {n} on", "i want {n} on", "power on {n}",
     "activate {n}", "enable {n}", "could you switch {n} on", "i need {n} on now", "please have {n} turned on", "{n} on please",
     "would you put on {n}", "let's have {n} on", "go ahead and turn {n} on", "i'd like {n} switched on", "make sure {n} is on",
     "power {n} up"],
    ["get {n} turned on", "turn {n} on", "start {n}"],
)
OFF = Patterns(
    ["turn off {n}", "switch off {n}", "turn {n} off", "switch {n} off", "{n} off", "i want {n} off", "power off {n}",
     "deactivate {n}", "disable {n}", "stop {n}", "could you switch {n} off", "shut off {n}", "please have {n} turned off",
     "kill {n}", "i don't need {n} anymore", "shut {n} off", "get {n} turned off", "i'd like {n} switched off",
     "make sure {n} is off", "power {n} down"],
    ["go ahead and turn {n} off", "can you turn off {n}", "{n} off please"],
)
LOCK = Patterns(
    ["lock {n}", "please lock {n}", "lock up {n}", "i want {n} locked", "could you lock {n} for me", "make sure {n} is locked",
     "go ahead and lock {n}"],
    ["get {n} locked", "can you lock {n}"],
)
UNLOCK = Patterns(
    ["unlock {n}", "can you unlock {n}", "i want {n} unlocked", "could you unlock {n} for me", "go ahead and unlock {n}"],
    ["get {n} unlocked", "please unlock {n}"],
)
OPEN = Patterns(
    ["please open {n}", "can you open {n}", "raise {n}", "open up {n}", "pull up {n}", "could you open {n} for me", "roll up {n}",
     "go ahead and open {n}", "get {n} opened"],
    ["make sure {n} is open", "i want {n} open", "open {n}"],
)
CLOSE = Patterns(
    ["close {n}", "please close {n}", "can you close {n}", "shut {n}", "i want {n} closed", "pull down {n}",
     "could you close {n} for me", "go ahead and close {n}", "make sure {n} is closed"],
    ["get {n} shut", "roll down {n}", "lower {n}"],
)
SCENE = Patterns(
    ["activate {n}", "turn on {n}", "start {n}", "run the {n} scene", "switch to {n}", "scene {n}", "i want the {n} scene",
     "{n} please", "turn on the {n} scene", "put on {n}", "bring up the {n} scene", "go to {n}", "change to the {n} scene"],
    ["let's do the {n} scene", "activate the scene {n}", "set the scene {n}"],
)
# Everything of a kind in a room; {k} is "lights", "fans", ...
AREA_ON = Patterns(
    ["turn on the {k} in the {a}", "turn on the {a} {k}", "{a} {k} on", "switch on the {k} in the {a}", "switch the {a} {k} on",
     "all {a} {k} on", "can you turn on the {k} in the {a}", "turn the {k} in the {a} on", "i want the {k} in the {a} on",
     "put the {k} on in the {a}", "get the {a} {k} turned on", "make sure the {k} in the {a} are on"],
    ["i'd like the {k} on in the {a}", "in the {a} turn on the {k}", "turn on all {k} in the {a}"],
)
AREA_OFF = Patterns(
    ["turn off the {k} in the {a}", "turn off the {a} {k}", "switch off the {k} in the {a}", "switch the {a} {k} off",
     "turn off all {k} in the {a}", "all {a} {k} off", "can you turn off the {k} in the {a}", "i want the {k} in the {a} off",
     "no {k} in the {a}", "in the {a} turn off the {k}", "get the {a} {k} turned off", "i'd like the {k} off in the {a}"],
    ["make sure the {k} in the {a} are off", "{a} {k} off", "turn the {k} in the {a} off"],
)
AREA_OPEN = Patterns(
    ["open the {k} in the {a}", "raise the {k} in the {a}", "open all {k} in the {a}", "{a} {k} up", "can you open the {a} {k}",
     "please open the {k} in the {a}", "get the {k} in the {a} open"],
    ["i'd like the {a} {k} opened", "open the {a} {k}"],
)
AREA_CLOSE = Patterns(
    ["close the {a} {k}", "lower the {k} in the {a}", "close all {k} in the {a}", "{a} {k} down", "can you close the {a} {k}",
     "please close the {k} in the {a}", "shut the {k} in the {a}", "i'd like the {a} {k} closed"],
    ["get the {k} in the {a} shut", "close the {k} in the {a}"],
)
FLOOR_ON = Patterns(
    ["turn on all {k} on the {f}", "switch on the {f} {k}", "{f} {k} on", "all {k} on the {f} on", "get the {k} on the {f} turned on"],
    ["i'd like the {f} {k} on", "turn on the {k} on the {f}"],
)
FLOOR_OFF = Patterns(
    ["turn off the {k} on the {f}", "turn off all {k} on the {f}", "switch off the {f} {k}", "all {k} on the {f} off",
     "i'd like the {f} {k} off"],
    ["get the {k} on the {f} turned off", "{f} {k} off"],
)
ALL_OFF = Patterns(
    ["turn off everything in the {a}", "switch everything off in the {a}", "everything in the {a} off",
     "turn everything in the {a} off", "turn off all devices in the {a}", "power everything down in the {a}"],
    ["get everything in the {a} turned off", "shut everything off in the {a}"],
)
BRIGHTNESS = Patterns(
    ["set {n} to {v} percent", "dim {n} to {v} percent", "{n} to {v} percent", "set the brightness of {n} to {v} percent",
     "make {n} {v} percent bright", "change {n} to {v}%", "brightness of {n} to {v}", "turn {n} to {v} percent",
     "brighten {n} to {v} percent", "{n} {v} percent", "turn {n} down to {v} percent", "turn {n} up to {v}%",
     "i'd like {n} at {v} percent", "bring {n} to {v} percent", "adjust {n} to {v} percent"],
    ["put {n} at {v}%", "set {n} to {v}%", "dim {n} to {v}"],
)
AREA_BRIGHTNESS = Patterns(
    ["set the {a} lights to {v} percent", "dim the lights in the {a} to {v} percent", "dim the {a} lights to {v} percent",
     "set the lights in the {a} to {v}%", "set the brightness in the {a} to {v} percent",
     "make the lights in the {a} {v} percent bright", "turn the {a} lights down to {v} percent",
     "bring the lights in the {a} to {v} percent", "adjust the {a} lights to {v}%"],
    ["i'd like the {a} lights at {v} percent", "{a} lights to {v}%", "{a} brightness {v} percent"],
)
COLOR = Patterns(
    ["set {n} to {v}", "turn {n} {v}", "change {n} to {v}", "set the color of {n} to {v}", "{n} in {v} please", "color {n} {v}",
     "can you make {n} {v}", "switch {n} to {v}", "i'd like {n} in {v}", "paint {n} {v}"],
    ["give {n} a {v} color", "make {n} {v}", "{n} {v}"],
)
AREA_COLOR = Patterns(
    ["make the {a} lights {v}", "set the lights in the {a} to {v}", "turn the {a} lights {v}", "change the lights in the {a} to {v}",
     "{a} lights {v}", "i'd like the {a} lights in {v}"],
    ["give the {a} a {v} color", "make the lights in the {a} {v}"],
)
TEMPERATURE = Patterns(
    ["set {n} to {v} degrees", "turn {n} to {v} degrees", "change {n} to {v} degrees", "{n} to {v} degrees",
     "set the temperature of {n} to {v}", "turn {n} up to {v} degrees", "turn {n} down to {v}",
     "set the target of {n} to {v} degrees", "adjust {n} to {v} degrees", "bring {n} to {v} degrees"],
    ["i'd like {n} at {v} degrees", "put {n} at {v} degrees", "set {n} to {v}"],
)
AREA_TEMPERATURE = Patterns(
    ["set the {a} to {v} degrees", "set the temperature in the {a} to {v} degrees", "heat the {a} to {v} degrees",
     "make it {v} degrees in the {a}", "warm the {a} to {v} degrees", "cool the {a} to {v} degrees", "{a} temperature {v}",
     "set the {a} temperature to {v}", "change the temperature in the {a} to {v}", "i want {v} degrees in the {a}",
     "turn the heating in the {a} up to {v}", "set {a} to {v} degrees", "i'd like the {a} at {v} degrees",
     "get the {a} to {v} degrees", "bring the temperature in the {a} to {v}"],
    ["adjust the {a} to {v} degrees", "{a} to {v} degrees", "set the heating in the {a} to {v} degrees"],
)
POSITION = Patterns(
    ["set {n} to {v} percent", "open {n} to {v} percent", "{n} to {v} percent", "set the position of {n} to {v}%",
     "open {n} {v} percent", "put {n} at {v}%", "raise {n} to {v} percent", "move {n} to {v} percent", "i'd like {n} at {v} percent",
     "bring {n} to {v} percent"],
    ["adjust {n} to {v}%", "set {n} to {v}%", "lower {n} to {v} percent"],
)
VOLUME = Patterns(
    ["set the volume of {n} to {v} percent", "set {n} volume to {v}", "volume of {n} to {v} percent", "turn {n} down to {v} percent",
     "turn the volume of {n} to {v}", "{n} volume {v} percent", "change the volume of {n} to {v}%", "put {n} at volume {v}",
     "make {n} {v} percent loud", "bring the volume of {n} to {v}", "adjust {n} to volume {v}"],
    ["i'd like {n} at {v} percent volume", "set the {n} volume to {v}%", "turn {n} up to {v} percent"],
)
AREA_VOLUME = Patterns(
    ["set the volume in the {a} to {v} percent", "{a} volume {v}", "set the {a} volume to {v}",
     "turn the music in the {a} down to {v} percent", "volume in the {a} to {v}%", "bring the {a} volume to {v} percent"],
    ["i'd like the volume in the {a} at {v}", "turn the volume in the {a} to {v} percent"],
)
MUTE = Patterns(
    ["mute {n}", "get {n} muted", "silence {n}", "make {n} silent"],
    ["please mute {n}", "can you mute {n}"],
)
PAUSE = Patterns(
    ["pause {n}", "pause the music on {n}", "hold {n}", "can you pause {n}", "pause what {n} is playing", "stop the music on {n}",
     "pause playback on {n}", "interrupt {n}", "halt the playback on {n}"],
    ["put {n} on pause", "please pause {n}"],
)
UNPAUSE = Patterns(
    ["continue {n}", "unpause {n}", "resume the music on {n}", "continue playing on {n}", "please resume {n}", "go on playing on {n}",
     "continue the music on {n}", "let {n} go on", "take {n} off pause"],
    ["carry on playing on {n}", "play {n} again", "resume {n}"],
)
NEXT = Patterns(
    ["skip the song on {n}", "next track on {n}", "skip this on {n}", "play the next song on {n}", "go to the next track on {n}",
     "skip {n} to the next song", "forward to the next track on {n}", "jump to the next one on {n}", "i don't like this song, skip it on {n}"],
    ["{n} next song", "next song on {n}"],
)
# No player named: whatever plays here.
PAUSE_HERE = Patterns(
    ["pause", "pause the music", "stop the music", "please pause", "pause playback", "interrupt the music",
     "pause this", "pause it", "stop playing", "stop this music", "make a pause", "take a break with the music", "pause that song", "be quiet with the music", "hold that song", "put the song on pause", "music on pause", "stop playback", "freeze the music", "pause the song", "hold on with the music", "halt the music"],
    ["put the music on pause", "hold the music"],
)
UNPAUSE_HERE = Patterns(
    ["resume", "resume the music", "continue playing", "unpause", "go on playing", "play on", "carry on with the music",
     "continue", "go on", "go on with the music", "continue the song", "let the music play again", "let the song go on", "resume playback", "resume this", "play the music again", "music on again", "carry on", "carry on playing", "start the music again", "keep playing", "let it go on", "unpause the music", "continue that music"],
    ["let the music go on", "continue the music"],
)
NEXT_HERE = Patterns(
    ["next song", "next track", "skip", "skip this song", "play the next song", "skip this one", "jump to the next song",
     "next", "next one", "skip that", "skip it", "another song", "another song please", "play another song", "i don't like that song", "i don't like this one, next", "next song please", "next track please", "skip to the next song", "go to the next song", "go on to the next track", "forward", "please skip", "the next one please", "i don't want to hear this, skip it", "not this song, next"],
    ["i don't like this song, skip it", "next please"],
)
VACUUM = Patterns(
    ["start {n}", "run {n}", "start cleaning with {n}", "send {n} to clean", "start {n} please", "start vacuuming with {n}",
     "get {n} going", "put {n} to work", "go ahead and start {n}"],
    ["{n} start", "let {n} clean", "have {n} clean the floor"],
)
AREA_VACUUM = Patterns(
    ["vacuum the {a}", "clean the {a}", "i'd like the {a} vacuumed", "please vacuum the {a}", "start vacuuming the {a}",
     "hoover the {a}", "vacuum in the {a}", "give the {a} a clean", "get the floor in the {a} cleaned"],
    ["clean the floor in the {a}", "send the vacuum to the {a}"],
)
TIMER = Patterns(
    ["{v} on the clock", "{v} on the timer", "start a timer for {v}", "timer for {v}", "{v} timer", "set a {v} timer", "start a {v} timer", "timer {v}", "wake me in {v}",
     "remind me in {v}", "count down {v}", "give me {v}", "set the timer to {v}", "i need a timer of {v}", "begin a countdown of {v}",
     "let me know in {v}"],
    ["put {v} on the clock", "can you set a timer for {v}", "set a timer for {v}"],
)
NAMED_TIMER = Patterns(
    ["{x} timer, {v}", "timer called {x} {v}", "timer named {x}, {v}", "countdown for the {x} {v}", "{x} {v} timer", "{v} {x} timer", "timer {x} {v}",
     "{v} for the {x}", "timer for {x} of {v}", "set a {x} timer for {v}", "start a timer for {v} called {x}", "set a timer named {x} for {v}", "{x} timer for {v}",
     "{x} timer {v}", "set a timer for {v} for {x}", "start the {x} timer with {v}", "put {v} on the clock for the {x}",
     "let the {x} timer run for {v}"],
    ["i need a {x} timer of {v}", "start a {v} timer for the {x}", "timer for the {x} {v}"],
)
CANCEL_NAMED = Patterns(
    ["cancel the {x} timer", "stop the {x} timer", "cancel the timer for the {x}", "delete the {x} timer",
     "cancel the timer called {x}", "{x} timer off", "forget the {x} timer", "get rid of the {x} timer"],
    ["drop the {x} timer", "end the {x} timer"],
)
CANCEL_TIME = Patterns(
    ["cancel the {v} timer", "stop the {v} timer", "cancel the timer of {v}", "end the timer for {v}", "forget the {v} timer"],
    ["drop the timer of {v}", "delete the {v} timer"],
)
CANCEL = Patterns(
    ["cancel the timer", "stop the timer", "delete the timer", "cancel my timer", "timer off", "drop the timer",
     "cancel that timer", "end my timer", "forget that timer", "drop my timer", "turn off the timer", "stop my timer", "remove the timer", "i don't need the timer anymore", "no timer", "kill the timer", "clear the timer", "get rid of the timer", "please cancel the timer", "forget about the timer", "end that timer", "reset the timer", "call off the timer"],
    ["forget the timer", "end the timer"],
)
LIST_ADD = Patterns(
    ["add {x} to {n}", "put {x} on {n}", "add {x} on {n}", "jot {x} down on {n}", "can you put {x} on {n}", "i need {x} on {n}",
     "{n}: {x}", "note {x} on {n}", "write {x} on {n}", "make sure {x} is on {n}", "{x} goes on {n}", "extend {n} with {x}"],
    ["please add {x} to {n}", "put {x} down on {n}", "add to {n} {x}"],
)
BROADCAST = Patterns(
    ["announce {x}", "say {x} on all speakers", "spread the word that {x}", "broadcast that {x}", "tell everybody that {x}",
     "let everyone know that {x}", "make an announcement: {x}", "send a message to everyone: {x}", "inform everybody that {x}",
     "shout through the house that {x}"],
    ["announce that {x}", "tell everyone {x}", "broadcast {x}"],
)
# Questions.
IS_STATE = Patterns(
    ["is {n} {v} right now", "check if {n} is {v}", "tell me if {n} is {v}", "could you see if {n} is {v}", "is {n} still {v}",
     "do you know if {n} is {v}", "would {n} be {v} at the moment", "i wonder whether {n} is {v}",
     "is {n} {v} or not", "is {n} already {v}", "is {n} {v} yet", "is {n} really {v}", "are you sure {n} is {v}", "isn't {n} {v}", "was {n} left {v}", "did someone leave {n} {v}", "tell me whether {n} is {v}", "could you check whether {n} is {v}", "look if {n} is {v}", "has {n} been {v}", "see if {n} is {v}", "i want to know if {n} is {v}", "can you see whether {n} is {v}", "find out if {n} is {v}", "please check if {n} is {v}", "is it true that {n} is {v}", "does it happen that {n} is {v}", "did i leave {n} {v}", "is {n} currently {v}", "find out whether {n} is {v}", "verify that {n} is {v}", "{n} is {v}, isn't it", "{n} {v} or not"],
    ["can you check whether {n} is {v}", "is {n} {v}"],
)
WHAT_STATE = Patterns(
    ["what is the state of {n}", "how is {n}", "check {n}", "status of {n}", "what's the status of {n}", "what is {n} doing",
     "is {n} on or off", "what does {n} say", "give me the status of {n}", "report on {n}",
     "show {n}", "show the state of {n}", "tell me the status of {n}", "tell me about {n}", "what about {n}", "what's the state of {n}", "how does {n} look", "what's happening with {n}", "what's with {n}", "state of {n}", "how is {n} doing", "do you know the state of {n}", "look at {n}", "can you look at {n}", "can you check {n}", "i want to know the state of {n}", "show me the state of {n}", "please check {n}", "find out the state of {n}", "in which state is {n}", "what's going on with {n}", "let me know the state of {n}", "look up {n} for me", "what is up with {n}"],
    ["what's up with {n}", "show me {n}", "tell me the state of {n}"],
)
SENSOR = Patterns(  # {k} is the quantity
    ["what is {n}", "what's {n}", "what does {n} show", "read {n}", "how much is {n}", "what is the value of {n}", "check {n}",
     "give me the reading of {n}", "what's the number on {n}",
     "show me {n}", "please tell me {n}", "look at {n}", "what does {n} say", "what is {n} at", "let me know {n}", "tell me what {n} is", "tell me the value of {n}", "can you tell me {n}", "find out {n}", "look up the value of {n}", "get me {n}", "{n} please", "what's {n} at", "report {n}", "i want to know {n}", "do you know {n}", "give me {n}", "how high is {n}", "what's up with {n}", "say what {n} is", "could you look up {n}"],
    ["look up {n}", "{n}", "tell me {n}"],
)
AREA_SENSOR = Patterns(
    ["what's the {k} in the {a}", "how much {k} is in the {a}", "tell me the {k} in the {a}", "{a} {k}", "check the {k} in the {a}",
     "what {k} does the {a} have", "the {k} in the {a} please", "which {k} do we have in the {a}", "look up the {k} in the {a}",
     "what {k} is it in the {a}", "can you tell me the {k} in the {a}", "tell me the {k} of the {a}", "what's the {k} of the {a}", "what is the {k} of the {a}", "give me the {k} in the {a}", "what is the {a} {k}", "what's the {a} {k}", "tell me the {a} {k}", "show me the {k} in the {a}", "i want to know the {k} in the {a}", "{k} in the {a}", "{k} of the {a}", "how high is the {k} in the {a}", "let me know the {k} in the {a}", "find out the {k} in the {a}", "report the {k} of the {a}", "get me the {k} of the {a}", "check the {a} {k}", "read the {k} in the {a}"],
    ["give me the {k} of the {a}", "what is the {k} in the {a}"],
)
AREA_WARM = Patterns(
    ["how warm is it in the {a}", "how hot is it in the {a}", "how toasty is the {a}", "is it cold in the {a}",
     "how chilly is it in the {a}",
     "is it hot in the {a}", "is it cool in the {a}", "how cool is it in the {a}", "is it chilly in the {a}", "is the {a} warm", "is the {a} cold", "how warm is the {a}", "how cold is the {a}", "how hot is the {a}", "is it warm enough in the {a}", "is it too cold in the {a}", "how many degrees does the {a} have", "how many degrees are in the {a}", "do you know how warm it is in the {a}", "tell me how cold it is in the {a}"],
    ["is it warm in the {a}", "how cold is it in the {a}"],
)
AREA_LIGHTS_ON = Patterns(
    ["are the lights on in the {a}", "are any lights on in the {a}", "is the light on in the {a}",
     "did i leave the lights on in the {a}", "do any lights burn in the {a}", "have i left a light on in the {a}",
     "are the lights in the {a} on", "are any {a} lights on", "is any light on in the {a}", "are all lights on in the {a}", "are the {a} lights still on", "is the {a} light on", "is there still light on in the {a}", "is there any light burning in the {a}", "check if the lights are on in the {a}", "are there lights on in the {a}", "did somebody leave a light on in the {a}", "do we have the lights on in the {a}", "can you check the lights in the {a}", "tell me if the lights are on in the {a}", "is some light on in the {a}", "are the lights off in the {a}", "is a light on in the {a}"],
    ["are the {a} lights on", "is there a light on in the {a}"],
)

# What a thing of the home is, and where: answered from the list, without a tool. In training only.
KIND_OF = ["what kind of thing is {n}", "what kind of device is {n}", "what sort of device is {n}", "which kind of device is {n}", "what type of thing is {n}",
           "tell me what kind of device {n} is", "{n} is what kind of device", "what is {n} for a device", "do you know what kind of thing {n} is",
           "i forgot what kind of thing {n} is", "which domain does {n} have", "what domain is {n}"]
# Of rooms and floors too.
THING = [pattern for pattern in KIND_OF if "thing" in pattern]
PLACE_OF = ["where is {n}", "in which room is {n}", "what room is {n} in", "where do i find {n}", "which room has {n}", "tell me where {n} is", "in what room is {n}",
            "do you know where {n} is", "i can't find {n}", "{n} is where"]

# Words that may stand before any sentence, in training; a made-up or common word may as well.
OPENERS = ["well, ", "uh ", "um, ", "alright, ", "listen, ", "computer, ", "assistant, ", "excuse me, ", "so ", "right, ", "hello, ", "hey you, ", "home, ", "oh, ", "and ",
           "ah, ", "hm, ", "okay ", "ok so ", "good morning, ", "now then, ", "sorry, ", "yes, ", "dear, ", "quick, ", "first ", "then ", "also, ", "you know, ", "look, "]
# Words that may stand after a sentence that does not end in free words.
CLOSERS = [" right now", " immediately", " if you can", " will you", ", ok", " at once", " when you can", ", would you", " straight away", " already", " today", " tonight",
           ", that's it", " i think", " if possible", ", dear", " quickly", ", alright"]

POLITE_BEFORE = ["please ", "hey, ", "ok, ", "hi, ", "now ", "can you please ", "could you ", "would you "]
POLITE_AFTER = [" please", ", please", " now", " thanks", ", thank you", " for me"]

JOINS = Patterns([" and ", ", and ", " and then ", ", then ", " and also ", ". then ", ", also ", ". and ", ", ",
    " & ", "; ", ", afterwards ", ", next ", " and next ", ", finally ", " and afterwards ", " and when that is done ", ", oh and ", " and please ", ", besides ",
    " and at the same time ", ", additionally ", " and additionally ", ", and besides ", ", moreover ", " and later ", ", and please also ", ". also ", ". next ", ". please ",
    " and once that is done ", ", after this ", " and after this ", ", as well ", " but also ", ", and as well ", " together with ", " and in addition "],
    [" plus ", ", after that ", " as well as "])

OTHER_ONE = Patterns(
    ["no, the other one", "the other one", "i meant the other one", "no the other one please", "wrong one, the other",
     "other one please", "no, i meant the other", "that's not it, take the other one", "i was talking about the other one",
     "no, not this, the other one", "wrong, the other one", "the other one i mean", "no no, the other one", "sorry, i meant the other one", "not this one, i mean the other one", "nope, the other one", "i wanted the other one", "oh, the other one", "the other, not this one", "i said the other one", "it's the other one", "that was the wrong one, the other one please", "take the other one", "use the other one", "hm, the other one", "no, try the other one"],
    ["nope, i wanted the other one", "not that one, the other one", "sorry, the other one"],
)
MEANT = Patterns(  # {n}: a device or "the <area>"
    ["no, i meant {n}", "i meant {n}", "sorry, {n}", "no, {n}", "that's not it, i mean {n}", "no, {n} please", "wrong one, {n}",
     "nope, i wanted {n}", "actually, {n}",
     "i was speaking of {n}", "i asked for {n}", "i told you {n}", "my mistake, {n}", "rather {n}", "not this one, {n}", "i was thinking of {n}", "i wanted {n}", "i talked about {n}", "{n} is what i said", "oh no, {n}", "wrong, {n}", "no no, {n}", "i mean {n}", "sorry, i meant {n}", "i had {n} in mind", "not this, {n}", "nope, {n}", "oh, i mean {n}", "hm, {n} i meant", "that's wrong, {n}", "i did say {n}", "it should be {n}", "take {n} instead", "use {n} instead", "{n} instead", "not that one, i meant {n}", "that was wrong, i said {n} and not that"],
    ["i said {n}", "not that, {n}"],
)
INSTEAD = Patterns(
    ["make that {v}", "no, {v}", "make it {v} instead", "i meant {v}", "{v} instead", "let's say {v}", "better {v}",
     "actually, {v}", "on second thought {v}",
     "no, i meant {v}", "sorry, i meant {v}", "sorry, make that {v}", "change that to {v}", "change it to {v} instead", "no, {v} please", "rather {v}", "no no, {v}", "take {v} instead", "it should be {v}", "oh, {v}", "wrong, {v}", "i said {v}", "i wanted {v}", "not that, {v}", "hm, {v}", "make it {v}", "let's make it {v}", "that's not it, {v}", "nope, {v}", "set it to {v} instead", "{v}, not that", "i mean {v}"],
    ["no, make it {v}", "change it to {v}", "sorry, {v}"],
)
ALSO = Patterns(
    ["also {n}", "and {n}", "{n} too", "do the same for {n}", "likewise {n}", "and also {n}", "now {n}", "and {n} as well",
     "repeat that for {n}",
     "plus {n}", "{n} as well", "the same with {n}", "the same for {n}", "same thing for {n}", "and the same for {n}", "do that for {n} too", "also for {n}", "do it for {n} as well", "and do {n} too", "now the same for {n}", "again for {n}", "next {n}", "and then {n}", "please {n} too", "include {n}", "{n} next", "as well for {n}", "same with {n}", "and now {n} too", "and {n} also"],
    ["same for {n}", "and {n} too"],
)
BACK = Patterns(  # {v}: on, off
    ["turn it back {v}", "turn it {v} again", "now turn it {v}", "turn it {v}", "back {v} please", "and {v} again",
     "undo that, {v} again", "on second thought turn it {v}",
     "turn it back {v} please", "put it {v} again", "set it back {v}", "switch it back {v}", "{v} again", "and back {v}", "now {v} again", "make it {v} again", "no, {v} again", "please turn it {v} again", "get it back {v}", "i want it {v} again", "and turn it back {v}", "no, turn it {v}", "back {v}", "put that {v} again", "switch that back {v}", "turn that {v} again", "it should be {v} again"],
    ["put it back {v}", "switch it {v} again"],
)

# The cores; see frames.py.
ON = grown(ON, "turn on {n}|switch on {n}|switch {n} on|put {n} on|put on {n}|power on {n}|activate {n}|enable {n}|power {n} up|fire up {n}|flip {n} on",
           "on|switched on|turned on|running|powered on|activated|enabled")
OFF = grown(OFF, "turn off {n}|switch off {n}|turn {n} off|switch {n} off|power off {n}|deactivate {n}|disable {n}|stop {n}|shut off {n}|shut {n} off|kill {n}|"
            "power {n} down|put {n} off|put off {n}|flip {n} off|cut {n}|end {n}", "off|switched off|turned off|powered off|shut off|deactivated|disabled|stopped")
LOCK = grown(LOCK, "lock {n}|lock up {n}|lock {n} up|secure {n}|bolt {n}", "locked|locked up|secured")
UNLOCK = grown(UNLOCK, "unlock {n}|take the lock off {n}|undo the lock of {n}", "unlocked|not locked")
OPEN = grown(OPEN, "open {n}|raise {n}|open up {n}|pull up {n}|roll up {n}|pull {n} up|roll {n} up|lift {n}|slide {n} open|move {n} up",
             "opened|raised|wide open|rolled up|up")
CLOSE = grown(CLOSE, "close {n}|shut {n}|pull down {n}|pull {n} down|roll {n} down|drop {n}|bring down {n}|bring {n} down|move {n} down|let down {n}|let {n} down",
              "closed|pulled down|rolled down|lowered|down")
SCENE = grown(SCENE, "activate {n}|turn on {n}|start {n}|run {n}|run the {n} scene|switch to {n}|turn on the {n} scene|put on {n}|bring up the {n} scene|go to {n}|"
              "change to the {n} scene|activate the {n} scene|start the {n} scene|load the {n} scene|apply {n}|set {n}|do the {n} scene|switch on the scene {n}|"
              "choose the scene {n}|make it {n}", "on|activated|active", "the {n} scene|scene {n}|{n}")
AREA_ON = grown(AREA_ON, "turn on the {k} in the {a}|turn on the {a} {k}|switch on the {k} in the {a}|switch the {a} {k} on|turn the {a} {k} on|"
                "turn the {k} in the {a} on|put the {k} on in the {a}|in the {a} switch on the {k}|switch on all {k} in the {a}|put on the {a} {k}|power on the {a} {k}|"
                "activate the {k} in the {a}|turn all {k} in the {a} on", "on|switched on|turned on", "the {k} in the {a}|the {a} {k}|all {k} in the {a}|all the {a} {k}", "are")
AREA_OFF = grown(AREA_OFF, "turn off the {k} in the {a}|turn off the {a} {k}|switch off the {k} in the {a}|switch the {a} {k} off|turn the {a} {k} off|"
                 "turn off all {k} in the {a}|put the {k} off in the {a}|in the {a} switch off the {k}|shut off the {a} {k}|switch the {k} in the {a} off|"
                 "power off the {a} {k}|kill the {k} in the {a}|turn all {k} in the {a} off", "off|switched off|turned off", "the {k} in the {a}|the {a} {k}|all {k} in the {a}|all the {a} {k}", "are")
AREA_OPEN = grown(AREA_OPEN, "open the {k} in the {a}|raise the {k} in the {a}|raise the {a} {k}|open all {k} in the {a}|pull up the {k} in the {a}|roll up the {a} {k}|"
                  "open up the {k} in the {a}|in the {a} open the {k}|lift the {a} {k}", "opened|open|raised|up", "the {k} in the {a}|all {k} in the {a}|the {a} {k}", "are")
AREA_CLOSE = grown(AREA_CLOSE, "close the {a} {k}|lower the {k} in the {a}|lower the {a} {k}|close all {k} in the {a}|shut the {k} in the {a}|shut the {a} {k}|"
                   "pull down the {k} in the {a}|roll down the {a} {k}|in the {a} close the {k}|let down the {a} {k}", "closed|lowered|down", "the {k} in the {a}|all {k} in the {a}|the {a} {k}", "are")
FLOOR_ON = grown(FLOOR_ON, "turn on all {k} on the {f}|switch on the {f} {k}|turn on the {f} {k}|switch on the {k} on the {f}|switch the {f} {k} on|turn all {k} on the {f} on|"
                 "put on the {k} on the {f}|on the {f} turn on the {k}", "on|switched on|turned on", "the {k} on the {f}|all {k} on the {f}|the {f} {k}", "are")
FLOOR_OFF = grown(FLOOR_OFF, "turn off the {k} on the {f}|turn off all {k} on the {f}|switch off the {f} {k}|turn off the {f} {k}|switch off the {k} on the {f}|"
                  "switch the {f} {k} off|turn all {k} on the {f} off|on the {f} turn off the {k}", "off|switched off|turned off", "all {k} on the {f}|the {f} {k}|all the {k} on the {f}", "are")
ALL_OFF = grown(ALL_OFF, "turn off everything in the {a}|switch everything off in the {a}|switch off everything in the {a}|turn everything in the {a} off|"
                "turn off all devices in the {a}|power everything down in the {a}|shut everything in the {a} down|turn everything off in the {a}|in the {a} turn everything off",
                "off|switched off|shut off|powered down", "everything in the {a}|all devices in the {a}")
# Light, blinds, music and heating are set with the same verbs: which it is must be read in the home's list. So what is
# held out of one of them stays out of the others too, or training would say that these words mean another kind.
_SIBLINGS = {held_out for patterns in (BRIGHTNESS, POSITION, VOLUME, TEMPERATURE) for held_out in patterns.held_out}
_VERBS = """set {n}|change {n}|bring {n}|move {n}|get {n}|take {n}|push {n}|switch {n}|slide {n}|adjust {n}|run {n}|turn {n}|turn {n} down|turn {n} up|put {n}|
raise {n}|lower {n}|bring {n} down|bring {n} up|shift {n}|fix {n}|send {n}|move {n} up|move {n} down"""
_SHARES = products(_VERBS, " to {v}%| to {v} percent| to {v}") + "|" + products("put {n}|set {n}|keep {n}|leave {n}|hold {n}|have {n}", " at {v}%| at {v} percent| at {v}| on {v}%")
_SHARE_GOALS = "at {v} percent|at {v}%|set to {v}%|set to {v} percent|at {v}|on {v} percent"
_DEGREES = products(_VERBS, " to {v} degrees| to {v}") + "|" + products("set {n}|keep {n}|leave {n}|hold {n}|have {n}", " at {v} degrees| at {v}| on {v} degrees")
BRIGHTNESS = grown(BRIGHTNESS, _SHARES + "|" + "set {n} to {v} percent|dim {n} to {v} percent|set the brightness of {n} to {v} percent|make {n} {v} percent bright|change {n} to {v}%|turn {n} to {v} percent|"
                   "brighten {n} to {v} percent|turn {n} down to {v} percent|turn {n} up to {v}%|bring {n} to {v} percent|adjust {n} to {v} percent|dim {n} down to {v}%|"
                   "put {n} to {v} percent|put {n} on {v}%|set {n} at {v} percent|dim {n} to {v}%|set the brightness of {n} to {v}|dim {n} at {v}", _SHARE_GOALS + "|{v} percent bright|dimmed to {v}%|dimmed to {v}", never=_SIBLINGS)
AREA_BRIGHTNESS = grown(AREA_BRIGHTNESS, "set the {a} lights to {v} percent|dim the lights in the {a} to {v} percent|dim the {a} lights to {v} percent|set the lights in the {a} to {v}%|"
                        "set the brightness in the {a} to {v} percent|make the lights in the {a} {v} percent bright|turn the {a} lights down to {v} percent|"
                        "bring the lights in the {a} to {v} percent|adjust the {a} lights to {v}%|set the {a} brightness to {v} percent|put the {a} lights at {v}%|change the {a} lights to {v} percent",
                        "at {v}%|dimmed to {v} percent|{v} percent bright|set to {v}%", "the lights in the {a}|the {a} lights|all lights in the {a}", "are")
COLOR = grown(COLOR, "set {n} to {v}|turn {n} {v}|change {n} to {v}|set the color of {n} to {v}|color {n} {v}|switch {n} to {v}|paint {n} {v}|turn {n} to {v}|put {n} on {v}|"
              "make the color of {n} {v}|change the color of {n} to {v}|give {n} the color {v}|let {n} shine {v}|give {n} {v} light|give {n} a {v} light|give {n} a {v} tint|give {n} a shade of {v}|light {n} in {v}|light {n} up in {v}|bathe {n} in {v}|let {n} be {v}|have {n} shine in {v}|let {n} glow in {v}|make {n} shine in {v}", "{v}|in {v}|colored {v}|set to {v}")
AREA_COLOR = grown(AREA_COLOR, "make the {a} lights {v}|set the lights in the {a} to {v}|turn the {a} lights {v}|change the lights in the {a} to {v}|set the {a} lights to {v}|"
                   "color the {a} lights {v}|make the light in the {a} {v}|give the {a} the color {v}|give the {a} {v} light|give the {a} a {v} light|give the {a} a {v} tint|light the {a} in {v}|bathe the {a} in {v}|light the {a} up in {v}|give the {a} a shade of {v}|paint the {a} {v}|give the {a} lights a {v} color|turn the lights in the {a} {v}", "{v}|in {v}", "the {a} lights|the lights in the {a}", "are")
TEMPERATURE = grown(TEMPERATURE, _DEGREES + "|" + "set {n} to {v} degrees|turn {n} to {v} degrees|change {n} to {v} degrees|set the temperature of {n} to {v}|turn {n} up to {v} degrees|turn {n} down to {v}|"
                    "set the target of {n} to {v} degrees|adjust {n} to {v} degrees|bring {n} to {v} degrees|put {n} to {v} degrees|put {n} on {v} degrees|set {n} at {v}|raise {n} to {v} degrees|lower {n} to {v}", "at {v}|set to {v} degrees|on {v} degrees|running at {v} degrees", never=_SIBLINGS)
AREA_TEMPERATURE = grown(AREA_TEMPERATURE, "set the {a} to {v} degrees|set the temperature in the {a} to {v} degrees|heat the {a} to {v} degrees|make it {v} degrees in the {a}|"
                         "warm the {a} to {v} degrees|cool the {a} to {v} degrees|set the {a} temperature to {v}|change the temperature in the {a} to {v}|turn the heating in the {a} up to {v}|"
                         "get the {a} to {v} degrees|bring the temperature in the {a} to {v}|turn the {a} heating to {v} degrees|heat up the {a} to {v}|put the {a} at {v} degrees|adjust the temperature of the {a} to {v}|"
                         "turn the heating in the {a} to {v} degrees|set the {a} heating to {v}|let it be {v} degrees in the {a}", "{v} degrees warm|heated to {v} degrees|at {v}|warmed to {v}", "the {a}")
POSITION = grown(POSITION, _SHARES + "|" + "set {n} to {v} percent|open {n} to {v} percent|set the position of {n} to {v}%|open {n} {v} percent|put {n} at {v}%|raise {n} to {v} percent|move {n} to {v} percent|"
                 "bring {n} to {v} percent|move {n} to position {v}|change {n} to {v}%|lower {n} to {v}%|let {n} down to {v} percent|put {n} on {v} percent|adjust {n} to {v} percent|set {n} to {v}",
                 _SHARE_GOALS + "|opened to {v}%|open to {v} percent|{v} percent open|at position {v}", never=_SIBLINGS)
VOLUME = grown(VOLUME, _SHARES + "|" + "set the volume of {n} to {v} percent|set {n} volume to {v}|turn {n} down to {v} percent|turn the volume of {n} to {v}|change the volume of {n} to {v}%|put {n} at volume {v}|"
               "make {n} {v} percent loud|bring the volume of {n} to {v}|adjust {n} to volume {v}|turn {n} up to {v}|set the {n} volume to {v}|turn {n} down to {v}|change the {n} volume to {v} percent|turn {n} up to volume {v}|"
               "set {n} to volume {v}|put the {n} volume at {v}%|turn the {n} volume to {v}%|bring the {n} volume to {v} percent|turn the {n} volume up to {v}%|turn the {n} volume down to {v}|adjust the {n} volume to {v}%", _SHARE_GOALS + "|at volume {v}|at {v} volume|{v} percent loud|set to volume {v}|with a volume of {v} percent", never=_SIBLINGS)
AREA_VOLUME = grown(AREA_VOLUME, "set the volume in the {a} to {v} percent|set the {a} volume to {v}|turn the music in the {a} down to {v} percent|bring the {a} volume to {v} percent|"
                    "turn the music in the {a} up to {v}|change the volume in the {a} to {v}%|turn the {a} volume to {v}|turn the {a} volume up to {v} percent|put the volume in the {a} at {v}|adjust the {a} volume to {v}",
                    "at {v} percent|set to {v}|at {v}%", "the volume in the {a}|the {a} volume|the music in the {a}")
MUTE = grown(MUTE, "mute {n}|silence {n}|make {n} silent|turn the sound of {n} off|mute the sound of {n}|quiet {n}|put {n} on mute", "muted|silent|silenced|on mute|quiet")
PAUSE = grown(PAUSE, "pause {n}|pause the music on {n}|hold {n}|pause what {n} is playing|stop the music on {n}|pause playback on {n}|interrupt {n}|halt the playback on {n}|halt {n}|stop playing on {n}|"
              "pause the song on {n}|make {n} pause|hold the music on {n}", "paused|on hold|interrupted")
UNPAUSE = grown(UNPAUSE, "continue {n}|unpause {n}|resume the music on {n}|continue playing on {n}|go on playing on {n}|continue the music on {n}|let {n} go on|take {n} off pause|let {n} play again|"
                "resume playback on {n}|make {n} play again|play on with {n}|carry on with {n}|let {n} continue|keep playing on {n}|resume what {n} was playing", "playing again|unpaused|resumed|going again")
NEXT = grown(NEXT, "skip the song on {n}|skip this on {n}|play the next song on {n}|go to the next track on {n}|skip {n} to the next song|forward to the next track on {n}|jump to the next one on {n}|"
             "skip the track on {n}|play the next one on {n}|skip to the next song on {n}|move on to the next song on {n}|let {n} play the next song|make {n} skip|skip on {n}")
VACUUM = grown(VACUUM, "start {n}|run {n}|start cleaning with {n}|send {n} to clean|start vacuuming with {n}|get {n} going|put {n} to work|let {n} vacuum|send out {n}|let {n} clean up|have {n} clean|"
               "make {n} clean|vacuum with {n}|let {n} do the floor|set {n} going", "started|running|cleaning|vacuuming|at work")
AREA_VACUUM = grown(AREA_VACUUM, "vacuum the {a}|clean the {a}|start vacuuming the {a}|hoover the {a}|vacuum in the {a}|give the {a} a clean|vacuum the floor in the {a}|clean up in the {a}|"
                    "clean the {a} floor|send the robot to the {a}|have the {a} vacuumed|start cleaning the {a}|sweep the {a}|let the vacuum clean the {a}", "vacuumed|cleaned|clean|hoovered", "the {a}|the floor in the {a}|the {a} floor")
TIMER = grown(TIMER, "start a timer for {v}|set a {v} timer|start a {v} timer|count down {v}|start the clock for {v}|give me {v} on the clock|set the clock to {v}|let the clock run for {v}|let the timer run for {v}|start {v} on the clock|put the clock on {v}|set {v} on the timer|give me {v}|set the timer to {v}|begin a countdown of {v}|start a countdown of {v}|make a timer for {v}|"
              "start the timer with {v}|set a timer of {v}|wake me in {v}|remind me in {v}|let me know in {v}|put a timer on for {v}|set up a {v} timer|run a timer for {v}|time {v}|"
              "tell me when {v} are over|put {v} on the timer|put a {v} timer on|set a countdown for {v}", "set|started|running", "a timer for {v}|a {v} timer|the timer for {v}")
NAMED_TIMER = grown(NAMED_TIMER, "set a {x} timer for {v}|start a timer for {v} called {x}|set a timer named {x} for {v}|set a timer for {v} for {x}|start the {x} timer with {v}|"
                    "put {v} on the clock for the {x}|let the {x} timer run for {v}|start a {x} timer for {v}|start a {v} {x} timer|start a {v} timer for {x}|start a countdown of {v} for the {x}|run a {v} timer for the {x}|time the {x} for {v}|give the {x} {v}|set a {v} timer for {x}|make a {x} timer of {v}|start a {v} timer called {x}|"
                    "set a timer for the {x} to {v}|start a {v} timer named {x}|set the {x} timer to {v}|count down {v} for the {x}|set a {v} timer for the {x}|begin a {x} timer of {v}",
                    "set|started", "a {x} timer of {v}|a {v} {x} timer|a timer for {x} of {v}|a {x} timer for {v}")
CANCEL_NAMED = grown(CANCEL_NAMED, "cancel the {x} timer|stop the {x} timer|cancel the timer for the {x}|delete the {x} timer|cancel the timer called {x}|forget the {x} timer|get rid of the {x} timer|"
                     "turn off the {x} timer|remove the {x} timer|stop the timer named {x}|drop the timer for {x}|end the timer called {x}|kill the {x} timer|clear the {x} timer|cancel my {x} timer", "cancelled|stopped|off", "the {x} timer|the timer for {x}")
CANCEL_TIME = grown(CANCEL_TIME, "cancel the {v} timer|stop the {v} timer|cancel the timer of {v}|end the timer for {v}|forget the {v} timer|remove the {v} timer|end the {v} timer|stop the timer of {v}|"
                    "get rid of the {v} timer|delete the timer for {v}|drop the {v} timer|cancel my {v} timer|clear the {v} timer|kill the timer of {v}", "cancelled|stopped|off", "the {v} timer|the timer of {v}")
LIST_ADD = grown(LIST_ADD, "add {x} to {n}|put {x} on {n}|add {x} on {n}|jot {x} down on {n}|note {x} on {n}|write {x} on {n}|extend {n} with {x}|write {x} down on {n}|add to {n}: {x}|append {x} to {n}|append to {n} {x}|save {x} to {n}|save to {n} {x}|put down on {n} {x}|note to {n} {x}|include in {n} {x}|put {x} in {n}|add in {n} {x}|store {x} in {n}|put up {x} on {n}|scribble {x} down on {n}|mark {x} down on {n}|put on {n} {x}|note down {x} on {n}|"
                 "place {x} on {n}|enter {x} on {n}|add on {n} {x}|write on {n} {x}|include {x} on {n}|put {x} onto {n}|list {x} on {n}", "on {n}|added to {n}|written on {n}|noted on {n}", "{x}")
BROADCAST = grown(BROADCAST, "announce {x}|say {x} on all speakers|spread the word that {x}|broadcast that {x}|tell everybody that {x}|let everyone know that {x}|make an announcement: {x}|"
                  "send a message to everyone: {x}|inform everybody that {x}|shout through the house that {x}|announce to everyone that {x}|broadcast: {x}|broadcast the message {x}|tell everyone that {x}|"
                  "tell everybody {x}|tell the house {x}|say everywhere that {x}|let everybody know {x}|announce: {x}|tell all that {x}|announce the message {x}|make an announcement that {x}|inform everyone {x}|tell the family {x}")

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
    (Patterns(["hello", "hi", "hey", "hi there", "hello there", "good morning", "good evening", "good afternoon", "hey you", "hello assistant"],
      ["howdy", "greetings", "good day"]), "Hello! What can I do for you?"),
    (Patterns(["thanks", "thank you", "thank you very much", "thanks a lot", "great, thanks", "cheers", "perfect, thank you", "many thanks", "nice, thanks"],
      ["thanks so much", "thank you kindly"]), "You're welcome."),
    (Patterns(["how are you", "how are you doing", "are you ok", "how do you do", "how is it going", "are you well", "how are you today"],
      ["how have you been", "how do you feel"]), "I'm fine, thank you. What can I do for you?"),
    (Patterns(["who are you", "what are you", "what is your name", "what's your name", "are you a robot", "are you human", "do you have a name", "who am i talking to"],
      ["tell me who you are", "what should i call you"]), "I'm the assistant of this home."),
    (Patterns(["what can you do", "what can i ask you", "help", "how can you help me", "what do you do", "what are you able to do", "what can i say"],
      ["what are you good at", "tell me what you can do"]), "I can control lights, heating, blinds, locks, music, timers and lists in this home."),
    (Patterns(["good night", "bye", "goodbye", "see you", "see you later", "bye bye", "sleep well", "see you tomorrow"], ["farewell", "until tomorrow"]), "Goodbye!"),
    (Patterns(["you are great", "well done", "good job", "i like you", "that was good", "you are the best", "nice work", "very good", "excellent", "awesome"],
      ["you did well", "i am impressed"]), "Thank you!"),
    (Patterns(["never mind", "forget it", "nothing", "it's ok", "leave it", "stop", "cancel that", "no thanks", "don't bother"], ["let it be", "drop it"]), "All right."),
]


def leaks() -> set[str]:
    """Held-out patterns that training has, which must be none: `python sentences.py` prints them."""
    intents = [value for value in globals().values() if isinstance(value, Patterns)] + [patterns for patterns, _ in SMALL_TALK]
    return {held_out for patterns in intents for held_out in patterns.held_out if held_out in (*patterns.train, *patterns.combined)}


if __name__ == "__main__":
    print("held-out patterns in training:", leaks() or "none")
