FROM node:24-bookworm-slim
WORKDIR /app
ENV NODE_ENV=production

# The image has Node, so the package `node` is removed. The optional dependencies are the embedded PostgreSQL, which a
# container does not need, because DATABASE_URL names its database.
COPY package.json package-lock.json ./
RUN npm ci --omit=dev --omit=optional --no-audit --no-fund \
  && rm -rf node_modules/node node_modules/.bin/node \
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
