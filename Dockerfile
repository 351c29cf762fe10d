# geosynth on the CPU:  docker build --tag geosynth .
#                       docker run --rm --user "$(id -u)" --volume "$PWD:/data" geosynth generate --labels L.tif --out image.tif
FROM python:3.12-slim

# OpenMP, which the wheels of torch and scikit-learn expect in the system, and expat, which those of rasterio do.
RUN apt-get update && apt-get install --yes --no-install-recommends libgomp1 libexpat1 && rm -rf /var/lib/apt/lists/*

# First the CPU build of torch, in a separate layer: the one on PyPI depends on gigabytes of CUDA libraries.
RUN pip install --no-cache-dir torch torchvision --index-url https://download.pytorch.org/whl/cpu

COPY pyproject.toml README.md LICENSE /src/
COPY geosynth /src/geosynth
COPY cli /src/cli
RUN pip install --no-cache-dir "/src[remote]" && rm -r /src

# A folder that any user can write to, for the caches of fonts and models.
ENV HOME=/tmp
WORKDIR /data
ENTRYPOINT ["geosynth"]
CMD ["--help"]
