"""The data engine: posed RGB-D frames become mask-text pairs on the points of a scene."""
