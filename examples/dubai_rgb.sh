#!/usr/bin/env bash
# A different kind of data: three bands, no CRS, another legend. The commands are those of train_default.sh.
#
#   examples/dubai_rgb.sh DATA OUT [HOURS]
#
# DATA contains scene_*/images and scene_*/masks of the Dubai tiles (MBRSC imagery, labels by Humans in the Loop, CC0).
# OUT is a new folder; an interrupted run continues. HOURS limits the training (default 0.5). Scene 1 is kept for the
# test; the others are for training.
set -euo pipefail
data=$1 out=$2 hours=${3:-0.5}
here=$(dirname "$0")
test=scene_1

[ -f "$out/scenes/scenes.csv" ] || python "$here/dubai_scenes.py" "$data" --test "$test" --out "$out/scenes"

[ -d "$out/dubai.zarr" ] || geosynth ingest --items "$out/scenes/scenes.csv" --out "$out/dubai.zarr" \
    --legend "$here/dubai_rgb_legend.yaml" --bands red,green,blue

[ -f "$out/model/model.safetensors" ] || geosynth train --data "$out/dubai.zarr" --out "$out/model" --fold train \
    --batch-size 4 --steps 6000 --max-time "${hours}h" --set max_multiple=6 --set generator_rate=2e-4

geosynth generate --labels "$out/scenes/labels/$test.tif" --model "$out/model/model.safetensors" \
    --out "$out/synthetic.tif" --preview --overwrite

geosynth evaluate --real "$out/scenes/images/$test.tif" --synthetic "$out/synthetic.tif" \
    --labels "$out/scenes/labels/$test.tif" --legend "$here/dubai_rgb_legend.yaml" \
    --out "$out/report" --tile-size 128 --overwrite
