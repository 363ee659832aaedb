# One image for the web server, the workers and the beat; config/compose.yaml says which is which.
# torch comes with CUDA by default. For a smaller image without: --build-arg EXTRA_INDEX=<an index of torch's CPU builds>

FROM python:3.11-slim-bookworm AS packages
ARG EXTRA_INDEX=
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
RUN python -m venv /opt/venv
WORKDIR /build
COPY requirements.txt .
COPY config/constraints.txt config/
RUN /opt/venv/bin/pip install ${EXTRA_INDEX:+--extra-index-url "$EXTRA_INDEX"} -r requirements.txt

FROM python:3.11-slim-bookworm
ENV PATH=/opt/venv/bin:$PATH PYTHONUNBUFFERED=1 DATA_FOLDER=/data OMP_WAIT_POLICY=passive GOMP_SPINCOUNT=0
RUN useradd --system --uid 10001 --create-home tutelage && install -d -o tutelage /data
COPY --from=packages /opt/venv /opt/venv
WORKDIR /app
COPY manage.py pyproject.toml ./
COPY config config
COPY annotation annotation
COPY activelearning activelearning
COPY training training
COPY templates templates
USER 10001
VOLUME /data
EXPOSE 8000
HEALTHCHECK --interval=15s --timeout=3s --start-period=40s \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/health/', timeout=2)"]
CMD ["granian", "config.wsgi:application", "--interface", "wsgi", "--host", "0.0.0.0", "--port", "8000", "--workers", "2", "--blocking-threads", "4"]
