# Two images from one build:
#   docker build -t sniffer .                      the engine alone (default target, `sniffer run`)
#   docker build -t sniffer-allinone --target allinone .   with store and page (`sniffer all-in-one`)
# Both need only `--network host`; Docker's default capabilities hold NET_RAW, and all are dropped after start.

FROM rust:1.95-slim-bookworm AS build
ARG PROFILE=release
WORKDIR /src
COPY . .
# The image's own toolchain is the one that rust-toolchain.toml names; that file is left out of the context, since it
# would make rustup fetch components that only development needs.
RUN deploy/release /out "$PROFILE"

# The symbols of the program in the images: docker build --target symbols --output FOLDER .
FROM scratch AS symbols
COPY --from=build /out/sniffer.debug /

FROM debian:bookworm-slim AS runtime
# The roots that https capture URLs are checked against; webpki's own are built in as a fallback.
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /out/sniffer /usr/local/bin/sniffer
# Kept on disk if a volume is mounted at /var/lib/sniffer, else in memory only.
ENV SNIFFER_SPOOL=auto
LABEL org.opencontainers.image.title="network-sniffer" \
      org.opencontainers.image.licenses="MIT OR Apache-2.0"
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
