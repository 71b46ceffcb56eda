"""edge-agent: models on small devices, results over MQTT."""

__version__ = "0.1.0"
