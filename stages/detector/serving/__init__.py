"""An exported detector as an HTTP service with a page: used by tools/serve.py, by no stage."""
