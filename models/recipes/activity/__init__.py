"""How models/activity was made."""
