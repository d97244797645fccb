"""Assigning images to splits and writing the COCO files; used by split and coco-convert."""
