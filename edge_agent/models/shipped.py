"""The paths of models and other files that come with edge-agent."""

from pathlib import Path

# The model bundles among them.
BUNDLES = ("digits", "activity", "vibration", "intents", "commands")


def shipped(name: str) -> Path:
    """The path of a shipped file or folder: inside an installed package, or in the checkout's models/.

    The path of the checkout is returned where neither exists.
    """
    installed = Path(__file__).parents[1] / "shipped" / name
    return installed if installed.exists() else Path(__file__).parents[2] / "models" / name
