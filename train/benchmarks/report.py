"""The printed form of the rollout benchmark's numbers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

DIFFERENCES = {
    "tokens": "share of tokens",
    "log_probs": "largest, of log-probs",
    "pixels": "largest, of colours in [0, 1]",
}
PARTS = {
    "decode_loop": "all tokens",
    "draw": "logits, sampling and statistics of one token",
    "guided_step": "all branches",
    "decode_pixels": "autoencoder",
}


def lines(report: dict[str, Any]) -> Iterator[str]:
    """The lines of a table for each rollout."""
    settings, device = report["settings"], report["device"]
    yield (
        f"{settings['model']}, {report['dtype']}, on {device['platform']} ({device['kind']}), "
        f"jax {report['jax']}, medians of {settings['repeat']}"
    )
    group = f"{settings['batch']} prompts x {settings['samples']} samples"
    if "text" in report:
        text = report["text"]
        rows = f"prompts of {text['rows']} rows in a bucket of {text['bucket']}"
        yield f"\ntext rollout: {group} x {settings['tokens']} tokens, {rows}"
        yield from _rows(text, "tokens")
    if "image" in report:
        size = f"{settings['size']} x {settings['size']} pixels"
        yield f"\nimage rollout: {group}, {settings['steps']} steps, {size}"
        yield from _rows(report["image"], "images")
    result = "passed" if report["passed"] else "FAILED: recompilations, or forms that differ"
    exact = report["dtype"] == "float32"
    yield f"\n{result}{'' if exact else '; differences are not judged in ' + report['dtype']}"


def _rows(measured: dict[str, Any], unit: str) -> Iterator[str]:
    for form in ("engine", "plain"):
        if form in measured:
            rate, seconds = measured[form][f"{unit}_per_second"], measured[form]["seconds"]
            yield _row(form, f"{rate:.4g} {unit}/s", f"{seconds:.4g} s")
    if "plain" in measured:
        yield _row("ratio", f"{measured['ratio']:.2f}")
    for name, value in measured.get("differences", {}).items():
        yield _row("difference", f"{value:.1e}", DIFFERENCES[name])
    compilation = measured["compilation"]
    yield _row("compilation", f"{compilation['compile_seconds']:.3g} s", _programs(compilation))
    yield _row("recompilations", str(compilation["recompilations"]))
    for name, seconds in measured["parts"].items():
        yield _row(name.replace("_", " "), f"{seconds * 1e3:.4g} ms", PARTS.get(name, ""))
    yield from _step(measured["step"])


def _programs(compilation: dict[str, Any]) -> str:
    return (
        f"{compilation['backend_seconds']:.3g} s of it in the backend; "
        f"programs: {compilation['programs']}, read from the cache: {compilation['cached']}"
    )


def _step(step: dict[str, Any]) -> Iterator[str]:
    rate, bandwidth = step["gflops_per_second"], step["gigabytes_per_second"]
    yield _row("step", f"{step['seconds'] * 1e3:.4g} ms", "once round the loop, all samples")
    yield _row("step computes", f"{step['flops'] / 1e9:.4g} GFLOP", f"{rate:.4g} GFLOP/s")
    read = f"{step['parameter_bytes'] / 1e6:.4g} + {step['context_bytes'] / 1e6:.4g} MB"
    yield _row("step reads", read, f"parameters + context, {bandwidth:.4g} GB/s")
    if "bandwidth_share" in step:
        yield _row("of bandwidth", f"{step['bandwidth_share']:.1%}")


def _row(name: str, value: str, more: str = "") -> str:
    return f"  {name:<15} {value:>20}  {more}".rstrip()
