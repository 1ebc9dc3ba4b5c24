"""clipedu: CLIP built from scratch, to be read alongside the notebooks that import it.

The modules at this level are the core of CLIP; the notebooks teach them one by one. The code around them is in the
packages `data`, `runs`, `commands` and `classroom`, and in `ground`, which all the others use.
"""

from clipedu.data.dataset import ImageTextDataset
from clipedu.encoders import ImageEncoder, TextEncoder
from clipedu.evaluation import evaluate, recall_at_k, zero_shot_classify
from clipedu.ground.errors import ClipEduError, PretrainedWeightsUnavailable
from clipedu.loss import contrastive_loss
from clipedu.model import CLIP, compute_similarity
from clipedu.optimization import TrainConfig
from clipedu.runs.checkpoint import load_checkpoint, load_model, save_checkpoint
from clipedu.search import ImageIndex
from clipedu.tokenizer import SimpleTokenizer
from clipedu.training import Callback, train, train_step

__all__ = [
    "CLIP",
    "Callback",
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
    "train_step",
    "zero_shot_classify",
]
