"""Offline training and evaluation (Hydra, Lightning)."""
