"""Phrasings that training never sees; as in frames.py."""

from .frames import Frames

FRAMES: Frames = {
    "turn_on": (
        "get {it} on",
        "have {it} switched on",
        "!{it} should be on",
        "!i need you to start {it}",
        "!i would like {it} turned on",
        "make {it} run",
        "see to it that {it} is running",
        "power {it} up",
    ),
    "turn_off": (
        "get {it} off",
        "have {it} switched off",
        "!{it} should be off",
        "power {it} down",
        "!i would like {it} turned off",
        "make {it} stop",
        "see to it that {it} is off",
        "!i do not need {it}",
    ),
    "open": (
        "have {it} open",
        "!{it} should be open",
        "!i need {it} open",
        "make {it} open",
        "!i would like {it} opened",
    ),
    "close": (
        "have {it} closed",
        "!{it} should be closed",
        "!i need {it} shut",
        "get {it} shut",
        "!i would like {it} closed",
    ),
    "lock": ("get {it} locked", "!{it} should be locked", "!i need {it} locked", "!i would like {it} locked"),
    "unlock": ("get {it} unlocked", "!{it} should be unlocked", "!i need {it} unlocked", "!i would like {it} unlocked"),
    "set": (
        "get {it} to {n}",
        "have {it} at {n}",
        "!{it} should be at {n}",
        "!i need {it} at {n}",
        "dim {it} down to {n}",
        "switch {it} to {n}",
        "let {it} be at {n}",
    ),
    "state": (
        "tell me the state of {it}",
        "find out whether {it} is running",
        "!has somebody closed {it}",
        "check if {it} is on",
        "!did i turn off {it}",
        "!i want to know if {it} is locked",
        "!what is the status of {it}",
        "!is {it} still open",
    ),
    "read": (
        "find out what {it} is",
        "tell me what {it} is",
        "!i would like to know {it}",
        "look what {it} is",
        "check how high {it} is",
    ),
    "warm": ("check how warm it is{in}", "!i want to know how cold it is{in}", "tell me how many degrees it is{in}"),
    "damp": ("check how damp it is{in}", "find out how humid it is{in}"),
    "timer": ("start counting down {d}", "!i want a timer for {d}", "make a {d} timer", "get me a timer for {d}"),
    "none": (
        "!how big is {x}",
        "!do you like {x}",
        "give me {x}",
        "!i am looking for {x}",
        "talk about {x}",
        "!where can i find {x}",
    ),
}

DEVICE_AND_PLACE = ("my {device} in the {place}", "that {place} {device}", "the {device} of our {place}")
