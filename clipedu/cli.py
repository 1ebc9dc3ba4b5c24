"""The command line: python -m clipedu train | evaluate | search | create-dataset | import-captions | check."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, NoReturn

import torch
import torch.distributed as dist

from clipedu.captions import import_captions
from clipedu.checkpoint import clear_run, find_checkpoint, load_model, newest_epoch
from clipedu.data import ImageTextDataset
from clipedu.emoji import create_emoji
from clipedu.encoders import IMAGE_ENCODERS, POOLINGS, ImageEncoder, TextEncoder
from clipedu.environment import check_environment, choose_device, gpu_memory
from clipedu.errors import CheckpointError, ClipEduError, ConfigError, MissingSplitError, PretrainedWeightsUnavailable
from clipedu.evaluation import Scores, evaluate
from clipedu.files import whole_file
from clipedu.history import plot_training_curve
from clipedu.model import CLIP
from clipedu.optimization import TrainConfig
from clipedu.scenes import create_scenes
from clipedu.search import ImageIndex, describe_matches, draw_hits
from clipedu.tokenizer import SimpleTokenizer
from clipedu.training import train

USER_ERROR, INTERRUPTED = 2, 130
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
        raise ConfigError(f"命令行有误({message});用法见 {self.prog} --help", f"{message}; see {self.prog} --help")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit code is 0, 2 for a fault of the input, or 130 after Ctrl-C."""
    words = [_dashed(word) for word in (sys.argv[1:] if arguments is None else arguments)]
    try:
        options = _parser().parse_args(words)
        return options.command(options) or 0
    except ClipEduError as error:
        print(f"错误 | error: {error}", file=sys.stderr)
        return USER_ERROR
    except KeyboardInterrupt:
        return INTERRUPTED
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()


def _dashed(word: str) -> str:
    """`--data_dir=my_photos` -> `--data-dir=my_photos`: the note's spelling works too."""
    name, equals, value = word.partition("=")
    return name.replace("_", "-") + equals + value if name.startswith("--") else word


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="python -m clipedu", description="从零搭建 CLIP | CLIP, built from scratch", allow_abbrev=False
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, run: object, help_text: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=help_text, description=help_text, allow_abbrev=False)
        sub.set_defaults(command=run)
        return sub

    _add_train(command("train", _train, "训练,或接着训练 | train, or go on training"))
    _add_evaluate(command("evaluate", _evaluate, "在一个划分上计算召回率 | recall on a split"))
    _add_search(command("search", _search, "用句子找图片 | find pictures by sentences"))
    sub = command("create-dataset", _create_dataset, "绘制示例数据 | draw a sample dataset")
    sub.add_argument("--kind", choices=("scenes", "emoji"), default="scenes")
    sub.add_argument("--out", type=Path, required=True, help="新文件夹 | a new folder")
    sub.add_argument("--seed", type=int, default=0)
    _add_import(
        command("import-captions", _import_captions, "把公开的说明文件转成 dataset.json | convert caption files")
    )
    sub = command("check", _check, "检查环境 | check this computer")
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
    add("--weight-decay", type=float)
    add("--warmup", type=float, help="占总步数的比例 | share of all steps")
    add("--clip-norm", type=float)
    add("--image-size", type=int, help="px")
    add("--seed", type=int)
    add("--device")
    add("--precision", choices=("auto", "fp32", "bf16", "fp16"))
    add("--resume", choices=("auto", "never"), default="auto", help="never: 不接着已有的训练 | refuse to go on")
    add("--force-train", action="store_true", help="丢弃已有的训练,重新开始 | drop the run that is there, start anew")
    add("--test-only", action="store_true", help="不训练,只测试 | no training, only the test")


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
    sub.add_argument("--out", type=Path, required=True, help="数据文件夹,图片在其 images/ 下 | folder with images/")
    sub.add_argument("--english", type=Path, help="captions.txt, *.token.txt, results.csv, captions_*.json")
    sub.add_argument("--chinese", type=Path)
    for split in ("train", "val", "test"):
        sub.add_argument(f"--{split}", type=Path, help="每行一个图片名 | a picture name per line")


# ------------------------------------------------------------------------------------------------- commands


def _train(options: argparse.Namespace) -> int:
    config = _fill_in_defaults(options)
    run_dir: Path = options.run_dir
    if options.test_only:
        return _test(*load_model(run_dir), options, run_dir)
    if options.force_train:
        clear_run(run_dir)
    elif options.resume == "never" and newest_epoch(run_dir):
        raise CheckpointError(
            f"{run_dir} 里已有训练结果,而 --resume never 不许接着训练;请换一个 --run-dir,或用 --force-train 丢弃它",
            f"{run_dir} holds a run, and --resume never forbids going on; choose another --run-dir, or drop it with "
            "--force-train",
        )
    _start_processes(config)
    train_set = ImageTextDataset(options.data_dir, "train", options.language, seed=config.seed)
    val_set = _split_or_none(options, "val")
    tokenizer = SimpleTokenizer(options.vocab_size)
    tokenizer.build_vocab(train_set.all_captions()[0])
    torch.manual_seed(config.seed)
    model = _build_model(options, tokenizer)
    _say(
        f"{choose_device(config.device)}  {len(train_set)} pairs  {len(tokenizer)} tokens  "
        f"{sum(p.numel() for p in model.parameters() if p.requires_grad):,} trainable parameters"
    )
    history = train(model, tokenizer, train_set, val_set, config, run_dir)
    if len(history) < config.epochs:
        return INTERRUPTED
    if _first_process():
        plot_training_curve(history, run_dir / "training_curve.png")
        if torch.cuda.is_available():
            _say("GPU memory (GiB): " + ", ".join(f"{name} {value:.2f}" for name, value in gpu_memory().items()))
        _test(model, tokenizer, options, run_dir)
    return 0


def _fill_in_defaults(options: argparse.Namespace) -> TrainConfig:
    defaults = FROZEN_DEFAULTS if options.freeze_image_encoder else DEFAULTS
    for name, value in defaults.items():
        if getattr(options, name) is None:
            setattr(options, name, value)
    return TrainConfig(**{field.name: getattr(options, field.name) for field in fields(TrainConfig)})


def _build_model(options: argparse.Namespace, tokenizer: SimpleTokenizer) -> CLIP:
    pretrained = options.pretrained != "none"
    try:
        image_encoder = ImageEncoder(options.image_encoder, pretrained)
    except PretrainedWeightsUnavailable as error:
        if options.pretrained == "require" or options.freeze_image_encoder:
            raise
        _say(f"注意:{error.zh} 现从零训练。| note: {error.en}. Going on from scratch (--pretrained auto)")
        image_encoder = ImageEncoder(options.image_encoder, pretrained=False)
    if options.freeze_image_encoder:
        if not pretrained:
            raise ConfigError(
                "随机权重冻结后什么也学不到:--freeze-image-encoder 不能与 --pretrained none 同用",
                "frozen random weights learn nothing: --freeze-image-encoder does not go with --pretrained none",
            )
        image_encoder.freeze()
    text_encoder = TextEncoder(
        len(tokenizer), num_layers=options.text_layers, dropout=options.dropout, pooling=options.pooling
    )
    return CLIP(image_encoder, text_encoder, options.embedding_dim, options.image_size)


def _split_or_none(options: argparse.Namespace, split: str) -> ImageTextDataset | None:
    """`val` or `test`, which not every dataset has."""
    try:
        return ImageTextDataset(options.data_dir, split, options.language)
    except MissingSplitError:
        _say(f"没有 {split} 划分 | there is no split {split!r} in {options.data_dir}")
        return None


def _test(model: CLIP, tokenizer: SimpleTokenizer, options: argparse.Namespace, run_dir: Path) -> int:
    """Recall on `test` and a few matches to look at."""
    test_set = _split_or_none(options, "test")
    if test_set is not None:
        model.to(choose_device(options.device))
        _say(_table("test", evaluate(model, tokenizer, test_set)))
        _say(describe_matches(model, tokenizer, test_set))
    _say(f"{run_dir / 'checkpoints'}")
    return 0


def _start_processes(config: TrainConfig) -> None:
    """Join the other processes where torchrun started this one: NCCL on GPUs, Gloo on CPUs."""
    if "WORLD_SIZE" not in os.environ:
        return
    device = choose_device(config.device)
    if device.type == "cuda":
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")


def _evaluate(options: argparse.Namespace) -> None:
    model, tokenizer = load_model(options.run_dir)
    model.to(choose_device(options.device))
    dataset = ImageTextDataset(options.data_dir, options.split, options.language)
    scores = evaluate(model, tokenizer, dataset)
    if options.json:
        with whole_file(options.json) as temporary:
            temporary.write_text(json.dumps(scores, indent=1), encoding="utf-8")
    print(f"{find_checkpoint(options.run_dir)}\n{_table(options.split, scores)}")


def _table(split: str, scores: Scores) -> str:
    lines = []
    for language, values in scores.items():
        for way, name in (("i2t", "image -> text"), ("t2i", "text -> image")):
            recalls = "  ".join(f"R@{k} {values[f'{way}_R@{k}']:.3f}" for k in (1, 5, 10))
            lines.append(f"{split} {language}  {name}  {recalls}")
        if "zero_shot_accuracy" in values:
            chance = 1 / values["zero_shot_classes"]
            lines.append(f"{split} {language}  zero-shot {values['zero_shot_accuracy']:.3f} (chance {chance:.3f})")
    return "\n".join(lines)


def _search(options: argparse.Namespace) -> None:
    if options.top < 1:
        raise ConfigError(f"--top {options.top} 应至少为 1", f"--top {options.top} must be at least 1")
    model, tokenizer = load_model(options.run_dir)
    model.to(choose_device(options.device))
    index = ImageIndex(model, tokenizer, options.images)
    if index.skipped:
        print(
            f"跳过 {len(index.skipped)} 张损坏的图片 | {len(index.skipped)} damaged pictures left out", file=sys.stderr
        )
    results = {sentence: index.search(sentence, options.top) for sentence in options.sentences}
    for sentence, hits in results.items():
        print(sentence)
        for hit in hits:
            print(f"  {hit.similarity:+.3f}  {hit.path}")
    if options.out:
        draw_hits(results, options.out)


def _create_dataset(options: argparse.Namespace) -> None:
    {"scenes": create_scenes, "emoji": create_emoji}[options.kind](options.out, options.seed)
    print(f"完成 | done: {options.out}")


def _import_captions(options: argparse.Namespace) -> None:
    if not options.english and not options.chinese:
        raise ConfigError("请给出 --english 或 --chinese", "give --english or --chinese")
    splits = [(split, path) for split in ("train", "val", "test") if (path := getattr(options, split))]
    count, missing = import_captions(options.out, options.english, options.chinese, splits)
    print(f"{options.out / 'dataset.json'}: {count} 张图片,缺 {missing} 张 | {count} pictures, {missing} not there")


def _check(options: argparse.Namespace) -> int:
    checks = check_environment(options.data_dir)
    print("\n".join(map(str, checks)))
    return 0 if all(check.ok for check in checks) else USER_ERROR


def _first_process() -> bool:
    return not dist.is_initialized() or dist.get_rank() == 0


def _say(text: str) -> None:
    if _first_process():
        print(text, flush=True)
