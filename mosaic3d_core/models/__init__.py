"""Encoders, text encoders and checkpoints. Import the modules themselves; nothing heavy is loaded here."""
