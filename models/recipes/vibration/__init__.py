"""How models/vibration was made."""
