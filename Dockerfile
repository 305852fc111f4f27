# curette in a container: built by the same bootstrap as everywhere, run by a user without rights, GStreamer's run-time packages only.
#
#   docker build -t curette .
#   docker run --rm -v "$PWD/videos:/videos:ro" -v "$PWD/work:/work" curette run /work/pipeline.toml
#
# The folder mounted on /work must be writable for user 10001.

FROM rust:1-bookworm AS build
WORKDIR /src
# The packages change rarely: their layer comes before the sources.
COPY scripts/bootstrap scripts/bootstrap
COPY Cargo.toml Cargo.toml
RUN scripts/bootstrap --minimal
COPY . .
RUN cargo build --locked --release --workspace --bins

FROM debian:bookworm-slim
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates gstreamer1.0-libav gstreamer1.0-plugins-bad gstreamer1.0-plugins-base \
        gstreamer1.0-plugins-good gstreamer1.0-plugins-ugly \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 10001 --create-home curette \
    && install -d -o curette /work
COPY --from=build /src/target/release/curette /src/target/release/curette-sample /usr/local/bin/
COPY --from=build /src/datasets /usr/share/curette/datasets
COPY --from=build /src/pipelines /usr/share/curette/pipelines
USER curette
WORKDIR /work
ENTRYPOINT ["curette"]
CMD ["--help"]
