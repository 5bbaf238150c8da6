"""Cameras, rigid transforms, depth registration and gravity."""
