# The gateway's image. To run it as locked down as it is meant to be:
#   docker run --read-only --cap-drop=ALL --security-opt=no-new-privileges -v gateway-data:/data -p 3000:3000 …

FROM node:24-bookworm-slim AS init
RUN apt-get update && apt-get install --yes --no-install-recommends tini

# Optional dependencies belong to the build: the binaries of the bundler and of the compiler are among them.
FROM node:24-bookworm-slim AS build
WORKDIR /app
COPY package.json package-lock.json ./
RUN npm ci --ignore-scripts --no-audit --no-fund --workspaces=false
COPY tsconfig.json ./
COPY build ./build
COPY src ./src
COPY sandbox/package.json sandbox/tsconfig.build.json ./sandbox/
COPY sandbox/src ./sandbox/src
COPY sandbox/bin/sandbox.ts ./sandbox/bin/
# The gateway is bundled with its packages to dist, the sandbox is compiled to sandbox/dist.
RUN npm run build && mkdir data

# Node reads this cache only if the same version, options and user wrote it, on a processor with the same features. So
# the image's own Node writes it, as the image's user.
FROM gcr.io/distroless/nodejs24-debian12:nonroot AS compile-cache
WORKDIR /app
COPY --from=build /app/package.json ./
COPY --from=build /app/dist ./dist
COPY build/compile-cache.ts ./build/
COPY --from=build --chown=65532:65532 /app/data ./compile-cache
ENV NODE_COMPILE_CACHE=/app/compile-cache NODE_COMPILE_CACHE_PORTABLE=1
USER 65532:65532
RUN ["/nodejs/bin/node", "--disable-sigusr1", "--no-allocation-site-pretenuring", "build/compile-cache.ts"]

# The emulated upstream, to try the gateway with: docker build --target sandbox …
FROM gcr.io/distroless/nodejs24-debian12:nonroot AS sandbox
USER 0:0
WORKDIR /app
COPY --from=init /usr/bin/tini-static /sbin/tini
COPY --from=build /app/sandbox/package.json ./
COPY --from=build /app/sandbox/dist ./dist
ENV NODE_ENV=production SANDBOX_HOST=0.0.0.0
USER 65532:65532
EXPOSE 8089
ENTRYPOINT ["/sbin/tini", "--", "/nodejs/bin/node", "/app/dist/sandbox/bin/sandbox.js"]

# Node and the C library: no shell, no package manager, nobody but root and nonroot (65532).
FROM gcr.io/distroless/nodejs24-debian12:nonroot
LABEL org.opencontainers.image.title="domain-task-gateway" \
  org.opencontainers.image.description="Cancel Alibaba Cloud domain tasks from browsers and services that never touch an AccessKey" \
  org.opencontainers.image.version="0.1.0" \
  org.opencontainers.image.licenses="MIT" \
  org.opencontainers.image.base.name="gcr.io/distroless/nodejs24-debian12:nonroot"
# Code and compile cache belong to root, so that the gateway cannot change them where the file system is not read-only:
# a new folder belongs to the user of the base image, and a copy from another stage keeps its owner.
USER 0:0
WORKDIR /app
COPY --from=init /usr/bin/tini-static /sbin/tini
COPY --from=build /app/package.json ./
COPY --from=build /app/dist ./dist
COPY --from=compile-cache --chown=0:0 /app/compile-cache ./compile-cache
# Files that the page of DOCS_ENABLED loads. The bundle contains every other package.
COPY --from=build /app/node_modules/swagger-ui-dist/package.json /app/node_modules/swagger-ui-dist/swagger-ui.css \
  /app/node_modules/swagger-ui-dist/swagger-ui-bundle.js ./node_modules/swagger-ui-dist/
COPY openapi.yaml ./
COPY public ./public
COPY --from=build --chown=65532:65532 /app/data /data
# Everything is written below /data, what SQLite sets aside included: the rest of the file system can be read-only.
ENV NODE_ENV=production AUDIT_URL=sqlite:/data/audit.db SQLITE_TMPDIR=/data \
  NODE_COMPILE_CACHE=/app/compile-cache NODE_COMPILE_CACHE_PORTABLE=1
VOLUME /data
# By number, so that Kubernetes can see that it is not root.
USER 65532:65532
EXPOSE 3000 9464
HEALTHCHECK --interval=10s --timeout=3s --start-period=5s --retries=3 \
  CMD ["/nodejs/bin/node", "-e", "http.get({ host: process.env.ADMIN_HOST || '127.0.0.1', port: process.env.ADMIN_PORT || 9464, path: '/readyz' }, (res) => process.exit(res.statusCode === 200 ? 0 : 1)).on('error', () => process.exit(1))"]
# As `npm start` does: no signal opens a debugger, and docs/performance.md has the effect of the other option.
ENTRYPOINT ["/sbin/tini", "--", "/nodejs/bin/node", "--disable-sigusr1", "--no-allocation-site-pretenuring", "/app/dist/server.js"]
