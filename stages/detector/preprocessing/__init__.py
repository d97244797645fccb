"""Reading raw datasets, inspecting their images and cleaning their boxes: used by preprocess."""
