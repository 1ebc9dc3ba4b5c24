"""A faithful rewrite of the training loop in the note that this project grew out of, to be timed against ours.

Each class and function mirrors a part of the note: `ImageEncoder`, `TextEncoder`, `CLIP` (projections with a LayerNorm,
division by the norm, a temperature without limits), `SimpleImageTextDataset` (a picture is decoded from its file each
time, texts are padded to 77), and `main()` with its defaults and a cosine that moves once an epoch. The differences:

    - The ResNet starts from random weights, as the note's does if the download fails, and as ours does here.
    - The note's records have one caption, those of sample_data two: one is drawn per epoch, as in our loop.
    - Text is tokenized by clipedu's SimpleTokenizer, which splits English the same way as the note's; the vocabulary
      is built from the training captions only. The embedding keeps the note's 5,000 rows.
    - There is no progress bar, printing, checkpointing or emptying of the GPU cache, which would slow the note down.
    - A callback runs after every step. `NoteCLIP` has the methods that `clipedu.evaluate` calls, but the caller must
      switch to evaluation mode and turn gradients off, since `get_*_features` does not.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import AdamW
from torch.optim.lr_scheduler import CosineAnnealingLR
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms
from torchvision.models import resnet18

from clipedu import ImageTextDataset, SimpleTokenizer, TrainConfig
from clipedu.ground.environment import choose_device

VOCABULARY, WIDTH, LAYERS, LENGTH, EMBEDDING = 5000, 256, 2, 77, 256
NOTE = TrainConfig(epochs=10, batch_size=32, lr=1e-4, weight_decay=0.01, warmup=0, image_size=224, precision="fp32")


class NoteTextEncoder(nn.Module):
    """`input_ids, attention_mask [B, T]` to the output at [CLS], `[B, 256]`, with PyTorch's default initialisation."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, WIDTH, padding_idx=0)
        self.positional_encoding = nn.Embedding(LENGTH, WIDTH)
        layer = nn.TransformerEncoderLayer(WIDTH, nhead=8, dim_feedforward=2 * WIDTH, dropout=0.1, batch_first=True)
        self.transformer = nn.TransformerEncoder(layer, LAYERS)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """`[B, T]` to `[B, 256]`."""
        positions = torch.arange(input_ids.shape[1], device=input_ids.device).expand_as(input_ids)
        hidden = self.embedding(input_ids) + self.positional_encoding(positions)  # (B, T, 256)
        return self.transformer(hidden, src_key_padding_mask=attention_mask == 0)[:, 0]


class NoteCLIP(nn.Module):
    """ResNet-18 without its last layer, the text encoder, and a projection for each."""

    shared_embedding_dim = EMBEDDING

    def __init__(self) -> None:
        super().__init__()
        self.image_encoder = nn.Sequential(*list(resnet18(weights=None).children())[:-1], nn.Flatten())
        self.text_encoder = NoteTextEncoder()
        self.image_projection, self.text_projection = (
            nn.Sequential(nn.Linear(width, EMBEDDING, bias=False), nn.LayerNorm(EMBEDDING)) for width in (512, WIDTH)
        )
        self.logit_scale = nn.Parameter(torch.log(torch.tensor(1 / 0.07)))

    def forward(self, images: Tensor, input_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, Tensor]:
        """Both embeddings, each `[B, 256]` with rows of length 1."""
        return self.get_image_features(images), self.get_text_features(input_ids, attention_mask)

    def get_image_features(self, images: Tensor) -> Tensor:
        """Normalised pictures `[B, 3, H, W]` to `[B, 256]`."""
        embedding = self.image_projection(self.image_encoder(images))
        return embedding / embedding.norm(dim=-1, keepdim=True)

    def get_text_features(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """`[B, T]` to `[B, 256]`."""
        embedding = self.text_projection(self.text_encoder(input_ids, attention_mask))
        return embedding / embedding.norm(dim=-1, keepdim=True)


def note_transform(image_size: int) -> transforms.Compose:
    """A PIL picture to float `[3, image_size, image_size]`, normalised with ImageNet's mean and standard deviation."""
    normalize = transforms.Normalize(mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225])
    return transforms.Compose([transforms.Resize((image_size, image_size)), transforms.ToTensor(), normalize])


class NotePairs(Dataset[dict[str, Tensor]]):
    """`image [3, S, S]`, `input_ids [77]` and `attention_mask [77]` of each pair, recomputed on every access."""

    def __init__(self, pairs: ImageTextDataset, tokenizer: SimpleTokenizer, image_size: int) -> None:
        self.pairs, self.tokenizer, self.transform = pairs, tokenizer, note_transform(image_size)

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        image = Image.open(self.pairs.records[index].image_path).convert("RGB")
        tokens = self.tokenizer(self.pairs.caption(index), padding="max_length", max_length=LENGTH)
        return {"image": self.transform(image), **{name: rows[0] for name, rows in tokens.items()}}


def note_loss(image_embedding: Tensor, text_embedding: Tensor, logit_scale: Tensor) -> Tensor:
    """Both embeddings `[B, E]` to the mean of the two cross entropies."""
    logits_per_image = image_embedding @ text_embedding.T * logit_scale.exp()  # (B, B)
    right = torch.arange(len(logits_per_image), device=logits_per_image.device)
    return (F.cross_entropy(logits_per_image, right) + F.cross_entropy(logits_per_image.T, right)) / 2


def train_note(model: NoteCLIP, pairs: NotePairs, config: TrainConfig, after_step: Callable[[], object]) -> None:
    """Train `model` in place; `after_step` is called after every step and may raise to end the run."""
    device = choose_device()
    model.to(device).train()
    loader = DataLoader(pairs, config.batch_size, shuffle=True, num_workers=2, pin_memory=device.type == "cuda")
    optimizer = AdamW(model.parameters(), lr=config.lr, weight_decay=config.weight_decay)
    scheduler = CosineAnnealingLR(optimizer, T_max=config.epochs)
    for epoch in range(1, config.epochs + 1):
        pairs.pairs.set_epoch(epoch)
        for batch in loader:
            batch = {name: tensor.to(device) for name, tensor in batch.items()}
            image_embedding, text_embedding = model(batch["image"], batch["input_ids"], batch["attention_mask"])
            loss = note_loss(image_embedding, text_embedding, model.logit_scale)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), max_norm=config.clip_norm)
            optimizer.step()
            loss.item()  # the note records it, which waits for the device
            after_step()
        scheduler.step()
