"""STAC 1.1 out: item, collection and catalog.

The JSON is built as plain dictionaries with a fixed order of keys: two runs write the same text but for
`processing:datetime`.
"""
