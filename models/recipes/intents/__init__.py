"""How models/intents was made."""
