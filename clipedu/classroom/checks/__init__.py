"""The checks of the exercises. A check never raises: it returns a card with the property that failed and a hint."""

from clipedu.classroom.checks.encoders import mean_pool, output_size, receptive_field
from clipedu.classroom.checks.loss import loss_gradient, multi_positive_loss, row_loss
from clipedu.classroom.checks.pretraining import drift, parts
from clipedu.classroom.checks.projection import best_images, cosine_matrix, normalize
from clipedu.classroom.checks.tokenizer import encode, pad, split_words
from clipedu.classroom.checks.training import learning_rate, parameter_groups, training_step

__all__ = [
    "best_images",
    "cosine_matrix",
    "drift",
    "encode",
    "learning_rate",
    "loss_gradient",
    "mean_pool",
    "multi_positive_loss",
    "normalize",
    "output_size",
    "pad",
    "parameter_groups",
    "parts",
    "receptive_field",
    "row_loss",
    "split_words",
    "training_step",
]
