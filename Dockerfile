# The service of a checkpoint, on CPUs. Build it in a checkout, and run it with a folder of checkpoints:
#   docker build -t recbole-ssm .
#   docker run -p 127.0.0.1:8000:8000 -v "$PWD/saved:/models:ro" recbole-ssm --checkpoint=/models/NAME.pth
# Whoever reaches the port may ask: -e RECBOLE_SSM_TOKEN=... has it ask for a token.

FROM python:3.11-slim AS build
RUN apt-get update && apt-get install --yes --no-install-recommends gcc libc6-dev
COPY . /source
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels /source

FROM python:3.11-slim
RUN apt-get update && apt-get install --yes --no-install-recommends libgomp1 && rm -rf /var/lib/apt/lists/*
# torch's build for CPUs alone; the other is 4.5 GB larger
RUN pip install --no-cache-dir torch --index-url https://download.pytorch.org/whl/cpu
COPY --from=build /wheels /wheels
RUN pip install --no-cache-dir "$(echo /wheels/*.whl)[serve]"
RUN useradd --create-home --uid 10001 serve
USER serve
WORKDIR /home/serve
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=3s --start-period=60s CMD ["python", "-c", "from urllib.request import urlopen; urlopen('http://127.0.0.1:8000/readyz', timeout=2)"]
ENTRYPOINT ["recbole-ssm", "serve", "--host=0.0.0.0", "--port=8000"]
CMD ["--help"]
