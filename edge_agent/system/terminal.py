"""Text from files that others wrote, made fit for a terminal."""


def printable(text: str) -> str:
    r"""Text without control characters: what can't be seen stands as `\n`, `\x1b` and the like."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)
