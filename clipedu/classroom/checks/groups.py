"""Shared by two checks: reads the optimizer's parameter groups by parameter name."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from clipedu.classroom.checks.framework import Answer, Messages

MESSAGES: Messages = {
    "type": "应返回一个列表，每一项是一个 dict\nexpected a list of dicts",
    "key": "每组都要写明 params 和 {key}，否则优化器用它自己的默认值；得到 {found}\n"
    "each group needs params and {key}, or the optimizer uses its default; got {found}",
    "foreign": "params 里有不属于模型的东西（是副本，还是名字？）\n"
    "params contains something that is not a parameter of the model (a copy, or a name?)",
    "twice": "{name} 出现了两次\n{name} appears twice",
    "frozen": "{name} 已冻结（requires_grad 为 False），不应交给优化器\n"
    "{name} is frozen (requires_grad is False): do not give it to the optimizer",
    "missing": "{count} 个参数不在任何一组里，永远不会被训练，如 {name}\n"
    "{count} parameters are in no group and will never be trained, such as {name}",
}


def settings_by_name(answer: Answer, groups: Any, model: nn.Module, key: str) -> dict[str, float]:
    """Each parameter's value for `key`, if the groups contain every trainable parameter exactly once."""
    answer.must(isinstance(groups, list) and all(isinstance(group, dict) for group in groups), "type")
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    settings: dict[str, float] = {}
    for group in groups:
        answer.must({"params", key} <= set(group), "key", key=key, found=sorted(map(str, group)))
        for parameter in [group["params"]] if isinstance(group["params"], Tensor) else group["params"]:
            name = names.get(id(parameter))
            if name is None:
                answer.refuse("foreign")
            answer.must(name not in settings, "twice", name=name)
            settings[name] = float(group[key])
    trainable = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    frozen = [name for name in settings if name not in trainable]
    answer.must(not frozen, "frozen", name="".join(frozen[:1]))
    missing = [name for name in trainable if name not in settings]
    answer.must(not missing, "missing", name="".join(missing[:1]), count=len(missing))
    return settings
