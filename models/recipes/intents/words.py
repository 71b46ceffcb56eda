"""The words that commands are made of: devices, places, numbers, and what is asked of a device."""

DEVICES = {
    "light": ("light", "lights", "lamp", "lamps"),
    "heating": ("heating", "heater", "radiator", "thermostat"),
    "fan": ("fan", "ventilator"),
    "radio": ("radio", "music"),
    "tv": ("tv", "television"),
    "pump": ("pump", "water pump"),
    "compressor": ("compressor", "air compressor"),
    "extractor": ("dust extractor", "dust collector", "extractor"),
    "charger": ("charger", "battery charger"),
    "printer": ("printer", "3d printer"),
    "kettle": ("kettle", "water kettle"),
    "sprinkler": ("sprinkler", "sprinklers"),
    "saw": ("saw", "table saw"),
    "soldering_iron": ("soldering iron", "iron"),
    "camera": ("camera", "webcam"),
    "door": ("door", "doors"),
    "window": ("window", "windows"),
    "blinds": ("blinds", "shutters", "curtains"),
    "gate": ("gate", "gates"),
    "valve": ("valve", "water valve"),
}
READINGS = {
    "temperature": ("temperature",),
    "humidity": ("humidity",),
}
PLACES = {
    "porch": ("porch", "front porch"),
    "kitchen": ("kitchen",),
    "bedroom": ("bedroom",),
    "bathroom": ("bathroom", "bath"),
    "hall": ("hall", "hallway", "corridor"),
    "garage": ("garage",),
    "workshop": ("workshop", "shop"),
    "garden": ("garden", "yard"),
    "cellar": ("cellar", "basement"),
    "attic": ("attic", "loft"),
    "office": ("office", "study"),
    "living_room": ("living room", "lounge"),
    "shed": ("shed",),
    "greenhouse": ("greenhouse",),
}
SWITCHED = tuple(list(DEVICES)[:15])
OPENED = ("door", "window", "blinds", "gate", "valve")
LOCKED = ("door", "gate", "window")
ADJUSTED = ("light", "heating", "fan", "radio", "tv", "blinds")
ACTIONS = {
    "turn_on": SWITCHED,
    "turn_off": SWITCHED,
    "open": OPENED,
    "close": OPENED,
    "lock": LOCKED,
    "unlock": LOCKED,
    "set": ADJUSTED,
    "state": tuple(DEVICES),
    "read": tuple(READINGS),
    "timer": (),
    "none": (),
}

ONES = "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen"
ONES_AND_TEENS = (*ONES.split(), "eighteen", "nineteen")
TENS = ("", "", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")


def spoken(number: int) -> str:
    """A number from 0 to 100 in words."""
    if number == 100:
        return "a hundred"
    if number < 20:
        return ONES_AND_TEENS[number]
    tens, ones = divmod(number, 10)
    return TENS[tens] + (f" {ONES_AND_TEENS[ones]}" if ones else "")
