# A tag can move. docs/operations.md, "Containers", prints the digest to give as NODE_IMAGE.
ARG NODE_IMAGE=node:24-bookworm-slim
FROM ${NODE_IMAGE}
WORKDIR /app
ENV NODE_ENV=production

# The optional dependencies are Node, which the image has, and the embedded PostgreSQL, which a container does not need,
# because DATABASE_URL names its database. No other package needs an install script.
COPY package.json package-lock.json ./
RUN npm ci --omit=dev --omit=optional --ignore-scripts --no-audit --no-fund \
  && npm cache clean --force

COPY LICENSE ./
COPY bin ./bin
COPY schema ./schema
COPY src ./src
RUN ln -s /app/bin/control.mjs /usr/local/bin/control

# The API listens on every address of the container. Publish its port only to machines that may reach it.
ENV CONTROL_DATA_DIR=/data CONTROL_API_HOST=::
RUN install --directory --owner=node --group=node --mode=0700 /data
VOLUME /data
USER node

EXPOSE 3000 3001
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 \
  CMD ["env", "NODE_TLS_REJECT_UNAUTHORIZED=0", "node", "-e", "fetch(`http${process.env.CONTROL_TLS_CERTIFICATE ? 's' : ''}://127.0.0.1:${process.env.CONTROL_API_PORT ?? 3000}/healthz`).then((response) => process.exit(response.ok ? 0 : 1), () => process.exit(1))"]

CMD ["node", "src/server/main.ts"]
