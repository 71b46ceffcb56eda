"""Intent recognition: a command in plain English becomes a list of intents with their slots, or `none` with a reason.

Slots are found by rules, and only in the words of the request; the model only classifies what is left of a clause.
See `recognizer.recognize`.
"""
