# Two images from one build:
#   docker build -t sniffer .                      the engine alone (default target, `sniffer run`)
#   docker build -t sniffer-allinone --target allinone .   with store and page (`sniffer all-in-one`)
# Both need only `--network host`. They run as the user 65534; the program's file has the capability NET_RAW, which is in
# Docker's default set, and gives up all capabilities after the start. Without it everything but a capture works. `--build-arg REVISION=$(git rev-parse HEAD)` names the sources.

FROM rust:1.95-slim-bookworm AS build
ARG PROFILE=release
WORKDIR /src
# setcap is in no slim image.
RUN command -v setcap >/dev/null || \
    (apt-get update && apt-get install -y --no-install-recommends libcap2-bin && rm -rf /var/lib/apt/lists/*)
COPY . .
# The image's own toolchain is the one that rust-toolchain.toml names; that file is left out of the context, since it
# would make rustup fetch components that only development needs.
RUN deploy/release /out "$PROFILE" && setcap cap_net_raw+p /out/sniffer
# Folders that the user of the images owns: of the control socket, and of store and spool.
RUN install -d -o 65534 -g 65534 -m 0700 /folders/run/sniffer /folders/var/lib/sniffer

# The symbols of the program in the images: docker build --target symbols --output FOLDER .
FROM scratch AS symbols
COPY --from=build /out/sniffer.debug /

FROM debian:bookworm-slim AS runtime
# The roots that https capture URLs are checked against; webpki's own are built in as a fallback.
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build --chown=65534:65534 /folders/run/sniffer /run/sniffer
COPY --from=build --chown=65534:65534 /folders/var/lib/sniffer /var/lib/sniffer
COPY --from=build /out/sniffer /usr/local/bin/sniffer
# A folder that every user of the container may use for the control socket; and the spool, which is kept on disk if a
# volume is mounted at /var/lib/sniffer, else only until the container is removed.
ENV SNIFFER_CONTROL=/run/sniffer/control.sock SNIFFER_SPOOL=auto
ARG VERSION=1.0.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="network-sniffer" \
      org.opencontainers.image.description="Passive API-call sniffer" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$REVISION" \
      org.opencontainers.image.licenses="MIT OR Apache-2.0" \
      org.opencontainers.image.base.name="docker.io/library/debian:bookworm-slim"
USER 65534:65534
# SIGTERM flushes; `docker stop` gives it ten seconds.
STOPSIGNAL SIGTERM
ENTRYPOINT ["sniffer"]

FROM runtime AS allinone
ENV SNIFFER_DATA=/var/lib/sniffer
VOLUME /var/lib/sniffer
# 3 is "not capturing", which `sniffer off` asks for: the store still has to answer.
HEALTHCHECK --interval=30s --timeout=5s --start-period=5s \
    CMD sniffer status >/dev/null 2>&1 || [ $? -eq 3 ]
CMD ["all-in-one"]

FROM runtime AS sniffer
HEALTHCHECK --interval=30s --timeout=5s --start-period=5s CMD ["sniffer", "status"]
CMD ["run"]
