"""An exported detector as an HTTP service with a page: what a web server needs besides detector.inference."""
