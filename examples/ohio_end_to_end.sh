#!/usr/bin/env bash
# From imagery and labels to a model, a synthetic image of a place it has not seen, and a report.
#
#   examples/ohio_end_to_end.sh DATA OUT [HOURS]
#
# DATA holds images/ and labels/ of the ohio_naip tiles (NAIP, 0.6 m; see geosynth/weights/MODEL_CARD.md). OUT is a new
# folder; a run that was interrupted goes on. HOURS bounds the training (default 1).
set -euo pipefail
data=$1 out=$2 hours=${3:-1}
here=$(dirname "$0")

[ -d "$out/ohio.zarr" ] || geosynth ingest --images "$data/images" --labels "$data/labels" --out "$out/ohio.zarr" \
    --label-legend "$here/ohio_naip_legend.yaml" --bands red,green,blue,nir

[ -f "$out/model/model.safetensors" ] || geosynth train --data "$out/ohio.zarr" --out "$out/model" --fold train \
    --steps 4000 --max-time "${hours}h" --set max_multiple=6 --set generator_rate=2e-4

python "$here/assemble_cluster.py" "$out/ohio.zarr" --fold test --out "$out/test"

geosynth generate --labels "$out/test/labels.tif" --model "$out/model/model.safetensors" \
    --out "$out/test/synthetic.tif" --preview --overwrite

geosynth evaluate --real "$out/test/real.tif" --synthetic "$out/test/synthetic.tif" --labels "$out/test/labels.tif" \
    --out "$out/report" --tile-size 64 --overwrite
