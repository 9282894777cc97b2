"""Earth-observation applications on Dask: STAC in, Cloud-Optimized GeoTIFF and STAC out."""
