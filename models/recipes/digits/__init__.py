"""The recipe of the digit reader: renders its training data, trains, exports and measures it."""
