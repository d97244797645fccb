# The service of tools/serve.py: an exported model over HTTP, without torch. docs/deploy.md says how to run it.
FROM python:3.12-slim AS packages
COPY requirements-serve.txt /requirements-serve.txt
RUN python -m venv /packages && /packages/bin/pip install --no-cache-dir --no-compile -r /requirements-serve.txt
COPY pyproject.toml LICENSE /source/
COPY stages/detector /source/stages/detector
RUN /packages/bin/pip install --no-cache-dir --no-compile --no-deps /source

FROM python:3.12-slim
RUN useradd --system --uid 10001 --no-create-home detector
WORKDIR /service
COPY --from=packages /packages /packages
COPY tools/serve.py tools/model_source.py tools/
ENV PATH=/packages/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
USER 10001
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s \
  CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/healthz', timeout=2)"]
ENTRYPOINT ["python", "tools/serve.py", "--host", "0.0.0.0"]
CMD ["/models/model.onnx"]
