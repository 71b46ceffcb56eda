"""What the predictions of a task have."""

from edge_agent.models.io_spec import CLASSIFICATION

TASKS_WITH_OBJECTS = ("detection", "pose")
TASKS_WITH_BOXES = ("detection", "pose", "segmentation")
TASKS_WITH_CONFIDENCE = (CLASSIFICATION, *TASKS_WITH_BOXES)
