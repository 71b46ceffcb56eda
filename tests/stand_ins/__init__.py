"""Stand-ins for the libraries and programs of accelerators that are not here, with the vendors' own names.

They fail as a file tells them to: see `control.Control`.
"""
