#!/usr/bin/env bash
# The embedded model, from the data folder to the weights, and what it is like on places that it has not seen.
#
#   examples/train_default.sh DATA OUT [TIME]
#
# DATA holds images/ and labels/ of the ohio_naip tiles (NAIP, 0.6 m; see geosynth/weights/MODEL_CARD.md). OUT is a new
# folder; a run that was interrupted goes on. TIME bounds the training (default 2h, for a CPU; the embedded weights took
# 340s on a GPU). OUT/model/model.safetensors is the model, OUT/report/report.html says what it is worth on the fold
# "test", OUT/test/ holds the largest place of that fold: real.tif, labels.tif, synthetic.tif and a preview.
set -euo pipefail
data=$1 out=$2 time=${3:-2h}
here=$(dirname "$0")

[ -d "$out/ohio.zarr" ] || geosynth ingest --images "$data/images" --labels "$data/labels" --out "$out/ohio.zarr" \
    --label-legend "$here/ohio_naip_legend.yaml" --bands red,green,blue,nir

[ -f "$out/model/model.safetensors" ] || geosynth train --data "$out/ohio.zarr" --out "$out/model" --fold train \
    --max-time "$time" --steps 1000000 --batch-size 12 --crop-size 192 --set max_multiple=6 \
    --set generator_rate=2e-4 --set perceptual_weight=2 --set workers=2 --set log_every=100 --set preview_every=1000

python "$here/assemble_cluster.py" "$out/ohio.zarr" --fold test --out "$out/test"
geosynth generate --labels "$out/test/labels.tif" --model "$out/model/model.safetensors" \
    --out "$out/test/synthetic.tif" --preview --overwrite

geosynth evaluate --data "$out/ohio.zarr" --model "$out/model/model.safetensors" --fold test \
    --out "$out/report" --tile-size 128 --overwrite
