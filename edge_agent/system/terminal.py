"""Untrusted text, made safe for a terminal."""


def printable(text: str) -> str:
    r"""Text with control characters escaped, as `\n`, `\x1b` and so on."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)
