"""The flags of the command line, their defaults, and complaints about them in both languages."""

from __future__ import annotations

import argparse
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, NoReturn

from clipedu.encoders import IMAGE_ENCODERS, POOLINGS
from clipedu.errors import ConfigError
from clipedu.optimization import TrainConfig

# Each flag's default, and what differs with --freeze-image-encoder: steps are cheap there, so more epochs and larger
# batches pay, and only the text side learns, which overfits sooner: more dropout and decay.
DEFAULTS = {**asdict(TrainConfig()), "embedding_dim": 256, "text_layers": 1, "dropout": 0.1}
FROZEN_DEFAULTS = {
    **DEFAULTS,
    **{"epochs": 25, "batch_size": 256, "lr": 1e-3, "weight_decay": 0.2, "embedding_dim": 512, "dropout": 0.2},
}


class _Parser(argparse.ArgumentParser):
    """argparse whose complaints are one line in both languages."""

    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"命令行有误（{message}）；用法见 {self.prog} --help", f"{message}; see {self.prog} --help")


def dashed(word: str) -> str:
    """`--data_dir=my_photos` -> `--data-dir=my_photos`: the note's spelling works too."""
    name, equals, value = word.partition("=")
    return name.replace("_", "-") + equals + value if name.startswith("--") else word


def build_parser() -> argparse.ArgumentParser:
    """The parser of all commands; what it returns carries the command's name as `command`."""
    parser = _Parser(
        prog="python -m clipedu", description="从零搭建 CLIP | CLIP, built from scratch", allow_abbrev=False
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, help_text: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=help_text, description=help_text, allow_abbrev=False)
        sub.set_defaults(command=name)
        return sub

    _add_train(command("train", "训练，或接着训练 | train, or go on training"))
    _add_evaluate(command("evaluate", "在一个划分上计算召回率 | recall on a split"))
    _add_search(command("search", "用句子找图片 | find pictures by sentences"))
    sub = command("create-dataset", "绘制示例数据 | draw a sample dataset")
    sub.add_argument("--kind", choices=("scenes", "emoji"), default="scenes")
    sub.add_argument("--out", type=Path, required=True, help="新文件夹 | a new folder")
    sub.add_argument("--seed", type=int, default=0)
    _add_import(command("import-captions", "把公开的说明文件转成 dataset.json | convert caption files"))
    sub = command("check", "检查环境 | check this computer")
    sub.add_argument("--data-dir", type=Path, default=Path("sample_data"))
    return parser


def _add_train(sub: argparse.ArgumentParser) -> None:
    def add(flag: str, **kwargs: Any) -> None:
        name = flag.removeprefix("--").replace("-", "_")
        if name in DEFAULTS:  # filled in later, once it is known whether the encoder is frozen
            values = dict.fromkeys(str(defaults[name]) for defaults in (DEFAULTS, FROZEN_DEFAULTS))
            kwargs["help"] = f"{kwargs.get('help', '')} ({' / --freeze-image-encoder: '.join(values)})".strip()
        sub.add_argument(flag, **kwargs)

    add(
        "--data-dir", type=Path, default=Path("sample_data"), help="含 dataset.json 的文件夹 | folder with dataset.json"
    )
    add("--run-dir", type=Path, default=Path("runs/scenes"), help="检查点与历史的去处 | for checkpoints and history")
    add("--language", choices=("en", "zh", "both"), default="en")
    add("--image-encoder", choices=IMAGE_ENCODERS, default="resnet18")
    add("--pretrained", choices=("auto", "require", "none"), default="auto", help="ImageNet 权重 | ImageNet weights")
    add("--freeze-image-encoder", action="store_true", help="图像编码器不训练 | do not train the image encoder")
    add("--embedding-dim", type=int)
    add("--text-layers", type=int, help="Transformer")
    add("--dropout", type=float, help="文本编码器 | of the text encoder")
    add("--vocab-size", type=int, default=5000)
    add("--pooling", choices=POOLINGS, default="mean", help="句向量取自 | the sentence's vector: [CLS] or the mean")
    add("--epochs", type=int)
    add("--batch-size", type=int)
    add("--lr", type=float, help="峰值学习率 | peak learning rate")
    add("--image-lr-scale", type=float, help="图像编码器的学习率是它的几倍 | the image encoder's share of it")
    add("--weight-decay", type=float)
    add("--warmup", type=float, help="占总步数的比例 | share of all steps")
    add("--clip-norm", type=float)
    add("--image-size", type=int, help="px")
    add("--seed", type=int)
    add("--device")
    add("--precision", choices=("auto", "fp32", "bf16", "fp16"))
    add("--resume", choices=("auto", "never"), default="auto", help="never：不接着已有的训练 | refuse to go on")
    add("--force-train", action="store_true", help="丢弃已有的训练，重新开始 | drop the run that is there, start anew")
    add("--test-only", action="store_true", help="不训练，只测试 | no training, only the test")


def _add_evaluate(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--run-dir", type=Path, default=Path("runs/scenes"))
    sub.add_argument("--data-dir", type=Path, default=Path("sample_data"))
    sub.add_argument("--split", default="test")
    sub.add_argument("--language", choices=("en", "zh", "both"), default="en")
    sub.add_argument("--json", type=Path, help="结果文件 | file for the result")
    sub.add_argument("--device", default="auto")


def _add_search(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--run-dir", type=Path, default=Path("runs/scenes"))
    sub.add_argument("--images", type=Path, required=True, help="图片文件夹 | folder of pictures")
    sub.add_argument("--top", type=int, default=5)
    sub.add_argument("--out", type=Path, help="把结果画成图片 | draw the hits into this picture")
    sub.add_argument("--device", default="auto")
    sub.add_argument("sentences", nargs="+", metavar="SENTENCE")


def _add_import(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--out", type=Path, required=True, help="数据文件夹，图片在其 images/ 下 | folder with images/")
    sub.add_argument("--english", type=Path, help="captions.txt, *.token.txt, results.csv, captions_*.json")
    sub.add_argument("--chinese", type=Path)
    for split in ("train", "val", "test"):
        sub.add_argument(f"--{split}", type=Path, help="每行一个图片名 | a picture name per line")


def fill_in_defaults(options: argparse.Namespace) -> TrainConfig:
    """Give every flag that was left out its default, and return those that make a TrainConfig."""
    defaults = FROZEN_DEFAULTS if options.freeze_image_encoder else DEFAULTS
    for name, value in defaults.items():
        if getattr(options, name) is None:
            setattr(options, name, value)
    return TrainConfig(**{field.name: getattr(options, field.name) for field in fields(TrainConfig)})
