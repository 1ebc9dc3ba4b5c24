"""clipedu: CLIP built from scratch, to be read beside the notebooks that import it."""

from clipedu.checkpoint import load_checkpoint, load_model, save_checkpoint
from clipedu.data import ImageTextDataset
from clipedu.encoders import ImageEncoder, TextEncoder
from clipedu.errors import ClipEduError, PretrainedWeightsUnavailable
from clipedu.evaluation import evaluate, recall_at_k, zero_shot_classify
from clipedu.loss import contrastive_loss
from clipedu.model import CLIP, compute_similarity
from clipedu.optimization import TrainConfig
from clipedu.search import ImageIndex
from clipedu.tokenizer import SimpleTokenizer
from clipedu.training import train

__all__ = [
    "CLIP",
    "ClipEduError",
    "ImageEncoder",
    "ImageIndex",
    "ImageTextDataset",
    "PretrainedWeightsUnavailable",
    "SimpleTokenizer",
    "TextEncoder",
    "TrainConfig",
    "compute_similarity",
    "contrastive_loss",
    "evaluate",
    "load_checkpoint",
    "load_model",
    "recall_at_k",
    "save_checkpoint",
    "train",
    "zero_shot_classify",
]
