"""Data: sequences of RGB-D frames, labelled scenes, synthetic rooms."""
