#!/usr/bin/env bash
# The embedded model, from the data folder to the weights, and its evaluation on places that it has not seen.
#
#   examples/train_default.sh DATA OUT [TIME [STEPS]]
#
# DATA contains images/ and labels/ of the ohio_naip tiles (NAIP, 0.6 m; see geosynth/weights/MODEL_CARD.md). OUT is a
# new folder; an interrupted run continues. First, woods drawn as water and a field drawn as a building are corrected.
# Then there are five trainings: "first" sees rotated patches and learns colours and shapes; "second" continues from it
# with north up, so that the light comes from one side, and with weaker ties to the real images, which gives the
# texture; "patch" and "oasis" continue from that with two discriminators, and the mean of the last three is continued
# as "looks", which is conditioned on looks. TIME limits the first (default 2h, for a CPU; the embedded weights took
# 340s on a GPU), STEPS the second (default 3500, an hour on one core); the others follow in proportion.
# OUT/model.safetensors is the model, OUT/report/report.html evaluates it on the fold "test", and OUT/test/ has the
# largest place of that fold: real.tif, labels.tif, synthetic.tif and a preview.
set -euo pipefail
data=$1 out=$2 time=${3:-2h} steps=${4:-3500}
here=$(dirname "$0")

ingest() {  # labels, store
    [ -d "$2" ] || geosynth ingest --images "$data/images" --labels "$1" --out "$2" \
        --label-legend "$here/ohio_naip_legend.yaml" --bands red,green,blue,nir
}

ingest "$data/labels" "$out/ohio.zarr"
if ! [ -d "$out/labels" ]; then
    rm -rf "$out/labels.partial"
    python "$here/mend_ohio_labels.py" "$data/images" "$data/labels" "$out/labels.partial"
    mv "$out/labels.partial" "$out/labels"
fi
ingest "$out/labels" "$out/mended.zarr"
# Folds are stratified by class, so other labels would give other folds.
geosynth split --data "$out/ohio.zarr" --by clusters --file-only --out "$out/folds.parquet" --overwrite
geosynth split --data "$out/mended.zarr" --by polygons --polygons "$out/folds.parquet"

train() {  # name, settings
    [ -f "$out/$1/model.safetensors" ] || geosynth train --data "$out/mended.zarr" --out "$out/$1" --fold train \
        --set log_every=100 --set preview_every=1000 "${@:2}"
}
going_on=(--set turn=false --set feature_weight=3 --set perceptual_weight=1 --set kl_weight=0.01)
with_augmentation=(--init "$out/second.safetensors" --crop-size 128 "${going_on[@]}" --set noise_rate=0
    --set augment=0.5 --set ema_decay=0.998)

train first --max-time "$time" --steps 1000000 --batch-size 12 --crop-size 192 --set max_multiple=6 \
    --set generator_rate=2e-4 --set perceptual_weight=2 --set workers=2
train second --init "$out/first/model.safetensors" --steps "$steps" --batch-size 8 --crop-size 128 \
    "${going_on[@]}" --set warmup=0.14 --set decay_from=1
python "$here/quiet_noise.py" "$out/second/model.safetensors" "$out/second.safetensors" --factor 0 --blocks 2
train patch "${with_augmentation[@]}" --steps $((steps * 23 / 100)) --batch-size 8 --set class_balance=0.3 \
    --set decay_from=0.6
train oasis "${with_augmentation[@]}" --steps $((steps * 29 / 100)) --batch-size 32 --set class_balance=0.5 \
    --set discriminator=oasis --set generator_rate=2e-4
python "$here/average_models.py" "$out/mended.zarr" "$out/second.safetensors" "$out/patch/model.safetensors" \
    "$out/oasis/model.safetensors" --out "$out/one_look.safetensors"

# A fifth training makes the looks: of Ohio and of West Virginia in two seasons. WEST_VIRGINIA names a folder with
# naip_summer/, naip_autumn/ and lc/ of the patches of one NAIP tile, where woods labelled as low vegetation are
# corrected first; without it, there is only the look of Ohio. With PATCHES='[0127]' the other four of its eight patches
# are left out, to measure on them.
as_if_of_60cm() {  # source, target; pixels are copied one by one
    python - "$@" <<'END'
import shutil, sys
import rasterio
from affine import Affine
source, target = sys.argv[1:]
shutil.copyfile(source, target)
with rasterio.open(target, "r+") as file:
    left, top = (0.6 * round(value / 0.6) for value in (file.transform.c, file.transform.f))  # the same lattice for all
    file.transform = Affine(0.6, 0, left, 0, -0.6, top)
END
}
stores=$out/stores names=ohio-summer shares=6
mkdir -p "$stores"
if [ -n "${WEST_VIRGINIA:-}" ] && ! [ -d "$out/west_virginia/lc" ]; then
    rm -rf "$out/west_virginia/lc.partial"
    python "$here/mend_west_virginia_labels.py" "$WEST_VIRGINIA/naip_summer" "$WEST_VIRGINIA/lc" \
        "$out/west_virginia/lc.partial"
    mv "$out/west_virginia/lc.partial" "$out/west_virginia/lc"
fi
ln -sfn "$(realpath "$out/mended.zarr")" "$stores/1_ohio.zarr"
for season in ${WEST_VIRGINIA:+summer autumn}; do
    names=$names,chesapeake-$season shares=$shares,1 place=$out/west_virginia/$season
    store=$stores/$([ $season = summer ] && echo 2 || echo 3)_$season.zarr
    [ -d "$store" ] && continue
    mkdir -p "$place/images" "$place/labels"
    for file in "$out"/west_virginia/lc/*-${PATCHES:-[0-7]}.tif; do
        as_if_of_60cm "$file" "$place/labels/$(basename "$file")"
        as_if_of_60cm "$WEST_VIRGINIA/naip_$season/$(basename "$file")" "$place/images/$(basename "$file")"
    done
    geosynth ingest --images "$place/images" --labels "$place/labels" --out "$store" \
        --bands red,green,blue,nir --shares 1,0,0
done
[ -f "$out/looks/model.safetensors" ] || geosynth train --data "$stores" --out "$out/looks" --fold train \
    --init "$out/one_look.safetensors" --steps $((steps * 2)) --batch-size 8 --crop-size 128 --set turn=false \
    --set style_lengths=[72,24,72,72,24,40] --set style_regions=[4] --set style_gradual=[0] \
    --set "look_name=[$names]" --set "store_shares=[$shares]" \
    --set head_start=0.06 --set warmup=0.036 --set keep_norms=true --set projected_weight=1 --set feature_weight=2 \
    --set perceptual_weight=0.5 --set mean_weight=2 --set style_weight=2 --set augment=0.5 --set generator_rate=4e-5 \
    --set style_rate=50 --set noise_rate=0 --set discriminator_width=32 --set class_balance=0.5 \
    --set prior_share=0.375 --set colour_change=0.6 --set ema_decay=0.998 --set decay_from=0.6 --set log_every=100
cp "$out/looks/model.safetensors" "$out/model.safetensors"

python "$here/assemble_cluster.py" "$out/ohio.zarr" --fold test --out "$out/test"
geosynth generate --labels "$out/test/labels.tif" --model "$out/model.safetensors" \
    --out "$out/test/synthetic.tif" --preview --overwrite

geosynth evaluate --data "$out/ohio.zarr" --model "$out/model.safetensors" --fold test \
    --out "$out/report" --tile-size 128 --overwrite
