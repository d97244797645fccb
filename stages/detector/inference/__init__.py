"""Run an exported detector on images and videos without torch: used by tools/predict.py and the service, no stage."""
