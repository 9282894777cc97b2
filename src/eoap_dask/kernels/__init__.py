"""The science: functions from numpy blocks to numpy blocks, without files, graphs or coordinates."""
