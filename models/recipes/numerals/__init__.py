"""A small classifier that has not seen all looks of its classes, and what the samples that it keeps are worth."""
