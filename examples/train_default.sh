#!/usr/bin/env bash
# The embedded model, from the data folder to the weights, and what it is like on places that it has not seen.
#
#   examples/train_default.sh DATA OUT [TIME [STEPS]]
#
# DATA holds images/ and labels/ of the ohio_naip tiles (NAIP, 0.6 m; see geosynth/weights/MODEL_CARD.md). OUT is a new
# folder; a run that was interrupted goes on. There are two trainings: the first sees turned patches and learns colours
# and shapes, the second goes on from it with north up, so that the light comes from one side, and with weaker ties to
# the real images, which brings the texture. TIME bounds the first (default 2h, for a CPU; the embedded weights took 340s
# on a GPU), STEPS the second (default 3500, an hour of one core). OUT/model.safetensors is the model,
# OUT/report/report.html says what it is worth on the fold "test", OUT/test/ holds the largest place of that fold:
# real.tif, labels.tif, synthetic.tif and a preview.
set -euo pipefail
data=$1 out=$2 time=${3:-2h} steps=${4:-3500}
here=$(dirname "$0")

[ -d "$out/ohio.zarr" ] || geosynth ingest --images "$data/images" --labels "$data/labels" --out "$out/ohio.zarr" \
    --label-legend "$here/ohio_naip_legend.yaml" --bands red,green,blue,nir

[ -f "$out/first/model.safetensors" ] || geosynth train --data "$out/ohio.zarr" --out "$out/first" --fold train \
    --max-time "$time" --steps 1000000 --batch-size 12 --crop-size 192 --set max_multiple=6 \
    --set generator_rate=2e-4 --set perceptual_weight=2 --set workers=2 --set log_every=100 --set preview_every=1000

[ -f "$out/second/model.safetensors" ] || geosynth train --data "$out/ohio.zarr" --out "$out/second" --fold train \
    --init "$out/first/model.safetensors" --steps "$steps" --batch-size 8 --crop-size 128 --set turn=false \
    --set feature_weight=3 --set perceptual_weight=1 --set kl_weight=0.01 --set warmup=0.14 --set decay_from=1 \
    --set log_every=100 --set preview_every=1000

python "$here/quiet_noise.py" "$out/second/model.safetensors" "$out/model.safetensors" --factor 0 --blocks 2

python "$here/assemble_cluster.py" "$out/ohio.zarr" --fold test --out "$out/test"
geosynth generate --labels "$out/test/labels.tif" --model "$out/model.safetensors" \
    --out "$out/test/synthetic.tif" --preview --overwrite

geosynth evaluate --data "$out/ohio.zarr" --model "$out/model.safetensors" --fold test \
    --out "$out/report" --tile-size 128 --overwrite
