#!/usr/bin/env bash
# Measures the 7B with random weights on one accelerator, in some minutes: decoding, prefilling,
# drawing, the autoencoder, attention, both kinds of steps and their updates. Everything that is
# printed here was measured now; what `asg-jax fit` prints is estimated.
#
#     tools/accelerator_check.sh [FOLDER]      all numbers as JSON files go into FOLDER
set -euo pipefail
out=${1:-accelerator_check_$(date +%Y%m%d_%H%M%S)}
mkdir -p "$out"

failed=0

say() { printf '\n== %s (%d s)\n' "$*" "$SECONDS"; }
# One benchmark; the others follow even if it fails.
bench() { asg-jax bench "$@" || failed=1; }

# A small share of a run: the shapes of one step on few pictures.
step=(
    --config=bagel_7b:asg:h200 --config.model=random:bagel-7b --config.language=english
    --config.batch.understanding=4 --config.batch.generation=2 --config.method.sampler.steps=10
    --repeat=1
)

say "Attention at the shapes of the 7B"
bench attention --out="$out/attention.json"
say "Texts: 8 prompts of 1024 rows x 8 samples x 64 tokens"
bench rollout --model=random:bagel-7b --dtype=bfloat16 --only=text --skip_plain \
    --batch=8 --samples=8 --tokens=64 --context=1024 --repeat=3 --out="$out/text.json"
say "Pictures of 1024 pixels: guided steps and the autoencoder"
bench rollout --model=random:bagel-7b --dtype=bfloat16 --only=image --skip_plain \
    --batch=2 --samples=1 --steps=4 --size=1024 --repeat=2 --out="$out/image.json"
say "Steps of a run, program by program"
bench cycle "${step[@]}" --out="$out/cycle.json"
say "Done; JSON in $out"
exit "$failed"
