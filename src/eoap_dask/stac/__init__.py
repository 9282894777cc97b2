"""STAC 1.1 out: item, collection, catalog, and footprints on the globe.

The JSON is built as plain dictionaries with a fixed order of keys, so that two runs write the same text but
for `processing:datetime`. `pystac` reads and validates it in the tests.
"""
