# An image of one binary and its libc: no shell, no root.
#
#   docker build -t model-proxy .
#   docker run -d -p 9876:9876 -e CLIENT_API_KEY=... -v "$PWD/config:/app/config:ro" model-proxy
#
# --read-only may be given as well: only /state is written. On SIGTERM open requests have 30 s: stop it with `docker stop -t 40`.

# Both stages are of one Debian, so that the libc is the one it was linked with. Its malloc costs a sixth less of the CPU per
# request than musl's.
FROM rust:1.95-bookworm AS build
RUN rustup component add llvm-tools
WORKDIR /build
COPY Cargo.toml Cargo.lock ./
# What deploy/pgo has it do. Cargo.toml names the tests, so cargo wants to see them, though it builds none.
COPY deploy/pgo deploy/
COPY benches benches
COPY tests/main.rs tests/
COPY tests/cases tests/cases
COPY tests/testdata tests/testdata
COPY schemas schemas
COPY config config
COPY src src
# A fifth of the size, and stack traces keep the names of functions.
ENV CARGO_PROFILE_RELEASE_STRIP=debuginfo
# COPY keeps the times of files, and cargo goes by times: without the touch, sources older than what the cache holds would pass
# for built.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/build/target,sharing=locked \
    touch src/lib.rs \
    && deploy/pgo \
    && mkdir -p /out/state \
    && cp target/shipped/model-proxy /out/

FROM gcr.io/distroless/cc-debian12:nonroot
LABEL org.opencontainers.image.title="model-proxy" \
      org.opencontainers.image.description="One small proxy that speaks OpenAI and Anthropic and sends each logical model to whatever provider, key and format can serve it now" \
      org.opencontainers.image.licenses="MIT"
COPY --from=build /out/model-proxy /usr/local/bin/
COPY LICENSE /usr/share/doc/model-proxy/
# A new volume takes its owner from here.
COPY --from=build --chown=65532:65532 /out/state /state
# Temporary files of SQLite go where something can be written.
ENV MODEL_PROXY_HOST=0.0.0.0 \
    XDG_STATE_HOME=/state \
    SQLITE_TMPDIR=/state
# ./config and ./.env are looked for here.
WORKDIR /app
# A number, so that Kubernetes sees that it is not root.
USER 65532:65532
VOLUME /state
EXPOSE 9876
STOPSIGNAL SIGTERM
# `health` finds the address of the running server in /state, and gives up after 10 s.
HEALTHCHECK --interval=15s --timeout=12s --start-period=5s --retries=3 CMD ["model-proxy", "health"]
ENTRYPOINT ["model-proxy"]
CMD ["start"]
