"""The flags of the command line and their defaults; those of training follow from TrainConfig's fields."""

from __future__ import annotations

import argparse
from dataclasses import asdict, fields
from pathlib import Path
from typing import NoReturn, get_type_hints

from clipedu.encoders import IMAGE_ENCODERS, POOLINGS
from clipedu.ground.errors import ConfigError
from clipedu.optimization import PRECISIONS, TrainConfig

# Each flag's default, and what differs with --freeze-image-encoder: steps are cheap then, so more epochs and larger
# batches pay off; only the text side and the projections learn, which overfit sooner, so more dropout and decay.
MODEL_DEFAULTS = {
    **{"image_encoder": "resnet18", "pretrained": "auto", "embedding_dim": 256},
    **{"vocab_size": 5000, "text_layers": 1, "pooling": "mean", "dropout": 0.1, "feature_dropout": 0.0, "members": 1},
}
DEFAULTS = {**asdict(TrainConfig()), **MODEL_DEFAULTS}
FROZEN_DEFAULTS = {
    **DEFAULTS,
    **{"epochs": 25, "batch_size": 256, "lr": 1e-3, "weight_decay": 0.2, "embedding_dim": 512, "image_size": 256},
    **{"text_layers": 0, "dropout": 0.2, "feature_dropout": 0.4, "members": 4},
}
_LIMITS = {
    **{"embedding_dim": (1, 16_384), "text_layers": (0, 96), "vocab_size": (5, 10**7)},
    **{"dropout": (0, 0.99), "feature_dropout": (0, 0.99), "members": (1, 100)},
}
_HELP = {
    "data_dir": "含 dataset.json 的文件夹 | folder with dataset.json (default: sample_data)",
    "run_dir": "存放检查点和训练记录的文件夹 | folder for the checkpoints and the history (default: runs/scenes)",
    "language": "用哪种语言的说明 | language of the captions (default: en)",
    "image_encoder": "用哪种图像编码器 | which image encoder (default: resnet18)",
    "pretrained": "ImageNet 权重：auto 能取到就用，require 取不到就报错，none 不用 | ImageNet weights: auto uses them "
    "if it can, require fails without them, none starts from random weights (default: auto)",
    "pooling": "句向量怎样取自各个词 | how the words become one sentence vector (default: mean)",
    "embedding_dim": "共享空间的维数 | dimension of the shared space",
    "vocab_size": "词表的最大词数 | most words in the vocabulary",
    "text_layers": "文本 Transformer 的层数；0 为不用它，只把各词加权平均 | blocks of the text Transformer; 0 averages "
    "the words instead, each with its own weight",
    "dropout": "文本编码器的 dropout | dropout in the text encoder",
    "feature_dropout": "图像特征的 dropout | dropout of the image features",
    "members": "一起训练几个模型，共用图像编码器，结果取平均 | how many models to train on one image encoder, to be "
    "averaged",
    "epochs": "训练图片过几遍 | passes over the training pictures",
    "batch_size": "每步用多少对图文 | pairs per step",
    "lr": "峰值学习率 | peak learning rate",
    "image_lr_scale": "图像编码器的学习率是 --lr 的几倍 | the image encoder's rate relative to --lr",
    "weight_decay": "AdamW 的权重衰减 | weight decay of AdamW",
    "warmup": "预热步数占总步数的比例 | warm-up, as a fraction of all steps",
    "clip_norm": "梯度范数的上限 | the gradient's norm is clipped to this",
    "image_size": "图片缩成的正方形的边长，像素 | pictures become squares with this side, in px",
    "seed": "随机种子：相同的种子得到相同的结果 | random seed: the same seed gives the same result",
    "augment": "每一轮都重新裁剪图片、略改光线和色彩，左右不变 | crop each picture and change its light and colours a "
    "little, differently in every epoch; left stays left",
    "sync_batch_norm": "多个进程时，批归一化按所有进程一起计算，只能在 GPU 上用 | with several processes, batch norm "
    "over all of them; GPUs only",
    "device": "auto、cpu、cuda、mps 等；auto 选最快的 | auto, cpu, cuda, mps ...; auto takes the fastest",
    "precision": "前向计算的精度；auto 选这台电脑上最快的 | precision of the forward pass; auto takes the fastest here",
}


class _Parser(argparse.ArgumentParser):
    """An argparse parser that reports errors in one line, in both languages."""

    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"命令行有误（{message}）；用法见 {self.prog} --help", f"{message}; see {self.prog} --help")


def dashed(word: str) -> str:
    """`--data_dir=my_photos` -> `--data-dir=my_photos`: underscores work too."""
    name, equals, value = word.partition("=")
    return name.replace("_", "-") + equals + value if name.startswith("--") else word


def build_parser() -> argparse.ArgumentParser:
    """The parser of all commands; its result has the command's name as `command`."""
    parser = _Parser(
        prog="python -m clipedu", description="从零搭建 CLIP | CLIP, built from scratch", allow_abbrev=False
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, help_text: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=help_text, description=help_text, allow_abbrev=False)
        sub.set_defaults(command=name)
        return sub

    _add_train(command("train", "训练，或继续训练 | train, or resume training"))
    _add_evaluate(command("evaluate", "在一个划分上计算召回率 | compute recall on a split"))
    _add_search(command("search", "用句子搜索图片 | search pictures with sentences"))
    _add_export(command("export", "导出模型，供浏览器运行 | export a model for web pages"))
    sub = command("create-dataset", "绘制示例数据 | draw a sample dataset")
    sub.add_argument(
        "--kind",
        choices=("scenes", "emoji"),
        default="scenes",
        help="彩色图形，或表情 | coloured shapes, or emoji (default: scenes)",
    )
    sub.add_argument("--out", type=Path, required=True, help="新文件夹 | a new folder")
    sub.add_argument("--seed", type=int, default=0, help=f"{_HELP['seed']} (default: 0)")
    _add_import(command("import-captions", "把说明文件转成 dataset.json | convert caption files to dataset.json"))
    sub = command("check", "检查环境 | check this computer")
    sub.add_argument("--data-dir", type=Path, default=Path("sample_data"), help=_HELP["data_dir"])
    return parser


def _add_train(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--data-dir", type=Path, default=Path("sample_data"), help=_HELP["data_dir"])
    sub.add_argument("--run-dir", type=Path, default=Path("runs/scenes"), help=_HELP["run_dir"])
    sub.add_argument("--language", choices=("en", "zh", "both"), default="en", help=_HELP["language"])
    sub.add_argument(
        "--init-from",
        type=Path,
        help="从这次训练（文件夹或检查点）的权重和词表开始 | start from the weights and vocabulary of this run (a "
        "folder or a checkpoint)",
    )
    sub.add_argument("--image-encoder", choices=list(IMAGE_ENCODERS), help=_HELP["image_encoder"])
    sub.add_argument("--pretrained", choices=("auto", "require", "none"), help=_HELP["pretrained"])
    sub.add_argument(
        "--freeze-image-encoder",
        action="store_true",
        help="不训练图像编码器 | do not train the image encoder",
    )
    sub.add_argument("--pooling", choices=POOLINGS, help=_HELP["pooling"])
    model_flags: dict[str, type] = dict.fromkeys(("embedding_dim", "vocab_size", "text_layers", "members"), int)
    model_flags |= dict.fromkeys(("dropout", "feature_dropout"), float)
    for name, kind in {**get_type_hints(TrainConfig), **model_flags}.items():
        # The default is filled in later, once it is known whether the encoder is frozen.
        default, frozen = DEFAULTS[name], FROZEN_DEFAULTS[name]
        flag = f"--{name.replace('_', '-')}"
        if kind is bool:
            sub.add_argument(flag, action="store_true", default=None, help=_HELP[name])
            continue
        note = f"{default}" if frozen == default else f"{default}; {frozen} with --freeze-image-encoder"
        sub.add_argument(
            flag,
            type=kind,
            choices=PRECISIONS if name == "precision" else None,
            help=f"{_HELP[name]} (default: {note})",
        )
    sub.add_argument(
        "--resume",
        choices=("auto", "never"),
        default="auto",
        help="已有训练时：auto 接着训练，never 报错 | if there is a run, auto resumes it, never fails (default: auto)",
    )
    sub.add_argument(
        "--force-train", action="store_true", help="丢弃已有的训练，重新开始 | discard the existing run and start over"
    )
    sub.add_argument(
        "--test-only", action="store_true", help="不训练，只在 test 上测试 | do not train, only test on `test`"
    )
    _add_reading(sub)


def _add_reading(sub: argparse.ArgumentParser) -> None:
    sub.add_argument(
        "--skip-broken",
        action="store_true",
        help="略过不存在或打不开的图片 | leave out pictures that are missing or cannot be opened",
    )
    sub.add_argument(
        "--workers",
        type=int,
        help="内存放不下全部图片时，读图的进程数；0 为不另开进程 | processes that decode pictures if these do not all "
        "fit into memory; 0 starts none (default: one per CPU, at most 8)",
    )


def _add_evaluate(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--run-dir", type=Path, default=Path("runs/scenes"), help=_HELP["run_dir"])
    sub.add_argument("--data-dir", type=Path, default=Path("sample_data"), help=_HELP["data_dir"])
    sub.add_argument("--split", default="test", help="评估哪个划分 | which split to evaluate (default: test)")
    sub.add_argument("--language", choices=("en", "zh", "both"), default="en", help=_HELP["language"])
    sub.add_argument("--json", type=Path, help="保存结果的文件 | file for the results")
    sub.add_argument("--device", default="auto", help=f"{_HELP['device']} (default: auto)")
    _add_reading(sub)


def _add_search(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--run-dir", type=Path, default=Path("runs/scenes"), help=_HELP["run_dir"])
    sub.add_argument("--images", type=Path, required=True, help="图片文件夹 | folder of pictures")
    sub.add_argument("--top", type=int, default=5, help="每句话列出几张图 | hits per sentence (default: 5)")
    sub.add_argument("--out", type=Path, help="把结果画成图片 | draw the hits into this picture")
    sub.add_argument("--device", default="auto", help=f"{_HELP['device']} (default: auto)")
    sub.add_argument("sentences", nargs="+", metavar="SENTENCE", help="要找的句子 | sentences to search for")


def _add_export(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--run-dir", type=Path, default=Path("runs/scenes"), help=_HELP["run_dir"])
    sub.add_argument("--out", type=Path, required=True, help="新文件夹 | a new folder")
    sub.add_argument(
        "--images",
        type=Path,
        help="图片文件夹：另外生成一个网页，用来搜索里面的图 | folder of pictures: also make a web page that searches "
        "them",
    )


def _add_import(sub: argparse.ArgumentParser) -> None:
    sub.add_argument(
        "--out",
        type=Path,
        required=True,
        help="数据文件夹，图片在其中任何位置 | folder with the pictures, anywhere in it",
    )
    sub.add_argument(
        "--english",
        type=Path,
        nargs="+",
        default=[],
        metavar="FILE",
        help="说明文件：有表头的 CSV/TSV、JSON、JSONL、*.token.txt；或文件夹，其中 photo.txt 说明 photo.jpg | "
        "caption files: CSV or TSV with a heading, JSON, JSONL, *.token.txt; or a folder where photo.txt describes "
        "photo.jpg",
    )
    sub.add_argument(
        "--chinese", type=Path, nargs="+", default=[], metavar="FILE", help="同上，中文 | likewise, in Chinese"
    )
    sub.add_argument(
        "--class-folders",
        action="store_true",
        help="没有说明文件，每个类别一个文件夹，以它为名 | no caption files: a folder of pictures for each class",
    )
    for split in ("train", "val", "test"):
        sub.add_argument(
            f"--{split}", type=Path, help="划分文件，每行一个图片名 | split file: one picture name per line"
        )


def fill_in_defaults(options: argparse.Namespace) -> TrainConfig:
    """Fill in the defaults of omitted flags, and return the TrainConfig that they make up.

    Raises:
        ConfigError: a value outside its range, or flags that exclude each other.
    """
    given = [f"--{name.replace('_', '-')}" for name in MODEL_DEFAULTS if getattr(options, name) is not None]
    if options.init_from and given:
        raise ConfigError(
            f"{given[0]} 不能与 --init-from 同用：模型来自那个检查点",
            f"{given[0]} cannot be combined with --init-from: the model comes from that checkpoint",
        )
    defaults = FROZEN_DEFAULTS if options.freeze_image_encoder else DEFAULTS
    for name, value in defaults.items():
        if getattr(options, name) is None:
            setattr(options, name, value)
    if options.freeze_image_encoder and options.augment:
        raise ConfigError(
            "--augment 不能与 --freeze-image-encoder 同用：冻结时，每张图片的特征只算一次",
            "--augment cannot be combined with --freeze-image-encoder: the features of each picture are computed once",
        )
    if options.pooling == "cls" and not options.text_layers:
        raise ConfigError(
            "--pooling cls 需要 Transformer：请加上 --text-layers 1",
            "--pooling cls needs a Transformer: add --text-layers 1",
        )
    for name, (least, most) in _LIMITS.items():
        value = getattr(options, name)
        if not least <= value <= most:
            flag = "--" + name.replace("_", "-")
            raise ConfigError(
                f"{flag} {value} 应在 {least} 与 {most} 之间", f"{flag} {value} must be between {least} and {most}"
            )
    return TrainConfig(**{field.name: getattr(options, field.name) for field in fields(TrainConfig)})
