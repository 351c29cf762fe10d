# geosynth on the CPU:  docker build --tag geosynth .
#                       docker run --rm --user "$(id -u)" --volume "$PWD:/data" geosynth generate --labels L.tif --out image.tif
FROM python:3.12-slim

# OpenMP, which torch's and scikit-learn's wheels expect of the system.
RUN apt-get update && apt-get install --yes --no-install-recommends libgomp1 libexpat1 && rm -rf /var/lib/apt/lists/*

# The CPU build of torch first, in a layer of its own: the one that PyPI has brings gigabytes of CUDA along.
RUN pip install --no-cache-dir torch torchvision --index-url https://download.pytorch.org/whl/cpu

COPY pyproject.toml README.md LICENSE /src/
COPY geosynth /src/geosynth
COPY cli /src/cli
RUN pip install --no-cache-dir "/src[remote]" && rm -r /src

# The caches of fonts and models need a place that any user may write to.
ENV HOME=/tmp
WORKDIR /data
ENTRYPOINT ["geosynth"]
CMD ["--help"]
