"""The manifest of usable images and the reviewer's decisions; used by preprocess, split, coco-convert and evaluate."""
