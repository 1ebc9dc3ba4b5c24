"""The checks of the exercises. A check never raises: it returns a card with the property that failed and a hint."""

from clipedu.classroom.checks.encoders import mean_pool, multi_head_attention, receptive_field
from clipedu.classroom.checks.languages import matching, remove_language, translate
from clipedu.classroom.checks.loss import clip_loss, loss_gradient, text_to_image_loss
from clipedu.classroom.checks.photos import failures, recall_interval, split_by_group
from clipedu.classroom.checks.pretraining import drift, recall_at_k, verdict
from clipedu.classroom.checks.projection import best_images, clip_similarity, normalize
from clipedu.classroom.checks.search import index_recall, nearest, prompt_ensemble
from clipedu.classroom.checks.tokenizer import bpe_decode, bpe_encode, encode
from clipedu.classroom.checks.training import adamw, fp16_step, read_curve, resume, save
from clipedu.classroom.checks.word_order import both_ways, hard_negative_loss, swap_objects

__all__ = [
    "adamw",
    "best_images",
    "both_ways",
    "bpe_decode",
    "bpe_encode",
    "clip_loss",
    "clip_similarity",
    "drift",
    "encode",
    "failures",
    "fp16_step",
    "hard_negative_loss",
    "index_recall",
    "loss_gradient",
    "matching",
    "mean_pool",
    "multi_head_attention",
    "nearest",
    "normalize",
    "prompt_ensemble",
    "read_curve",
    "recall_at_k",
    "recall_interval",
    "receptive_field",
    "remove_language",
    "resume",
    "save",
    "split_by_group",
    "swap_objects",
    "text_to_image_loss",
    "translate",
    "verdict",
]
