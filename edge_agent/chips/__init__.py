"""Processes that call the libraries of accelerators which come with the system: one module a library.

They may run on another interpreter than the agent, the one that has the library. So these modules import the standard
library, numpy, the vendor's library, and what of edge-agent needs no more than that.
"""
