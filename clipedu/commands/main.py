"""The command line: python -m clipedu train | evaluate | search | export | create-dataset | import-captions | check."""

from __future__ import annotations

import argparse
import io
import json
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist

from clipedu.commands.arguments import build_parser, dashed, fill_in_defaults
from clipedu.commands.check import check_environment
from clipedu.commands.notes import notes_on_captions, notes_on_file
from clipedu.commands.reports import describe_left_out, describe_matches, draw_hits, plot_training_curve, score_table
from clipedu.data.dataset import ImageTextDataset
from clipedu.data.emoji import create_emoji
from clipedu.data.importing import import_captions
from clipedu.data.loading import worker_failed
from clipedu.data.scenes import create_scenes
from clipedu.encoders import ImageEncoder, TextEncoder, WordAverage
from clipedu.evaluation import evaluate
from clipedu.export.models import export_model
from clipedu.export.pages import export_search
from clipedu.ground.environment import (
    cache_folder,
    choose_device,
    gpu_memory,
    is_first_process,
    say,
    use_fast_arithmetic,
)
from clipedu.ground.errors import (
    CheckpointError,
    ClipEduError,
    ConfigError,
    MissingSplitError,
    PretrainedWeightsUnavailable,
)
from clipedu.ground.files import check_writable, whole_file
from clipedu.model import CLIP, Ensemble
from clipedu.optimization import TrainConfig
from clipedu.runs.checkpoint import load_checkpoint, load_model
from clipedu.runs.folder import checkpoint_folder, clear_run, find_checkpoint, newest_epoch
from clipedu.search import ImageIndex
from clipedu.tokenizer import SimpleTokenizer
from clipedu.training import train

USER_ERROR, INTERRUPTED = 2, 130
_MOST_WORKERS = 256


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit code is 0, 2 for bad input, or 130 after Ctrl-C."""
    words = [dashed(word) for word in (sys.argv[1:] if arguments is None else arguments)]
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # any name or caption can be printed
    try:
        options = build_parser().parse_args(words)
        return _COMMANDS[options.command](options) or 0
    except ClipEduError as error:
        return _complain(error)
    except OSError as error:
        return _complain(ClipEduError(f"读写文件失败：{error}", f"a file cannot be read or written: {error}"))
    except torch.cuda.OutOfMemoryError:
        return _complain(
            ClipEduError(
                "显存不足；请减小 --batch-size 或 --image-size", "out of GPU memory; lower --batch-size or --image-size"
            )
        )
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        return _complain(worker_failed(error))  # PyTorch raises it wherever the command is at that moment
    except KeyboardInterrupt:
        return INTERRUPTED
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()


def _complain(error: ClipEduError) -> int:
    print(f"错误 | error: {error}", file=sys.stderr)
    return USER_ERROR


# ------------------------------------------------------------------------------------------------- commands


def _train(options: argparse.Namespace) -> int:
    run_dir: Path = options.run_dir
    if options.test_only:
        return _test(options)
    started = load_model(options.init_from) if options.init_from else None
    if started:
        options.image_size = options.image_size or started[0].image_size
        options.freeze_image_encoder |= started[0].image_encoder.frozen
    config = fill_in_defaults(options)
    check_writable(checkpoint_folder(run_dir) / "final_model.pt")
    if options.resume == "never" and not options.force_train and newest_epoch(run_dir):
        raise CheckpointError(
            f"{run_dir} 里已有训练结果，而 --resume never 不许接着训练；请换一个 --run-dir，或用 --force-train 丢弃它",
            f"{run_dir} already has a run, and --resume never forbids resuming it; choose another --run-dir, or "
            "discard it with --force-train",
        )
    _start_processes(config)
    train_set = _dataset(options, "train", config.seed)
    val_set = _split_or_none(options, "val")
    if started:
        model, tokenizer = started
        if options.freeze_image_encoder:
            model.image_encoder.freeze()
    else:
        tokenizer = SimpleTokenizer.from_texts(train_set.all_captions()[0], options.vocab_size)
        torch.manual_seed(config.seed)
        model = _build_model(options, tokenizer)
    _say_notes([*notes_on_file(train_set), *notes_on_captions(train_set, tokenizer)])
    device = choose_device(config.device)
    if device.type == "cuda":
        use_fast_arithmetic()
        say("TF32, cuDNN benchmark: 为了速度，每次结果的末几位会不同 | for speed; the last bits of a result vary")
    say(
        f"{device}  {len(train_set)} pairs  {len(tokenizer)} tokens  "
        f"{sum(p.numel() for p in model.parameters() if p.requires_grad):,} trainable parameters"
    )
    if config.precision == "fp16" and device.type == "cpu":
        _say_notes(["fp16 在 CPU 上很慢；请用 --precision auto | fp16 is very slow on a CPU; use --precision auto"])
    if options.force_train and is_first_process():
        clear_run(run_dir)  # only now, when everything is ready for a new run
    history = train(model, tokenizer, train_set, val_set, config, run_dir)
    if len(history) < config.epochs:
        return INTERRUPTED
    if is_first_process():
        plot_training_curve(history, run_dir / "training_curve.png")
        if torch.cuda.is_available():
            say("GPU memory (GiB): " + ", ".join(f"{name} {value:.2f}" for name, value in gpu_memory().items()))
        _test(options)
    return 0


def _build_model(options: argparse.Namespace, tokenizer: SimpleTokenizer) -> CLIP:
    pretrained = options.pretrained != "none"
    try:
        image_encoder = ImageEncoder(options.image_encoder, pretrained, deep=options.freeze_image_encoder)
    except PretrainedWeightsUnavailable as error:
        if options.pretrained == "require" or options.freeze_image_encoder:
            raise
        say(
            f"注意：现改为从零训练（--pretrained auto）。原因：{error.zh} | "
            f"note: training from scratch instead (--pretrained auto): {error.en}"
        )
        image_encoder = ImageEncoder(options.image_encoder, pretrained=False)
    if options.freeze_image_encoder:
        if not pretrained:
            raise ConfigError(
                "随机权重冻结后什么也学不到：--freeze-image-encoder 不能与 --pretrained none 同用",
                "frozen random weights learn nothing: --freeze-image-encoder cannot be combined with --pretrained none",
            )
        image_encoder.freeze()

    def member() -> CLIP:
        words, dropout = len(tokenizer), options.dropout
        text_encoder = (
            TextEncoder(words, num_layers=options.text_layers, dropout=dropout, pooling=options.pooling)
            if options.text_layers
            else WordAverage(words, dropout=dropout)
        )
        return CLIP(image_encoder, text_encoder, options.embedding_dim, options.image_size, options.feature_dropout)

    return member() if options.members == 1 else Ensemble([member() for _ in range(options.members)])


def _dataset(options: argparse.Namespace, split: str, seed: int = 0) -> ImageTextDataset:
    """One split of the dataset; what takes no part in it is named."""
    if options.workers is not None and not 0 <= options.workers <= _MOST_WORKERS:
        raise ConfigError(
            f"--workers {options.workers} 应在 0 与 {_MOST_WORKERS} 之间",
            f"--workers {options.workers} must be between 0 and {_MOST_WORKERS}",
        )
    dataset = ImageTextDataset(
        options.data_dir, split, options.language, seed=seed, skip_broken=options.skip_broken, workers=options.workers
    )
    if dataset.left_out and is_first_process():
        say(describe_left_out(dataset.left_out, options.run_dir / f"left_out_{split}.txt"))
    return dataset


def _say_notes(notes: Iterable[str]) -> None:
    for note in notes:
        say(f"注意 | note: {note}")


def _split_or_none(options: argparse.Namespace, split: str) -> ImageTextDataset | None:
    """The `val` or `test` split, or None: not every dataset has one."""
    try:
        return _dataset(options, split)
    except MissingSplitError as error:
        say(str(error))
        return None


def _test(options: argparse.Namespace) -> int:
    """Recall of the run's best checkpoint on `test`, and a few matches to look at."""
    model, tokenizer = load_model(options.run_dir)
    test_set = _split_or_none(options, "test")
    if test_set is not None:
        model.to(choose_device(options.device))
        say(score_table("test", evaluate(model, tokenizer, test_set)))
        say(describe_matches(model, tokenizer, test_set))
    say(str(find_checkpoint(options.run_dir)))
    return 0


def _start_processes(config: TrainConfig) -> None:
    """Join the other processes if torchrun started this one: NCCL on GPUs, Gloo on CPUs."""
    if "WORLD_SIZE" not in os.environ:
        return
    if choose_device(config.device).type != "cuda":
        if config.sync_batch_norm:
            raise ConfigError(
                "PyTorch 的 SyncBatchNorm 只能在 GPU 上运行；请去掉 --sync-batch-norm",
                "PyTorch's SyncBatchNorm runs on GPUs only; drop --sync-batch-norm",
            )
        dist.init_process_group("gloo")
        return
    number = int(os.environ["LOCAL_RANK"])
    gpus = torch.cuda.device_count()
    if number >= gpus:
        raise ConfigError(
            f"这台电脑有 {gpus} 个 GPU，第 {number + 1} 个进程没有 GPU 可用；请调小 --nproc-per-node",
            f"this computer has {gpus} GPUs, none for process {number + 1}; lower --nproc-per-node",
        )
    torch.cuda.set_device(number)
    # The first process evaluates on `val` while the others wait for it, which may take longer than NCCL's 10 minutes.
    dist.init_process_group("nccl", timeout=timedelta(hours=2), device_id=torch.device("cuda", number))


def _evaluate(options: argparse.Namespace) -> None:
    if options.json:
        check_writable(options.json)
    model, tokenizer = load_model(options.run_dir)
    model.to(choose_device(options.device))
    dataset = _dataset(options, options.split)
    _say_notes(notes_on_captions(dataset, tokenizer))
    scores = evaluate(model, tokenizer, dataset)
    if options.json:
        with whole_file(options.json) as temporary:
            temporary.write_text(json.dumps(scores, indent=1), encoding="utf-8")
    print(f"{find_checkpoint(options.run_dir)}\n{score_table(options.split, scores)}")


def _search(options: argparse.Namespace) -> None:
    if options.top < 1:
        raise ConfigError(f"--top {options.top} 应至少为 1", f"--top {options.top} must be at least 1")
    for sentence in options.sentences:
        if not SimpleTokenizer.tokenize_text(sentence):
            raise ConfigError(f"句子 {sentence!r} 里没有词", f"sentence {sentence!r} has no words")
    if options.out:
        check_writable(options.out)
    model, tokenizer = load_model(options.run_dir)
    model.to(choose_device(options.device))
    index = ImageIndex(model, tokenizer, options.images)
    if index.left_out:
        print(describe_left_out(index.left_out, cache_folder() / "left_out.txt"), file=sys.stderr)
    sentences = _understood(options.sentences, tokenizer)
    results = {sentence: index.search(sentence, options.top) for sentence in sentences}
    for sentence, hits in results.items():
        print(sentence)
        for hit in hits:
            print(f"  {hit.similarity:+.3f}  {hit.path}")
    if options.out:
        draw_hits(results, options.out)


def _understood(sentences: Sequence[str], tokenizer: SimpleTokenizer) -> list[str]:
    """The sentences of which the model knows a word; the words that it does not know are named."""
    unknown = {sentence: tokenizer.unknown_words(sentence) for sentence in sentences}
    known = [sentence for sentence in sentences if {*tokenizer.tokenize_text(sentence)} - {*unknown[sentence]}]
    if not known:
        all_words = " ".join(word for words in unknown.values() for word in words)
        raise ConfigError(
            f"模型一个词也不认识：{all_words}；请换一种说法或语言",
            f"the model knows none of these words: {all_words}; try other words or another language",
        )
    for sentence, words in unknown.items():
        if sentence not in known:
            print(
                f"略去 {sentence}：模型一个词也不认识 | skipped {sentence}: the model knows none of its words",
                file=sys.stderr,
            )
        elif words:
            unread = " ".join(words)
            print(f"{sentence}：模型不认识 {unread} | {sentence}: the model does not know {unread}", file=sys.stderr)
    return known


def _export(options: argparse.Namespace) -> None:
    model, tokenizer = load_model(options.run_dir)
    history = load_checkpoint(find_checkpoint(options.run_dir))["training"].get("history", [])
    if options.images is None:
        card = export_model(model, tokenizer, options.out, history=history)
        difference = max(card["difference_from_pytorch"].values())
        print(f"{options.out}: 与 PyTorch 最多相差 {difference:.0e} | differs from PyTorch by at most {difference:.0e}")
        for name, file in card["files"].items():
            print(f"  {file['bytes'] / 1e6:6.1f} MB  {name}")
        return
    index = export_search(model, tokenizer, options.images, options.out, history)
    if index.left_out:
        print(describe_left_out(index.left_out, cache_folder() / "left_out.txt"), file=sys.stderr)
    print(f"{options.out}: {len(index.paths):,} 张图片 | {len(index.paths):,} pictures")
    print(f"打开 | to open: python -m http.server --directory {options.out}  ->  http://localhost:8000")


def _create_dataset(options: argparse.Namespace) -> None:
    {"scenes": create_scenes, "emoji": create_emoji}[options.kind](options.out, options.seed)
    print(f"完成 | done: {options.out}")


def _import_captions(options: argparse.Namespace) -> None:
    if bool(options.english or options.chinese) == options.class_folders:
        raise ConfigError(
            "请给出 --english、--chinese（或两者），或者只给 --class-folders",
            "pass --english, --chinese or both; or --class-folders alone",
        )
    splits = [(split, path) for split in ("train", "val", "test") if (path := getattr(options, split))]
    report = import_captions(options.out, options.english, options.chinese, splits, options.class_folders)
    by_split = ", ".join(f"{split} {count:,}" for split, count in report.pictures.items())
    print(
        f"{options.out / 'dataset.json'}: {report.pictures.total():,} 张图片，{report.captions:,} 条说明 | "
        f"{report.pictures.total():,} pictures, {report.captions:,} captions ({by_split})"
    )
    for line in (*report.notes, describe_left_out(report.left_out, options.out / "left_out.txt")):
        if line:
            print(line)


def _check(options: argparse.Namespace) -> int:
    checks = check_environment(options.data_dir)
    print("\n".join(map(str, checks)))
    return 0 if all(check.ok for check in checks) else USER_ERROR


_COMMANDS: dict[str, Callable[[argparse.Namespace], int | None]] = {
    "train": _train,
    "evaluate": _evaluate,
    "search": _search,
    "export": _export,
    "create-dataset": _create_dataset,
    "import-captions": _import_captions,
    "check": _check,
}
