"""crop-chips: training chips and label masks from field polygons."""
