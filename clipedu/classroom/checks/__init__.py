"""The exercises' checks. A check never raises: it returns a card that names the property that failed, and a hint."""

from clipedu.classroom.checks.encoders import mean_pool, output_size, receptive_field
from clipedu.classroom.checks.projection import best_images, cosine_matrix, normalize
from clipedu.classroom.checks.tokenizer import encode, pad, split_words

__all__ = [
    "best_images",
    "cosine_matrix",
    "encode",
    "mean_pool",
    "normalize",
    "output_size",
    "pad",
    "receptive_field",
    "split_words",
]
