"""The head folded into the text side: cosines in text space from the features before the head.

With the head y = W x + b, cos(y, t) = (x . W^T t + b . t) / |W x + b| for a unit text vector t, so neither y
nor anything else of text width is ever made per voxel. The norm needs G = W^T W only: |y|^2 = x . G x + 2 x .
W^T b + b . b.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np

_SMALLEST_NORM = 1e-6


@dataclass(frozen=True)
class FoldedHead:
    """Linear head of an encoder.

    Attributes:
        weight: Shape (D, C), float32.
        bias: Shape (D,), float32, or None.
        condition: Of a net trained on several data sets, the one whose norms its features have; None for a plain net.

    Raises:
        ValueError: If the shapes disagree.
    """

    weight: np.ndarray
    bias: np.ndarray | None = None
    condition: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "weight", np.ascontiguousarray(self.weight, np.float32))
        if self.weight.ndim != 2:
            raise ValueError(f"the head weight must have shape (D, C), got {self.weight.shape}")
        if self.bias is not None:
            object.__setattr__(self, "bias", np.ascontiguousarray(self.bias, np.float32))
            if self.bias.shape != self.weight.shape[:1]:
                raise ValueError(f"the head bias must have shape {self.weight.shape[:1]}, got {self.bias.shape}")

    def fingerprint(self) -> str:
        """What tells encoders apart: a digest of the head, and the condition, for one head reads the features of all."""
        values = self.weight.tobytes() + (b"" if self.bias is None else self.bias.tobytes())
        digest = hashlib.sha256(values).hexdigest()[:16]
        return digest if self.condition is None else f"{digest}@{self.condition}"

    @property
    def text_dim(self) -> int:
        """Width D of the text space."""
        return int(self.weight.shape[0])

    @property
    def feature_dim(self) -> int:
        """Width C of the features before the head."""
        return int(self.weight.shape[1])

    def query_matrix(self, text: np.ndarray) -> np.ndarray:
        """Text vectors pulled back through the head.

        Args:
            text: Unit text embeddings. Shape (Q, D).

        Returns:
            Shape (C, Q), or (C + 1, Q) where the head has a bias: the last row belongs to a constant feature
            of 1.

        Raises:
            ValueError: If the width of the text is not that of the head.
        """
        text = np.asarray(text, np.float32)
        if text.ndim != 2 or text.shape[1] != self.text_dim:
            raise ValueError(
                f"text embeddings must have shape (Q, {self.text_dim}) for this encoder, got {text.shape}; "
                "use the text encoder that the checkpoint names"
            )
        matrix = self.weight.T @ text.T
        if self.bias is None:
            return matrix
        return np.concatenate([matrix, (text @ self.bias)[None]])

    def norms(self, features: np.ndarray) -> np.ndarray:
        """Length of every feature in text space: (N, C) -> (N,) float32, at least 1e-6."""
        weight = self.weight.astype(np.float64)
        gram = weight.T @ weight
        squares = np.einsum("nc,nc->n", features @ gram.astype(np.float32), features)
        if self.bias is not None:
            bias = self.bias.astype(np.float64)
            squares = squares + features @ (2.0 * (weight.T @ bias)).astype(np.float32) + np.float32(bias @ bias)
        return np.sqrt(np.maximum(squares, _SMALLEST_NORM**2)).astype(np.float32)

    def cosine(self, features: np.ndarray, norms: np.ndarray, text: np.ndarray) -> np.ndarray:
        """Cosine of every feature to every text.

        Args:
            features: Features before the head. Shape (N, C), float32.
            norms: ``norms(features)``. Shape (N,).
            text: Unit text embeddings. Shape (Q, D).

        Returns:
            Shape (N, Q), float32.

        Raises:
            ValueError: If the width of the text is not that of the head.
        """
        matrix = self.query_matrix(text)
        scores = features @ matrix[: self.feature_dim]
        if self.bias is not None:
            scores += matrix[-1]
        scores /= norms[:, None]
        return scores
