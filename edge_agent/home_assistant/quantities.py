"""What readings are for Home Assistant: names as people write them, units, device classes."""

import re

# Device classes by unit, and where a unit has several, by a part of the name:
# https://www.home-assistant.io/integrations/sensor/#device-class
_CLASSES = {
    **dict.fromkeys(("°C", "°F", "K"), "temperature"),
    **dict.fromkeys(("W", "kW"), "power"),
    **dict.fromkeys(("Wh", "kWh", "MWh"), "energy"),
    **dict.fromkeys(("V", "mV"), "voltage"),
    **dict.fromkeys(("A", "mA"), "current"),
    **dict.fromkeys(("hPa", "mbar", "bar", "kPa", "Pa", "psi"), "pressure"),
    **dict.fromkeys(("Hz", "kHz"), "frequency"),
    **dict.fromkeys(("m/s", "km/h"), "speed"),
    **dict.fromkeys(("mm", "cm", "m"), "distance"),
    "lx": "illuminance",
    "dB": "sound_pressure",
    "VA": "apparent_power",
    "µg/m³": "pm25",
    "kg": "weight",
}
_CLASSES_BY_NAME = {
    "%": {"humid": "humidity", "batter": "battery", "moisture": "moisture"},
    "ppm": {"co2": "carbon_dioxide", "carbon_dioxide": "carbon_dioxide"},
}


def as_written(path: str) -> str:
    """The name of a reading for people: the dots and underscores of its path are spaces."""
    return re.sub(r"[._:]+", " ", path).strip().lower() or path


def as_people_write(name: str) -> str:
    """A name for people: words instead of underscores, and a capital at its beginning."""
    words = name.replace("_", " ").strip()
    return words[:1].upper() + words[1:] if words else name


def quantity(name: str, unit: str) -> dict[str, str]:
    """Unit and device class of a reading; Home Assistant refuses a class with a unit that is not one of its own."""
    if not unit:
        return {}
    words = name.lower()
    of_name = next((kind for word, kind in _CLASSES_BY_NAME.get(unit, {}).items() if word in words), None)
    kind = of_name or _CLASSES.get(unit)
    component = {"unit_of_measurement": unit} | ({"device_class": kind} if kind else {})
    return component | ({"state_class": "total_increasing"} if kind == "energy" else {})
