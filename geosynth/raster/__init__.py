"""The only room that opens rasters: reading (GeoTIFF, COG, VRT), label rasters, Zarr stores, COG writing."""
