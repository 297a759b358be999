"""Adapters as PEFT folders: `adapter_config.json` and `adapter_model.safetensors`.

PEFT keeps one pair of matrices per layer, A (rank, in) and B (out, rank), under the official module
name; we keep their transposes, stacked over the layers. Official names come from a function of our
module path, and a stack shares one (`models.checkpoint.layer_name`).
"""

from __future__ import annotations

import json
import math
import re
import statistics
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import Any

import jax

from asg_jax.adapters import LoRASpec, init, linear_maps
from asg_jax.backbone import Adapter, LoRA, PyTree
from asg_jax.errors import UserError
from asg_jax.models import checkpoint as files
from asg_jax.models.checkpoint import LINEAR, Checkpoint, Source
from asg_jax.models.config_files import read_object
from asg_jax.ranges import Range

Naming = Callable[[str], str]

CONFIG_FILE = "adapter_config.json"
WEIGHTS_FILE = "adapter_model.safetensors"
PREFIX = "base_model.model."

# What PEFT assumes where the file is silent.
DEFAULTS = {
    "r": 8,
    "lora_alpha": 8,
    "bias": "none",
    "init_lora_weights": True,
    "use_rslora": False,
    "target_modules": None,
    "exclude_modules": None,
    "rank_pattern": None,
    "alpha_pattern": None,
}
# Fields that, once set, ask for more than y += scale * (x a) b on a linear map.
UNSUPPORTED = (
    "use_dora",
    "use_qalora",
    "use_bdlora",
    "lora_bias",
    "modules_to_save",
    "target_parameters",
    "trainable_token_indices",
    "layer_replication",
    "megatron_config",
    "alora_invocation_tokens",
    "arrow_config",
    "kasa_config",
    "monteclora_config",
)
# Other ways to start also change the base weights, which the folder does not hold.
INITS = (True, False, "gaussian", "orthogonal", "eva")


def _rank(value: Any) -> bool:
    return type(value) is int and not Range(least=1, most=100_000).fault(value)


def _real(value: Any) -> bool:
    return type(value) in (int, float) and not Range().fault(float(value))


def _pattern(value: Any) -> bool:
    try:
        return isinstance(value, str) and re.compile(value) is not None
    except (re.error, RecursionError, OverflowError):
        return False


def _rule(value: Any) -> bool:
    texts = isinstance(value, list) and all(isinstance(item, str) for item in value)
    return value is None or texts or _pattern(value)


def _patterns(fits: Callable[[Any], bool]) -> Callable[[Any], bool]:
    def check(value: Any) -> bool:
        if not isinstance(value, dict):
            return value is None
        return all(_pattern(f"(.*\\.)?({name})$") and fits(v) for name, v in value.items())

    return check


# What the fields that are read must be.
KINDS = {
    "r": (_rank, "a whole number, at least 1 and at most 100000"),
    "lora_alpha": (_real, "a finite number"),
    "use_rslora": (lambda value: isinstance(value, bool), "true or false"),
    "target_modules": (_rule, "a regular expression or a list of names"),
    "exclude_modules": (_rule, "a regular expression or a list of names"),
    "rank_pattern": (_patterns(_rank), "an object of regular expressions and ranks"),
    "alpha_pattern": (_patterns(_real), "an object of regular expressions and finite numbers"),
}


def save(folder: Path, adapter: Adapter, official: Naming, base_model: str) -> None:
    """Writes a folder that PEFT's `PeftModel.from_pretrained` reads.

    Args:
      folder: created if need be.
      adapter: factors, written in their own dtype.
      official: our module path -> official module name.
      base_model: name of the base, as it shall stand in the configuration.
    """
    folder.mkdir(parents=True, exist_ok=True)
    config = _config(adapter, official, base_model)
    (folder / CONFIG_FILE).write_text(json.dumps(config, indent=2) + "\n")
    tree = _tree(adapter)
    files.export(folder / WEIGHTS_FILE, tree, files.tensor_table(tree, _source(official)))


def load(folder: Path, base: PyTree, official: Naming) -> Adapter:
    """Reads an adapter, float32, that PEFT or `save` wrote.

    Args:
      folder: the adapter's.
      base: parameters that the adapter belongs to, or their shapes.
      official: our module path -> official module name.

    Raises:
      UserError: a file is missing or damaged, the adapter is more than a plain LoRA, or it does
        not fit the model.
    """
    config = _read_config(folder / CONFIG_FILE)
    weights = Checkpoint([folder / WEIGHTS_FILE])
    specs = _specs(config, weights.file, base, official, folder)
    abstract = jax.eval_shape(lambda key: init(key, base, specs), jax.random.key(0))
    tree = _tree(abstract)
    table = files.tensor_table(tree, _source(official))
    files.check(weights, table)
    loaded = files.load(weights, tree, table)
    return {path: LoRA(**loaded[path], scale=lora.scale) for path, lora in abstract.items()}


def _tree(adapter: Adapter) -> PyTree:
    return {path: {"a": lora.a, "b": lora.b} for path, lora in adapter.items()}


def _source(official: Naming) -> Callable[[str, int], Source]:
    def source(path: str, axes: int) -> Source:
        module, factor = path.rsplit(".", 1)
        return Source(f"{PREFIX}{official(module)}.lora_{factor.upper()}.weight", LINEAR)

    return source


def _config(adapter: Adapter, official: Naming, base_model: str) -> dict[str, Any]:
    patterns = {
        path: re.sub(r"\\{n.*?\\}", r"\\d+", re.escape(official(path))) for path in sorted(adapter)
    }
    ranks = {path: lora.a.shape[-1] for path, lora in adapter.items()}
    alphas = {path: _alpha(lora.scale, ranks[path]) for path, lora in adapter.items()}
    rank, alpha = statistics.mode(ranks.values()), statistics.mode(alphas.values())
    return {
        "peft_type": "LORA",
        "task_type": None,
        "base_model_name_or_path": base_model,
        "inference_mode": True,
        # PEFT matches a string against the whole name, the entries of a list against its end.
        "target_modules": "|".join(patterns.values()),
        "r": rank,
        "lora_alpha": alpha,
        "rank_pattern": {f"^{patterns[p]}": r for p, r in sorted(ranks.items()) if r != rank},
        "alpha_pattern": {f"^{patterns[p]}": a for p, a in sorted(alphas.items()) if a != alpha},
        "lora_dropout": 0.0,
        "bias": "none",
        "fan_in_fan_out": False,
        "init_lora_weights": True,
        "use_rslora": False,
        "use_dora": False,
        "modules_to_save": None,
    }


def _alpha(scale: float, rank: int) -> float:
    # Fifteen digits give back an alpha of few digits, which the bare product may miss by a bit.
    alpha = float(f"{scale * rank:.15g}")
    return alpha if alpha / rank == scale else scale * rank


def _read_config(path: Path) -> dict[str, Any]:
    config = {**DEFAULTS, **read_object(path, "name the folder of a PEFT adapter")}
    found = [
        f"{field} is {json.dumps(config[field])[:60]}; it must be {must}."
        for field, (fits, must) in KINDS.items()
        if not fits(config[field])
    ]
    if found:
        raise UserError(f"{path}: {' '.join(found)} Restore the file.")
    plain = {field: not config.get(field) for field in UNSUPPORTED} | {
        "peft_type": config.get("peft_type") == "LORA",
        "bias": config["bias"] == "none",
        "init_lora_weights": any(config["init_lora_weights"] == known for known in INITS),
    }
    for field, supported in plain.items():
        if not supported:
            raise UserError(
                f"{path} sets {field} to {json.dumps(config.get(field))}, but only plain LoRA on "
                "linear maps can be loaded; merge the adapter into its base with PEFT instead."
            )
    return config


def _specs(
    config: dict[str, Any], tensors: Iterable[str], base: PyTree, official: Naming, folder: Path
) -> list[LoRASpec]:
    """What the adapter covers: the modules it holds tensors of, and those its targets name."""
    held = {re.sub(r"\.lora_[AB]\.weight$", "", t.removeprefix(PREFIX)) for t in tensors}
    specs = []
    for path, kernel in linear_maps(base).items():
        layers = kernel.shape[0] if kernel.ndim == 3 else 1
        names = [files.layer_name(official(path), n) for n in range(layers)]
        if held.isdisjoint(names) and not any(_targeted(config, name) for name in names):
            continue
        absent = [name for name in names if name not in held]
        if 0 < len(absent) < layers:
            raise UserError(
                f"the adapter in {folder} leaves out {', '.join(absent)}, but covers other layers "
                "of that stack; train it on all layers or on none."
            )
        sizes = {_size(config, name) for name in names}
        if len(sizes) > 1:
            raise UserError(
                f"the adapter in {folder} gives the layers of {official(path)} different ranks or "
                "alphas; one rank and one alpha must serve all layers of a stack."
            )
        specs.append(LoRASpec(re.escape(path), *sizes.pop()))
    if not specs:
        raise UserError(
            f"the adapter in {folder} covers no linear map of the model (target_modules is "
            f"{json.dumps(config['target_modules'])}); take the base that it was trained on."
        )
    return specs


def _targeted(config: dict[str, Any], name: str) -> bool:
    """Whether PEFT would give the module an adapter."""
    targets, excluded = config["target_modules"] or [], config["exclude_modules"] or []
    return _selects(targets, name) and not _selects(excluded, name)


def _selects(rule: str | Collection[str], name: str) -> bool:
    if isinstance(rule, str):
        return re.fullmatch(rule, name) is not None
    return any(name == end or name.endswith(f".{end}") for end in rule)


def _size(config: dict[str, Any], name: str) -> tuple[int, float]:
    """Rank and alpha of a module: of the first pattern that matches the end of its name."""

    def value(patterns: dict[str, Any] | None, default: Any) -> Any:
        matches = (v for p, v in (patterns or {}).items() if re.match(rf"(.*\.)?({p})$", name))
        return next(matches, default)

    rank = value(config["rank_pattern"], config["r"])
    alpha = float(value(config["alpha_pattern"], config["lora_alpha"]))
    return rank, alpha * math.sqrt(rank) if config["use_rslora"] else alpha
