# One environment, one target for each process: `docker build --target gateway .`; compose builds them all from one cache.
FROM python:3.13-slim AS build
WORKDIR /src
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /opt/tellerline
COPY requirements.lock ./
RUN /opt/tellerline/bin/pip install --quiet --require-hashes --no-deps --only-binary :all: -r requirements.lock
COPY pyproject.toml README.md LICENSE ./
COPY benchmarks benchmarks
COPY shared shared
COPY services services
COPY tellerline tellerline
# The build backend comes from the lock as well; it and pip stay behind.
RUN /opt/tellerline/bin/pip install --quiet --no-deps --no-build-isolation --no-index . \
 && /opt/tellerline/bin/pip uninstall --quiet --yes hatchling editables pip

FROM python:3.13-slim AS base
# By number, so that whoever runs the image can see that it is not root; no home, no password, no name.
ARG UID=10001
COPY --from=build /opt/tellerline /opt/tellerline
COPY --chmod=0444 deploy/ready.py /opt/tellerline/ready.py
# Named volumes take owner and mode of the folder that they are mounted on.
RUN install -d -o ${UID} -g ${UID} -m 0750 /var/lib/jobcoin
ENV PATH=/opt/tellerline/bin:$PATH \
    PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 \
    TELLERLINE_HOST=0.0.0.0 TELLERLINE_METRICS_PORT=9100 TELLERLINE_LOG_FORMAT=json
WORKDIR /
USER ${UID}:${UID}
HEALTHCHECK --interval=5s --timeout=4s --start-period=60s --retries=6 \
    CMD ["python", "-I", "-S", "/opt/tellerline/ready.py", "9100"]

FROM base AS gateway
ENV TELLERLINE_PORT=8080
EXPOSE 8080
HEALTHCHECK --interval=5s --timeout=4s --start-period=60s --retries=6 \
    CMD ["python", "-I", "-S", "/opt/tellerline/ready.py", "8080"]
CMD ["python", "-m", "services.gateway"]

FROM base AS ledger_worker
CMD ["python", "-m", "services.ledger_worker"]

FROM base AS deposit_poller
CMD ["python", "-m", "services.deposit_poller"]

FROM base AS distributor
CMD ["python", "-m", "services.distributor"]

FROM base AS jobcoin_network
ENV TELLERLINE_PORT=8081 TELLERLINE_JOBCOIN_DIR=/var/lib/jobcoin
EXPOSE 8081
VOLUME /var/lib/jobcoin
HEALTHCHECK --interval=5s --timeout=4s --start-period=60s --retries=6 \
    CMD ["python", "-I", "-S", "/opt/tellerline/ready.py", "8081"]
CMD ["python", "-m", "services.jobcoin_network"]

# Makes the secrets of a composed stack, each service's in a volume of its own.
FROM base AS secrets
ARG UID=10001
USER 0
RUN for name in state gateway worker poller distributor migrate operator postgres rabbitmq; do \
      install -d -o ${UID} -g ${UID} -m 0755 /secrets/$name; done
COPY --chmod=0444 deploy/make_secrets.py /opt/tellerline/make_secrets.py
USER ${UID}:${UID}
HEALTHCHECK NONE
CMD ["python", "-I", "/opt/tellerline/make_secrets.py", "/secrets"]

# Migrations, and the command line: `docker compose run --rm tellerline verify`.
FROM base AS tellerline
HEALTHCHECK NONE
ENTRYPOINT ["tellerline"]
CMD ["--help"]
