"""Contracts as tests, for the authors of plug-ins; needs pytest, which the package does not install."""
